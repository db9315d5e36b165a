# SPDX-License-Identifier: Apache-2.0
"""Commanding the gripper: by a trajectory, or by one of the two actions of ros2_control.

    gripper = make_gripper(node, profile, refused=print)   # as profile.gripper_command says
    gripper.send(0.0)                                       # position of gripper_joint, m or rad

A grasp ends before the fingers meet: a goal that ends stalled has done what it was for, whether its
server calls that success (`allow_stalling`) or not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from sensor_msgs.msg import JointState

from rt2_ros.control.profile import GRIPPER_TIME, RobotProfile
from rt2_ros.nodes import topics
from rt2_ros.nodes.base import BaseNode
from rt2_ros.nodes.bridges.base import POLL_PERIOD, interfaces, trajectory_msg

PATIENCE = 5.0  # s for an action's server to say what became of a goal


class Gripper:
    """A gripper that is never commanded (`gripper_command: none`), and what the others share."""

    def send(self, position: float) -> None:
        """Go to a position of the gripper's joint, m or rad."""

    def problem(self) -> str:
        """Say why the gripper cannot be commanded; empty if it can."""
        return ""

    def figures(self) -> dict[str, object]:
        """Return figures by name, for diagnostics."""
        return {}


class TrajectoryGripper(Gripper):
    """One point to a joint_trajectory_controller."""

    def __init__(self, node: BaseNode, profile: RobotProfile) -> None:
        self._joint = profile.gripper_joint
        self._out = node.publish(topics.gripper_trajectory(profile.gripper_controller))

    def send(self, position: float) -> None:
        """Publish a trajectory of one point, at rest there."""
        self._out.publish(trajectory_msg([self._joint], [(GRIPPER_TIME, [position], [0.0])]))


class ActionGripper(Gripper):
    """A GripperCommand or ParallelGripperCommand action; a new goal takes the old one's place."""

    def __init__(
        self, node: BaseNode, profile: RobotProfile, refused: Callable[[str], None]
    ) -> None:
        action = interfaces("control_msgs", "action")
        parallel = profile.gripper_command == "parallel_gripper"
        kind = action.ParallelGripperCommand if parallel else action.GripperCommand
        self._kind, self._parallel = kind, parallel
        self._node, self._profile, self._refused = node, profile, refused
        name = f"{profile.gripper_controller}/{profile.gripper_action}"
        self._name = node.resolve_service_name(name)
        self._client = ActionClient(node, kind, name)
        node.at_teardown(self._client.destroy)
        self._newest = 0  # number of the goal sent last
        self._given_up = 0  # of the one that was not waited for any longer
        self._last, self._due = "none sent", math.inf
        self._there = False
        node.every(POLL_PERIOD, self._look)

    def send(self, position: float) -> None:
        """Send a goal; what becomes of it is told later."""
        self._newest += 1
        number = self._newest
        self._last, self._due = "sent", time.monotonic() + PATIENCE
        self._client.send_goal_async(self._goal(position)).add_done_callback(
            lambda future: self._answered(number, future.result())
        )

    def problem(self) -> str:
        """The action's server is not there."""
        return "" if self._there else f"no gripper action server {self._name}: start its driver"

    def figures(self) -> dict[str, object]:
        """What became of the last goal."""
        return {"gripper goal": self._last}

    def _look(self) -> None:
        self._there = self._client.server_is_ready()
        if time.monotonic() > self._due:
            self._given_up = self._newest
            self._newest += 1  # what it says now is too late
            self._end("no answer", f"{self._name} has said nothing for {PATIENCE:g} s")

    def _goal(self, position: float) -> Any:
        goal, effort = self._kind.Goal(), self._profile.gripper_max_effort
        if self._parallel:
            goal.command = JointState(
                name=[self._profile.gripper_joint], position=[position], effort=[effort]
            )
        else:
            goal.command.position, goal.command.max_effort = position, effort
        return goal

    def _answered(self, number: int, goal: Any) -> None:
        if number == self._given_up and goal.accepted:  # it would close long after it was told to
            goal.cancel_goal_async()
        if number != self._newest:
            return
        if not goal.accepted:
            self._end("refused", f"{self._name} refused the gripper's goal")
            return
        self._last = "accepted"
        goal.get_result_async().add_done_callback(
            lambda future: self._ended(number, future.result())
        )

    def _ended(self, number: int, answer: Any) -> None:
        if number != self._newest:
            return
        result = answer.result
        if answer.status == GoalStatus.STATUS_SUCCEEDED or result.stalled or result.reached_goal:
            self._end("stalled: it holds something" if result.stalled else "reached")
            return
        self._end("not reached", f"{self._name} ended without reaching its position")

    def _end(self, last: str, problem: str = "") -> None:
        self._last, self._due = last, math.inf
        if problem:
            self._refused(problem)


def make_gripper(node: BaseNode, profile: RobotProfile, refused: Callable[[str], None]) -> Gripper:
    """Return the gripper that `profile.gripper_command` names.

    refused: called with the reason when a goal was not taken or came to nothing.
    Raises ImportError, in one line, where an action's message package is missing.
    """
    if profile.gripper_command == "none":
        return Gripper()
    if profile.gripper_command == "trajectory":
        return TrajectoryGripper(node, profile)
    return ActionGripper(node, profile, refused)
