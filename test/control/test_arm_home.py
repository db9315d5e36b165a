# SPDX-License-Identifier: Apache-2.0
"""The way home: when it begins, and what is said at its end."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from rt2_ros.bench.rig import PERIOD, Rig
from rt2_ros.control.command import State

from .refusal import held

AT_HOME = (State.ARMED, "at home")


def until_held(rig):
    """Let the arm go until it does not move any more by the controller's word."""
    for _ in range(5000):
        rig.run(PERIOD)
        if rig.arm.state != State.MOVING:
            return rig.arm.state, rig.arm.reason
    raise AssertionError("it moves for ever")


@pytest.mark.parametrize("parts", [True, False])
def test_home_is_a_slow_way_that_ends_the_instruction(rig_with, new_rig, profile, parts):
    """The same one, whether it is told part by part or all at once."""
    rig, whole = rig_with(parts=parts), new_rig(parts=False).arm.home().chunk
    assert_allclose(whole.positions[-1], profile.home)
    assert (np.abs(whole.velocities) <= 0.2 * profile.limits().velocity + 1e-9).all()
    begin, command = rig.time, rig.apply(rig.arm.home())
    assert command.joint_goal
    assert rig.arm.state == State.MOVING
    rig.move(0.05, 0, 0)
    assert held(rig, "instruction")
    while rig.arm.state == State.MOVING:
        rig.run(PERIOD)
        wanted = whole.sample(rig.time - begin)
        assert_allclose((rig.q, rig.velocity), wanted, atol=1e-9)
    assert rig.time - begin < whole.duration + 0.15
    assert (rig.arm.state, rig.arm.reason) == AT_HOME
    assert (len(rig.commands) > 5) == parts


def test_silence_ends_the_way_home(rig, profile):
    """Of the controller, or of what lies between it and the arm."""
    rig.apply(rig.arm.home())
    rig.run(1.0)
    seconds = 0.0
    while rig.moving:
        before = rig.velocity
        rig.run(PERIOD, joint_states=False, ticks=False)
        seconds += PERIOD
        change = np.abs(rig.velocity - before) / PERIOD
        assert (change <= 0.2 * profile.limits().acceleration + 1e-6).all()
    assert seconds < 0.9 and np.abs(rig.q - profile.home).max() > 0.2


@pytest.mark.parametrize("seconds", [0.3, 0.7])
def test_a_controller_that_stood_still_goes_on_home_only_while_the_arm_does(rig, seconds):
    rig.apply(rig.arm.home())
    rig.run(1.0)
    rig.run(seconds, joint_states=False, ticks=False)
    before = rig.q, rig.velocity
    rig.run(PERIOD)
    assert np.abs(rig.q - before[0]).max() < 0.005  # nothing jumps
    assert np.abs(rig.velocity - before[1]).max() < 0.05
    if seconds < 0.5:
        assert until_held(rig) == AT_HOME
        return
    assert rig.arm.reason == "the controller stood still on the way home"
    rig.run(0.3)
    assert rig.arm.state == State.HOLDING and not rig.moving


def put(rig, q):
    """Have the arm be somewhere else, by nobody's command."""
    rig.q, rig.velocity, rig.chunk = np.asarray(q), np.zeros(7), None


@pytest.mark.parametrize("displaced", [False, True])  # by hand, off the trajectory it was on
def test_home_begins_at_rest_where_encoders_tremble(rig, displaced):
    if displaced:
        rig.move(0.03, 0, 0)
        rig.run(1.0)
    still = rig.q + (0.2 if displaced else 0.0)
    for period in range(25):
        put(rig, still + 1e-3 * (-1) ** period)
        rig.run(0.01)
    assert np.abs(rig.arm.history.velocity()).max() > 0.03
    command = rig.apply(rig.arm.home())
    assert not command.chunk.velocities[0].any()
    assert until_held(rig) == AT_HOME


def test_an_arm_that_is_led_by_hand_does_not_go_home(rig):
    for _ in range(20):
        put(rig, rig.q + 0.001)  # 0.1 rad/s
        rig.run(0.01)
    with pytest.raises(ValueError, match="the arm is moving: stop it first"):
        rig.arm.home()
    rig.run(0.2)
    assert rig.arm.home()


