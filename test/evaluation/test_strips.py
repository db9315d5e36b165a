# SPDX-License-Identifier: Apache-2.0
"""Film strips: which frames, where, and what stands below them."""

import numpy as np
import pytest

from rt2_ros.evaluation.strips import film_strip


def shades(count):
    return [np.full((240, 320, 3), 20 * i, np.uint8) for i in range(count)]


def test_eight_frames_at_most_first_and_last_among_them():
    strip = np.asarray(film_strip(shades(12), [""] * 12))
    wide = 213  # of 160 px height
    assert strip.shape == (160 + 3 * 14 + 4, 8 * wide + 7 * 4, 3)
    places = [i * (wide + 4) for i in range(8)]
    tones = [strip[0, x, 0] for x in places]
    assert tones[0] == 0 and tones[-1] == 220 and tones == sorted(set(tones))
    assert all(
        (strip[:160, x : x + wide] == tone).all() for x, tone in zip(places, tones, strict=True)
    )
    assert (strip[:160, wide : wide + 4] == 255).all() and (strip[160:] == 255).all()


def test_few_frames_make_a_short_strip():
    assert film_strip(shades(3), [""] * 3).width == 3 * 213 + 2 * 4


def test_a_caption_is_broken_into_lines_that_stay_below_their_frame():
    words = "Plan: key 88 126. Action: 0 255 148 0 127 127 127 0"
    strip = np.asarray(film_strip(shades(3), ["", words, ""]))
    below = strip[160:, :, 0] < 128
    columns = np.flatnonzero(below.any(axis=0))
    assert 217 <= columns.min() < 222 and 300 < columns.max() < 217 + 213 + 4
    rows = below.any(axis=1)
    assert rows[2:16].any() and rows[16:30].any()
    endless = np.asarray(film_strip(shades(1), ["word " * 99]))
    assert endless.shape[0] == strip.shape[0]


def test_what_cannot_be_shown_is_refused():
    with pytest.raises(ValueError, match="2 frames, 1 captions"):
        film_strip(shades(2), [""])
    with pytest.raises(ValueError, match="0 frames"):
        film_strip([], [])
