# SPDX-License-Identifier: Apache-2.0
"""Brakes that the arm did not hear, and joint states that two nodes publish."""

import numpy as np
import pytest

from rt2_ros.bench.rig import PERIOD
from rt2_ros.control.command import State

from .refusal import held


def cut_off(rig, seconds):
    """Let time pass while nothing gets to the arm or back from it."""
    chunk, began = rig.chunk, rig.chunk_time
    for _ in range(round(seconds / PERIOD)):
        rig.run(PERIOD, joint_states=False)
        rig.chunk, rig.chunk_time = chunk, began


@pytest.mark.parametrize("end", [None, "stop", "disarm"])
def test_a_brake_that_the_arm_did_not_hear_is_said_again(rig_with, end):
    rig = rig_with(chunk_duration=3.0, time_to_live=4.0)
    rig.move(0.08, 0, 0)
    rig.run(0.6)
    cut_off(rig, 0.6)
    assert rig.arm.state == State.HOLDING and rig.commands[-1][3].brake
    rig.run(PERIOD)
    assert rig.moving
    if end:
        rig.apply(getattr(rig.arm, end)())
    rig.run(0.4)
    assert not rig.moving and rig.commands[-1][3].brake
    sent = len(rig.commands)
    rig.run(5.0)
    assert len(rig.commands) == sent


def test_a_brake_is_said_again_to_an_arm_that_is_still_on_a_faster_trajectory(rig_with):
    """It did not hear the slow step that came after the fast one, nor the brake."""
    rig = rig_with(chunk_duration=3.0, time_to_live=4.0)
    rig.move(0.08, 0, 0)
    rig.run(0.3)
    chunk, began = rig.chunk, rig.chunk_time
    rig.move(0.002, 0, 0)
    rig.chunk, rig.chunk_time = chunk, began
    rig.run(0.1)
    rig.arm.stop()
    rig.run(1.0)
    assert not rig.moving and rig.commands[-1][3].brake
    assert rig.time - began < 0.8 * chunk.duration  # it did not come to its end


def test_a_clock_of_joint_states_that_goes_back_ends_no_process(rig_with):
    rig = rig_with(chunk_duration=3.0, time_to_live=4.0)
    rig.move(0.08, 0, 0)
    rig.run(0.5)
    rig.arm.stop()  # the arm does not hear it
    rig.run(0.28)
    assert rig.moving
    rig.time += 0.06
    before = rig.now_ns - 5_000_000_000
    rig.arm.on_joint_state(before, rig.profile.arm_joints, rig.q, rig.now_ns)
    rig.arm.tick(rig.now_ns)
    assert rig.arm.reason == "the clock of the joint states went back"
    rig.arm.arm()
    with pytest.raises(ValueError, match="no joint states of the last 0.3 s"):
        rig.arm.home()


def test_an_arm_that_somebody_else_moves_is_not_braked(rig):
    rig.move(0.03, 0, 0)
    rig.run(0.5)
    rig.apply(rig.arm.disarm())
    rig.run(2.0)
    sent = len(rig.commands)
    for _ in range(100):  # led by hand, 0.1 rad/s
        rig.q, rig.chunk = rig.q + 0.001, None
        rig.run(PERIOD)
    assert len(rig.commands) == sent


@pytest.mark.parametrize("before", [0.0, 0.03])  # m that this controller moved it by before
def test_a_stop_ends_also_a_motion_that_was_not_told_by_this_controller(new_rig, before):
    """The controller was started again meanwhile, or somebody told MoveIt by RViz."""
    rig = new_rig()
    rig.instruct()
    if before:
        rig.move(before, 0, 0)
        rig.run(1.0)
    sent, way = len(rig.commands), np.array([0.008, 0, 0, 0, 0, 0, 0])
    for _ in range(30):
        rig.q, rig.chunk = rig.q + way, None
        rig.run(PERIOD)
    command = rig.apply(rig.arm.stop())
    assert len(rig.commands) == sent + 1 and command.brake
    np.testing.assert_allclose(command.chunk.positions[0], rig.q)
    np.testing.assert_allclose(command.chunk.velocities[0], way / PERIOD, atol=1e-9)
    where = rig.q
    rig.run(1.0)
    assert not rig.moving and 0 < rig.q[0] - where[0] < 0.06
    assert rig.arm.stop() is None and len(rig.commands) == sent + 1


