# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from rt2_ros.control.trajectory import Chunk, JointLimits, NoTrajectory, plan_chunk, stop_chunk

LIMITS = JointLimits(
    lower=np.array([-1.0, -2.0]),
    upper=np.array([1.0, 2.0]),
    velocity=np.array([1.0, 2.0]),
    acceleration=np.array([10.0, 5.0]),
)
shares = st.tuples(st.floats(-1, 1), st.floats(-1, 1)).map(np.array)


def accelerations(chunk):
    """Return the accelerations (2 (m - 1), n) at both ends of each cubic: linear in between."""
    span = np.diff(chunk.times)[:, None]
    way = np.diff(chunk.positions, axis=0) / span
    leave, arrive = chunk.velocities[:-1], chunk.velocities[1:]
    begin = (6 * way - 4 * leave - 2 * arrive) / span
    end = (-6 * way + 2 * leave + 4 * arrive) / span
    return np.concatenate((begin, end))


def assert_keeps(limits, chunk):
    """Fail unless the chunk keeps the limits between its points as well, and ends at rest."""
    assert (np.diff(chunk.times) > 0).all()
    assert (chunk.velocities[-1] == 0).all()
    q, velocity = map(
        np.array,
        zip(*(chunk.sample(t) for t in np.linspace(0, chunk.duration, 200)), strict=True),
    )
    rounding = 2e-4  # rad: braking times are rounded up to 0.1 ms
    assert (limits.lower - rounding <= q).all()
    assert (q <= limits.upper + rounding).all()
    assert (np.abs(velocity) <= limits.velocity + 1e-6).all()
    assert (np.abs(accelerations(chunk)) <= limits.acceleration + 1e-5).all()


def test_from_rest_to_rest_is_the_cubic_that_one_expects():
    chunk = plan_chunk([0, 0], [0, 0], [0.16, -0.16], 1.0, LIMITS)
    times, positions, velocities = zip(*chunk.points(), strict=True)
    assert_allclose(times, [0.25, 0.5, 0.75, 1.0])
    assert_allclose(np.array(positions)[:, 0], [0.025, 0.08, 0.135, 0.16])
    assert_allclose(np.array(velocities)[:, 1], [-0.18, -0.24, -0.18, 0.0])


def test_takes_longer_where_the_speed_limit_asks_for_it():
    chunk = plan_chunk([-1, 0], [0, 0], [1, 0], 0.3, LIMITS)
    assert 3.0 <= chunk.duration <= 3.3  # 1.5 * 2 rad / (1 rad/s), and at most one stretch more
    assert_keeps(LIMITS, chunk)


def test_goes_on_from_the_velocity_that_it_is_given():
    first = plan_chunk([0, 0], [0, 0], [0.1, 0.1], 0.3, LIMITS)
    q, velocity = first.sample(0.15)
    second = plan_chunk(q, velocity, [0.2, 0.2], 0.3, LIMITS)
    assert_allclose(second.positions[0], q)
    assert_allclose(second.velocities[0], velocity)
    assert_allclose(second.sample(1e-6)[1], velocity, atol=1e-4)
    between = [second.sample(t)[1][0] for t in np.linspace(0, second.duration * 0.6, 20)]
    assert min(between) > 0.3  # no stop and go


def test_sample_agrees_with_the_points_and_rests_after_the_end():
    chunk = plan_chunk([0, 0], [0.1, -0.2], [0.2, 0.1], 0.5, LIMITS)
    for time, position, velocity in chunk.points():
        assert_allclose(chunk.sample(time)[0], position)
        assert_allclose(chunk.sample(time)[1], velocity, atol=1e-12)
    assert_allclose(chunk.sample(9.0)[0], [0.2, 0.1])
    assert_allclose(chunk.sample(9.0)[1], [0, 0])
    assert_allclose(chunk.sample(-1.0)[0], [0, 0])


def test_stop_keeps_the_direction_and_brakes_at_the_limit():
    chunk = stop_chunk([0.0, 0.0], [1.0, 0.5], LIMITS)
    assert_allclose(chunk.times, [0.0, 0.1])
    assert_allclose(chunk.positions[-1], [0.05, 0.025])
    assert_allclose(accelerations(chunk)[0], [-10.0, -5.0])


def test_stop_near_a_limit_brakes_each_joint_by_itself():
    chunk = stop_chunk([0.0, 1.98], [1.0, 0.3], LIMITS)  # together: 0.1 s, 1.995; still inside
    assert len(chunk.times) == 2
    chunk = stop_chunk([0.0, 1.99], [1.0, 0.3], LIMITS)  # together would end at 2.005
    assert_allclose(chunk.times, [0.0, 0.06, 0.1])
    assert_allclose(chunk.positions[-1], [0.05, 1.999])


def test_stop_at_rest_stays_where_it_is():
    chunk = stop_chunk([0.3, 0.4], [0.0, 0.0], LIMITS)
    assert_allclose(chunk.positions, [[0.3, 0.4]] * 2)
    assert 0 < chunk.duration <= 0.02


def test_a_part_is_the_way_itself_and_then_a_brake_on_it():
    whole = plan_chunk([0, 0], [0, 0], [0.5, -1.0], 2.0, LIMITS)
    part = whole.part(0.3, 0.6, LIMITS)
    assert_keeps(LIMITS, part)
    for time in np.linspace(0.0, 0.6, 7):
        assert_allclose(part.sample(time), whole.sample(0.3 + time))
    assert 0.6 < part.duration < 0.8
    assert_allclose(part.positions[-1][1], -2 * part.positions[-1][0])  # on the very path
    for left in (0.6, 0.60005, 1e-9):  # all the rest, and no brake before the end
        rest = whole.part(whole.duration - left, 0.6, LIMITS)
        assert len(rest.times) == 2 and rest.duration == pytest.approx(left, abs=1e-4)
        assert_allclose(rest.positions[-1], whole.positions[-1])


