# SPDX-License-Identifier: Apache-2.0
"""What the simulated trajectory controller takes from a message, and what it refuses."""

import math

import pytest

from rt2_ros.nodes.trajectories import Point, read


def plain(trajectory):
    return [(time, p.tolist(), v.tolist()) for time, p, v in trajectory]


def test_joints_are_put_in_the_controllers_order():
    points = [Point(0.1, (1, 2), (3, 4)), Point(0.2, (5, 6), (0, 0))]
    assert plain(read(["b", "a"], points, ["a", "b"])) == [
        (0.1, [2, 1], [4, 3]),
        (0.2, [6, 5], [0, 0]),
    ]


def test_left_out_velocities_are_those_of_the_neighbours_and_zero_at_the_ends():
    points = [Point(0.0 + t, (q,)) for t, q in ((1, 0.0), (2, 1.0), (4, 3.0), (5, 3.0))]
    assert [v.tolist() for _, _, v in read(["a"], points, ["a"])] == [[0], [1], [2 / 3], [0]]


@pytest.mark.parametrize(("delay", "times"), [(0.0, [1, 2]), (0.5, [1.5, 2.5]), (-1.5, [0.5])])
def test_a_stamp_shifts_the_points_and_drops_those_of_the_past(delay, times):
    points = [Point(1, (0.0,), (0.0,)), Point(2, (1.0,), (0.0,))]
    assert [time for time, _, _ in read(["a"], points, ["a"], delay)] == times


@pytest.mark.parametrize(
    ("joints", "points", "delay", "reason"),
    [
        (["a"], [Point(1, (0.0,), (0.0,))], 0, "joints are a; expected a, b"),
        (["a", "b", "c"], [], 0, "joints are a, b, c; expected a, b"),
        ([], [], 0, "joints are none"),
        (["a", "b"], [], 0, "no points"),
        (["a", "b"], [Point(1, (0, 0)), Point(1, (0, 0))], 0, "expected increasing"),
        (["a", "b"], [Point(-1, (0, 0))], 0, "expected increasing"),
        (["a", "b"], [Point(1, (0, 0))], -1.25, "it ended 0.250 s ago"),
        (["a", "b"], [Point(1, (0,))], 0, "positions: expected 2 in each point"),
        (["a", "b"], [Point(1, (0, math.nan))], 0, "positions: expected finite numbers"),
        (["a", "b"], [Point(1, (0, 0), (0, 1))], 0, "velocity at the end"),
        (["a", "b"], [Point(1, (0, 0), (0,))], 0, "velocities: expected 2"),
        (["a", "b"], [Point(1, (0, 0), (0, 0)), Point(2, (0, 0))], 0, "others none"),
    ],
)
def test_refusals(joints, points, delay, reason):
    with pytest.raises(ValueError, match=reason):
        read(joints, points, ["a", "b"], delay)
