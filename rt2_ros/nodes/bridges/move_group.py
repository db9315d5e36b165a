# SPDX-License-Identifier: Apache-2.0
"""Planning and executing by MoveIt's move_group node, through its two actions.

    planner = MoveGroup(node, profile, planned, ended)
    planner.plan(goal)      # MoveGroup action, plan only  -> planned(names, points, error)
    planner.execute()       # ExecuteTrajectory action     -> ended(error)
    planner.cancel()        # either; nothing more is heard of it
    planner.executing()     # whether the arm may still move, or begin to, although cancelled

An answer can be lost, above all when move_group is killed and started again. An action's server can
be asked for a goal's result as often as one likes: it answers at once, at the goal's end, or that
it does not know the goal. So it is asked again until it has answered.

What is executed is what was judged: the accelerations of the plan are left out, with which a
trajectory controller would join its points by quintics instead of cubics.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.action.client import ClientGoalHandle
from unique_identifier_msgs.msg import UUID

from rt2_ros.control.profile import RobotProfile
from rt2_ros.nodes.base import BaseNode
from rt2_ros.nodes.bridges.base import POLL_PERIOD, interfaces
from rt2_ros.nodes.bridges.goals import Goal, Points, constraints_msg, points_of

PLAN, EXECUTE = "move_action", "execute_trajectory"
ATTEMPTS, PLANNING_TIME = 3, 2.0  # s for all of them
ASK_AGAIN = 2.0  # s from one request for a goal's result to the next
LATE = 5.0  # s; a goal that its server does not know for so long is lost, before that on its way
GONE = 4  # looks on end without a server, after which nobody is there to execute
PATIENCE = 10.0  # s from an execution that is given up to its end


@dataclass(eq=False)
class Sent:
    """A goal, until it has ended; then `done` or `failed` is called, unless it was given up."""

    name: str  # of its action
    handle: ClientGoalHandle
    done: Callable[[Any], None]
    failed: Callable[[str], None]
    asked_time: float  # s, when it was sent, or its result last asked for
    accepted: bool = False
    unknown_time: float = math.inf  # s, since when its server says not to know it
    given_up_time: float = math.inf  # s


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
        self._gone = 0  # looks on end without a server that executes
        self._current: Sent | None = None  # the goal whose answers count
        self._open: set[Sent] = set()  # goals that have not ended, as far as is known
        self._plan: Any = None  # moveit_msgs/RobotTrajectory
        node.every(POLL_PERIOD, self._look)

    def problem(self) -> str:
        """Say which action has no server, or that MoveIt does not end what was given up."""
        if self._missing:
            return f"no action server {', '.join(self._missing)}: start MoveIt's move_group"
        due = time.monotonic() - PATIENCE
        if any(goal.name == EXECUTE and goal.given_up_time < due for goal in self._open):
            return f"MoveIt has not ended for {PATIENCE:g} s: restart move_group"
        return ""

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
        speed, acceleration = goal.scaling
        request.request.max_velocity_scaling_factor = speed
        request.request.max_acceleration_scaling_factor = acceleration
        request.planning_options.plan_only = True
        self._plan = None
        self._begin(PLAN, request, self._take_plan, lambda error: self._planned([], [], error))

    def execute(self) -> None:
        """Have the plan executed that `planned` was called with."""
        request = self._execute_kind.Goal(trajectory=self._plan)
        self._begin(EXECUTE, request, lambda result: self._ended(""), self._ended)

    def cancel(self) -> None:
        """Give up what is under way."""
        goal, self._current = self._current, None
        if goal is not None:
            goal.given_up_time = time.monotonic()
            goal.handle.cancel_goal_async()

    def executing(self) -> bool:
        """Say whether an execution, given up or not, has not ended: it may be still to begin."""
        return self._gone < GONE and any(goal.name == EXECUTE for goal in self._open)

    def hear(self) -> None:
        """Take what has been answered: the executor alone can."""

    def _look(self) -> None:
        self._missing = [
            self._names[name]
            for name, client in self._clients.items()
            if not client.server_is_ready()
        ]
        self._gone = self._gone + 1 if self._names[EXECUTE] in self._missing else 0
        due = time.monotonic() - ASK_AGAIN
        for goal in tuple(self._open):
            if goal.asked_time < due and self._names[goal.name] not in self._missing:
                self._ask(goal)

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
        client, number = self._clients[name], UUID(uuid=list(uuid.uuid4().bytes))
        handle = ClientGoalHandle(client, number, None)
        goal = self._current = Sent(name, handle, done, failed, time.monotonic())
        self._open.add(goal)
        answer = client.send_goal_async(request, goal_uuid=number)
        answer.add_done_callback(lambda future: self._answered(goal, future.result()))

    def _answered(self, goal: Sent, handle: ClientGoalHandle) -> None:
        if not handle.accepted:
            if self._close(goal):
                goal.failed(f"{self._names[goal.name]} refused the goal")
            return
        goal.handle, goal.accepted = handle, True
        if goal not in self._open:  # so late that it was taken for lost
            goal.given_up_time = time.monotonic()
            self._open.add(goal)
        self._ask(goal)

    def _ask(self, goal: Sent) -> None:
        """Ask for a goal's result, and that it ends if it was given up."""
        goal.asked_time, accepted = time.monotonic(), goal.accepted
        answer = goal.handle.get_result_async()
        answer.add_done_callback(lambda future: self._take(goal, accepted, future.result()))
        if goal is not self._current:
            goal.handle.cancel_goal_async()

    def _take(self, goal: Sent, accepted: bool, answer: Any) -> None:
        """Take an answer to a request for the result, before which a goal was `accepted` or not."""
        unknown = answer.status == GoalStatus.STATUS_UNKNOWN
        if unknown and not accepted:
            goal.unknown_time = min(goal.unknown_time, time.monotonic())
            if goal.accepted or time.monotonic() - goal.unknown_time < LATE:
                return  # it was on its way
        if not self._close(goal):
            return
        name, code = self._names[goal.name], answer.result.error_code
        if unknown:
            goal.failed(f"{name} does not know the goal")
        elif code.val == self._success:
            goal.done(answer.result)
        else:
            what = self._codes.get(code.val, str(code.val))
            goal.failed(f"{name}: {what} {code.message}".rstrip())

    def _close(self, goal: Sent) -> bool:
        """Note that a goal has ended; say whether this counts: once, and if it was not given up."""
        self._open.discard(goal)
        counts = goal is self._current
        if counts:
            self._current = None
        return counts
