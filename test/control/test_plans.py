# SPDX-License-Identifier: Apache-2.0
"""A plan of somebody else's is executed only if it keeps every limit that ours keep."""

import numpy as np
import pytest

from rt2_ros.control.path import PathCheck
from rt2_ros.control.plans import plan_problem
from rt2_ros.control.trajectory import Chunk


@pytest.fixture
def judge(profile, kinematics):
    path = PathCheck(profile, kinematics, None)
    home = np.array(profile.home)

    def judge(chunk, measured=home, share=1.0):
        return plan_problem(chunk, profile.limits(), path, profile.arm_joints, measured, share)

    return judge


def plan(profile, way, seconds):
    """One cubic from home by `way` (7,), at rest at both ends, as 11 points."""
    s = np.linspace(0.0, 1.0, 11)[:, None]
    positions = np.array(profile.home) + np.array(way) * s * s * (3 - 2 * s)
    return Chunk(s[:, 0] * seconds, positions, np.array(way) * 6 * s * (1 - s) / seconds)


def test_a_slow_plan_within_the_workspace_may_be_executed(profile, judge):
    assert judge(plan(profile, [0.2, 0, 0, 0, 0, 0, 0.3], 2.0)) == ""


@pytest.mark.parametrize(
    ("way", "seconds", "reason"),
    [
        ([0.3, 0, 0, 0, 0, 0, 0], 0.2, "panda_joint1 at 2.25 rad/s, at most 1.70"),
        ([0.1, 0, 0, 0, 0, 0, 0], 0.12, "panda_joint1 at 41.67 rad/s², at most 10.00"),
        ([0, 0, 0, 0, 0, 0, 2.3], 20.0, "panda_joint7 goes 0.235 rad beyond its limit"),
        ([1.5, 0, 0, 0, 0, 0, 0], 20.0, "the way there leaves the workspace"),
        ([0, 0.6, 0, 0, 0, 0.6, 0], 0.70, "the tip is 1.1 times too fast"),
    ],
)
def test_a_plan_beyond_a_limit_is_named(profile, judge, way, seconds, reason):
    assert judge(plan(profile, way, seconds)).startswith(reason)


def test_a_plan_must_begin_where_the_arm_is(profile, judge):
    chunk = plan(profile, [0.1, 0, 0, 0, 0, 0, 0], 2.0)
    away = np.array(profile.home) - [0, 0, 0.2, 0, 0, 0, 0]
    assert judge(chunk, away) == "it begins 0.20 rad off where panda_joint3 is"


@pytest.mark.parametrize(
    ("way", "seconds", "reason"),
    [
        ([0.2, 0, 0, 0, 0, 0, 0], 0.8, "panda_joint1 at 0.38 rad/s, at most 0.34"),
        ([0, 0.6, 0, 0, 0, 0.6, 0], 3.5, "the tip is 1.1 times too fast"),
        ([0.2, 0, 0, 0, 0, 0, 0.3], 5.0, ""),
    ],
)
def test_a_plan_may_be_held_to_a_share_of_every_limit(profile, judge, way, seconds, reason):
    chunk = plan(profile, way, seconds)
    assert judge(chunk) == "" and judge(chunk, share=0.2) == reason
