# SPDX-License-Identifier: Apache-2.0
"""Planning and executing by moveit_py, in a process of its own; the same interface as MoveGroup.

    planner = MoveItPy(node, profile, "moveit_py.yaml", planned, ended)

The parameter file is that of a MoveItCpp node called rt2_moveit_py, or `/**`: robot model, SRDF,
kinematics, joint limits, controllers and `planning_pipelines: {pipeline_names: [ompl]}`
(moveit.utils.create_params_file_from_dict writes one from moveit_configs_utils' `to_dict()`).
Why a process: see moveit_py_process. To stop an execution, the bridge publishes
trajectory_execution_event, which MoveItCpp hears as move_group does.
"""

from __future__ import annotations

import json
import math
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from rt2_ros.bringup import MODULE
from rt2_ros.control.profile import RobotProfile
from rt2_ros.nodes.base import BaseNode
from rt2_ros.nodes.bridges.goals import Goal, Points, goal_json
from rt2_ros.nodes.bridges.move_group import PATIENCE

READ_PERIOD = 0.02  # s between looks at what the process has said


def importable() -> bool:
    """Say whether moveit_py is installed."""
    return find_spec("moveit") is not None and find_spec("moveit.planning") is not None


class MoveItPy:
    """Asks the process; only the newest goal's answers are passed on."""

    def __init__(
        self,
        node: BaseNode,
        profile: RobotProfile,
        params_file: str,
        planned: Callable[[list[str], Points, str], None],
        ended: Callable[[str], None],
    ) -> None:
        self._planned, self._ended, self._log = planned, ended, node.get_logger()
        mine, theirs = socket.socketpair()
        command = [sys.executable, "-m", "rt2_ros.nodes.bridges.moveit_py_process"]
        options = {
            "params": params_file,
            "namespace": node.get_namespace(),
            "group": profile.move_group,
            "base": profile.base_frame,
            "tip": profile.tip_frame,
            "socket": theirs.fileno(),
        }
        command += [f"--{name}={value}" for name, value in options.items()]
        self._process = subprocess.Popen(
            command, env={**os.environ, **MODULE}, pass_fds=[theirs.fileno()]
        )
        theirs.close()
        self._line = mine
        self._stream = mine.makefile("rw")
        self._heard: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._ready = False
        self._asked = self._wanted = 0  # requests sent; the one whose answer counts, 0: none
        self._answered = 0
        self._execution = 0  # number of the request that asked for the last execution
        self._planning = False
        self._given_up_time = math.inf  # s, of the last execution
        threading.Thread(target=self._read, name="moveit-py", daemon=True).start()
        node.at_teardown(self._close)
        node.every(READ_PERIOD, self.hear)

    def problem(self) -> str:
        """It starts still, or has ended."""
        status = self._process.poll()
        if status is not None:
            return f"moveit_py has ended with status {status}: see its messages above"
        return "" if self._ready else "moveit_py is starting"

    def plan(self, goal: Goal) -> None:
        """Ask for a plan from where the robot is."""
        self._ask({"plan": goal_json(goal)})

    def execute(self) -> None:
        """Have the plan executed that `planned` was called with."""
        self._given_up_time = math.inf
        self._ask({"execute": True})
        self._execution = self._asked

    def cancel(self) -> None:
        """Hear nothing more of what is under way."""
        self._wanted, self._given_up_time = 0, time.monotonic()

    def executing(self) -> bool:
        """Say whether an execution, given up or not, has not ended: it may be still to begin."""
        return self._answered < self._execution and self._process.poll() is None

    def hear(self) -> None:
        """Take what the process has said; end it where an execution given up does not end."""
        self._take()
        if self.executing() and time.monotonic() - self._given_up_time > PATIENCE:
            self._log.error(f"moveit_py has not ended for {PATIENCE:g} s: it is killed")
            self._process.kill()
            self._given_up_time = math.inf

    def _ask(self, request: dict[str, Any]) -> None:
        self._asked += 1
        self._wanted, self._planning = self._asked, "plan" in request
        try:
            print(json.dumps(request), file=self._stream, flush=True)
        except OSError:
            self._ready = False  # it has gone; `problem` says so

    def _read(self) -> None:
        with suppress(ConnectionResetError):  # it was killed before it had read all
            for text in self._stream:
                self._heard.put(json.loads(text))

    def _take(self) -> None:
        while not self._heard.empty():
            answer = self._heard.get()
            if not self._ready:
                self._ready = True
                continue
            self._answered += 1
            if self._answered != self._wanted:
                continue
            error = answer.get("error", "")
            if self._planning:
                points: Points = [(t, q, v) for t, q, v in answer.get("points", [])]
                self._planned(answer.get("names", []), points, error)
            else:
                self._ended(error)

    def _close(self) -> None:
        """End the process by closing the line; it has nothing to clean up.

        At once if it executes: it may be still to begin.
        """
        patience = 0.0 if self.executing() else 1.0
        self._line.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:  # it plans or executes
            self._process.kill()
            self._process.wait()
        self._stream.close()
        self._line.close()
