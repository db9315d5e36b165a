# SPDX-License-Identifier: Apache-2.0
"""How the bridge is rid of a moveit_py that executes and does not end, in a real process."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from rt2_ros.control.profile import RobotProfile
from rt2_ros.nodes.bridges import moveit_py
from rt2_ros.paths import config_path

PROFILE = RobotProfile.load(config_path("robots", "panda.yaml"))
HANGS = """
import socket, sys, time
for text in socket.socket(fileno=int(sys.argv[1])).makefile("r"):
    time.sleep(60)
"""


class Rig:
    def __init__(self, monkeypatch):
        self.now, self.errors = 100.0, []
        node = SimpleNamespace(
            get_namespace=lambda: "/",
            get_logger=lambda: SimpleNamespace(error=self.errors.append),
            at_teardown=lambda callback: None,
            every=lambda period, callback: None,
        )

        def hangs(command, env, pass_fds):
            assert env["PYTHONSAFEPATH"]  # or a checkout in the current folder is run
            (fd,) = pass_fds
            return subprocess.Popen([sys.executable, "-c", HANGS, str(fd)], pass_fds=pass_fds)

        parts = SimpleNamespace(Popen=hangs, TimeoutExpired=subprocess.TimeoutExpired)
        monkeypatch.setattr(moveit_py, "subprocess", parts)
        monkeypatch.setattr(moveit_py, "time", SimpleNamespace(monotonic=lambda: self.now))
        self.planner = moveit_py.MoveItPy(node, PROFILE, "moveit_py.yaml", None, None)
        self.process = self.planner._process


@pytest.fixture
def rig(monkeypatch):
    rig = Rig(monkeypatch)
    yield rig
    rig.process.kill()
    rig.process.wait()


def test_a_process_that_does_not_end_what_was_given_up_is_killed(rig):
    rig.planner.cancel()  # a plan
    rig.planner.execute()
    rig.now += 20.0  # so long may a motion take
    rig.planner.hear()
    rig.planner.cancel()
    rig.now += 9.0
    rig.planner.hear()
    assert rig.planner.executing() and rig.errors == []
    rig.now += 2.0
    rig.planner.hear()
    assert rig.process.wait(10.0) == -9
    rig.planner.hear()
    assert not rig.planner.executing() and "status -9" in rig.planner.problem()
    assert rig.errors == ["moveit_py has not ended for 10 s: it is killed"]
    rig.planner._close()


@pytest.mark.parametrize("executes", [True, False])
def test_at_teardown_a_process_that_may_begin_to_move_is_given_no_time(rig, monkeypatch, executes):
    if executes:
        rig.planner.execute()
    else:
        rig.planner._ask({"plan": {}})
    waits, wait = [], rig.process.wait
    monkeypatch.setattr(rig.process, "wait", lambda *given: waits.append(given) or wait(*given))
    rig.planner._close()
    assert rig.process.returncode == -9
    assert waits[0] == ((0.0,) if executes else (1.0,))
