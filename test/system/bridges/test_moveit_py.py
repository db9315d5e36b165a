# SPDX-License-Identifier: Apache-2.0
"""The bridge to MoveIt by moveit_py in its own process, against a look-alike of the package."""

import os
from pathlib import Path

import numpy as np
import psutil
import pytest
from std_srvs.srv import Trigger

from rt2_ros.msg import ControllerStatus

LOOK_ALIKE = Path(__file__).parents[2] / "interfaces" / "moveit_py"
STEP = np.array([0.0, 0.05, -0.04])
BEGINS, WAITS = "{takes: 2.0, begins: true}", "{takes: 6.0, begins: false}"


@pytest.fixture(scope="module")
def process(bench, tmp_path_factory):
    """The process in which moveit_py lives; it goes when the controller does."""
    bench.params = params = tmp_path_factory.mktemp("moveit_py") / "moveit_py.yaml"
    write(params, BEGINS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(LOOK_ALIKE), prepend=os.pathsep)
        bench.begin("moveit", parameters={"moveit_params": params})
    (process,) = psutil.Process(bench.controller._process.pid).children()
    yield process
    bench.end()
    assert not psutil.pid_exists(process.pid)


@pytest.fixture
def moveit(bench, process):
    """The arm at rest at home, armed and with a new instruction."""
    bench.until_free()
    bench.rest()
    bench.arm.place(bench.arm.profile.home)
    bench.instruct()
    return process


def write(path, text):
    """Write what the other process may be reading."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def said(bench, text):
    """Count how often the look-alike has said so."""
    return bench.controller.text.count(text)


def test_a_delta_is_planned_and_executed_in_the_other_process(bench, moveit):
    start = bench.until_taken(STEP)
    bench.until(lambda msg: msg.state == ControllerStatus.MOVING, "the goal")
    bench.until_refused((0.0, -0.05, 0.0))
    assert np.abs(bench.rest(1.0) - (start + STEP)).max() < 2e-3
    (msg,) = bench.arm.received
    assert not any(len(point.accelerations) for point in msg.points)
    bench.until_taken((0.0, 0.1, 0.0))
    bench.until(lambda msg: msg.state == ControllerStatus.MOVING, "the next goal")


def test_a_stop_ends_the_motion(bench, moveit):
    start = bench.until_taken((0.0, 0.1, 0.0))
    bench.until_moving()
    assert bench.probe.call(Trigger, "controller_node/stop", Trigger.Request()).success
    assert np.linalg.norm(bench.rest() - start) < 0.09
    bench.assert_still()


def test_a_stop_before_the_motion_begins_is_not_lost(bench, moveit):
    write(bench.params, WAITS)
    asked = said(bench, "asked to execute")
    start = bench.until_taken((0.0, 0.1, 0.0))
    ended = said(bench, "ended the execution")
    bench.probe.until(lambda: said(bench, "asked to execute") > asked, "the plan to be executed")
    assert bench.probe.call(Trigger, "controller_node/stop", Trigger.Request()).success
    bench.instruct()
    status = bench.until_refused(STEP)  # armed again, it waits for MoveIt to end
    assert "MoveIt is told to stop" in status.reason
    write(bench.params, BEGINS)
    bench.probe.until(lambda: said(bench, "ended the execution") > ended, "MoveIt to end")
    assert np.linalg.norm(bench.rest() - start) < 0.02
    bench.until_taken(STEP)


def test_a_process_that_dies_blocks_and_the_arm_rests(bench, moveit):
    start = bench.until_taken((0.0, 0.1, 0.0))
    bench.until_moving()
    os.kill(moveit.pid, 9)
    bench.until_reason("moveit_py has ended with status -9")
    assert np.linalg.norm(bench.rest() - start) < 0.09
    bench.until_refused(STEP)
    bench.assert_still()
