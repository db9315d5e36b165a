# SPDX-License-Identifier: Apache-2.0
"""Figures against worked examples of the papers that they come from."""

import json
import math

import numpy as np
import pytest

from rt2_ros.evaluation.metrics import (
    Bin,
    Difference,
    Rate,
    calibration,
    episode_calibration,
    mcnemar,
    newcombe,
    paired_ratio,
    same_episodes,
    summary,
    wilson,
)
from rt2_ros.evaluation.records import EpisodeRecord


def record(seed, success=True, failure="timeout", suite="seen", instruction="pick", **changes):
    known = dict(steps=40, path_length=0.5, held=0, invalid=0, latency_ms=(), confidence=())
    return EpisodeRecord(
        policy="p", suite=suite, cell="", seed=seed, instruction=instruction, skill="pick",
        object="key", target="", success=success, failure="" if success else failure,
        sim_seconds=8.0, **known | changes,
    )  # fmt: skip


@pytest.mark.parametrize(
    "successes, trials, low, high",
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (60, 100, 0.5020, 0.6906), (0, 0, 0.0, 1.0),
     (81, 263, 0.2553, 0.3662)],  # Newcombe 1998, "Two-sided intervals", table I
)  # fmt: skip
def test_wilson_intervals(successes, trials, low, high):
    assert wilson(successes, trials) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(
    "counts, low, high",  # Newcombe 1998, table II, method 10
    [
        ((56, 70, 48, 80), 0.0524, 0.3339), ((9, 10, 3, 10), 0.1705, 0.8090),
        ((6, 7, 2, 7), 0.0582, 0.8062), ((5, 56, 0, 29), -0.0381, 0.1926),
        ((0, 10, 0, 20), -0.1611, 0.2775), ((0, 10, 0, 10), -0.2775, 0.2775),
        ((10, 10, 0, 20), 0.6791, 1.0), ((10, 10, 0, 10), 0.6075, 1.0),
    ],
)  # fmt: skip
def test_newcombe_intervals_of_a_difference(counts, low, high):
    found = newcombe(*counts)
    assert found.value == pytest.approx(counts[0] / counts[1] - counts[2] / counts[3])
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


def test_a_difference_to_nothing_says_nothing():
    found = newcombe(1, 2, 0, 0)
    assert math.isnan(found.value) and (found.low, found.high) == (-1.0, 1.0)


def test_the_gap_is_seen_minus_unseen():
    seen = Rate.of([record(i, i < 56) for i in range(70)])
    unseen = Rate.of([record(i, i < 48) for i in range(80)])
    assert (seen.value, seen.interval) == (0.8, wilson(56, 70))
    assert seen.minus(unseen) == newcombe(56, 70, 48, 80)
    assert (Rate.of([]).value, Rate.of([]).interval) == (0.0, (0.0, 1.0))
    with pytest.raises(ValueError, match="3 successes of 2"):
        Rate(3, 2)


@pytest.mark.parametrize(
    "first, second, p",
    [(6, 16, 0.0525),  # Fagerland, Lydersen and Laake 2013: exact conditional test
     (0, 0, 1.0), (3, 3, 1.0), (5, 0, 0.0625), (0, 6, 0.03125)],
)  # fmt: skip
def test_mcnemar_exact(first, second, p):
    pairs = [(True, False)] * first + [(False, True)] * second + [(True, True)] * 7
    paired = mcnemar(pairs)
    assert paired.p == pytest.approx(p, abs=1e-4)
    assert (paired.both, paired.first, paired.second, paired.neither) == (7, first, second, 0)
    assert paired.episodes == len(pairs)


def test_only_the_same_episodes_are_compared():
    first = [record(0), record(1, False), record(2), record(3), record(4, suite="other")]
    second = [record(4), record(3, instruction="lift"), record(1), record(0, False)]
    assert same_episodes(first, second) == [(True, False), (False, True)]
    crash = record(1, False, "crashed", error="lost", instruction="")
    assert same_episodes(first, [crash]) == same_episodes([crash], first) == [(False, False)]


