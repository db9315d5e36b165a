# SPDX-License-Identifier: Apache-2.0
"""What the controller does when decisions or joint states stay away, and when clocks go wrong."""

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose

from rt2_ros.bench.rig import PERIOD
from rt2_ros.control.command import State

from .refusal import held


def test_silence_of_the_policy_becomes_a_hold(rig):
    rig.move(0.02, 0, 0)
    rig.run(0.75)
    assert rig.arm.state == State.MOVING
    rig.run(0.1)
    assert rig.arm.state == State.HOLDING
    assert rig.arm.reason == "no decision on an image of the last 0.8 s"
    assert len(rig.commands) == 1  # it had come to rest by itself
    assert rig.move(0.02, 0, 0) is not None


def test_silence_of_the_joint_states_brakes(rig):
    rig.move(0.09, 0, -0.04)
    rig.run(0.1)
    assert rig.chunk.duration > 0.45
    rig.run(0.32, joint_states=False)
    assert rig.arm.state == State.HOLDING
    assert rig.arm.reason.startswith("no joint states for 0.3")
    assert len(rig.commands) == 2
    rig.move(0.02, 0, 0)
    assert held(rig, "joint states")


def test_bad_joint_states_are_counted_and_not_believed(rig):
    names = list(rig.profile.arm_joints)
    for values in ([np.nan] * 7, [0.0] * 6):
        rig.arm.on_joint_state(rig.now_ns + 1, names[: len(values)], values, rig.now_ns)
    rig.arm.on_joint_state(0, names, [0.0] * 7, rig.now_ns)
    assert rig.arm.joint_states.refused == 3
    assert_allclose(rig.arm.pose().position, rig.tip.position)
    assert rig.arm.state == State.HOLDING  # waiting for the first decision


def test_joint_states_of_a_time_to_come_are_not_believed_and_the_operator_is_told(rig):
    """Of a driver whose clock is ahead: a delta would count from where the arm was before."""
    rig.move(0.09, 0, -0.04)
    rig.run(0.1)
    names, before = list(rig.profile.arm_joints), rig.arm.history.newest()
    for _ in range(32):
        rig.run(PERIOD, joint_states=False)
        rig.arm.on_joint_state(rig.now_ns + 300_000_000, names, rig.q, rig.now_ns)
    assert rig.arm.history.newest() is before and rig.arm.joint_states.refused == 32
    assert rig.arm.state == State.HOLDING and rig.commands[-1][3].brake
    assert rig.arm.reason.endswith("(joint state: stamped 0.30 s ahead of the clock)")
    rig.move(0.02, 0, 0)
    assert held(rig, "joint states") and "ahead of the clock" in rig.arm.verdict.reason
    with pytest.raises(ValueError, match="ahead of the clock"):
        rig.arm.home()
    rig.arm.on_joint_state(rig.now_ns + 100_000_000, names, rig.q, rig.now_ns)  # not quite in step
    assert rig.arm.joint_states.refused == 32 and rig.arm.joint_states.problem == ""


def test_a_gripper_that_tells_its_joint_in_messages_of_its_own_is_known(rig):
    """However late: its driver's clock is not the arm's."""
    rig.move(0.08, 0, 0)
    for age_ns in (0, 5_000_000_000):
        rig.arm.on_joint_state(
            rig.now_ns - age_ns, [rig.profile.gripper_joint], [0.025], rig.now_ns
        )
        assert rig.arm.gripper_closedness == pytest.approx(0.375)
        rig.arm._gripper.measured = None
    assert (rig.arm.state, rig.arm.joint_states.refused) == (State.MOVING, 0)


@pytest.mark.parametrize("gripper", [True, False])
@pytest.mark.parametrize(("name", "value"), [("wheel", 0.0), ("panda_finger_joint1", np.nan)])
def test_joint_states_of_other_parts_do_not_disarm_by_their_clock(rig, gripper, name, value):
    """Of wheels, of a second arm, of a gripper that is not yet active or that no profile names."""
    if not gripper:
        rig.arm.profile = dataclasses.replace(
            rig.profile, gripper_command="none", gripper_joint="", gripper_controller=""
        )
    rig.move(0.08, 0, 0)
    for age_ns in (0, 5_000_000_000):
        rig.arm.on_joint_state(rig.now_ns - age_ns, [name], [value], rig.now_ns)
    assert (rig.arm.state, rig.arm.joint_states.refused) == (State.MOVING, 0)
    assert_allclose(rig.arm.pose().position, rig.tip.position)


def test_a_clock_that_goes_back_disarms(rig):
    rig.move(0.08, 0, 0)
    rig.run(0.15)
    names = list(rig.profile.arm_joints)
    before = rig.now_ns - 5_000_000_000
    rig.apply(rig.arm.on_joint_state(before, names, list(rig.q), rig.now_ns))
    assert (rig.arm.state, len(rig.commands)) == (State.DISARMED, 2)
    assert "clock" in rig.arm.reason


@pytest.mark.parametrize("jump", [0.6, 3600.0, -0.1, -3600.0])
def test_a_clock_that_jumps_disarms_and_brakes_within_one_period(rig, jump):
    rig.move(0.08, 0, 0)
    rig.run(0.15)
    rig.clock_offset += jump
    rig.apply(rig.arm.tick(rig.now_ns))
    assert (rig.arm.state, len(rig.commands)) == (State.DISARMED, 2)
    assert rig.arm.reason.startswith("the clock went " + ("forward" if jump > 0 else "back"))
    rig.run(0.2)
    assert not rig.moving
    rig.move(0.05, 0, 0)
    assert held(rig, "disarmed")


def test_simulated_time_that_freezes_disarms(rig):
    rig.move(0.08, 0, 0)
    rig.run(0.1)
    rig.frozen_ns = rig.now_ns
    rig.run(1.2)
    assert rig.arm.state == State.DISARMED
    assert rig.arm.reason == "the clock stands still for more than 1 s"
    rig.frozen_ns = None
    rig.run(0.5)
    rig.move(0.05, 0, 0)
    assert held(rig, "disarmed")
