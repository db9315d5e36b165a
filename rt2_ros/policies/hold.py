# SPDX-License-Identifier: Apache-2.0
"""A policy without a model: it always asks the arm to stay where it is.

For looking at a graph, a camera or a new arm's controller before a model is trusted with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rt2_ros.actions import Action, ActionSpace
from rt2_ros.policies.base import Decision, Observation


class HoldPolicy:
    """The zero action at every step; the gripper stays as it was measured."""

    def __init__(self, name: str, action_space: ActionSpace, image_size: int = 192) -> None:
        self.name = name
        self.action_space = action_space
        self.image_size = image_size

    @classmethod
    def from_config(cls, name: str, config: dict[str, Any]) -> HoldPolicy:
        """Keys: frame (of the delta), image_size (px); errors name the key."""
        return cls(name, *default_space(name, config))

    def infer(self, observation: Observation) -> Decision:
        """Zero translation and rotation, never terminate; invalid where the gripper is not known.

        An arm that is to stay must not open its hand.
        """
        if observation.state is None:
            return Decision.invalid("the hand's place is not known")
        action = Action(
            terminate=False,
            translation=np.zeros(3),
            rotation=np.zeros(3),
            gripper=min(max(float(observation.state[3]), 0.0), 1.0),
        )
        bins = self.action_space.to_bins(action)
        text = " ".join(str(int(b)) for b in bins)
        return Decision(action, bins=bins, text=text, plan="hold", confidence=1.0)

    def answer(self, image: np.ndarray, question: str) -> str:
        """Say that there is no model here."""
        return "this policy holds the arm still and knows nothing"


def default_space(name: str, config: dict[str, Any]) -> tuple[ActionSpace, int]:
    """The action space and image size of a policy without a model.

    Raises:
        ValueError: a key that is neither frame nor image_size.
    """
    unknown = sorted(set(config) - {"frame", "image_size"})
    if unknown:
        raise ValueError(f"policy {name}: unknown keys {', '.join(unknown)}")
    space = ActionSpace(
        name=name,
        names=("terminate", "dx", "dy", "dz", "drx", "dry", "drz", "gripper"),
        low=(0, -0.1, -0.1, -0.1, -0.25, -0.25, -0.25, 0),
        high=(1, 0.1, 0.1, 0.1, 0.25, 0.25, 0.25, 1),
        frame=config.get("frame", "panda_link0"),
    )
    return space, int(config.get("image_size", 192))
