# SPDX-License-Identifier: Apache-2.0
"""Plan and execute by MoveIt: where a chunk ends becomes a goal, to which MoveIt finds a way.

    send(chunk) -> plan -> judged by the same limits as our own trajectories -> execute -> rest

For large steps and for the way home; a goal takes seconds, and deltas are refused meanwhile
("busy"). Who plans is one of two, alike from here: move_group by its actions, or moveit_py in a
process of its own. Execution is move_group's ExecuteTrajectory in the first case.

To stop, three things are sent at once. On Jazzy ExecuteTrajectory takes no cancel while it executes
(its server's one thread waits for the motion), so the cancel alone would not do:
`trajectory_execution_event: stop`, the cancel, and a brake of our own straight to the arm's
controller, where a new trajectory takes the place of the running one; the hold of a goal that is
cancelled may take that of the brake (docs/hardware.md, 1, makes it a gentle one). None of them is
heard before MoveIt begins to execute, which may be later than the stop; so MoveIt is told again
until it has ended and the arm is at rest, also while the node is inactive, and nothing new is begun
meanwhile.
A node that is torn down tells it for two seconds more.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar

import numpy as np
from std_msgs.msg import String

from rt2_ros.control.command import Command
from rt2_ros.control.history import NotInHistory
from rt2_ros.control.pose import Array
from rt2_ros.control.trajectory import stop_chunk
from rt2_ros.nodes import topics
from rt2_ros.nodes.base import one_line
from rt2_ros.nodes.bridges.base import Bridge, Trouble, trajectory_msg
from rt2_ros.nodes.bridges.controllers import Controllers
from rt2_ros.nodes.bridges.goals import Goal, Points, chunk_of
from rt2_ros.nodes.bridges.gripper import make_gripper
from rt2_ros.nodes.bridges.move_group import MoveGroup
from rt2_ros.nodes.bridges.moveit_py import MoveItPy, importable

PLAN_PATIENCE = 5.0  # s for a plan, after which what was seen then is too old to act upon
BRAKE_STATE_AGE = 0.1  # s, the oldest joint state from which a brake is planned
INSIST_PERIOD = 0.1  # s from one word to MoveIt that it is to stop to the next
LAST_WORDS = 2.0  # s of them at teardown; MoveIt has begun by then, or will not
BRAKE_PATIENCE = 0.3  # s after a brake's end for drives that lag: what moves then has not heard it
MOVES = 0.005  # rad in INSIST_PERIOD, more than a sensor's noise

PLANNING, EXECUTING, STOPPING = "MoveIt plans", "MoveIt moves the arm", "MoveIt is told to stop"


class MoveItBridge(Bridge):
    """One goal at a time: idle, planning, executing, and stopping until MoveIt has ended."""

    PLANS = True
    # Targets between two decisions would only be goals that nobody reaches.
    OVERRIDES: ClassVar[dict[str, Any]] = {"smoothing_time": 0.0, "ensemble_horizon": 1}

    def start(self) -> None:
        """Make the planner; ImportError names the package that is missing."""
        profile = self.profile
        self._planner = self._make_planner()
        out = topics.joint_trajectory(profile.arm_controller)
        self._brake_out = self.node.publish(out, always=True)
        self._event_out = self.node.publish(topics.TRAJECTORY_EXECUTION_EVENT, always=True)
        self._gripper = make_gripper(self.node, profile, self.gripper_refused)
        self._controllers = Controllers(self.node, profile, self.armed)
        self._doing = ""
        self._trouble = Trouble()
        self._goals = self._reached = self._failed = 0
        self._last = "no goal yet"
        self._plan_time = -np.inf  # when a plan was asked for
        self._rest_time = -np.inf  # when the arm should have heard the last brake and be at rest
        self._seen: tuple[int, Array] | None = None  # joint state at the last look: ns, rad
        self.node.every(INSIST_PERIOD, self._insist)
        self.node.at_teardown(self._see_out)  # before its publishers go

    def _make_planner(self) -> MoveGroup | MoveItPy:
        answers = (self._planned, self._ended)
        params = self.node.value("moveit_params")
        if not params:
            self.node.get_logger().info("MoveIt by move_group, as moveit_params is not given")
            return MoveGroup(self.node, self.profile, *answers)
        if not importable():
            raise ImportError(
                f"moveit_params is {params!r}, but moveit_py is not installed: sudo apt install "
                "ros-jazzy-moveit-py, or leave moveit_params out to plan by move_group"
            )
        self.node.get_logger().info("MoveIt by moveit_py")
        return MoveItPy(self.node, self.profile, params, *answers)

    def send(self, command: Command) -> None:
        """Begin with a goal; a brake is none, and while busy nothing else is begun."""
        if command.gripper is not None:
            self._gripper.send(command.gripper)
        if command.chunk is None or command.brake or self._doing or self.arm is None:
            return
        q = command.chunk.positions[-1]
        if command.joint_goal:
            goal = Goal(joints=tuple(zip(self.profile.arm_joints, q.tolist(), strict=True)))
        else:
            goal = Goal(pose=self.arm.kinematics.forward(q))
        self._goals += 1
        self._doing, self._plan_time = PLANNING, time.monotonic()
        self._planner.plan(goal)

    def hold(self, reason: str) -> None:
        """Give up the goal; an arm that moves, or is about to, is brought to rest."""
        if self._doing in ("", STOPPING):
            return
        self._doing = STOPPING if self._doing == EXECUTING else ""
        self._last = f"given up: {reason}"
        self._planner.cancel()
        if self._doing == STOPPING:
            self._tell_to_stop()
            self._brake()

    def stop(self, reason: str) -> None:
        """Stop MoveIt at what somebody else told it as well: RViz, or a controller that is gone."""
        self.hold(reason)
        if not self._doing:
            self._doing = STOPPING
            self._tell_to_stop()

    def problem(self) -> str:
        """MoveIt is missing, a goal has just failed, or controllers or gripper are not ready."""
        return (
            self._planner.problem()
            or str(self._trouble)
            or self._controllers.problem()
            or self._gripper.problem()
        )

    def busy(self) -> str:
        """Planning, executing or stopping."""
        return f"busy: {self._doing}" if self._doing else ""

    def figures(self) -> dict[str, object]:
        """Goals so far, and what became of the last."""
        goals: dict[str, object] = {
            "goals": self._goals,
            "goals reached": self._reached,
            "goals failed": self._failed,
            "last goal": self._last,
        }
        return goals | self._controllers.figures() | self._gripper.figures()

    def _insist(self) -> None:
        """Tell MoveIt to stop until it has ended, and brake an arm that moves on all the same.

        Without MoveIt as well: the arm's controller goes on with what it was given.
        """
        moved, executing = self._moved(), self._planner.executing()
        if executing and self._doing in ("", PLANNING):  # given up, taken for ended, and begun late
            self._planner.cancel()
            self._doing = STOPPING
        if self._doing == PLANNING and self._late():
            self._planner.cancel()
            self._fail(f"no plan within {PLAN_PATIENCE:g} s")
        if self._doing != STOPPING:
            return
        if executing:
            self._tell_to_stop()
        if time.monotonic() <= self._rest_time:
            return
        if moved:
            self._brake()
        elif moved is not None and not executing:
            self._doing = ""

    def _late(self) -> bool:
        return time.monotonic() - self._plan_time > PLAN_PATIENCE

    def _see_out(self) -> None:
        """Tell MoveIt to stop at teardown, after which nobody does."""
        self.hold("the controller ends")
        end = time.monotonic() + LAST_WORDS
        while self._doing == STOPPING and self._planner.executing() and time.monotonic() < end:
            self._tell_to_stop()
            time.sleep(INSIST_PERIOD / 2)
            self._planner.hear()

    def _tell_to_stop(self) -> None:
        self._event_out.publish(String(data="stop"))

    # The planner's word. It comes only for the goal under way: see MoveGroup

    def _planned(self, names: list[str], points: Points, error: str) -> None:
        if not self._doing or self.arm is None:
            return
        if not error and self._late():  # this process stood still
            error = f"the plan came after more than {PLAN_PATIENCE:g} s"
        if not error:
            try:
                chunk = chunk_of(names, points, self.profile.arm_joints)
                error = self.arm.plan_problem(chunk)
            except ValueError as bad:
                error = one_line(bad)
            error = error and f"the plan is refused: {error}"
        if error:
            self._fail(error)
            return
        self._doing = EXECUTING
        self._planner.execute()

    def _ended(self, error: str) -> None:
        if not self._doing:
            return
        if error:
            self._brake()
            self._fail(error)
            self._doing = STOPPING  # until the arm is seen to rest
            return
        self._doing, self._last = "", "reached"
        self._reached += 1

    def _fail(self, error: str) -> None:
        self._doing, self._last = "", error
        self._failed += 1
        self._trouble.raise_(f"MoveIt: {error}")
        self.node.get_logger().warning(f"MoveIt: {error}")

    def _moved(self) -> bool | None:
        """Say whether the arm has moved since the last look; None where no joint state has come."""
        before, self._seen = self._seen, None
        if self.arm is None:
            return None
        try:
            self._seen = self.arm.history.newest()
        except NotInHistory:
            return None
        if before is None or before[0] == self._seen[0]:
            return None
        return bool(np.abs(self._seen[1] - before[1]).max() > MOVES)

    def _brake(self) -> None:
        """Bring the arm from its measured motion to rest, past MoveIt.

        Not from where it was some time ago: that would be a motion back; nor one that was put
        elsewhere, as when a simulator is reset: that is at rest. Where nobody knows where it is,
        MoveIt alone can stop it.
        """
        if self.arm is None:
            return
        try:
            stamp, q = self.arm.history.newest()
        except NotInHistory:
            return
        if self.node.now_ns() - stamp > BRAKE_STATE_AGE * 1e9:
            return
        if self.arm.history.jumps():
            return
        limits, velocity = self.profile.limits(), self.arm.history.velocity()
        velocity = np.clip(velocity, -limits.velocity, limits.velocity)
        chunk = stop_chunk(q, velocity, limits)
        self._rest_time = time.monotonic() + chunk.duration + BRAKE_PATIENCE
        self._brake_out.publish(trajectory_msg(self.profile.arm_joints, chunk.points()))
