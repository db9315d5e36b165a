# SPDX-License-Identifier: Apache-2.0
"""What is remembered of an attempt: guesses that change nothing, and a plan that is kept."""

from dataclasses import replace

import numpy as np
import pytest

from rt2_ros.policies import Observation, load_policy, memory


def look(seed, episode="a", instruction="pick up the banana"):
    image = np.random.default_rng(seed).integers(0, 256, (192, 192, 3), dtype=np.uint8)
    state = np.array([0.4 + 0.03 * (seed % 8), 0.1, 0.2 - 0.02 * (seed % 8), 0.0])
    return Observation({"scene": image}, instruction, state, 0, episode)


def test_the_past_makes_a_decision_faster_not_another(monkeypatch):
    policy = load_policy("rt2-tiny", threads=1)
    seen = look(0)
    first = policy.infer(seen)
    before = policy.forwards
    again = policy.infer(seen)
    assert policy.forwards == before + 1
    assert again.text == first.text == policy.infer_by_generate(seen).text
    np.testing.assert_allclose(again.confidence, first.confidence, atol=1e-4)
    for seed in range(1, 6):
        seen = look(seed)
        assert policy.infer(seen).text == policy.infer_by_generate(seen).text


def test_a_plan_is_kept_for_as_many_decisions_as_were_asked_for():
    policy = load_policy("rt2-tiny", threads=1, plan_every=3)
    plans = {seed: policy.infer(look(seed, episode=f"fresh {seed}")).plan for seed in range(8)}
    one, other = 0, next(seed for seed in plans if plans[seed] != plans[0])
    written = [policy.infer(look(seed)).plan for seed in (one, other, other, other, one, one, one)]
    a, b = plans[one], plans[other]
    assert written == [a, a, a, b, b, b, a]


def test_a_kept_plan_is_of_its_own_episode_and_instruction():
    policy = load_policy("rt2-tiny", threads=1, plan_every=10)
    first = policy.infer(look(0)).plan
    fresh = load_policy("rt2-tiny", threads=1)
    for other in (look(6, episode="b"), look(6, instruction="pick up the red apple")):
        assert policy.infer(other).plan == fresh.infer(other).plan != first
    assert policy.infer(look(6)).plan == first


def test_what_follows_a_kept_plan_is_what_the_model_would_write_after_it():
    policy = load_policy("rt2-tiny", threads=1, plan_every=2)
    policy.infer(look(0))
    kept = policy.infer(look(1))
    assert kept.action is not None
    # The same again without any guess to go by.
    other = load_policy("rt2-tiny", threads=1, plan_every=2)
    other.infer(replace(look(0)))
    assert other.infer(look(1)).text == kept.text


def test_only_so_many_attempts_are_remembered(monkeypatch):
    monkeypatch.setattr(memory, "MOST", 2)
    policy = load_policy("rt2-tiny", threads=1, plan_every=10)
    first = policy.infer(look(0, episode="a")).plan
    policy.infer(look(1, episode="b"))
    assert policy.infer(look(2, episode="a")).plan == first  # used just now: b is the oldest
    policy.infer(look(2, episode="c"))
    assert policy.infer(look(6, episode="a")).plan == first
    fresh = load_policy("rt2-tiny", threads=1).infer(look(6)).plan
    assert policy.infer(look(6, episode="b")).plan == fresh


def test_a_plan_that_is_kept_for_no_decision_is_refused():
    with pytest.raises(ValueError, match="plan_every: 0, expected 1 or more"):
        load_policy("rt2-tiny", plan_every=0)