def test_a_motion_until_some_time_is_that_motion_and_then_a_brake_on_it():
    whole = plan_chunk([0, 0], [0, 0], [0.5, -1.0], 2.0, LIMITS)
    ended = whole.until(0.8, LIMITS)
    for time in np.linspace(0.0, 0.8, 9):
        assert_allclose(ended.sample(time), whole.sample(time), atol=1e-12)
    assert 0.8 < ended.duration < 1.1
    assert_allclose(ended.positions[-1][1], -2 * ended.positions[-1][0])  # on the very path
    assert whole.until(2.0, LIMITS) is whole and whole.until(9.0, LIMITS) is whole
    assert whole.until(-1.0, LIMITS).duration < 0.05
    assert whole.until(0.8, LIMITS, least=0.5).duration == pytest.approx(1.3)


@settings(max_examples=300)
@given(shares, shares, shares, st.floats(0.0, 1.0), st.floats(-0.1, 1.1))
def test_a_motion_that_is_ended_early_keeps_all_limits(start, first, second, when, end):
    """From rest, and from the middle of another one, with a brake before it goes the other way."""
    one = plan_chunk(start * LIMITS.upper, [0, 0], first * LIMITS.upper, 0.1, LIMITS)
    two = plan_chunk(*one.sample(when * one.duration), second * LIMITS.upper, 0.1, LIMITS)
    for chunk in (one, two):
        time = end * chunk.duration
        ended = chunk.until(time, LIMITS)
        assert_keeps(LIMITS, ended)
        assert ended.duration <= chunk.duration + 1e-3
        for t in np.linspace(0.0, min(max(time, 0.0), chunk.duration), 5):
            assert_allclose(ended.sample(t), chunk.sample(t), atol=1e-9)


@settings(max_examples=300)
@given(shares, shares, shares, st.floats(0.0, 1.0))
def test_chain_of_chunks_keeps_all_limits(start, first, second, when):
    """From rest to a first target, on the way to a second one, and stopped on the way there."""
    one = plan_chunk(start * LIMITS.upper, [0, 0], first * LIMITS.upper, 0.1, LIMITS)
    assert_keeps(LIMITS, one)
    two = plan_chunk(*one.sample(when * one.duration), second * LIMITS.upper, 0.1, LIMITS)
    assert_keeps(LIMITS, two)
    assert_allclose(two.positions[-1], second * LIMITS.upper)
    three = stop_chunk(*two.sample((1 - when) * two.duration), LIMITS)
    assert_keeps(LIMITS, three)


def test_a_caller_can_ask_for_slower():
    def excess(chunk):
        return np.abs(chunk.velocities).max() / 0.1

    chunk = plan_chunk([0, 0], [0, 0], [0.1, 0], 0.3, LIMITS, excess)
    assert np.abs(chunk.velocities).max() <= 0.1


def test_a_caller_can_forbid_it():
    def excess(chunk):
        raise NoTrajectory("a wall is in the way", "wall")

    with pytest.raises(NoTrajectory, match="a wall is in the way") as caught:
        plan_chunk([0, 0], [0.5, 0], [0.1, 0], 0.3, LIMITS, excess)
    assert caught.value.code == "wall"


@pytest.mark.parametrize(
    ("target", "duration", "message"),
    [
        ([1.1, 0], 0.3, "expected within the joint limits"),
        ([np.nan, 0], 0.3, "target: .*nan"),
        ([0, 0], 0.0, "duration: 0.0, expected above 0 s"),
        ([0, 0], np.inf, "duration: inf, expected above 0 s"),
    ],
)
def test_refuses_what_cannot_be_planned(target, duration, message):
    with pytest.raises(ValueError, match=message):
        plan_chunk([0, 0], [0, 0], target, duration, LIMITS)


@pytest.mark.parametrize(
    ("times", "velocities", "message"),
    [
        ([0.0, 0.1, 0.1], [0.0, 0.0, 0.0], "strictly increasing"),
        ([0.1, 0.2, 0.3], [0.0, 0.0, 0.0], "the first 0"),
        ([0.0, 0.1, 0.2], [0.0, 0.0, 0.1], "at the end, expected 0"),
        ([0.0, 0.1, 0.2], [0.0, np.nan, 0.0], "velocities: expected finite"),
    ],
)
def test_a_chunk_is_what_a_trajectory_controller_takes(times, velocities, message):
    with pytest.raises(ValueError, match=message):
        Chunk(np.array(times), np.zeros((3, 1)), np.array(velocities)[:, None])


def test_a_motion_without_its_first_inner_points_ends_as_it_did():
    times = np.array([0.0, 0.006, 0.03, 0.06, 0.2])
    chunk = Chunk(times, np.outer(times, np.ones(7)), np.zeros((5, 7)))
    spaced = chunk.spaced(0.05)
    assert spaced.times.tolist() == [0.0, 0.06, 0.2]
    assert (spaced.positions[-1] == chunk.positions[-1]).all()
    short = Chunk(times[:3], chunk.positions[:3], chunk.velocities[:3]).spaced(0.05)
    assert short.times.tolist() == [0.0, 0.03]
