# SPDX-License-Identifier: Apache-2.0
"""Figures of an evaluation, each with how sure it is.

>>> Rate(95, 100).interval                # a success rate
(0.8882..., 0.9784...)
>>> Rate(56, 70).minus(Rate(48, 80))      # a difference of two: seen minus unseen, the gap
Difference(value=0.2, low=0.052..., high=0.333...)
>>> mcnemar([(True, False)] * 6)          # two policies on the same six tables
Paired(both=0, first=6, second=0, neither=0, p=0.03125)

Intervals are 95 %. No p-value or interval here is corrected for how many were looked at.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rt2_ros.evaluation.records import EpisodeRecord

Z = 1.959963984540054  # 97.5 % of a normal distribution lie below


@dataclass(frozen=True)
class Rate:
    """A success rate: so many of so many episodes."""

    successes: int
    episodes: int

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.episodes:
            raise ValueError(f"{self.successes} successes of {self.episodes} episodes")

    @classmethod
    def of(cls, records: Iterable[EpisodeRecord]) -> Rate:
        """The rate of some episodes."""
        outcomes = [record.success for record in records]
        return cls(sum(outcomes), len(outcomes))

    @classmethod
    def reached(cls, records: Iterable[EpisodeRecord]) -> Rate:
        """How often the right thing was reached, of those episodes that have one."""
        looked = [record.reached for record in records if record.reached is not None]
        return cls(sum(looked), len(looked))

    @classmethod
    def together(cls, rates: Iterable[Rate]) -> Rate:
        """Of all their episodes."""
        each = list(rates)
        return cls(sum(r.successes for r in each), sum(r.episodes for r in each))

    @property
    def value(self) -> float:
        """0..1; 0 for no episodes."""
        return self.successes / max(self.episodes, 1)

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, Wilson."""
        return wilson(self.successes, self.episodes)

    def minus(self, other: Rate) -> Difference:
        """How much higher than another rate, of other episodes; 95 %, Newcombe."""
        return newcombe(self.successes, self.episodes, other.successes, other.episodes)


