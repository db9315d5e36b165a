# SPDX-License-Identifier: Apache-2.0
"""Plans as MoveIt gives them become chunks, or are refused by name; goals are one of two kinds."""

import json
import math

import numpy as np
import pytest

from rt2_ros.control.pose import Pose
from rt2_ros.nodes.bridges.base import Trouble, interfaces, trajectory_msg
from rt2_ros.nodes.bridges.goals import Goal, chunk_of, goal_json, goal_of

POINTS = [(0.0, [1.0, 2.0], [0.0, 0.0]), (0.5, [1.5, 2.5], [0.3, 0.4]), (1.0, [2.0, 3.0], [0, 0])]


def test_a_plan_is_put_in_the_arms_order_and_keeps_its_first_point():
    chunk = chunk_of(["b", "a"], POINTS, ["a", "b"])
    assert chunk.times.tolist() == [0.0, 0.5, 1.0]
    assert chunk.positions.tolist() == [[2.0, 1.0], [2.5, 1.5], [3.0, 2.0]]
    assert chunk.velocities.tolist() == [[0.0, 0.0], [0.4, 0.3], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("names", "points", "reason"),
    [
        (["a"], POINTS, "joints are a; expected a, b"),
        (["a", "c"], POINTS, "joints are a, c; expected a, b"),
        (["a", "b"], [], "0 points; expected at least 2"),
        (["a", "b"], POINTS[:1], "1 points; expected at least 2"),
        (["a", "b"], POINTS[1:], "it begins at 0.5 s; expected 0"),
        (["a", "b"], POINTS[:2], "velocity at the end"),
        (["a", "b"], [(0.0, [math.nan, 0], [0, 0]), POINTS[2]], "finite"),
        (["a", "b"], [*POINTS[:2], (0.5, [1, 2], [0, 0])], "expected increasing"),
    ],
)
def test_a_plan_that_no_controller_would_take_is_refused(names, points, reason):
    with pytest.raises(ValueError, match=reason):
        chunk_of(names, points, ["a", "b"])


def test_a_goal_is_a_pose_or_joints():
    pose = Pose(np.zeros(3), np.eye(3))
    with pytest.raises(ValueError, match="expected one of them"):
        Goal()
    with pytest.raises(ValueError, match="expected one of them"):
        Goal(pose, (("a", 0.0),))


def test_home_is_planned_at_a_fifth_of_the_pace():
    pose = Goal(pose=Pose(np.zeros(3), np.eye(3)))
    assert pose.scaling == (0.3, 0.3)
    assert Goal(joints=(("a", 0.0),)).scaling == pytest.approx((0.06, 0.012))


def test_a_missing_package_is_one_line_that_says_what_to_install():
    with pytest.raises(ImportError) as caught:
        interfaces("no_such_msgs", "msg")
    assert str(caught.value) == (
        "no_such_msgs is not installed: sudo apt install ros-jazzy-no-such-msgs, and start from a "
        "shell with /opt/ros/jazzy/setup.bash sourced"
    )


def test_trouble_passes():
    trouble = Trouble()
    assert str(trouble) == ""
    trouble.raise_("halted")
    assert str(trouble) == "halted"
    trouble._until -= Trouble.REST
    assert str(trouble) == ""


def test_a_trajectory_message_starts_when_it_arrives():
    msg = trajectory_msg(["a"], [(0.25, [1.0], [2.0]), (1.5, [3.0], [0.0])])
    assert (msg.header.stamp.sec, msg.header.stamp.nanosec) == (0, 0)
    times = [(p.time_from_start.sec, p.time_from_start.nanosec) for p in msg.points]
    assert times == [(0, 250_000_000), (1, 500_000_000)]
    assert [(list(p.positions), list(p.velocities)) for p in msg.points] == [
        ([1.0], [2.0]),
        ([3.0], [0.0]),
    ]


@pytest.mark.parametrize(
    "goal",
    [
        Goal(joints=(("b", 0.25), ("a", -1.5))),
        Goal(pose=Pose(np.array([0.4, -0.1, 0.3]), np.diag([1.0, -1.0, -1.0]))),
    ],
    ids=["joints", "pose"],
)
def test_a_goal_survives_the_line_to_the_other_process(goal):
    again = goal_of(json.loads(json.dumps(goal_json(goal))))
    assert again.joints == goal.joints
    if goal.pose is not None:
        assert again.pose.position.tolist() == goal.pose.position.tolist()
        assert np.abs(again.pose.rotation - goal.pose.rotation).max() < 1e-12