@pytest.mark.parametrize("seen", ["still", "gone", "jumps", "just ended"])
def test_a_stop_drives_no_arm_that_rests_or_of_which_nobody_knows_how_it_moves(rig, seen):
    rig.move(0.03, 0, 0)
    rig.run(rig.chunk.duration + 2 * PERIOD if seen == "just ended" else 1.0)
    way = {"still": 0.0, "jumps": 0.5, "gone": 0.008, "just ended": 0.0}[seen]
    for _ in range(2 if seen == "jumps" else 20 * (way != 0)):
        rig.q, rig.chunk = rig.q + way, None
        rig.run(PERIOD)
    rig.run(0.2 if seen == "gone" else 0.0, joint_states=False)
    assert rig.arm.history.is_still() == (seen == "still")
    assert rig.arm.stop() is None


@pytest.mark.parametrize("way", [0.01, 0.02, 0.03])
@pytest.mark.parametrize("rest", np.arange(0.24, 0.34, 0.01))
def test_an_arm_that_is_put_elsewhere_when_it_has_just_come_to_rest_is_not_driven_on(
    rig, rest, way
):
    """As when a simulator lays its table anew: it looks as if it had not heard the brake."""
    rig.move(0.03, 0, 0)
    rig.run(0.1)
    rig.apply(rig.arm.stop())
    while rig.moving:
        rig.run(PERIOD)
    rig.run(rest)
    rig.q, rig.chunk = rig.q + way, None
    where = rig.q
    rig.run(0.5)
    np.testing.assert_allclose(rig.q, where, atol=1e-3)


def two_publishers(rig, seconds):
    """Let time pass while a second node says that the arm is half a radian further on."""
    names = list(rig.profile.arm_joints)
    for _ in range(round(seconds / PERIOD)):
        rig.run(PERIOD)
        rig.apply(rig.arm.on_joint_state(rig.now_ns + 1000, names, rig.q + 0.5, rig.now_ns))


def test_nothing_begins_while_two_nodes_publish_joint_states(rig):
    two_publishers(rig, 0.3)
    rig.move(0.02, 0, 0)
    assert held(rig, "joint states")
    assert "jump: panda_joint1 by 0.50 rad in" in rig.arm.verdict.reason
    with pytest.raises(ValueError, match="do two nodes publish"):
        rig.arm.home()
    rig.run(0.3)
    assert rig.move(0.02, 0, 0) is not None


@pytest.mark.parametrize("end", [None, "stop"])
def test_an_arm_that_moves_is_braked_along_its_way_when_a_second_node_begins(rig, end):
    rig.apply(rig.arm.home())
    rig.run(0.8)
    two_publishers(rig, 2 * PERIOD)
    if end:
        rig.apply(rig.arm.stop())
    time, q, velocity, command = rig.commands[-1]
    assert command.brake
    assert np.abs(command.chunk.positions[0] - q).max() < 0.01
    assert rig.arm.state == (State.STOPPED if end else State.HOLDING)
    two_publishers(rig, 1.0)
    assert not rig.moving


def test_a_picture_from_before_a_jump_moves_nothing(rig):
    """A driver that sets itself to zero anew, or a table that is laid anew: to stay where the hand
    was then would be a way of 20 cm.
    """
    rig.instruct()
    rig.run(0.3)
    before = rig.delta()
    rig.chunk, rig.q = None, rig.q + [0.4, 0, 0, 0, 0, 0, 0]
    rig.run(0.3)
    assert rig.send(before) is None
    assert held(rig, "history") and "has jumped since" in rig.arm.verdict.reason
    assert rig.send(rig.delta()) is not None


def test_an_arm_that_was_led_away_does_not_come_back_by_more_than_a_step(rig):
    rig.instruct()
    before, was = rig.delta(), rig.tip.position
    for _ in range(60):
        rig.q = rig.q + [0.005, 0, 0, 0, 0, 0, 0]
        rig.run(0.01)
    led = rig.tip.position
    assert np.linalg.norm(led - was) > 0.13
    assert rig.send(before) is not None
    way = rig.arm.verdict.target.position - led
    assert np.linalg.norm(way) == pytest.approx(rig.profile.max_step_translation)