@dataclass(frozen=True)
class Difference:
    """A difference of two success rates, -1..1, or their ratio, and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Paired:
    """Two policies on the same episodes: how many both, only one or neither did; exact p."""

    both: int
    first: int
    second: int
    neither: int
    p: float

    @property
    def episodes(self) -> int:
        """How many episodes both played."""
        return self.both + self.first + self.second + self.neither


@dataclass(frozen=True)
class Bin:
    """Episodes whose confidence lies in (low, high]: how many, mean confidence, success rate."""

    low: float
    high: float
    count: int
    confidence: float
    success: float


@dataclass(frozen=True)
class Calibration:
    """Reliability bins that have episodes in them, and the expected calibration error, 0..1."""

    bins: tuple[Bin, ...]
    ece: float


def wilson(successes: int, trials: int, z: float = Z) -> tuple[float, float]:
    """95 % interval of a success rate (Wilson 1927); (0, 1) for no trials."""
    if trials == 0:
        return 0.0, 1.0
    rate = successes / trials
    centre = rate + z * z / (2 * trials)
    spread = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def newcombe(successes: int, trials: int, others: int, other_trials: int) -> Difference:
    """successes/trials - others/other_trials of independent episodes, with a 95 % interval.

    Method 10 (Wilson hybrid score) of Newcombe 1998, "Interval estimation for the difference
    between independent proportions". No trials on one side leave the interval (-1, 1).
    """
    low, high = wilson(successes, trials)
    other_low, other_high = wilson(others, other_trials)
    if trials == 0 or other_trials == 0:
        return Difference(math.nan, -1.0, 1.0)
    rate, other = successes / trials, others / other_trials
    return Difference(
        rate - other,
        rate - other - math.hypot(rate - low, other_high - other),
        rate - other + math.hypot(high - rate, other - other_low),
    )


def same_episodes(
    first: Iterable[EpisodeRecord], second: Iterable[EpisodeRecord]
) -> list[tuple[bool, bool]]:
    """Successes of two policies where suite, cell, seed and instruction are the same; a crash is
    a failure here as everywhere.
    """
    others = {record.key: record for record in second}
    return [
        (record.success, others[record.key].success)
        for record in first
        if record.key in others and _same_words(record, others[record.key])
    ]


def _same_words(first: EpisodeRecord, second: EpisodeRecord) -> bool:
    """Also where one of them crashed before anyone said what was asked."""
    known = {record.instruction for record in (first, second) if record.instruction}
    return len(known) <= 1


def mcnemar(pairs: Iterable[tuple[bool, bool]]) -> Paired:
    """Whether one of two policies is better on the same episodes: McNemar's exact test.

    p is two-sided: how likely a split of the episodes that only one of them did is, at least as
    uneven as this one, if either were as likely to be that one (binomial, 1/2). 1 for no such.
    """
    counts = Counter(pairs)
    first, second = counts[True, False], counts[False, True]
    discordant = first + second
    tail = sum(math.comb(discordant, k) for k in range(min(first, second) + 1))
    p = min(1.0, 2 * tail / 2**discordant)
    return Paired(counts[True, True], first, second, counts[False, False], p)


def paired_ratio(pairs: Iterable[tuple[bool, bool]]) -> Difference:
    """The first success rate over the second, of the same episodes, with a 95 % interval.

    Wald's on the logarithm for paired proportions (Nam and Blackwelder 2002): its variance is
    (b + c) / (x y), with b and c the discordant pairs, x and y the successes. Without any success
    of the first, up to Wilson's bound of it over the second.

    Raises:
        ValueError: the second had no success.
    """
    counts = Counter(pairs)
    both, only, other = counts[True, True], counts[True, False], counts[False, True]
    first, second = both + only, both + other
    if not second:
        raise ValueError("a ratio to a rate of 0")
    if not first:
        trials = sum(counts.values())
        return Difference(0.0, 0.0, wilson(0, trials)[1] * trials / second)
    spread = math.exp(Z * math.sqrt((only + other) / (first * second)))
    ratio = first / second
    return Difference(ratio, ratio / spread, ratio * spread)


def calibration(
    confidences: Sequence[float], successes: Sequence[bool], bins: int = 10
) -> Calibration:
    """How well confidence foretells success: bins of equal width, and ECE (Naeini et al. 2015).

    ECE = sum over bins of share of episodes * |success rate - mean confidence|.

    Raises:
        ValueError: no episodes, lengths differ, or a confidence outside 0..1.
    """
    if len(confidences) != len(successes) or not confidences:
        raise ValueError(
            f"{len(confidences)} confidences, {len(successes)} successes; expected as many, >= 1"
        )
    sure, done = np.asarray(confidences, float), np.asarray(successes, float)
    if not ((sure >= 0) & (sure <= 1)).all():
        raise ValueError(f"confidences {sure.min()} to {sure.max()}; expected all in 0..1")
    index = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)  # 0 is in the first
    found = tuple(
        Bin(i / bins, (i + 1) / bins, len(chosen := np.flatnonzero(index == i)),
            float(sure[chosen].mean()), float(done[chosen].mean()))
        for i in np.unique(index).tolist()
    )  # fmt: skip
    ece = sum(b.count * abs(b.success - b.confidence) for b in found) / len(sure)
    return Calibration(found, ece)


def episode_calibration(records: Sequence[EpisodeRecord], bins: int = 10) -> Calibration | None:
    """Calibration of a policy over episodes; None where it never gave a confidence.

    An episode's confidence is the mean of its decisions', and each decision's is the model's
    probability of the words it wrote. So this measures whether a policy that is surer of its
    single steps succeeds more often, on one scale with success; it does not say that a decision
    of confidence 0.9 is right nine times of ten, for no single step has a verdict.
    """
    told = [record for record in records if record.confidence]
    if not told:
        return None
    sure = [math.fsum(record.confidence) / len(record.confidence) for record in told]
    return calibration([min(1.0, value) for value in sure], [r.success for r in told], bins)


def summary(records: Sequence[EpisodeRecord]) -> dict[str, Any]:
    """All figures of some episodes as JSON; None where nothing was there to measure.

    success_rate, low, high, episodes, successes; failures {class: count}, commonest first;
    reached (share of those that have a thing to reach); mean_steps (all episodes);
    steps_to_success {p50, p90} and path_length_m (median), of successes; latency_ms {p50, p99}, of
    decisions; decisions, invalid_decisions, invalid_rate (of those); hold_share (of steps); ece.
    """
    rate, reached = Rate.of(records), Rate.reached(records)
    low, high = rate.interval
    done = [record for record in records if record.success]
    latency = [ms for record in records for ms in record.latency_ms]
    steps = sum(record.steps for record in records)
    invalid = sum(record.invalid for record in records)
    calibrated = episode_calibration(records)
    return {
        "success_rate": rate.value,
        "low": low,
        "high": high,
        "episodes": len(records),
        "successes": rate.successes,
        "failures": dict(Counter(r.failure for r in records if not r.success).most_common()),
        "reached": reached.value if reached.episodes else None,
        "mean_steps": steps / max(len(records), 1),
        "steps_to_success": _percentiles([record.steps for record in done], (50, 90)),
        "path_length_m": float(np.median([r.path_length for r in done])) if done else None,
        "latency_ms": _percentiles(latency, (50, 99)),
        "decisions": len(latency),
        "invalid_decisions": invalid,
        "invalid_rate": invalid / len(latency) if latency else None,
        "hold_share": sum(record.held for record in records) / steps if steps else None,
        "ece": calibrated.ece if calibrated else None,
    }


def _percentiles(values: Sequence[float], shares: Sequence[int]) -> dict[str, float] | None:
    if not values:
        return None
    return {f"p{share}": float(np.percentile(values, share)) for share in shares}
