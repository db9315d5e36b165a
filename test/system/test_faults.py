# SPDX-License-Identifier: Apache-2.0
"""Every fault of rt2_ros/bench/fault_list.py on the real graph, with the simulator as judge.

One graph for all of them. Times are generous, for machines that do other things as well; of what is
unsafe nothing is let pass.
"""

import threading
import time
import warnings
from contextlib import ExitStack

import numpy as np
import pytest
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from rt2_ros.bench.fault_list import FAULTS, HOLDS, Fault
from rt2_ros.bench.faults import BOUND_S, IN_MOTION, bench
from rt2_ros.nodes import topics
from rt2_ros.nodes.robot import is_idle

LOST_S = 5.0  # without joint states, in which nothing was told to stop them


class Rig:
    """The graph of all tests here; once, a new one where the simulator is heard no more.

    Faults kill processes, and Fast DDS does not always survive that in its shared memory
    (github.com/eProsima/Fast-DDS/issues/5469): a topic of other processes is lost.
    """

    def __init__(self):
        self.lines = []
        self._again = True
        self.begin()

    def begin(self):
        self._stack = ExitStack()
        self.bench = self._stack.enter_context(bench("test_faults", echo=self._echo))

    def _echo(self, node, line):
        self.lines.append(f"{node} {line}")

    def close(self):
        self._stack.close()

    def ready(self):
        """Return a bench whose arm can be moved."""
        try:
            self.bench._set_in_motion()
        except TimeoutError as error:
            if not self._again or self.bench.rig.silence < LOST_S:
                raise
            self._again = False
            warnings.warn(f"the graph was begun anew: {error}", stacklevel=2)
            self.close()
            self.begin()
        return self.bench


@pytest.fixture(scope="module")
def rig():
    rig = Rig()
    yield rig
    rig.close()
    assert not [line for line in rig.lines if "Traceback" in line], rig.lines


@pytest.fixture
def running(rig):
    return rig.ready()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name.replace(" ", "-"))
def test_nothing_unsafe_comes_of_a_fault(running, fault):
    outcome = running.run(fault)
    assert outcome.unsafe == []
    assert outcome.failed == []
    assert outcome.commands >= IN_MOTION
    if fault.expect == HOLDS:
        assert 0.01 < outcome.time_to_hold < BOUND_S  # it was moving, and it stopped


def test_the_table_is_not_laid_anew_while_the_controller_may_still_move_the_arm(running):
    """It has not heard yet that the policy was stopped: what it then sends is of the arm before."""
    rig = running.rig
    running._set_in_motion()
    running.freeze("controller_node")
    thaw = threading.Timer(0.5, running.thaw, ("controller_node",))
    try:
        rig.instruct("")
        assert not is_idle(rig.status)
        thaw.start()
        rig.reset()
        assert is_idle(rig.status)
    finally:
        running.thaw("controller_node") if thaw.ident is None else thaw.join()
    rig.forget()
    time.sleep(0.3)
    assert rig.sent == [] and rig.speed() < 0.02


def trajectory(running, way):
    """A trajectory of somebody else's: joint 1 by `way` from where it is, in 0.4 s."""
    profile = running.rig.profile
    target = running.rig.states[-1].position + np.array([way, 0, 0, 0, 0, 0, 0])
    point = JointTrajectoryPoint(positions=target.tolist(), velocities=[0.0] * 7)
    point.time_from_start.nanosec = 400_000_000
    return JointTrajectory(joint_names=list(profile.arm_joints), points=[point])


def test_the_bench_sees_an_arm_that_does_not_stay(running):
    """Somebody else moves the arm at rest, gently: within every limit, and yet unsafe."""
    arm = topics.joint_trajectory(running.rig.profile.arm_controller)

    def stop(b):
        b.rig.instruct("")

    def move(b):
        other = b.rig.intrude(arm, readers=2)  # the simulator, and the rig's own record
        other.publish(trajectory(b, -0.2 if b.rig.states[-1].position[0] > 0 else 0.2))

    outcome = running.run(Fault("moved by hand", stop, move, stays=True))
    running.rig.retreat()
    assert [words[:8] for words in outcome.unsafe] == ["moved by"], outcome.unsafe


def test_the_bench_says_so_where_it_hears_nothing_of_the_arm(running):
    rig, take = running.rig, running.rig._take_state

    def deafen(b):
        rig._take_state = lambda msg: None

    try:
        outcome = running.run(Fault("deaf", deafen))
    finally:
        rig._take_state = take
    assert outcome.unsafe == []
    assert "not seen at rest" in outcome.failed
