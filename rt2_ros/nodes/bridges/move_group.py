# SPDX-License-Identifier: Apache-2.0
"""Planning and executing by MoveIt's move_group node, through its two actions.

    planner = MoveGroup(node, profile, planned, ended)
    planner.plan(goal)      # MoveGroup action, plan only  -> planned(names, points, error)
    planner.execute()       # ExecuteTrajectory action     -> ended(error)
    planner.cancel()        # either; nothing more is heard of it
    planner.executing()     # whether the arm may still move, or begin to, although cancelled

What is executed is what was judged: the accelerations of the plan are left out, with which a
trajectory controller would join its points by quintics instead of cubics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.action import ActionClient

from rt2_ros.control.profile import RobotProfile
from rt2_ros.nodes.base import BaseNode
from rt2_ros.nodes.bridges.base import POLL_PERIOD, interfaces
from rt2_ros.nodes.bridges.goals import Goal, Points, constraints_msg, points_of

PLAN, EXECUTE = "move_action", "execute_trajectory"
ATTEMPTS, PLANNING_TIME = 3, 2.0  # s for all of them
# Share of the speeds and accelerations in MoveIt's joint_limits.yaml. What comes of it is held
# against the robot profile anyway.
SCALING = 0.3


class MoveGroup:
    """A client of both actions. Only the newest goal's answers are passed on."""

    def __init__(
        self,
        node: BaseNode,
        profile: RobotProfile,
        planned: Callable[[list[str], Points, str], None],
        ended: Callable[[str], None],
    ) -> None:
        action, msg = interfaces("moveit_msgs", "action"), interfaces("moveit_msgs", "msg")
        interfaces("shape_msgs", "msg")
        self._profile, self._planned, self._ended = profile, planned, ended
        self._plan_kind, self._execute_kind = action.MoveGroup, action.ExecuteTrajectory
        codes = msg.MoveItErrorCodes
        self._success = codes.SUCCESS
        named = {name: getattr(codes, name) for name in dir(codes) if name.isupper()}
        self._codes = {code: name for name, code in named.items() if isinstance(code, int)}
        self._clients = {}
        for name, kind in ((PLAN, self._plan_kind), (EXECUTE, self._execute_kind)):
            self._clients[name] = ActionClient(node, kind, name)
            node.at_teardown(self._clients[name].destroy)
        self._names = {name: node.resolve_service_name(name) for name in self._clients}
        self._missing = list(self._names.values())
        self._number = 0  # of the goal whose answers count
        self._execution = 0  # number of the execution that has not ended, 0: none
        self._handle: Any = None  # of the action under way
        self._plan: Any = None  # moveit_msgs/RobotTrajectory
        node.every(POLL_PERIOD, self._look)

    def problem(self) -> str:
        """Say which action has no server."""
        if not self._missing:
            return ""
        return f"no action server {', '.join(self._missing)}: start MoveIt's move_group"

    def plan(self, goal: Goal) -> None:
        """Ask for a plan from where the robot is."""
        request = self._plan_kind.Goal()
        request.request.group_name = self._profile.move_group
        request.request.start_state.is_diff = True  # to the robot's present state
        request.request.goal_constraints = [
            constraints_msg(goal, self._profile.base_frame, self._profile.tip_frame)
        ]
        request.request.num_planning_attempts = ATTEMPTS
        request.request.allowed_planning_time = PLANNING_TIME
        request.request.max_velocity_scaling_factor = SCALING
        request.request.max_acceleration_scaling_factor = SCALING
        request.planning_options.plan_only = True
        self._plan = None
        self._begin(PLAN, request, self._take_plan, lambda error: self._planned([], [], error))

    def execute(self) -> None:
        """Have the plan executed that `planned` was called with."""
        request = self._execute_kind.Goal(trajectory=self._plan)
        self._begin(EXECUTE, request, lambda result: self._ended(""), self._ended)
        self._execution = self._number

    def cancel(self) -> None:
        """Give up what is under way."""
        self._number += 1
        if self._handle is not None:
            self._handle.cancel_goal_async()
            self._handle = None

    def executing(self) -> bool:
        """Say whether an execution, given up or not, has not ended: it may be still to begin."""
        return self._execution != 0

    def _look(self) -> None:
        self._missing = [
            self._names[name]
            for name, client in self._clients.items()
            if not client.server_is_ready()
        ]
        if self._names[EXECUTE] in self._missing:
            self._execution = 0  # nobody is left to tell of its end

    def _take_plan(self, result: Any) -> None:
        self._plan = result.planned_trajectory
        trajectory = self._plan.joint_trajectory
        for point in trajectory.points:
            point.accelerations = []
        self._planned(list(trajectory.joint_names), points_of(trajectory), "")

    def _begin(
        self, name: str, request: Any, done: Callable[[Any], None], failed: Callable[[str], None]
    ) -> None:
        """Send a goal; one of `done` and `failed` is called when it has ended."""
        self._number += 1
        number = self._number

        def over() -> bool:
            """Note that the goal has ended; say whether it was not given up."""
            if number == self._execution:
                self._execution = 0
            return number == self._number

        def answered(future: Any) -> None:
            handle = future.result()
            if not handle.accepted:
                if over():
                    failed(f"{self._names[name]} refused the goal")
                return
            handle.get_result_async().add_done_callback(ended)
            if number == self._number:
                self._handle = handle
            else:  # given up before it was accepted
                handle.cancel_goal_async()

        def ended(future: Any) -> None:
            if not over():
                return
            self._handle = None
            result = future.result().result
            if result.error_code.val == self._success:
                done(result)
            else:
                code = self._codes.get(result.error_code.val, str(result.error_code.val))
                failed(f"{self._names[name]}: {code} {result.error_code.message}".rstrip())

        self._clients[name].send_goal_async(request).add_done_callback(answered)
