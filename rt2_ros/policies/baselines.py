# SPDX-License-Identifier: Apache-2.0
"""Policies that keep an evaluation honest: one that guesses, and copies of others without an eye or
an ear. Where they do well, it is not seeing or understanding that is measured.

    BlindPolicy(load_policy("rt2-tiny"), "language")    # sees, and is always told the same
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rt2_ros.actions import ActionSpace
from rt2_ros.policies.base import Decision, Observation, Policy, infer_batch, pictures_of
from rt2_ros.policies.hold import default_space

SENSES = ("language", "image")
# What a policy without language is told, whatever the instruction: no description begins so, as
# "something to drive a nail" does.
TOLD = "pick it up"
GREY = 128


class RandomPolicy:
    """Draws each of the eight integers, except terminate, which stays 0.

    The same observation gives the same action, so that episodes can be repeated.
    """

    def __init__(self, name: str, action_space: ActionSpace, image_size: int = 192) -> None:
        self.name, self.action_space, self.image_size = name, action_space, image_size

    @classmethod
    def from_config(cls, name: str, config: dict[str, Any]) -> RandomPolicy:
        """Keys: frame (of the delta), image_size (px); errors name the key."""
        return cls(name, *default_space(name, config))

    def infer(self, observation: Observation) -> Decision:
        """A uniform draw."""
        words = f"{observation.episode} {observation.instruction} {observation.stamp_ns}"
        bins = np.random.default_rng(zlib.crc32(words.encode())).integers(0, 256, 8)
        bins[0] = 0
        action = self.action_space.from_bins(bins)
        return Decision(action, bins=bins, text=" ".join(map(str, bins)), confidence=0.0)

    def answer(self, image: np.ndarray, question: str) -> str:
        """Say that there is no model here."""
        return "this policy guesses and knows nothing"


class BlindPolicy:
    """Another policy that is not given the instruction ('language') or the picture ('image')."""

    def __init__(self, policy: Policy, sense: str) -> None:
        if sense not in SENSES:
            raise ValueError(f"sense: {sense!r}, expected one of {', '.join(SENSES)}")
        self._policy, self._sense = policy, sense
        self.name = f"{policy.name}-{sense}-blind"
        self.image_size, self.action_space = policy.image_size, policy.action_space
        self.pictures = pictures_of(policy)

    def infer(self, observation: Observation) -> Decision:
        """The other policy's decision on what is left of the observation."""
        return self._policy.infer(self._without(observation))

    def infer_batch(self, observations: Sequence[Observation]) -> list[Decision]:
        """The same for several."""
        return infer_batch(self._policy, [self._without(o) for o in observations])

    def answer(self, image: np.ndarray, question: str) -> str:
        """The other policy's answer."""
        return self._policy.answer(image, question)

    def _without(self, observation: Observation) -> Observation:
        # An attempt of its own: what the other policy remembers of this one has been seen.
        if observation.episode:
            observation = replace(observation, episode=f"{self.name} {observation.episode}")
        if self._sense == "language":
            return replace(observation, instruction=TOLD)
        grey = {name: np.full_like(image, GREY) for name, image in observation.images.items()}
        return replace(observation, images=grey)
