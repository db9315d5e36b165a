# SPDX-License-Identifier: Apache-2.0
"""Table tops that no demonstration has shown: wood, checks, stripes, cloth, marble, dots.

>>> draw_pattern(np.random.default_rng(7), "checks").shape
(256, 256, 3)
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rt2_ros.sim.model import TABLE_SIZE

PATTERNS = ("wood", "checks", "stripes", "cloth", "marble", "dots")


def draw_pattern(random: np.random.Generator, kind: str) -> NDArray[np.uint8]:
    """Return a pattern of two colours, uint8 RGB (TABLE_SIZE, TABLE_SIZE, 3).

    Raises:
        ValueError: kind is none of PATTERNS.
    """
    side = TABLE_SIZE
    first = random.uniform(70, 230, 3)
    second = np.clip(first + random.uniform(35, 90) * random.choice([-1, 1], 3), 20, 250)
    y, x = np.mgrid[0:side, 0:side].astype(np.float64)
    cell = float(random.uniform(10, 26))  # px: 6 to 18 cm on the table
    if kind == "wood":
        bend = 12 * _clouds(random, 4)
        grain = np.sin((x + bend) / cell * 2 * np.pi) + 0.6 * _clouds(random, 64)
        weight = np.clip(0.5 + 0.4 * grain, 0, 1)
    elif kind == "checks":
        weight = (np.floor(x / cell) + np.floor(y / cell)) % 2
    elif kind == "stripes":
        angle = random.uniform(0, np.pi)
        weight = np.floor((x * np.cos(angle) + y * np.sin(angle)) / cell) % 2
    elif kind == "cloth":
        weave = np.sin(x * np.pi / 3) * np.sin(y * np.pi / 3)
        weight = np.clip(0.5 + 0.35 * weave + 0.3 * _clouds(random, 16), 0, 1)
    elif kind == "marble":
        veins = np.abs(_clouds(random, 5) + 0.5 * _clouds(random, 12))
        weight = np.exp(-8 * veins)
    elif kind == "dots":
        near = np.hypot(x % cell - cell / 2, y % cell - cell / 2)
        weight = (near < 0.3 * cell).astype(np.float64)
    else:
        raise ValueError(f"pattern: {kind!r}, expected one of {', '.join(PATTERNS)}")
    colours = first + weight[..., None] * (second - first)
    return np.clip(np.rint(colours), 0, 255).astype(np.uint8)


def _clouds(random: np.random.Generator, cells: int) -> NDArray[np.float64]:
    """Smooth noise about 0, (TABLE_SIZE, TABLE_SIZE), with `cells` bumps along each side."""
    noise = random.normal(0, 1, (cells, cells))
    grown = cv2.resize(noise, (TABLE_SIZE, TABLE_SIZE), interpolation=cv2.INTER_CUBIC)
    return np.asarray(grown, dtype=np.float64)
