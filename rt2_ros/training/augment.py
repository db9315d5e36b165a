# SPDX-License-Identifier: Apache-2.0
"""Pictures varied as cameras and rooms vary, with answers that stay right.

    augmented = Augmented(source, Augmentation(colour=0.2, blur=1.0, noise=6.0))

A picture is never mirrored: the action is in the robot's base frame, and mirrored, "move left"
would be shown and "move right" be taught, with words and state that tell of another scene still.
A mirror image is a demonstration of the mirrored robot, which nobody has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from rt2_ros.actions.prompts import ACTION
from rt2_ros.data.faults import BadSample, BadSetting
from rt2_ros.data.samples import Frame, Query, Thing

PLACE = re.compile(r"\d[ ,;]+\d|<loc\d+>")  # "umbrella 213 88"; PaliGemma's tokens


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How far pictures are varied; each is drawn evenly from nothing to the value, 0: not at all.

    crop: share of the side that is cut away, the rest scaled up again: a camera that moved.
    colour: brightness, contrast and saturation, as a share of themselves.
    blur: standard deviation in pixels.
    noise: standard deviation in grey levels, of the background where a frame says what is not.
    """

    crop: float = 0.0
    colour: float = 0.0
    blur: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        for name, most in (("crop", 0.5), ("colour", 1.0), ("blur", 10.0), ("noise", 128.0)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(
                    f"augment: {name} is {getattr(self, name)}; expected 0 to {most:g}"
                )

    def __call__(self, random: np.random.Generator, frame: Frame) -> Frame:
        """The frame with other pictures, each varied by itself; BadSetting for a crop of one whose
        answers speak of places.
        """
        if frame.image is None:
            return frame
        if self.crop and (frame.things or any(_tells_places(query) for query in frame.queries)):
            raise BadSetting(
                f"augment: crop is {self.crop:g}, and would move things whose places in the "
                "picture the answers tell; expected 0, or no crop for this source"
            )
        image = self._varied(random, frame.image, frame.things)
        others = tuple(self._varied(random, other, ()) for other in frame.others)
        return replace(frame, image=image, others=others)

    def _varied(
        self, random: np.random.Generator, image: NDArray[np.uint8], things: Sequence[Thing]
    ) -> NDArray[np.uint8]:
        if self.crop:
            image = _crop(random, image, self.crop)
        if self.colour:
            image = _recolour(random, image, self.colour)
        if self.blur and (sigma := random.uniform(0, self.blur)) > 0.2:
            image = cv2.GaussianBlur(image, (0, 0), sigma).astype(np.uint8)
        if self.noise:
            image = _noise(random, image, things, self.noise)
        return image


class Augmented:
    """A source whose pictures are varied; all else of it shows through. plain: as it was."""

    def __init__(
        self, source: Callable[[np.random.Generator], Frame], augmentation: Augmentation,
        name: str = "",
    ) -> None:  # fmt: skip
        self._source = self.plain = source
        self._augmentation, self._name = augmentation, name

    def __call__(self, random: np.random.Generator) -> Frame:
        """One frame; BadSample where its picture cannot be varied, BadSetting where it must not."""
        frame = self._source(random)
        where = ", ".join(filter(None, (f"source {self._name}", frame.origin)))
        try:
            return self._augmentation(random, frame)
        except BadSetting as error:
            raise BadSetting(f"{where}: {error}") from error
        except ValueError as error:
            raise BadSample(where, str(error)) from error

    def __getattr__(self, name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._source, name)


def _crop(random: np.random.Generator, image: NDArray[np.uint8], most: float) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    kept = 1 - random.uniform(0, most)
    rows, columns = max(1, round(height * kept)), max(1, round(width * kept))
    top = int(random.integers(0, height - rows + 1))
    left = int(random.integers(0, width - columns + 1))
    cut = image[top : top + rows, left : left + columns]
    return cv2.resize(cut, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8)


def _recolour(
    random: np.random.Generator, image: NDArray[np.uint8], most: float
) -> NDArray[np.uint8]:
    brightness, contrast, saturation = 1 + random.uniform(-most, most, 3)
    pixels = image.astype(np.float32) * brightness
    mean = pixels.mean()
    pixels = mean + contrast * (pixels - mean)
    grey = pixels.mean(-1, keepdims=True)
    pixels = grey + saturation * (pixels - grey)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def _noise(
    random: np.random.Generator, image: NDArray[np.uint8], things: Sequence[Thing], most: float
) -> NDArray[np.uint8]:
    noise = random.normal(0, random.uniform(0, most), image.shape).astype(np.float32)
    if things:
        covered = np.zeros(image.shape[:2], np.uint8)
        for thing in things:
            cv2.fillConvexPoly(covered, np.round(thing.outline).astype(np.int32), 1)
        noise[covered == 1] = 0
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def _tells_places(query: Query) -> bool:
    """Whether a plan has numbers, or an answer two at once: where in the picture a thing is."""
    plan, marker, _ = query.answer.partition(ACTION)
    if not marker:
        return query.kind == "web" and PLACE.search(query.answer) is not None
    return any(letter.isdigit() for letter in plan)
