# SPDX-License-Identifier: Apache-2.0
"""What the controller must know of a robot beyond its URDF: one YAML file for each in
config/robots.

>>> profile = RobotProfile.load(config_path("robots", "panda.yaml"))
>>> kinematics = profile.kinematics(urdf)  # checks the profile against the robot's own description
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from rt2_ros.control.collision import Collisions
from rt2_ros.control.kinematics import UNBOUNDED, Kinematics
from rt2_ros.control.trajectory import JointLimits
from rt2_ros.paths import read_yaml

Numbers = tuple[float, ...]
Box = tuple[Numbers, Numbers]  # its lowest and its highest corner: x, y, z in m

PATH_TOLERANCE = 0.005  # m by which a way may bulge out of the workspace, and keeps off keep_out
THINNEST = 0.02  # m of a box of keep_out that only the tip is kept out of, at some places on a way
GRIPPER_TIME = 0.25  # s that a trajectory of the gripper takes
_CHOICES = {
    "bridge": ("joint_trajectory", "moveit_servo", "moveit", "dry_run"),
    "gripper_command": ("trajectory", "gripper_command", "parallel_gripper", "none"),
    "servo_command": ("twist", "pose"),
}
_ABOVE_ZERO = (
    *("max_step_translation", "max_step_rotation", "max_linear_speed", "max_angular_speed"),
    *("max_linear_acceleration", "max_angular_acceleration", "collision_margin"),
    *("chunk_duration", "time_to_live", "joint_state_timeout", "no_progress_time"),
    *("control_rate", "gripper_max_effort"),
)
_NOT_NEGATIVE = ("gripper_settle", "smoothing_time", "ensemble_decay")


@dataclass(frozen=True)
class RobotProfile:
    """A robot's joints, frames, controllers and limits; each key of the YAML file is a field here.

    Limits may be narrower than the URDF's, never wider. Joint lists are ordered from base to tip.
    """

    name: str
    base_frame: str  # frame of deltas, poses and the workspace
    tip_frame: str  # the point between the fingertips, z out of the hand
    arm_joints: tuple[str, ...]
    bridge: str  # what carries out commands: see _CHOICES
    arm_controller: str  # its trajectories go to <arm_controller>/joint_trajectory
    servo_node: str  # name of MoveIt Servo's node
    servo_command: str  # what Servo is sent
    move_group: str  # MoveIt's planning group of the arm
    gripper_joint: str
    gripper_controller: str
    gripper_command: str  # how the gripper is commanded; with none it never is
    gripper_action: str  # <gripper_controller>/<gripper_action>; empty where there is no action
    gripper_max_effort: float  # N, for actions
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
    table_height: float  # m; the workspace must lie above, and so does the arm
    keep_out: tuple[Box, ...]  # m, boxes in the base frame that tip and arm stay out of
    self_collision: bool  # check the arm's links against each other, the table and keep_out
    collision_margin: float  # m between links (half the tip's clearance, if less, to the table)
    singularity_slow: float  # condition number of the Jacobian [m; rad] from which the arm slows
    singularity_stop: float  # and beyond which it does not go
    max_step_translation: float  # m per delta
    max_step_rotation: float  # rad per delta
    max_linear_speed: float  # m/s of the tip
    max_angular_speed: float  # rad/s of the tip
    max_linear_acceleration: float  # m/s² of the tip
    max_angular_acceleration: float  # rad/s² of the tip
    chunk_duration: float  # s that the arm takes for a delta, unless limits ask for more
    smoothing_time: float  # s, time constant of the exponential filter on targets; 0: none
    ensemble_horizon: int  # targets of that many decisions are averaged; 1: the newest alone
    ensemble_decay: float  # weight exp(-decay * k) of the k-th decision before the newest
    min_confidence: float  # 0..1; a decision below it is not acted on
    no_progress_time: float  # s in which the tip reaches nothing new, after which a person is asked
    time_to_live: float  # s from the image's stamp for which a delta counts
    joint_state_timeout: float  # s without a joint state after which the arm holds
    control_rate: float  # Hz of the controller's own clock, and the most deltas it takes a second

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("gripper_joint", "gripper_controller", "gripper_action"):
                _require(isinstance(value, str), field.name, value, "a text")
            elif field.type == "str":
                _require(isinstance(value, str) and value, field.name, value, "a non-empty text")
            elif field.type == "bool":
                _require(isinstance(value, bool), field.name, value, "true or false")
            elif field.type == "int":
                whole = isinstance(value, int) and not isinstance(value, bool)
                _require(whole, field.name, value, "a whole number")
            elif field.type == "float":
                _require(_is_number(value), field.name, value, "a finite number")
                object.__setattr__(self, field.name, float(value))
            elif field.type == "Numbers":
                object.__setattr__(self, field.name, _numbers(field.name, value))
        joints = self.arm_joints
        named = (
            isinstance(joints, (list, tuple)) and joints and all(isinstance(j, str) for j in joints)
        )
        _require(
            named and len(set(joints)) == len(joints), "arm_joints", joints, "distinct joint names"
        )
        object.__setattr__(self, "arm_joints", tuple(joints))
        object.__setattr__(self, "keep_out", _boxes("keep_out", self.keep_out))
        self._check_values()
        self._check_geometry()

    def _check_values(self) -> None:
        for key, choices in _CHOICES.items():
            value = getattr(self, key)
            _require(value in choices, key, value, f"one of {', '.join(choices)}")
        for key in _ABOVE_ZERO:
            _require(getattr(self, key) > 0, key, getattr(self, key), "above 0")
        for key in _NOT_NEGATIVE:
            _require(getattr(self, key) >= 0, key, getattr(self, key), "0 or more")
        if self.gripper_command == "trajectory":
            settle = self.gripper_settle
            _require(settle >= GRIPPER_TIME, "gripper_settle", settle, f"{GRIPPER_TIME} or more")
        _require(self.control_rate >= 10, "control_rate", self.control_rate, "10 or more")
        _require(self.ensemble_horizon >= 1, "ensemble_horizon", self.ensemble_horizon, "1 or more")
        _require(0 <= self.min_confidence <= 1, "min_confidence", self.min_confidence, "in 0..1")
        slow, stop = self.singularity_slow, self.singularity_stop
        _require(1 < slow < stop, "singularity_slow", slow, f"in 1 .. singularity_stop, {stop:g}")
        by_action = self.gripper_command in ("gripper_command", "parallel_gripper")
        _require(
            bool(self.gripper_action) == by_action,
            "gripper_action",
            self.gripper_action,
            f"{'a name' if by_action else 'empty'}, as gripper_command is {self.gripper_command}",
        )
        for key in ("gripper_joint", "gripper_controller"):
            named = getattr(self, key) != "" or self.gripper_command == "none"
            _require(named, key, "", f"a name, as gripper_command is {self.gripper_command}")
        deadband = self.gripper_deadband
        _require(0 < deadband < 1, "gripper_deadband", deadband, "in 0..1")
        _require(
            self.gripper_open != self.gripper_closed,
            "gripper_open",
            self.gripper_open,
            "different from gripper_closed",
        )

    def _check_geometry(self) -> None:
        count = len(self.arm_joints)
        for key in ("home", "joint_lower", "joint_upper", "joint_velocity", "joint_acceleration"):
            value = getattr(self, key)
            _require(
                len(value) == count, key, value, f"{count} numbers, one for each of arm_joints"
            )
        for key in ("joint_velocity", "joint_acceleration"):
            _require(min(getattr(self, key)) > 0, key, getattr(self, key), "numbers above 0")
        for joint, low, home, high in zip(
            self.arm_joints, self.joint_lower, self.home, self.joint_upper, strict=True
        ):
            _require(low < high, f"joint_lower of {joint}", low, f"below joint_upper, {high}")
            _require(low <= home <= high, f"home of {joint}", home, f"in {low} .. {high}")
        for key in ("workspace_min", "workspace_max"):
            _require(len(getattr(self, key)) == 3, key, getattr(self, key), "x, y, z")
        for axis, low, high in zip("xyz", self.workspace_min, self.workspace_max, strict=True):
            _require(low < high, f"workspace_min {axis}", low, f"below workspace_max, {high}")
        floor = self.workspace_min[2]
        _require(
            floor >= self.table_height + PATH_TOLERANCE,
            "workspace_min z",
            floor,
            f"{PATH_TOLERANCE} m or more above table_height, {self.table_height}",
        )
        for box in self.keep_out if not self.self_collision else ():
            _require(
                min(high - low for low, high in zip(*box, strict=True)) >= THINNEST,
                "keep_out",
                box,
                f"boxes of {THINNEST} m or more each way, as self_collision is false",
            )

    @classmethod
    def load(cls, path: str | Path) -> RobotProfile:
        """Read a YAML file; ValueError naming the file, the key, the value and the expected."""
        path = Path(path)
        if not path.is_file():
            known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "none"
            raise ValueError(f"robot '{path.stem}': no {path}; there are: {known}")
        data = read_yaml(path)
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

    def digest(self) -> str:
        """Of all values: equal for equal profiles."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:12]

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
        for key in ("joint_lower", "joint_upper"):
            for joint, mine, theirs in zip(
                self.arm_joints, getattr(self, key), arm.upper, strict=True
            ):
                # Drivers report such a joint as -pi..pi: beyond, a reading jumps by a turn.
                _require(
                    theirs < UNBOUNDED or abs(mine) <= math.pi,
                    f"{key} of {joint}",
                    mine,
                    "in -pi .. pi, as the URDF lets it turn without end",
                )
        arm.narrow(self.joint_lower, self.joint_upper)
        if not self.gripper_joint:
            return arm
        gripper = Kinematics(urdf, [self.gripper_joint], self.base_frame, self.base_frame)
        for key in ("gripper_open", "gripper_closed"):
            low, high, value = gripper.lower[0], gripper.upper[0], getattr(self, key)
            _require(low <= value <= high, key, value, f"in {low:g} .. {high:g}, the URDF's")
        return arm

    def collisions(self, urdf: str) -> Collisions | None:
        """Return what the arm must not touch, by a URDF's collision shapes; None if not wanted.

        ValueError if they cannot be read; self_collision: false goes without.
        """
        return Collisions(urdf, self) if self.self_collision else None

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


def _numbers(key: str, value: Any) -> Numbers:
    good = isinstance(value, (list, tuple)) and all(map(_is_number, value))
    _require(good, key, value, "a list of finite numbers")
    return tuple(map(float, value))


def _boxes(key: str, value: Any) -> tuple[Box, ...]:
    expected = "a list of boxes [[x, y, z], [x, y, z]], the lowest corner first"
    _require(isinstance(value, (list, tuple)), key, value, expected)
    boxes = []
    for box in value:
        _require(isinstance(box, (list, tuple)) and len(box) == 2, key, box, expected)
        low, high = (_numbers(key, corner) for corner in box)
        ordered = len(low) == len(high) == 3 and all(a < b for a, b in zip(low, high, strict=True))
        _require(ordered, key, box, expected)
        boxes.append((low, high))
    return tuple(boxes)


def _require(condition: Any, key: str, value: Any, expected: str) -> None:
    if not condition:
        raise ValueError(f"{key}: {value!r}, expected {expected}")
