# SPDX-License-Identifier: Apache-2.0
"""What the controller must know of a robot beyond its URDF: one YAML file for each in
config/robots.

>>> profile = RobotProfile.load(config_path("robots", "panda.yaml"))
>>> kinematics = profile.kinematics(urdf)  # checks the profile against the robot's own description
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from rt2_ros.control.kinematics import Kinematics
from rt2_ros.control.trajectory import JointLimits

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class RobotProfile:
    """A robot's joints, frames, controllers and limits; each key of the YAML file is a field here.

    Limits may be narrower than the URDF's, never wider. Joint lists are ordered from base to tip.
    """

    name: str
    base_frame: str  # frame of deltas, poses and the workspace
    tip_frame: str  # the point between the fingertips, z out of the hand
    arm_joints: tuple[str, ...]
    arm_controller: str  # its trajectories go to <arm_controller>/joint_trajectory
    gripper_joint: str
    gripper_controller: str
    gripper_open: float  # position of gripper_joint when open, m (or rad)
    gripper_closed: float
    gripper_settle: float  # s that the arm holds still while the gripper moves
    gripper_deadband: float  # change of closedness (0..1) below which the gripper is left alone
    home: Numbers  # rad; also the posture to which inverse kinematics leans
    joint_lower: Numbers  # rad
    joint_upper: Numbers  # rad
    joint_velocity: Numbers  # rad/s
    joint_acceleration: Numbers  # rad/s²
    workspace_min: Numbers  # m, corner of the box that the tip may not leave
    workspace_max: Numbers  # m
    table_height: float  # m; the workspace must lie above
    max_step_translation: float  # m per delta
    max_step_rotation: float  # rad per delta
    max_linear_speed: float  # m/s of the tip
    max_angular_speed: float  # rad/s of the tip
    chunk_duration: float  # s that the arm takes for a delta, unless limits ask for more
    time_to_live: float  # s from the image's stamp for which a delta counts
    joint_state_timeout: float  # s without a joint state after which the arm holds
    control_rate: float  # Hz of the controller's own clock, and the most deltas it takes a second

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "str":
                _require(isinstance(value, str) and value, field.name, value, "a non-empty text")
            elif field.type == "float":
                _require(_is_number(value), field.name, value, "a finite number")
                object.__setattr__(self, field.name, float(value))
            elif field.type == "Numbers":
                numbers = isinstance(value, (list, tuple)) and all(map(_is_number, value))
                _require(numbers, field.name, value, "a list of finite numbers")
                object.__setattr__(self, field.name, tuple(map(float, value)))
        joints = self.arm_joints
        named = (
            isinstance(joints, (list, tuple)) and joints and all(isinstance(j, str) for j in joints)
        )
        _require(
            named and len(set(joints)) == len(joints), "arm_joints", joints, "distinct joint names"
        )
        object.__setattr__(self, "arm_joints", tuple(joints))
        self._check_values()

    def _check_values(self) -> None:
        count = len(self.arm_joints)
        for key in ("home", "joint_lower", "joint_upper", "joint_velocity", "joint_acceleration"):
            value = getattr(self, key)
            _require(
                len(value) == count, key, value, f"{count} numbers, one for each of arm_joints"
            )
        for key in ("workspace_min", "workspace_max"):
            _require(len(getattr(self, key)) == 3, key, getattr(self, key), "x, y, z")
        for key in ("joint_velocity", "joint_acceleration"):
            _require(min(getattr(self, key)) > 0, key, getattr(self, key), "numbers above 0")
        for key in (
            *("max_step_translation", "max_step_rotation", "max_linear_speed", "max_angular_speed"),
            *("chunk_duration", "time_to_live", "joint_state_timeout", "control_rate"),
        ):
            _require(getattr(self, key) > 0, key, getattr(self, key), "above 0")
        _require(self.gripper_settle >= 0, "gripper_settle", self.gripper_settle, "0 or more")
        _require(
            0 < self.gripper_deadband < 1, "gripper_deadband", self.gripper_deadband, "in 0..1"
        )
        _require(
            self.gripper_open != self.gripper_closed,
            "gripper_open",
            self.gripper_open,
            "different from gripper_closed",
        )
        for joint, low, home, high in zip(
            self.arm_joints, self.joint_lower, self.home, self.joint_upper, strict=True
        ):
            _require(low < high, f"joint_lower of {joint}", low, f"below joint_upper, {high}")
            _require(low <= home <= high, f"home of {joint}", home, f"in {low} .. {high}")
        for axis, low, high in zip("xyz", self.workspace_min, self.workspace_max, strict=True):
            _require(low < high, f"workspace_min {axis}", low, f"below workspace_max, {high}")
        floor = self.workspace_min[2]
        _require(
            floor > self.table_height,
            "workspace_min z",
            floor,
            f"above table_height, {self.table_height}",
        )

    @classmethod
    def load(cls, path: str | Path) -> RobotProfile:
        """Read a YAML file; ValueError naming the file, the key, the value and the expected."""
        path = Path(path)
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "none"
            raise ValueError(f"robot '{path.stem}': no {path}; there are: {known}")
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
        try:
            return cls.from_dict(data)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    @classmethod
    def from_dict(cls, data: Any) -> RobotProfile:
        """Build from a mapping of exactly this class's fields."""
        _require(
            isinstance(data, dict), "profile", type(data).__name__, "a mapping of keys to values"
        )
        keys = {field.name for field in fields(cls)}
        for key in sorted(map(str, data.keys() - keys)):
            raise ValueError(f"{key}: not a key of a robot profile")
        missing = sorted(keys - data.keys())
        if missing:
            raise ValueError(f"missing {', '.join(missing)}")
        return cls(**data)

    def kinematics(self, urdf: str) -> Kinematics:
        """Return the arm's kinematics from a URDF (XML text), within this profile's limits.

        ValueError naming the joint, frame or limit in which profile and URDF disagree.
        """
        arm = Kinematics(urdf, self.arm_joints, self.base_frame, self.tip_frame, posture=self.home)
        for joint, mine, theirs in zip(
            self.arm_joints, self.joint_velocity, arm.velocity, strict=True
        ):
            _require(
                mine <= theirs,
                f"joint_velocity of {joint}",
                mine,
                f"at most {theirs:g} rad/s, the URDF's",
            )
        arm.narrow(self.joint_lower, self.joint_upper)
        gripper = Kinematics(urdf, [self.gripper_joint], self.base_frame, self.base_frame)
        for key in ("gripper_open", "gripper_closed"):
            low, high, value = gripper.lower[0], gripper.upper[0], getattr(self, key)
            _require(low <= value <= high, key, value, f"in {low:g} .. {high:g}, the URDF's")
        return arm

    def limits(self) -> JointLimits:
        """Return the arm's joint limits."""
        keys = ("joint_lower", "joint_upper", "joint_velocity", "joint_acceleration")
        return JointLimits(*(np.array(getattr(self, key)) for key in keys))

    def gripper_position(self, closedness: float) -> float:
        """Return the position of gripper_joint for a closedness of 0 (open) .. 1 (closed)."""
        return self.gripper_open + closedness * (self.gripper_closed - self.gripper_open)

    def gripper_closedness(self, position: float) -> float:
        """Return the closedness 0..1 for a position of gripper_joint."""
        share = (position - self.gripper_open) / (self.gripper_closed - self.gripper_open)
        return min(max(share, 0.0), 1.0)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _require(condition: Any, key: str, value: Any, expected: str) -> None:
    if not condition:
        raise ValueError(f"{key}: {value!r}, expected {expected}")
