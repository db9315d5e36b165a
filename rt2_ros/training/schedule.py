# SPDX-License-Identifier: Apache-2.0
"""What changes over a stage: the learning rate and the width of soft targets."""

from __future__ import annotations

import math
from typing import Protocol


class Scheduled(Protocol):
    """A stage, as far as its learning rate goes."""

    @property
    def learning_rate(self) -> float:
        """At its highest."""

    @property
    def warmup(self) -> float:
        """Share of the stage in which it rises."""

    @property
    def floor(self) -> float:
        """Share of it that is left at the end."""


class Softened(Protocol):
    """A stage, as far as its soft targets go."""

    @property
    def sigma(self) -> tuple[float, float]:
        """Width in bins at the start, and at the end."""


def schedule(stage: Scheduled, progress: float) -> float:
    """Learning rate after `progress` (0..1) of a stage: linear warm-up, then a cosine to its
    floor.
    """
    if progress < stage.warmup:
        return stage.learning_rate * (0.02 + 0.98 * progress / stage.warmup)
    after = min((progress - stage.warmup) / max(1 - stage.warmup, 1e-9), 1.0)
    return stage.learning_rate * (
        stage.floor + (1 - stage.floor) * (1 + math.cos(math.pi * after)) / 2
    )


def soften(stage: Softened, progress: float) -> float:
    """Width of the soft targets in bins: geometric from first to last."""
    first, last = stage.sigma
    return first * (last / first) ** progress