def test_calibration_bins_and_expected_error():
    found = calibration([0.95, 0.85, 0.85, 0.1, 0.0], [True, True, False, False, True])
    assert [(b.low, b.count) for b in found.bins] == [(0.0, 2), (0.8, 2), (0.9, 1)]
    assert found.bins[0] == Bin(0.0, 0.1, 2, 0.05, 0.5)
    assert found.bins[1] == Bin(0.8, 0.9, 2, 0.85, 0.5)
    assert found.ece == pytest.approx((2 * 0.45 + 2 * 0.35 + 0.05) / 5)
    assert calibration([1.0, 0.0], [True, False]).ece == 0.0
    assert calibration([1.0, 0.0], [False, True]).ece == 1.0
    for bad in (([], []), ([0.5], [True, False]), ([1.5], [True])):
        with pytest.raises(ValueError, match="expected"):
            calibration(*bad)


def test_an_episodes_confidence_is_the_mean_of_its_decisions():
    sure = record(0, confidence=(0.8, 1.0))
    silent = record(1, False)  # gave none: not of this
    assert episode_calibration([sure, silent]).ece == pytest.approx(0.1)
    assert episode_calibration([silent]) is None


def test_a_summary_has_every_figure_and_is_json():
    episodes = [
        record(0, steps=10, path_length=0.3, latency_ms=(1, 2, 3), confidence=(0.5,), reached=True),
        record(1, steps=20, path_length=0.5, latency_ms=(4,), confidence=(1.0,)),
        record(2, False, steps=40, path_length=9.0, held=30, invalid=2, latency_ms=(5, 6)),
        record(3, False, "dropped", steps=30, reached=False),
        record(4, False, steps=0),
    ]
    figures = summary(episodes)
    assert figures == json.loads(json.dumps(figures))
    low, high = wilson(2, 5)
    assert figures == {
        "success_rate": 0.4, "low": low, "high": high, "episodes": 5, "successes": 2,
        "failures": {"timeout": 2, "dropped": 1}, "reached": 0.5, "mean_steps": 20.0,
        "steps_to_success": {"p50": 15.0, "p90": 19.0}, "path_length_m": 0.4,
        "latency_ms": {"p50": 3.5, "p99": pytest.approx(np.percentile(range(1, 7), 99))},
        "decisions": 6, "invalid_decisions": 2, "invalid_rate": 2 / 6, "hold_share": 0.3,
        "ece": pytest.approx(0.25),
    }  # fmt: skip


def test_a_summary_of_nothing_claims_nothing():
    figures = summary([])
    assert (figures["success_rate"], figures["low"], figures["high"]) == (0.0, 0.0, 1.0)
    absent = {name for name, value in figures.items() if value is None}
    assert absent == {
        "steps_to_success", "path_length_m", "latency_ms", "invalid_rate", "hold_share", "ece",
        "reached",
    }  # fmt: skip


def test_a_ratio_of_paired_rates_has_walds_interval():
    # 45 of 50 after, 48 of 50 before: 44 both, 1 won, 4 lost.
    pairs = [(True, True)] * 44 + [(True, False)] + [(False, True)] * 4 + [(False, False)]
    found = paired_ratio(pairs)
    assert found.value == pytest.approx(45 / 48)
    spread = math.exp(1.959964 * math.sqrt(5 / (45 * 48)))
    assert (found.low, found.high) == pytest.approx((45 / 48 / spread, 45 / 48 * spread))
    assert paired_ratio([(True, True)] * 5) == Difference(1.0, 1.0, 1.0)
    none = paired_ratio([(False, True)] * 8 + [(False, False)] * 2)
    assert (none.value, none.low) == (0.0, 0.0)
    assert none.high == pytest.approx(wilson(0, 10)[1] / 0.8)
    with pytest.raises(ValueError, match="rate of 0"):
        paired_ratio([(True, False)])
