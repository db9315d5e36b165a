# SPDX-License-Identifier: Apache-2.0
"""How often each source of a co-fine-tuning mixture is drawn from.

    >>> weights = {"robot": 1, "captions": 1, "questions": 3}
    >>> sizes = {"robot": 100, "captions": 400, "questions": 900}
    >>> Mixing().probabilities(weights, sizes, robots={"robot"})
    {'robot': 0.2, 'captions': 0.2, 'questions': 0.6}
    >>> Mixing("temperature", 2.0).probabilities(dict.fromkeys(sizes, 1), sizes, robots={"robot"})
    {'robot': 0.16666666666666666, 'captions': 0.3333333333333333, 'questions': 0.5}
    >>> Mixing(robot_share="pali-x").probabilities(weights, sizes, robots={"robot"})
    {'robot': 0.5, 'captions': 0.125, 'questions': 0.375}

RT-2 (arXiv 2307.15818) raises the robot's share of each batch to about 50 % (PaLI-X) or 66 %
(PaLM-E); within robots and within the rest the other shares keep their proportions.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

WAYS = ("weights", "repeats", "temperature")
ROBOT_SHARES = {"pali-x": 0.5, "palm-e": 0.66}


@dataclass(frozen=True)
class Mixing:
    """A way from the weights that a stage gives its sources to probabilities.

    by: weights: p_i ~ w_i. repeats: p_i ~ w_i * n_i, each sample of source i is seen w_i times
        where one of weight 1 is seen once. temperature: p_i ~ (w_i * n_i)^(1/T); T = 1 is repeats,
        a large T makes all sources alike.
    robot_share: what all robot sources get together, a number or one of ROBOT_SHARES; None leaves
        them what they have.
    """

    by: str = "weights"
    temperature: float = 1.0
    robot_share: float | str | None = None

    def __post_init__(self) -> None:
        if self.by not in WAYS:
            raise ValueError(f"mixing: by is {self.by!r}; expected {', '.join(WAYS)}")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"mixing: temperature is {self.temperature}; expected > 0")
        if self.temperature != 1.0 and self.by != "temperature":
            raise ValueError(
                f"mixing: temperature is {self.temperature}, by is {self.by!r}; expected "
                "by: temperature"
            )
        share: Any = self.robot_share
        if isinstance(share, str):
            if share not in ROBOT_SHARES:
                raise ValueError(
                    f"mixing: robot_share is {share!r}; expected a number or one of "
                    f"{', '.join(ROBOT_SHARES)}"
                )
            object.__setattr__(self, "robot_share", ROBOT_SHARES[share])
        elif share is not None and not 0 < share < 1:
            raise ValueError(f"mixing: robot_share is {share}; expected between 0 and 1")

    def shares(self, weights: Mapping[str, float], sources: Mapping[str, Any]) -> dict[str, float]:
        """Probability of each source that has a weight.

        sources: their `count` is n_i, asked only where it matters; robot sources have a `space`.

        Raises:
            ValueError: naming the source that is unknown, has no length, or a weight below 0.
        """
        unknown = sorted(set(weights) - set(sources))
        if unknown:
            raise ValueError(f"shares: unknown source {unknown[0]!r}; expected {sorted(sources)}")
        sizes = {}
        for name in weights if self.by != "weights" else ():
            size = getattr(sources[name], "count", None)
            if size is None:
                raise ValueError(
                    f"mixing: by {self.by}, but source {name!r} is made on the fly and has no "
                    "size; expected by: weights"
                )
            sizes[name] = size
        robots = {name for name in weights if getattr(sources[name], "space", None) is not None}
        return self.probabilities(weights, sizes, robots)

    def probabilities(
        self, weights: Mapping[str, float], sizes: Mapping[str, int], robots: Collection[str]
    ) -> dict[str, float]:
        """The same from plain numbers: they sum to 1.

        sizes: samples of each source, unless by is weights; robots: names of robot sources.
        """
        if not weights or min(weights.values()) < 0 or not sum(weights.values()) > 0:
            raise ValueError(f"shares: {dict(weights)}; expected weights of at least 0, not all 0")
        found = {name: float(weight) for name, weight in weights.items()}
        if self.by != "weights":
            found = {n: w * sizes[n] for n, w in found.items()}
        if self.robot_share is None:
            return _scaled(found, 1.0, self.temperature)
        groups = [{n: w for n, w in found.items() if (n in robots) == own} for own in (True, False)]
        for group, what in zip(groups, ("robot source", "other source"), strict=True):
            if not sum(group.values()) > 0:
                raise ValueError(
                    f"mixing: robot_share is {self.robot_share}, but no {what} has a weight"
                )
        share = float(self.robot_share)
        both = {
            **_scaled(groups[0], share, self.temperature),
            **_scaled(groups[1], 1 - share, self.temperature),
        }
        return {name: both[name] for name in weights}


def _scaled(weights: Mapping[str, float], total: float, temperature: float) -> dict[str, float]:
    """The same proportions, to the power 1 / temperature, with another sum."""
    most = max(weights.values())
    if not most > 0:
        raise ValueError(f"shares: {dict(weights)}; expected a source that is not empty")
    if temperature != 1:  # of what is at most 1, whose power is no number too large
        weights = {name: (weight / most) ** (1 / temperature) for name, weight in weights.items()}
    whole = math.fsum(weights.values())
    return {name: total * weight / whole for name, weight in weights.items()}
