# SPDX-License-Identifier: Apache-2.0
"""The table of pictographs, their pictures, and the split of who sees which."""

import numpy as np
import pytest

from rt2_ros.data import split
from rt2_ros.data.pictographs import by_name, pictographs, render


def test_names_are_unique_and_lower_case():
    names = [p.name for p in pictographs()]
    assert len(names) == len(set(names)) > 1000
    assert all(name == name.lower() for name in names)


def test_a_pictograph_knows_what_unicode_says_of_it():
    rock = by_name("rock")
    assert rock.text == "\U0001faa8"
    assert {"boulder", "heavy", "stone"} <= set(rock.keywords)
    assert by_name("香蕉").name == "banana"
    assert by_name("Keycap 3") is by_name("keycap three")  # as Unicode calls it


def test_an_unknown_name_gives_near_ones():
    with pytest.raises(KeyError, match="banana"):
        by_name("bananna")


def test_pictures_differ_and_have_a_background_to_see_through():
    banana, rock = render(by_name("banana"), 48), render(by_name("rock"), 48)
    assert banana.shape == (48, 48, 4)
    assert banana[0, 0, 3] == 0
    assert np.abs(banana.astype(int) - rock).mean() > 10


def test_robot_objects_are_web_objects_and_at_most_a_quarter_of_them():
    robot = {p.name for p in split.robot_pictographs()}
    web = {p.name for p in split.web_pictographs()}
    assert robot < web
    assert len(robot) <= 0.25 * len(web)


def test_short_names_mean_one_thing():
    assert split.object_name("apple") == split.object_name("Red apple") == "red apple"
    assert split.object_name("香蕉") == "banana"
    shorts = list(split.SHORT_NAMES.values())
    assert len(shorts) == len(set(shorts))
    assert set(split.SHORT_NAMES) <= set(split.ROBOT_NAMES)


def test_test_seeds_are_never_trained_on():
    assert not set(split.TEST_SEEDS) & set(split.TRAIN_SEEDS[:: 10**6])
    assert split.TEST_SEEDS.stop <= split.TRAIN_SEEDS.start
