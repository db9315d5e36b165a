# SPDX-License-Identifier: Apache-2.0
"""The judge of the fault bench finds each thing that must not be, and nothing in what may be."""

from dataclasses import replace

import numpy as np
import pytest

from rt2_ros.bench.judge import Judge, Sample, Sent, between, time_to_rest, way
from rt2_ros.control.profile import RobotProfile
from rt2_ros.control.trajectory import plan_chunk
from rt2_ros.paths import config_path

PROFILE = RobotProfile.load(config_path("robots", "panda.yaml"))
URDF = config_path("robots", "panda.urdf").read_text(encoding="utf-8")
JUDGE = Judge(PROFILE, URDF)
HOME = np.array(PROFILE.home)
REST = np.zeros(7)


def sent(chunk):
    times, positions, velocities = zip(*chunk.points(), strict=True)
    return Sent(0.0, np.array(times), np.array(positions), np.array(velocities))


def planned(joint=0, way=0.1, duration=0.4):
    target = HOME.copy()
    target[joint] += way
    return sent(plan_chunk(HOME, REST, target, duration, PROFILE.limits()))


def test_what_our_planner_makes_is_safe():
    assert JUDGE.commands([planned(), planned(1, 0.2)]) == []


def spoilt(**changes):
    good = planned()
    for name, (row, column, value) in changes.items():
        array = getattr(good, name).copy()
        array[row, column] = value
        good = replace(good, **{name: array})
    return good


@pytest.mark.parametrize(
    ("trajectory", "words"),
    [
        (spoilt(velocities=(-1, 2, 0.1)), "a trajectory ends at 0.1 rad/s"),
        (spoilt(positions=(1, 2, np.nan)), "a trajectory is not finite"),
        (spoilt(velocities=(0, 1, np.inf)), "a trajectory is not finite"),
        (spoilt(positions=(0, 5, 3.72)), "panda_joint6 at 3.7200 rad, allowed 0.02 to 3.7"),
        (spoilt(velocities=(1, 0, 2.0)), "panda_joint1 at 2.000 rad/s, at most 1.7"),
        (spoilt(velocities=(1, 4, -2.1)), "panda_joint5 at"),  # its acceleration
    ],
)
def test_a_trajectory_beyond_the_profile_is_named(trajectory, words):
    assert any(found.startswith(words) for found in JUDGE.commands([planned(), trajectory]))


def test_the_tip_is_kept_in_its_box_at_its_speed_and_out_of_keep_out_boxes():
    low = HOME + [0, 1.5, 0, 0, 0, 0, 0]  # folded, too near to the base
    away = Sent(0.0, np.array([1.0, 2.0]), np.stack([low, low]), np.zeros((2, 7)))
    (words,) = JUDGE.commands([away])
    assert words.startswith("the tip ") and words.endswith("mm outside the workspace")
    # 1.69 rad/s at 0.307 m from the axis: the joint may, the tip may not.
    turning = np.array([[1.69, 0, 0, 0, 0, 0, 0]])
    fast = Sent(0.0, np.array([0.1]), HOME[None], turning)
    found = JUDGE.commands([fast])
    assert found == [
        "a trajectory ends at 1.69 rad/s",
        "linear speed 0.519, at most 0.5",
        "angular speed 1.690, at most 1.5",
    ]
    here = tuple(PROFILE.kinematics(URDF).forward(HOME).position)
    box = (tuple(x - 0.01 for x in here), tuple(x + 0.01 for x in here))
    judge = Judge(replace(PROFILE, keep_out=(box,)), URDF)
    still = Sent(0.0, np.array([0.1]), HOME[None], REST[None])
    assert JUDGE.commands([still]) == []
    assert ["in a keep-out box" in words for words in judge.commands([still])] == [True]


def test_motion_is_held_against_the_urdf():
    assert JUDGE.motion([Sample(0.0, HOME, REST)]) == []
    assert JUDGE.motion([Sample(0.0, HOME, REST + 2.0)]) == []  # servos may, commands may not
    (words,) = JUDGE.motion([Sample(0.0, HOME, np.array([2.6, 0, 0, 0, 0, 0, 0]))] * 2)
    assert words == "+0.00 s: panda_joint1 moved at 2.60 rad/s"
    bent = HOME.copy()
    bent[5] = 3.8
    assert "-1.50 s: panda_joint6 was at 3.800 rad" in JUDGE.motion([Sample(0.5, bent, REST)], 2.0)
    aside = HOME.copy()
    aside[0] = 1.2
    (words,) = JUDGE.motion([Sample(0.0, aside, REST)])
    assert words.startswith("+0.00 s: the tip was") and words.endswith("outside the workspace")


def test_between_two_points_runs_the_cubic_that_a_controller_makes_of_them():
    one = Sent(0.0, np.array([1.0, 2.0]), np.array([[0.0], [1.0]]), np.array([[0.0], [0.0]]))
    position, velocity, acceleration = between(one)
    assert velocity.max() == pytest.approx(1.5, rel=0.05)  # of 3 s² - 2 s³, in the middle
    assert acceleration.max() == pytest.approx(6.0) and acceleration.min() == pytest.approx(-6.0)
    assert (np.diff(position[1:, 0]) > 0).all()


def test_time_to_rest_is_until_the_last_motion():
    speeds = [1.0, 1.0, 0.5, 0.0, 0.3, 0.01, 0.0]
    states = [Sample(0.1 * i, HOME + 0.01 * i, REST + v) for i, v in enumerate(speeds)]
    assert time_to_rest(states, 0.05) == pytest.approx(0.35)
    assert time_to_rest(states, 0.45) == 0.0
    assert way(states) == pytest.approx(0.06)
    assert way([]) == 0.0
