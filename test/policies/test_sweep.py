# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from rt2_ros.policies import Observation, Policy, load_policy

IMAGE = np.zeros((4, 4, 3), np.uint8)


def step(policy, y, closed=0.0):
    decision = policy.infer(Observation({"scene": IMAGE}, "", np.array([0.5, y, 0.2, closed])))
    return decision.action


def test_the_hand_goes_to_and_fro_within_its_reach():
    policy = load_policy("sweep")
    assert isinstance(policy, Policy)
    y, seen = 0.0, []
    for _ in range(60):
        action = step(policy, y)
        y += action.translation[1]
        seen.append(y)
        assert abs(action.translation[1]) == pytest.approx(0.04)
        assert not action.translation[[0, 2]].any() and not action.rotation.any()
        assert not action.terminate
    assert 0.119 < max(seen) < 0.165
    assert -0.165 < min(seen) < -0.119


@pytest.mark.parametrize("name", ["sweep", "hold"])
def test_the_gripper_stays_and_an_unknown_place_is_no_decision(name):
    """With the hand's state goes the gripper's: what it holds would fall."""
    policy = load_policy(name)
    assert step(policy, 0.0, closed=1.0).gripper == 1.0
    assert policy.infer(Observation({"scene": IMAGE}, "")).action is None


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("step", 0.5, "step: 0.5"), ("reach", -1, "reach: -1"), ("speed", 1, "unknown keys speed")],
)
def test_a_bad_setting_is_named(key, value, message):
    with pytest.raises(ValueError, match=message):
        load_policy("sweep", **{key: value})
