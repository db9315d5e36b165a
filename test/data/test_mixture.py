# SPDX-License-Identifier: Apache-2.0
"""Shares of a mixture are exact, whichever of the three ways says them."""

from types import SimpleNamespace

import pytest

from rt2_ros.data.mixture import Mixing

SIZES = {"robot": 100, "captions": 400, "questions": 900}
ONES = dict.fromkeys(SIZES, 1)


def test_weights_are_shares_whatever_the_sizes():
    found = Mixing().probabilities({"robot": 1, "captions": 3}, SIZES, {"robot"})
    assert found == {"robot": 0.25, "captions": 0.75}


def test_repetition_shows_each_sample_as_often_as_it_says():
    found = Mixing("repeats").probabilities({**ONES, "robot": 7}, SIZES, {"robot"})
    assert found == pytest.approx({"robot": 0.35, "captions": 0.2, "questions": 0.45}, abs=1e-15)
    a_robot_sample, a_question = found["robot"] / 100, found["questions"] / 900
    assert a_robot_sample / a_question == pytest.approx(7)


@pytest.mark.parametrize(
    "temperature, expected",
    [
        (1.0, [100 / 1400, 400 / 1400, 900 / 1400]),
        (2.0, [10 / 60, 20 / 60, 30 / 60]),
        (0.5, [1 / 98, 16 / 98, 81 / 98]),
        (1e9, [1 / 3, 1 / 3, 1 / 3]),
    ],
)
def test_temperature_is_the_formula(temperature, expected):
    found = Mixing("temperature", temperature).probabilities(ONES, SIZES, {"robot"})
    assert list(found.values()) == pytest.approx(expected, abs=1e-8)


def test_no_temperature_is_too_low_for_large_sources():
    sizes = {"arm": 10**6, "hand": 5 * 10**5, "captions": 10, "questions": 5}
    weights, robots = dict.fromkeys(sizes, 1), {"arm", "hand"}
    found = Mixing("temperature", 0.01).probabilities(weights, sizes, robots)
    assert found == pytest.approx({"arm": 1, "hand": 0, "captions": 0, "questions": 0}, abs=1e-15)
    found = Mixing("temperature", 0.01, 0.5).probabilities(weights, sizes, robots)
    assert list(found.values()) == pytest.approx([0.5, 0, 0.5, 0], abs=1e-15)


@pytest.mark.parametrize("share, expected", [("pali-x", 0.5), ("palm-e", 0.66), (0.3, 0.3)])
@pytest.mark.parametrize("way", [Mixing().by, "repeats", "temperature"])
def test_robots_get_their_share_and_the_rest_keeps_its_proportions(way, share, expected):
    weights = {"arm": 1, "captions": 1, "hand": 3, "questions": 2}
    sizes = {"arm": 50, "captions": 400, "hand": 50, "questions": 900}
    robots = {"arm", "hand"}
    plain = Mixing(way).probabilities(weights, sizes, robots)
    found = Mixing(way, robot_share=share).probabilities(weights, sizes, robots)
    assert list(found) == list(weights)
    assert found["arm"] + found["hand"] == pytest.approx(expected, abs=1e-15)
    assert sum(found.values()) == pytest.approx(1, abs=1e-15)
    assert found["arm"] / found["hand"] == pytest.approx(plain["arm"] / plain["hand"])
    assert found["captions"] / found["questions"] == pytest.approx(
        plain["captions"] / plain["questions"]
    )


def test_sources_tell_how_many_they_are_and_which_are_robots():
    sources = {
        "table": SimpleNamespace(space=object()),  # made on the fly: it has no count
        "demos": SimpleNamespace(space=object(), count=300),
        "vqa": SimpleNamespace(count=100),
        "web": SimpleNamespace(),
    }
    share = Mixing(robot_share=0.66).shares({"table": 2, "vqa": 1, "web": 1}, sources)
    assert share == pytest.approx({"table": 0.66, "vqa": 0.17, "web": 0.17}, abs=1e-15)
    share = Mixing("repeats").shares({"demos": 1, "vqa": 1}, sources)
    assert share == {"demos": 0.75, "vqa": 0.25}
    with pytest.raises(ValueError, match="by repeats, but source 'web' is made on the fly"):
        Mixing("repeats").shares({"demos": 1, "web": 1}, sources)
    with pytest.raises(ValueError, match="unknown source 'vqqa'; expected .*'vqa'"):
        Mixing().shares({"vqqa": 1}, sources)


@pytest.mark.parametrize(
    "weights, mixing, message",
    [
        ({"robot": 0.0}, Mixing(), "expected weights of at least 0, not all 0"),
        ({"robot": -1, "captions": 2}, Mixing(), "expected weights of at least 0"),
        ({}, Mixing(), "expected weights"),
        ({"robot": 1}, Mixing(robot_share=0.5), "no other source has a weight"),
        ({"captions": 1, "robot": 0}, Mixing(robot_share=0.5), "no robot source has a weight"),
        ({"empty": 1}, Mixing("repeats"), "expected a source that is not empty"),
    ],
)
def test_shares_that_cannot_be_are_refused(weights, mixing, message):
    with pytest.raises(ValueError, match=message):
        mixing.probabilities(weights, {**SIZES, "empty": 0}, {"robot"})


@pytest.mark.parametrize(
    "values, message",
    [
        ({"by": "luck"}, "by is 'luck'; expected weights, repeats, temperature"),
        ({"by": "temperature", "temperature": 0}, "temperature is 0; expected > 0"),
        ({"temperature": 2}, "expected by: temperature"),
        ({"robot_share": "gpt"}, "expected a number or one of pali-x, palm-e"),
        ({"robot_share": 1.5}, "robot_share is 1.5; expected between 0 and 1"),
    ],
)
def test_a_way_of_mixing_that_is_none_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Mixing(**values)
