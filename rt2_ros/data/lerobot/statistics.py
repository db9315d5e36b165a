# SPDX-License-Identifier: Apache-2.0
"""Statistics of columns and pictures, as `meta/stats.json` and the episodes' tables hold them.

    >>> describe(np.array([[0.0, 5.0], [2.0, 5.0]]))["mean"]
    [1.0, 5.0]

Quantiles are exact: of numbers because all are at hand, of pictures because a byte has 256 values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}

Statistics = dict[str, Any]


def describe(values: ArrayLike) -> Statistics:
    """min, max, mean, std, count and quantiles of each column of (N, D); lists of D numbers."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or not len(array):
        raise ValueError(f"values: shape {array.shape}, expected (N, D) with N > 0")
    rows = np.quantile(array, list(QUANTILES.values()), axis=0)
    return {
        "min": array.min(0).tolist(), "max": array.max(0).tolist(),
        "mean": array.mean(0).tolist(), "std": array.std(0).tolist(), "count": [len(array)],
        **{name: row.tolist() for name, row in zip(QUANTILES, rows, strict=True)},
    }  # fmt: skip


class PictureStatistics:
    """The same of pictures' three channels, in 0..1, gathered picture by picture."""

    def __init__(self, counts: Sequence[Sequence[int]] | None = None, pictures: int = 0) -> None:
        """counts: (3, 256) how often each value was seen so far, in `pictures` pictures."""
        self.counts = np.array(np.zeros((3, 256)) if counts is None else counts, dtype=np.int64)
        self.pictures = pictures

    def add(self, images: NDArray[np.uint8]) -> None:
        """Count uint8 pictures (..., H, W, 3)."""
        for channel in range(3):
            values = np.ascontiguousarray(images[..., channel]).ravel()
            self.counts[channel] += np.bincount(values, minlength=256)
        self.pictures += 1 if images.ndim == 3 else len(images)

    def merge(self, other: PictureStatistics) -> None:
        """Count what another one has counted."""
        self.counts += other.counts
        self.pictures += other.pictures

    def describe(self) -> Statistics:
        """min, max, mean, std, count and quantiles, each shaped (3, 1, 1) as LeRobot has it."""
        if not self.pictures:
            raise ValueError("pictures: none were counted, expected at least one")
        levels = np.arange(256) / 255.0
        shares = self.counts / self.counts.sum(1, keepdims=True)
        mean = shares @ levels
        std = np.sqrt(np.maximum(shares @ levels**2 - mean**2, 0.0))
        seen = [np.flatnonzero(row) for row in self.counts]
        below = shares.cumsum(1)
        figures = {
            "min": np.array([levels[row[0]] for row in seen]),
            "max": np.array([levels[row[-1]] for row in seen]),
            "mean": mean, "std": std,
            **{
                name: levels[[int(np.searchsorted(row, q - 1e-12)) for row in below]]
                for name, q in QUANTILES.items()
            },
        }  # fmt: skip
        result: Statistics = {k: v.reshape(3, 1, 1).tolist() for k, v in figures.items()}
        return {**result, "count": [self.pictures]}
