# SPDX-License-Identifier: Apache-2.0
"""What every bridge is: seven methods between the ArmController's commands and a robot's software.

A bridge decides nothing about safety. It carries out what it is given, says when it cannot
(`problem`, upon which nothing moves) and when it is still at it (`busy`). Whatever it sends ends at
rest by itself, so that the arm stops when this process does.
"""

from __future__ import annotations

import importlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from rclpy.duration import Duration
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from rt2_ros.control.arm import ArmController
from rt2_ros.control.command import Command, State
from rt2_ros.control.pose import Array
from rt2_ros.control.profile import RobotProfile
from rt2_ros.nodes.base import BaseNode

POLL_PERIOD = 0.5  # s between looks at who is there


class Bridge(ABC):
    """Takes commands to an arm and its gripper. Called in the node's executor thread alone."""

    NOTE = ""  # put before the controller's reason, where a status must not be taken at its word
    PLANS = False  # it finds its own way to where a chunk ends
    # What it has sent goes on without us: so that ends when its decision does, and a long way is
    # given part after part.
    PARTS = False
    OVERRIDES: ClassVar[dict[str, Any]] = {}  # values of the profile that make no sense with it

    def __init__(
        self, node: BaseNode, profile: RobotProfile, gripper_refused: Callable[[str], None]
    ) -> None:
        self.node, self.profile = node, profile
        self.gripper_refused = gripper_refused
        self.arm: ArmController | None = None

    def attach(self, arm: ArmController | None) -> None:
        """Learn the arm that commands are for: its kinematics, and where it is measured to be."""
        self.arm = arm

    def armed(self) -> bool:
        """Whether a person lets the arm move."""
        return self.arm is not None and self.arm.state not in (State.DISARMED, State.STOPPED)

    @abstractmethod
    def start(self) -> None:
        """Make what is needed, until the node's teardown; raises in one line what is missing."""

    @abstractmethod
    def send(self, command: Command) -> None:
        """Carry out a command; it replaces the one under way."""

    @abstractmethod
    def hold(self, reason: str) -> None:
        """Come to rest: the controller no longer moves the arm. The brake, if any, was sent."""

    def stop(self, reason: str) -> None:
        """Come to rest also where the motion is not ours, as far as that can be told to end."""
        self.hold(reason)

    def problem(self) -> str:
        """Say why nothing may move through this bridge now; empty if all is well."""
        return ""

    def busy(self) -> str:
        """Say what is still being carried out, beyond the time of a chunk; empty if nothing."""
        return ""

    def figures(self) -> dict[str, object]:
        """Return figures by name, for diagnostics."""
        return {}


class Trouble:
    """A reason that holds for a moment: `until` it passes, the arm rests, then it may try again."""

    REST = 0.5  # s

    def __init__(self) -> None:
        self._text, self._until = "", 0.0

    def raise_(self, text: str) -> None:
        """Say what went wrong just now."""
        self._text, self._until = text, time.monotonic() + self.REST

    def __str__(self) -> str:
        return self._text if time.monotonic() < self._until else ""


def interfaces(package: str, kind: str) -> Any:
    """Import `package`.`kind` (msg, srv or action) of a package that is not among our own.

    Raises:
        ImportError: it is not installed; one line with the package to install.
    """
    try:
        return importlib.import_module(f"{package}.{kind}")
    except ImportError as error:
        name = package.replace("_", "-")
        raise ImportError(
            f"{package} is not installed: sudo apt install ros-jazzy-{name}, and start from a "
            "shell with /opt/ros/jazzy/setup.bash sourced"
        ) from error


def trajectory_msg(
    joints: Sequence[str], points: Sequence[tuple[float, Array | list[float], Array | list[float]]]
) -> JointTrajectory:
    """Return a trajectory that starts when it arrives: (time in s, positions, velocities) each.

    Its stamp is zero, which a joint_trajectory_controller reads as now.
    """
    return JointTrajectory(
        joint_names=list(joints),
        points=[
            JointTrajectoryPoint(
                positions=list(positions),
                velocities=list(velocities),
                time_from_start=Duration(nanoseconds=round(seconds * 1e9)).to_msg(),
            )
            for seconds, positions, velocities in points
        ],
    )
