# SPDX-License-Identifier: Apache-2.0
"""The controller and an arm that follows it exactly, on a made-up clock: what one tries it on
without ROS and without waiting.

>>> rig = Rig(profile, kinematics, collisions)
>>> rig.instruct("pick up the apple")
>>> rig.move(0.03, 0.0, 0.0)
>>> rig.run(0.5)  # seconds of its own clock
>>> rig.tip.position
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rt2_ros.control.arm import ArmController
from rt2_ros.control.collision import Collisions
from rt2_ros.control.command import Command
from rt2_ros.control.kinematics import Kinematics
from rt2_ros.control.pose import Array, Pose
from rt2_ros.control.profile import RobotProfile
from rt2_ros.control.safety import Delta
from rt2_ros.control.trajectory import Chunk

PERIOD = 0.01  # s between joint states and ticks
START_S = 100.0


class Rig:
    """An ArmController and its ideal arm.

    time: s of the steady clock. clock_offset: s by which the clock of stamps is ahead of it;
    frozen_ns: what that clock shows if it stands still. q, velocity: the arm's motion, rad and
    rad/s. commands: every (time, q then, velocity then, Command) that came out; answer: to the last
    delta.
    """

    def __init__(
        self,
        profile: RobotProfile,
        kinematics: Kinematics,
        collisions: Collisions | None,
        armed: bool = True,
        q: ArrayLike | None = None,
        parts: bool = True,
    ) -> None:
        self.time, self.clock_offset = START_S, 0.0
        self.frozen_ns: int | None = None
        self.profile, self.kinematics = profile, kinematics
        self.arm = ArmController(
            profile, kinematics, collisions, lambda: self.time, armed=armed, parts=parts
        )
        self.q: Array = np.array(profile.home if q is None else q, dtype=np.float64)
        self.velocity: Array = np.zeros(len(self.q))
        self.finger = profile.gripper_open
        self.chunk: Chunk | None = None
        self.chunk_time = 0.0
        self.commands: list[tuple[float, Array, Array, Command]] = []
        self.answer: Command | None = None
        self.step = 0
        self.run(0.05)

    @property
    def now_ns(self) -> int:
        """What the clock of stamps shows."""
        if self.frozen_ns is not None:
            return self.frozen_ns
        return round((self.time + self.clock_offset) * 1e9)

    @property
    def tip(self) -> Pose:
        """Where the tip is."""
        return self.kinematics.forward(self.q)

    @property
    def moving(self) -> bool:
        """Whether any joint moves."""
        return bool(np.abs(self.velocity).max() > 1e-9)

    def apply(self, command: Command | None) -> Command | None:
        """Do what the controller said."""
        if command is None:
            return None
        self.commands.append((self.time, self.q, self.velocity, command))
        if command.chunk is not None:
            self.chunk, self.chunk_time = command.chunk, self.time
        if command.gripper is not None:
            self.finger = command.gripper
        return command

    def run(self, seconds: float, joint_states: bool = True, ticks: bool = True) -> None:
        """Let time pass, in periods of the controller."""
        for _ in range(round(seconds / PERIOD)):
            self.time += PERIOD
            if self.chunk is not None:
                self.q, self.velocity = self.chunk.sample(self.time - self.chunk_time)
            if joint_states:
                names = ["other", *reversed(self.profile.arm_joints), self.profile.gripper_joint]
                positions = [1.0, *reversed(self.q), self.finger]
                self.apply(self.arm.on_joint_state(self.now_ns, names, positions, self.now_ns))
            if ticks:
                self.apply(self.arm.tick(self.now_ns))

    def instruct(self, text: str = "pick up the apple", instruction_id: int = 1) -> Command | None:
        """Give an instruction, which the policy takes up under that number."""
        self.apply(self.arm.on_instruction(text))
        return self.apply(self.arm.on_policy_status(instruction_id, text))

    def delta(self, translation: Any = (0.0, 0.0, 0.0), **changes: Any) -> Delta:
        """Return a good delta on an image of this moment, but for the changes."""
        self.step += 1
        fields: dict[str, Any] = {
            "stamp_ns": self.now_ns,
            "frame_id": self.profile.base_frame,
            "instruction_id": self.arm.instruction_id,
            "step": self.step,
            "translation": translation,
            "rotation": (0.0, 0.0, 0.0),
            "gripper": 0.0,
        }
        return Delta(**{**fields, **changes})

    def send(self, delta: Delta) -> Command | None:
        """Hand the controller a delta, and do what it says."""
        self.answer = self.apply(self.arm.on_delta(delta, self.now_ns))
        return self.answer

    def move(self, *translation: float, **changes: Any) -> Command | None:
        """Send a good delta but for the changes."""
        return self.send(self.delta(translation, **changes))
