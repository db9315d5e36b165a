# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from numpy.testing import assert_allclose

from rt2_ros.control.pose import Pose
from rt2_ros.control.smoothing import Targets

HOME = Pose(np.array([0.5, 0.0, 0.2]), np.diag([1.0, -1.0, -1.0]))


def moved(x, yaw=0.0):
    return HOME.compose_delta([x, 0.0, 0.0], [0.0, 0.0, yaw])


def assert_moved(pose, x, yaw=0.0):
    translation, rotation = HOME.delta_to(pose)
    assert_allclose(translation, [x, 0, 0], atol=1e-12)
    assert_allclose(rotation, [0, 0, yaw], atol=1e-12)


def test_by_default_the_newest_target_is_the_goal():
    targets = Targets(smoothing_time=0.0, horizon=1, decay=0.7)
    assert not targets.active
    assert targets.goal(1.0, HOME) is None
    targets.add(moved(0.1), expiry=2.0)
    targets.add(moved(0.3, 0.2), expiry=2.0)
    assert_moved(targets.goal(1.0, HOME), 0.3, 0.2)
    assert_moved(targets.goal(9.0, HOME), 0.3, 0.2)


def test_an_ensemble_weighs_the_newest_most():
    targets = Targets(smoothing_time=0.0, horizon=3, decay=np.log(2))
    assert targets.active
    for x in (9.0, 0.4, 0.2, 0.1):  # weights: forgotten, 1/4, 1/2, 1
        targets.add(moved(x, x), expiry=2.0)
    mean = (0.4 / 4 + 0.2 / 2 + 0.1) / 1.75
    assert_moved(targets.goal(1.0, HOME), mean, mean)


def test_what_has_expired_is_left_out_but_not_the_newest():
    targets = Targets(smoothing_time=0.0, horizon=3, decay=0.0)
    for x, expiry in ((0.4, 1.0), (0.2, 3.0), (0.1, 2.0)):
        targets.add(moved(x), expiry)
    assert_moved(targets.goal(0.9, HOME), 0.7 / 3)
    assert_moved(targets.goal(1.0, HOME), 0.15)
    assert_moved(targets.goal(2.5, HOME), 0.15)
    assert_moved(targets.goal(3.0, HOME), 0.1)


def test_the_filter_goes_from_the_tip_to_the_target_exponentially():
    targets = Targets(smoothing_time=0.1, horizon=1, decay=0.0)
    assert targets.active
    targets.add(moved(0.2, 0.4), expiry=2.0)
    assert_moved(targets.goal(1.0, HOME), 0.0)
    for step in range(1, 11):
        share = 1 - np.exp(-0.05 * step / 0.1)
        assert_moved(targets.goal(1.0 + 0.05 * step, HOME), 0.2 * share, 0.4 * share)


@pytest.mark.parametrize("smoothing_time", [0.0, 0.1])
def test_cleared_it_begins_anew_at_the_tip(smoothing_time):
    targets = Targets(smoothing_time, horizon=2, decay=0.0)
    targets.add(moved(0.2), expiry=2.0)
    targets.goal(1.0, HOME)
    targets.clear()
    assert targets.goal(1.1, HOME) is None
    targets.add(moved(0.4), expiry=3.0)
    goal = targets.goal(1.2, moved(0.3))
    assert_moved(goal, 0.3 if smoothing_time else 0.4)
