# SPDX-License-Identifier: Apache-2.0
"""The controller's process stands still for a moment, and the arm goes on meanwhile, or the arm is
not where it was told to go: what comes out begins where the arm is, or nothing comes out.
"""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from rt2_ros.bench.rig import PERIOD, Rig
from rt2_ros.control.command import State


def stand_still(rig, seconds):
    """Let the clock and the arm go on without the controller."""
    rig.time += seconds
    rig.q, rig.velocity = rig.chunk.sample(rig.time - rig.chunk_time)


def slow(profile):
    """Return a profile as of the first day with an arm: a step takes seconds."""
    return replace(
        profile, max_linear_speed=0.03,
        joint_velocity=tuple(0.1 * v for v in profile.joint_velocity),
        joint_acceleration=tuple(0.1 * a for a in profile.joint_acceleration),
    )  # fmt: skip


@pytest.mark.parametrize("smoothing_time", [0.0, 0.05])
@pytest.mark.parametrize("alive", [True, False])
@pytest.mark.parametrize("age", [0.0, 0.3])  # s, of the image
def test_a_controller_that_dies_leaves_no_long_motion(
    profile, kinematics, collisions, start, smoothing_time, alive, age
):
    """However long the step takes, it ends as it would with the controller, and is as free."""
    mine = replace(slow(profile), smoothing_time=smoothing_time)
    rig = Rig(mine, kinematics, collisions, q=start)
    rig.instruct()
    rig.run(age)
    begin = rig.time - age
    rig.move(0.08, 0.0, -0.05, stamp_ns=rig.now_ns - round(age * 1e9))
    whole = rig.arm.verdict.chunk
    assert whole.duration > 3.0
    rig.run(0.2)
    rig.run(1.3, joint_states=alive, ticks=alive)
    assert not rig.moving
    for _, _, _, command in rig.commands:
        assert rig.arm._safety.path.excess(command.chunk) <= 1
    last = max(time + command.chunk.duration for time, _, _, command in rig.commands)
    assert last < begin + mine.time_to_live + 0.15
    if not smoothing_time:
        assert_allclose(rig.q, whole.sample(mine.time_to_live - age)[0], atol=0.01)


def test_a_bridge_that_ends_what_is_long_itself_is_told_all_of_it(
    profile, kinematics, collisions, start
):
    """MoveIt goes to where a chunk ends."""
    rig = Rig(slow(profile), kinematics, collisions, q=start, parts=False)
    rig.instruct()
    command = rig.move(0.08, 0.0, -0.05)
    assert command.chunk is rig.arm.verdict.chunk and command.chunk.duration > 3.0


@pytest.fixture
def moving(rig):
    """Return an arm in full motion."""
    rig.move(0.1, -0.1, 0.0)
    rig.run(0.15)
    assert np.abs(rig.velocity).max() > 0.3
    return rig


@pytest.fixture
def smooth(profile, kinematics, collisions, start):
    """Return an arm with an instruction, 1, whose targets are filtered."""
    rig = Rig(replace(profile, smoothing_time=0.05), kinematics, collisions, q=start)
    rig.instruct()
    return rig


def stalled(rig, monkeypatch, owner, name, seconds=0.1):
    """Stand still within a call, once."""
    real = getattr(owner, name)

    def slow(*args):
        monkeypatch.undo()
        result = real(*args)
        if rig.chunk is None:
            rig.time += seconds
        else:
            stand_still(rig, seconds)
        return result

    monkeypatch.setattr(owner, name, slow)


def starts_off(rig):
    """How far off the arm's motion the newest trajectory begins, rad."""
    _, q, _, command = rig.commands[-1]
    return np.abs(command.chunk.positions[0] - q).max()


