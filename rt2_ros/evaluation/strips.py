# SPDX-License-Identifier: Apache-2.0
"""Frames of an episode side by side, what the policy wrote below each.

    film_strip(frames, ["", "Plan: key 88 126. Action: 0 255 148 0 127 127 127 0", ...])

Small enough that a page can hold dozens: some 25 KB as a JPEG.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from rt2_ros.film import evenly

STRIP_FRAMES = 8  # at most
HEIGHT = 160  # px, of a frame
LINES, LINE = 3, 14  # of a caption, at most; px, height of one
GAP = 4  # px, between frames


def film_strip(frames: Sequence[NDArray[np.uint8]], captions: Sequence[str]) -> Image.Image:
    """One picture of at most 8 frames, spread evenly, first and last included.

    frames: uint8 RGB (H, W, 3) of one size. captions: a text for each, Latin letters; three lines
        of it are shown.

    Raises:
        ValueError: no frames, or not as many captions.
    """
    if not frames or len(frames) != len(captions):
        raise ValueError(
            f"{len(frames)} frames, {len(captions)} captions; expected as many, at least one"
        )
    shown = evenly(list(zip(frames, captions, strict=True)), STRIP_FRAMES)
    height, width = frames[0].shape[:2]
    wide = round(width * HEIGHT / height)
    size = (len(shown) * (wide + GAP) - GAP, HEIGHT + LINES * LINE + GAP)
    strip = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(size=LINE - 3)
    for i, (frame, caption) in enumerate(shown):
        x = i * (wide + GAP)
        strip.paste(Image.fromarray(frame).resize((wide, HEIGHT), Image.Resampling.BOX), (x, 0))
        for n, line in enumerate(_wrapped(caption, font, wide - GAP)[:LINES]):
            draw.text((x, HEIGHT + 2 + n * LINE), line, "black", font)
    return strip


def _wrapped(
    text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int
) -> list[str]:
    """Lines that are no wider than `width` px, broken between words."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