def test_an_arm_that_did_not_get_home_is_not_said_to_be_there(rig_with, profile):
    rig = rig_with(parts=False)
    command = rig.apply(rig.arm.home())
    rig.run(0.8)
    put(rig, rig.q)
    rig.run(command.chunk.duration)
    assert (rig.arm.state, rig.arm.reason) == (State.MOVING, "moving home")
    rig.run(1.0)
    assert rig.arm.state == State.HOLDING
    worst = int(np.abs(rig.q - profile.home).argmax())
    assert rig.arm.reason == (
        f"not at home: {profile.arm_joints[worst]} at {rig.q[worst]:.2f} rad, "
        f"expected {profile.home[worst]:.2f}"
    )
    assert len(rig.commands) == 1
    rig.instruct(instruction_id=2)
    assert rig.move(0.03, 0, 0) is not None


@pytest.mark.parametrize("parts", [True, False])
def test_an_arm_that_lags_on_its_way_home_is_waited_for(paced, profile, parts):
    """It takes twice as long as it was told, as in a simulator on a busy machine."""
    rig = paced(0.5, parts)
    begin, chunk = rig.time, rig.apply(rig.arm.home()).chunk
    fastest = np.zeros(7)
    while rig.arm.state == State.MOVING:
        rig.run(PERIOD)
        fastest = np.maximum(fastest, np.abs(rig.velocity))
    assert (rig.arm.state, rig.arm.reason) == AT_HOME
    assert_allclose(rig.q, profile.home, atol=5e-3)
    assert (fastest < 0.21 * profile.limits().velocity).all()
    assert (len(rig.commands) > 5) == parts
    assert parts or rig.time - begin > 1.8 * chunk.duration


def test_an_arm_that_is_held_on_its_way_home_is_not_pushed_for_long(paced):
    rig = paced(1.0)
    rig.apply(rig.arm.home())
    rig.run(0.8)
    begin, rig.pace = rig.time, 0.0
    state, reason = until_held(rig)
    assert state == State.HOLDING and reason.startswith("off the way home: panda_joint")
    assert rig.time - begin < 3.0
    brake = rig.commands[-1][3]
    assert brake.brake and np.ptp(brake.chunk.positions[1:], axis=0).max() < 1e-9
    assert_allclose(brake.chunk.positions[-1], rig.arm.history.newest()[1])


def test_a_stop_of_which_only_the_policy_heard_ends_the_way_home(rig):
    """`rt2 say ""` of somebody whom the controller has not met; the policy was idle before."""
    rig.arm.on_policy_status(2, "")
    rig.apply(rig.arm.home())
    for number in (2, 0):  # told each second; a policy that is started anew tells nothing
        rig.run(0.3)
        assert rig.apply(rig.arm.on_policy_status(number, "")) is None and rig.moving
    assert rig.apply(rig.arm.on_policy_status(1, "")).brake
    rig.run(0.3)
    assert not rig.moving
    assert (rig.arm.state, rig.arm.reason) == (State.ARMED, "no instruction")


def test_home_is_not_gone_to_while_the_fingers_move(rig):
    rig.move(0, 0, 0, gripper=1.0)
    rig.run(0.2)
    with pytest.raises(ValueError, match="the gripper is moving"):
        rig.arm.home()
    rig.run(rig.profile.gripper_settle)
    rig.apply(rig.arm.home())
    assert until_held(rig) == AT_HOME


def test_home_is_found_by_an_arm_as_slow_as_a_first_one_should_be(profile, kinematics, start):
    slow = replace(
        profile, max_linear_speed=0.05,
        joint_velocity=tuple(0.1 * v for v in profile.joint_velocity),
        joint_acceleration=tuple(0.1 * a for a in profile.joint_acceleration),
    )  # fmt: skip
    rig = Rig(slow, kinematics, None, q=start)
    rig.apply(rig.arm.home())
    assert until_held(rig) == AT_HOME


def test_home_is_not_gone_to_from_where_the_arm_was_long_ago(new_rig, profile):
    rig = new_rig()
    rig.time += 5.0
    stamp = rig.now_ns - 4_000_000_000
    rig.arm.on_joint_state(stamp, profile.arm_joints, rig.q, rig.now_ns)
    with pytest.raises(ValueError, match="no joint states of the last 0.3 s"):
        rig.arm.home()


def test_home_can_be_stopped_and_is_not_gone_to_by_an_arm_that_may_not_move(rig, new_rig):
    rig.apply(rig.arm.home())
    rig.run(0.5)
    assert rig.moving
    with pytest.raises(ValueError, match="the arm is moving: stop it first"):
        rig.arm.home()
    rig.apply(rig.arm.stop())
    rig.run(0.3)
    assert not rig.moving
    for arm, words in ((rig.arm, "the arm is stopped"), (new_rig(armed=False).arm, "disarmed")):
        with pytest.raises(ValueError, match=words):
            arm.home()
