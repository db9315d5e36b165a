# SPDX-License-Identifier: Apache-2.0
"""Patterned table tops, drawn and seen."""

import numpy as np
import pytest

from rt2_ros.sim.patterns import PATTERNS, draw_pattern
from rt2_ros.sim.scene import Appearance, random_start


@pytest.mark.parametrize("kind", PATTERNS)
def test_a_pattern_repeats_for_its_seed_and_has_two_colours_at_least(kind):
    one, same, other = (draw_pattern(np.random.default_rng(s), kind) for s in (1, 1, 2))
    assert one.shape == (256, 256, 3) and one.dtype == np.uint8
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    assert one.reshape(-1, 3).std(axis=0).max() > 4


def test_an_unknown_pattern_is_named():
    with pytest.raises(ValueError, match="'paisley', expected one of wood"):
        draw_pattern(np.random.default_rng(0), "paisley")


def test_the_table_shows_it_until_the_next_scene_is_plain(tabletop):
    start = random_start(np.random.default_rng(0))
    tabletop.lay(0, (), start, Appearance())
    plain = tabletop.render("scene", 96, 96)
    halves = np.zeros((256, 256, 3), np.uint8)
    halves[:128] = 255
    tabletop.lay(0, (), start, Appearance(pattern=halves))
    patterned = tabletop.render("scene", 96, 96)
    assert np.abs(patterned.astype(int) - plain).max() > 60
    tabletop.lay(0, (), start, Appearance())
    np.testing.assert_array_equal(tabletop.render("scene", 96, 96), plain)
