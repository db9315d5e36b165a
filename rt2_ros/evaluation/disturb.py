# SPDX-License-Identifier: Apache-2.0
"""Disturbances: what may go wrong between a table and a policy, and between a policy and an arm.

>>> Disturbance(noise=25).image(np.random.default_rng(7), image)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from rt2_ros.actions import Action
from rt2_ros.sim.env import MAX_LATENCY


@dataclass(frozen=True)
class Disturbance:
    """One disturbance or several; all 0 is none.

    noise: standard deviation of each pixel's noise, 0..255, in a picture of 480 px; a policy that
    gets it at 192 px sees about a third. blur: of a Gaussian, px in a picture of 480. drop: share
    of pictures that never arrive; no decision is made on those. occlude: share of the picture,
    0..0.5, that a grey patch covers, elsewhere each time. delay: s from picture to action. action:
    standard deviation of noise on the translation, m.
    """

    noise: float = 0.0
    blur: float = 0.0
    drop: float = 0.0
    occlude: float = 0.0
    delay: float = 0.0
    action: float = 0.0

    def __post_init__(self) -> None:
        bounds = {"noise": 255, "blur": 50, "drop": 0.95, "occlude": 0.5, "delay": MAX_LATENCY,
                  "action": 0.1}  # fmt: skip
        for name, high in bounds.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ValueError(f"{name}: {value!r}, expected a number")
            if not 0 <= value <= high:
                raise ValueError(f"{name}: {value}, expected 0..{high:g}")

    def image(self, random: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A picture (H, W, 3) as it arrives."""
        if self.blur:
            image = np.asarray(cv2.GaussianBlur(image, (0, 0), self.blur), dtype=np.uint8)
        if self.noise:
            grains = random.normal(0, self.noise, image.shape)
            image = np.clip(np.rint(image + grains), 0, 255).astype(np.uint8)
        if self.occlude:
            height, width = image.shape[:2]
            side = np.sqrt(self.occlude)
            top, left = random.uniform(0, 1 - side, 2)
            image = image.copy()
            rows = slice(int(top * height), int((top + side) * height))
            image[rows, int(left * width) : int((left + side) * width)] = 128
        return image

    def arrives(self, random: np.random.Generator) -> bool:
        """Whether a picture arrives at all."""
        return not self.drop or bool(random.random() >= self.drop)

    def hand(self, random: np.random.Generator, action: Action) -> Action:
        """An action as the arm carries it out."""
        if not self.action:
            return action
        return replace(action, translation=action.translation + random.normal(0, self.action, 3))