def test_a_trajectory_that_took_too_long_to_plan_is_not_sent(moving, monkeypatch):
    rig, sent = moving, len(moving.commands)
    stalled(rig, monkeypatch, rig.arm._safety, "check")
    rig.move(-0.1, 0.1, 0.0)
    assert (rig.arm.verdict.code, len(rig.commands)) == ("late", sent)
    assert rig.arm.refusals["late"] == 1 and "0.10 s" in rig.arm.verdict.reason
    rig.run(0.01)
    rig.move(-0.1, 0.1, 0.0)  # the next decision is taken
    assert rig.arm.verdict.accepted and starts_off(rig) < 1e-6
    rig.run(1.0)
    assert not rig.moving


def test_braking_begins_where_the_arm_is_by_then(moving, monkeypatch):
    rig = moving
    stalled(rig, monkeypatch, rig.arm._safety.path, "is_free")
    assert rig.chunk.duration > 0.3
    rig.apply(rig.arm.stop())
    assert rig.arm.state == State.STOPPED and rig.moving
    assert starts_off(rig) < 1e-6
    rig.run(0.5)
    assert not rig.moving


def test_a_blend_that_took_too_long_to_plan_is_not_sent(smooth, monkeypatch):
    rig = smooth
    rig.move(0.1, -0.1, 0.0)
    rig.run(0.1)
    sent = len(rig.commands)
    assert sent > 5 and np.abs(rig.velocity).max() > 0.2
    stalled(rig, monkeypatch, rig.arm._safety, "reach")
    rig.run(PERIOD)
    assert len(rig.commands) == sent
    for _ in range(100):
        rig.run(PERIOD)
        assert starts_off(rig) < 1e-6
    assert len(rig.commands) > sent and not rig.moving  # it went on from where the arm was by then


def test_an_arm_at_rest_is_not_moved_by_what_was_blended_before_a_stall(smooth, monkeypatch):
    rig = smooth
    rig.move(0.06, -0.06, 0.0)
    rig.run(0.1)
    sent = len(rig.commands)
    stalled(rig, monkeypatch, rig.arm._safety, "reach", 1.5)
    rig.run(PERIOD)
    assert len(rig.commands) == sent and not rig.moving
    rig.run(1.0)
    assert (len(rig.commands), rig.arm.state) == (sent, State.HOLDING)


@pytest.mark.parametrize("moves", [False, True])
def test_a_decision_whose_blend_took_too_long_is_planned_to_from_where_the_arm_is(
    smooth, monkeypatch, moves
):
    rig = smooth
    if moves:
        rig.move(0.0, 0.1, 0.0)
        rig.run(0.15)
    sent, goal = len(rig.commands), rig.tip.position + [0.05, 0.0, 0.02]
    stalled(rig, monkeypatch, rig.arm._execution, "_blended")
    rig.move(*(goal - rig.tip.position))
    assert rig.arm.verdict.accepted and len(rig.commands) == sent
    rig.run(PERIOD)
    assert len(rig.commands) == sent + 1 and starts_off(rig) < 1e-6
    rig.run(0.6)
    assert_allclose(rig.tip.position, goal, atol=1e-3)


def test_joint_states_that_waited_are_taken_for_what_they_are(moving):
    """They are 0.25 s old when they are read, and the arm was on its trajectory then."""
    rig = moving
    stamp, q = rig.now_ns + 1, rig.q
    stand_still(rig, 0.25)
    names = list(rig.profile.arm_joints)
    rig.arm.on_joint_state(stamp, names, q, rig.now_ns)
    rig.move(-0.05, 0.05, 0.0, stamp_ns=stamp)
    assert rig.arm.verdict.accepted
    assert np.abs(rig.q - q).max() > 0.1
    assert_allclose(starts_off(rig), 0.0, atol=1e-6)


def test_nothing_is_planned_from_where_an_arm_was_that_left_its_trajectory(smooth):
    rig, names = smooth, list(smooth.profile.arm_joints)
    rig.move(0.1, -0.1, 0.0)
    rig.run(0.15)
    sent, elsewhere, stamp = len(rig.commands), rig.q + 0.3, rig.now_ns + 1
    rig.time += 0.15
    rig.arm.on_joint_state(stamp, names, elsewhere, rig.now_ns)
    rig.move(-0.05, 0.05, 0.0, stamp_ns=stamp)
    assert rig.arm.verdict.code == "joint states"
    assert rig.arm.verdict.reason == "the joint states are 0.15 s old"
    rig.apply(rig.arm.tick(rig.now_ns))
    assert len(rig.commands) == sent


