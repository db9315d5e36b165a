# SPDX-License-Identifier: Apache-2.0
"""What the controller does when decisions or joint states stay away, and when clocks go wrong."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from rt2_ros.control.arm import State
from rt2_ros.control.trajectory import Chunk

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
    assert rig.arm.bad_joint_states == 3
    assert_allclose(rig.arm.pose().position, rig.tip.position)
    assert rig.arm.state == State.HOLDING  # waiting for the first decision


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


def moved_by_another(rig):
    """The arm is on its way elsewhere, at 0.2 rad/s, whatever it was told."""
    steps = np.linspace(0.0, 0.4, 3)[:, None]
    velocities = np.full((3, len(rig.q)), 0.2) * [[1], [1], [0]]
    rig.chunk = Chunk(np.array([0.0, 1.0, 3.0]), rig.q + steps, velocities)
    rig.chunk_time = rig.time


@pytest.mark.parametrize("state", [State.STOPPED, State.DISARMED, State.ARMED])
def test_a_brake_that_is_lost_is_sent_again_from_where_the_arm_is(rig, state):
    rig.move(0.09, 0, -0.04)
    rig.run(0.1)
    end = {State.STOPPED: rig.arm.stop, State.DISARMED: rig.arm.disarm}
    lost = end.get(state, lambda: rig.arm.on_instruction(""))()
    moved_by_another(rig)
    assert lost.brake
    rig.run(1.5)
    (_, q, velocity, again) = rig.commands[-1]
    assert len(rig.commands) == 2 and again.brake and np.abs(velocity).max() > 0.05
    assert_allclose(again.chunk.positions[0], q)
    assert not rig.moving and np.abs(rig.q - q).max() < 0.03
    assert rig.arm.state == state
    assert rig.arm.reason.endswith("; it did not come to rest, and was told again")


def test_an_arm_that_somebody_else_moves_once_it_rests_is_left_alone(rig):
    rig.move(0.09, 0, -0.04)
    rig.run(0.1)
    rig.apply(rig.arm.stop())
    rig.run(1.0)
    moved_by_another(rig)
    rig.run(2.5)
    assert len(rig.commands) == 2 and rig.arm.reason == "stopped"


def test_an_arm_that_is_put_elsewhere_while_it_holds_is_left_there(rig):
    rig.move(0.09, 0, -0.04)
    rig.run(2.0)
    assert rig.arm.state == State.HOLDING and len(rig.commands) == 1
    rig.chunk, rig.q = None, rig.q + 0.03
    rig.run(0.03)
    rig.instruct(instruction_id=2)
    rig.run(0.5)
    assert len(rig.commands) == 1


def test_an_arm_is_not_told_again_by_what_was_measured_long_ago(rig):
    rig.move(0.09, 0, -0.04)
    rig.run(0.1)
    rig.arm.stop()
    moved_by_another(rig)
    rig.run(0.2)
    rig.run(1.5, joint_states=False)
    late, q = rig.now_ns - 1_400_000_000, rig.chunk.sample(0.3)[0]  # it waited while nobody looked
    rig.arm.on_joint_state(late, rig.profile.arm_joints, q, rig.now_ns)
    rig.run(0.02, joint_states=False)
    assert len(rig.commands) == 1
    rig.run(0.2)
    assert len(rig.commands) == 2
