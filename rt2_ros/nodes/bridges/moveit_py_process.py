# SPDX-License-Identifier: Apache-2.0
"""moveit_py in a process of its own: `python -m rt2_ros.nodes.bridges.moveit_py_process ...`.

    {"plan": {"joints": {"panda_joint1": 0.3, ..}}}  ->  {"names": [..], "points": [[t, q, v], ..]}
    {"execute": true}                                ->  {"ended": true}
    either                                           ->  {"error": "FAILURE"}

One JSON object a line, over a socket that the controller hands on: moveit_py plans with Python's
interpreter lock held, for seconds, in which no watchdog of the controller would run; and when one
of its objects goes, all of rclcpp in that process is shut down (moveit2#3721). So it lives here,
and this process ends without cleaning up.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from typing import Any

from rt2_ros.nodes.bridges.goals import Goal, constraints_msg, goal_of, points_of
from rt2_ros.nodes.bridges.move_group import ATTEMPTS, PLANNING_TIME

PIPELINE = "ompl"  # of the parameter file's planning_pipelines.pipeline_names


class Planner:
    """MoveItPy for one planning group."""

    def __init__(self, options: argparse.Namespace) -> None:
        from moveit.planning import MoveItPy, PlanRequestParameters

        self._options = options
        self._moveit = MoveItPy(
            node_name="rt2_moveit_py",
            name_space=options.namespace,
            launch_params_filepaths=[options.params],
            provide_planning_service=False,
        )
        self._component = self._moveit.get_planning_component(options.group)
        self._parameters = PlanRequestParameters(self._moveit, "")
        self._parameters.planning_pipeline = PIPELINE  # there is none by default
        self._parameters.planning_attempts = ATTEMPTS
        self._parameters.planning_time = PLANNING_TIME
        self._trajectory: Any = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Plan, or execute what was planned last."""
        if "plan" in request:
            return self._plan(goal_of(request["plan"]))
        status = self._moveit.execute(self._trajectory, controllers=[])
        return {"ended": True} if status else {"error": str(status.status)}

    def _plan(self, goal: Goal) -> dict[str, Any]:
        component = self._component
        component.set_start_state_to_current_state()
        constraints = constraints_msg(goal, self._options.base, self._options.tip)
        component.set_goal_state(motion_plan_constraints=[constraints])
        speed, acceleration = goal.scaling
        self._parameters.max_velocity_scaling_factor = speed
        self._parameters.max_acceleration_scaling_factor = acceleration
        plan = component.plan(single_plan_parameters=self._parameters)
        if not plan:
            return {"error": f"no plan: error code {plan.error_code.val}"}
        self._trajectory = plan.trajectory
        msg = self._trajectory.get_robot_trajectory_msg()
        for point in msg.joint_trajectory.points:
            point.accelerations = []  # as in MoveGroup: what is executed is what is judged
        self._trajectory.set_robot_trajectory_msg(component.get_start_state(), msg)
        trajectory = msg.joint_trajectory
        return {"names": list(trajectory.joint_names), "points": points_of(trajectory)}


def main(argv: list[str] | None = None) -> None:
    """Answer line by line until the other end is closed."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--params", "--namespace", "--group", "--base", "--tip"):
        parser.add_argument(name, required=True)
    parser.add_argument("--socket", type=int, required=True, help="file descriptor")
    options = parser.parse_args(argv)
    planner = Planner(options)
    stream = socket.socket(fileno=options.socket).makefile("rw")
    try:
        print(json.dumps({"ready": True}), file=stream, flush=True)
        for text in stream:
            print(json.dumps(planner.answer(json.loads(text))), file=stream, flush=True)
    except (BrokenPipeError, ConnectionResetError):
        pass  # the controller has gone while we were at it
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