@pytest.mark.parametrize("seen", [1, 2])  # joint states of where it is now
@pytest.mark.parametrize("end", ["stop", "disarm", "new instruction"])
def test_an_arm_that_is_not_on_its_trajectory_is_stopped_where_it_is(moving, end, seen):
    """Somebody else has moved it, or a simulator was reset: nothing may pull it back."""
    rig = moving
    rig.q, rig.velocity, rig.chunk = rig.q + 0.5, np.zeros(7), None
    rig.run(seen * PERIOD)
    if end == "new instruction":
        rig.instruct("push the key", instruction_id=2)
    else:
        rig.apply(getattr(rig.arm, end)())
    command = rig.commands[-1][3]
    assert command.brake and starts_off(rig) < 1e-6
    rig.run(0.5)
    assert_allclose(rig.q, rig.commands[-1][1], atol=1e-6)


def test_an_arm_that_is_slower_than_it_was_told_is_not_driven_to_catch_up(paced):
    """A simulator on a busy machine: trajectories began ahead of it, and a joint ran at 2.2 rad/s
    where 1.7 are allowed.
    """
    rig = paced(0.6)
    limits, fastest = rig.profile.limits().velocity, np.zeros(7)
    for _ in range(16):
        rig.move(0.1, 0.0, -0.1)
        for _ in range(16):
            rig.run(PERIOD)
            fastest = np.maximum(fastest, np.abs(rig.velocity))
    assert rig.arm.accepted == 16 and (fastest > 0.8 * limits).any()
    assert (fastest < 1.05 * limits).all()


def test_an_arm_that_is_at_rest_as_soon_by_itself_is_told_nothing(moving):
    """Told late, it would have to be at its end at once."""
    rig = moving
    rig.run(rig.chunk.duration - 0.15 - PERIOD)
    assert rig.moving
    sent = len(rig.commands)
    assert rig.arm.stop() is None
    rig.run(2 * PERIOD)
    assert not rig.moving and len(rig.commands) == sent


def test_an_arm_that_is_held_back_is_not_said_to_move_for_ever(moving):
    rig = moving
    rig.run(0.5)
    end = rig.arm._execution.chunk.positions[-1]
    rig.q, rig.chunk = end + 0.02, None
    rig.run(1.0)
    assert_allclose(rig.arm._execution.motion(rig.time, rig.arm.history), [end, np.zeros(7)])


def displaced(rig, way):
    """Let an arm at rest sag, or be led by hand, by some rad; its controller starts anew there."""
    rig.move(0.03, 0, 0)
    rig.run(0.75)
    rig.q, rig.velocity, rig.chunk = rig.q + way, np.zeros(7), None
    rig.run(0.4)
    return rig


def kick(rig):
    """Move by nothing; return the largest acceleration of a joint in that, rad/s²."""
    rig.move(0.0, 0.0, 0.0)
    assert rig.arm.verdict.accepted and rig.arm.state == State.MOVING
    return np.abs(rig.chunk.accelerations()).max()


def blocked(rig):
    rig.arm.blocked = "controllers are missing"
    rig.run(0.2)
    rig.arm.blocked = ""


def armed_again(rig):
    rig.apply(rig.arm.stop())
    rig.arm.arm()
    rig.instruct("push the key", instruction_id=2)


@pytest.mark.parametrize(
    ("way", "then"), [(0.09, lambda rig: None), (0.02, blocked), (0.02, armed_again)]
)
def test_an_arm_that_was_moved_at_rest_is_not_kicked_back(paced, way, then):
    rig = displaced(paced(1.0), way)
    then(rig)
    assert kick(rig) < 1.0
    rig.run(0.4)
    assert not rig.moving
