# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest

from rt2_ros.control.path import PathCheck
from rt2_ros.control.profile import PATH_TOLERANCE
from rt2_ros.control.trajectory import Chunk, NoTrajectory, plan_chunk


@pytest.fixture
def path(profile, kinematics, collisions):
    """Return a function that makes the check, with changes to the profile."""

    def path(**changes):
        return PathCheck(dataclasses.replace(profile, **changes), kinematics, collisions)

    return path


@pytest.fixture
def go(profile, kinematics, start):
    """Return a function that makes a trajectory, its tip moved by (3,) m and (3,) rad."""

    def go(translation, rotation=(0, 0, 0), duration=3.0, q=start):
        target = kinematics.forward(q).compose_delta(translation, rotation)
        end = kinematics.inverse(target, q)
        chunk = plan_chunk(q, np.zeros(7), end, 10.0, profile.limits())
        share = duration / chunk.duration
        return Chunk(chunk.times * share, chunk.positions, chunk.velocities / share)

    return go


def test_too_fast_is_told_by_how_much(path, go):
    """0.1 m in 0.2 s peak at 0.75 m/s, 1.5 times the 0.5 m/s that are allowed."""
    assert path().excess(go([0, 0.1, 0], duration=0.2)) == pytest.approx(1.5 * 1.02, rel=0.03)
    assert path().excess(go([0, 0.1, 0], duration=0.4)) == pytest.approx(0.75 * 1.02, rel=0.03)


def test_the_tips_acceleration_counts_by_its_root(path, go):
    """0.02 m in 0.1 s begin with 12 m/s²; half the time would be four times that."""
    limit = {"max_linear_acceleration": 3.0, "max_linear_speed": 9.0}
    excess = path(**limit).excess(go([0, 0.02, 0], duration=0.1))
    assert excess == pytest.approx(np.sqrt(12 / 3) * 1.02, rel=0.03)


def test_turning_too_fast_is_told_as_well(path, go):
    excess = path(max_angular_acceleration=99.0).excess(
        go([0, 0, 0], rotation=(0, 0, 0.3), duration=0.2)
    )
    assert excess == pytest.approx(1.5 * 1.5 / 1.5 * 1.02, rel=0.03)


@pytest.mark.parametrize(
    ("way", "changes", "code", "reason"),
    [
        (([0, 0.37, 0],), {}, "workspace", "the way there leaves the workspace by 0.020 m"),
        (
            ([0, 0.3, 0],),
            {"keep_out": (((0.4, 0.1, 0.2), (0.6, 0.2, 0.3)),)},
            "keep-out",
            "keep-out box 0 is in the way",
        ),
        (([0.25, 0.05, 0.11],), {}, "singularity", "condition number 34, at most 30"),
        (([0, 0, -0.23], [1.0, 0, 0]), {}, "collision", "and table would touch"),
    ],
)
def test_what_must_not_be_is_refused_at_any_speed(path, go, way, changes, code, reason):
    with pytest.raises(NoTrajectory, match=reason) as caught:
        path(**changes).excess(go(*way, duration=20.0))
    assert caught.value.code == code


def test_a_keep_out_box_keeps_its_distance(path, go, start, kinematics):
    y = kinematics.forward(start).position[1] + 0.05
    for gap, free in ((PATH_TOLERANCE + 1e-3, True), (PATH_TOLERANCE - 1e-3, False)):
        box = ((0.4, y + gap, 0.2), (0.6, y + 0.3, 0.3))
        assert path(keep_out=(box,)).is_free(go([0, 0.05, 0])) is free


def test_out_of_a_keep_out_box_but_not_deeper(path, go):
    check = path(keep_out=(((0.4, -0.1, 0.2), (0.6, 0.05, 0.3)),))
    assert check.is_free(go([0, 0.2, 0]))
    assert not check.is_free(go([0, -0.02, 0]))


def test_near_a_singularity_everything_is_slower(path, go, start, kinematics):
    """Half-way between the thresholds, half of the speed; short motions take twice as long."""
    condition = kinematics.conditions(start[None])[0]
    near = {"singularity_slow": condition - 1, "singularity_stop": condition + 1}
    still = go([0, 0, 0.001], duration=0.3)
    assert path().excess(still) < 0.1
    assert path(**near).excess(still) == pytest.approx(2.0, rel=0.03)
    fast = go([0, 0.001, 0.0], duration=0.9)
    assert path(**near).excess(fast) < 1


def test_out_of_a_singularity_but_not_further_in(path, go, start, kinematics):
    there = go([0.22, 0.0, 0.1])
    inside = there.positions[-1]
    limit = kinematics.conditions(inside[None])[0] - 2
    check = path(singularity_slow=limit - 2, singularity_stop=limit)
    out = Chunk(there.times * 9, there.positions[::-1], -there.velocities[::-1] / 9)
    assert check.excess(out) < 10
    with pytest.raises(NoTrajectory, match="singularity"):
        check.excess(there)
    with pytest.raises(NoTrajectory, match="singularity"):
        check.excess(go([0.01, 0, 0], q=inside))


def test_without_collisions_only_the_tip_is_checked(profile, kinematics, go):
    tilted = go([0, 0, -0.23], [1.0, 0, 0], duration=20.0)
    assert PathCheck(profile, kinematics, None).is_free(tilted)


def test_speed_does_not_matter_for_what_is_in_the_way(path, go):
    assert path().is_free(go([0, 0.1, 0], duration=0.01))
    assert not path().is_free(go([0, 0.4, 0], duration=60.0))


def test_a_way_whose_joints_take_the_tip_far_aside_is_refused(path, go, start, kinematics):
    straight = go([0, 0.08, 0])
    goal = kinematics.forward(straight.positions[-1])
    path().refuse_detour(straight, goal)
    by = straight.sample(straight.duration / 2)[0] + [0, 0.15, 0, 0, 0, 0, 0]  # 7 cm up or down
    around = Chunk(
        np.array([0.0, 1.0, 2.0]), np.stack((start, by, straight.positions[-1])), np.zeros((3, 7))
    )
    with pytest.raises(NoTrajectory, match="swings 0.0.. m aside") as refused:
        path().refuse_detour(around, goal)
    assert refused.value.code == "detour"
    turned = start + [0, 0, 0, 0, 0, 0, 0.3]  # the flange alone turns, and back
    around = Chunk(np.array([0.0, 1.0, 2.0]), np.stack((start, turned, start)), np.zeros((3, 7)))
    with pytest.raises(NoTrajectory, match="turns 0.15 rad"):
        path().refuse_detour(around, kinematics.forward(start))
