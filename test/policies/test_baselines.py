# SPDX-License-Identifier: Apache-2.0
"""Policies that keep an evaluation honest."""

import numpy as np
import pytest

from rt2_ros.policies import Decision, Observation, infer_batch, load_policy
from rt2_ros.policies.baselines import TOLD, BlindPolicy

IMAGE = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)


def seen(stamp=1, words="pick up the key"):
    return Observation({"scene": IMAGE}, words, np.array([0.5, 0, 0.2, 0]), stamp, "one")


class Notes:
    """Remembers what it was shown."""

    name, image_size = "notes", 8

    def __init__(self):
        self.action_space = load_policy("hold").action_space
        self.shown = []

    def infer(self, observation):
        self.shown.append(observation)
        return Decision.invalid("it only looks")

    def answer(self, image, question):
        return question


def test_random_actions_repeat_and_never_terminate():
    policy = load_policy("random")
    bins = [policy.infer(seen(stamp)).bins for stamp in range(40)]
    np.testing.assert_array_equal(bins[3], policy.infer(seen(3)).bins)
    assert all(b[0] == 0 for b in bins)
    spread = np.array(bins)[:, 1:]
    assert spread.min() < 20 and spread.max() > 235 and (spread.std(axis=0) > 40).all()


def test_without_language_it_sees_all_and_is_told_the_same():
    inner = Notes()
    blind = BlindPolicy(inner, "language")
    infer_batch(blind, [seen(), seen(words="grab the pear")])
    assert [o.instruction for o in inner.shown] == [TOLD, TOLD]
    np.testing.assert_array_equal(inner.shown[0].image, IMAGE)
    assert blind.name == "notes-language-blind"


def test_without_an_image_it_is_told_all_and_sees_grey():
    inner = Notes()
    BlindPolicy(inner, "image").infer(seen())
    assert inner.shown[0].instruction == "pick up the key"
    np.testing.assert_array_equal(inner.shown[0].image, np.full((8, 8, 3), 128))
    np.testing.assert_array_equal(inner.shown[0].state, seen().state)


def test_other_senses_are_refused():
    with pytest.raises(ValueError, match="sense: 'smell', expected one of language, image"):
        BlindPolicy(Notes(), "smell")
