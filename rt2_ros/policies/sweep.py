# SPDX-License-Identifier: Apache-2.0
"""A policy without a model: the hand goes to and fro before the robot.

For benches of the controller and for a first look at a new arm's motion: every decision is a step
of known size, whatever the camera sees.

    0.12 m to one side of y = 0, then to the other; x and z stay as they are
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rt2_ros.actions import Action, ActionSpace
from rt2_ros.policies.base import Decision, Observation
from rt2_ros.policies.hold import default_space

REACH, STEP = 0.12, 0.04  # m


class SweepPolicy:
    """Steps of `step` m along y, turning round `reach` m from y = 0; the gripper stays as it is."""

    def __init__(
        self,
        name: str,
        action_space: ActionSpace,
        image_size: int = 192,
        reach: float = REACH,
        step: float = STEP,
    ) -> None:
        if not 0 < step <= action_space.high[2]:
            raise ValueError(f"step: {step}, expected above 0 and at most {action_space.high[2]} m")
        if not reach > 0:
            raise ValueError(f"reach: {reach}, expected above 0 m")
        self.name, self.action_space, self.image_size = name, action_space, image_size
        self._reach, self._step = reach, step

    @classmethod
    def from_config(cls, name: str, config: dict[str, Any]) -> SweepPolicy:
        """Keys: frame (of the delta), image_size (px), reach and step (m); errors name the key."""
        rest = {key: value for key, value in config.items() if key not in ("reach", "step")}
        space, size = default_space(name, rest)
        reach, step = float(config.get("reach", REACH)), float(config.get("step", STEP))
        return cls(name, space, size, reach, step)

    def infer(self, observation: Observation) -> Decision:
        """One step; an invalid decision where the hand's place is not known."""
        if observation.state is None:
            return Decision.invalid("the hand's place is not known")
        y = float(observation.state[1])
        if abs(y) >= self._reach:
            self._step = -abs(self._step) if y > 0 else abs(self._step)
        action = Action(
            terminate=False,
            translation=np.array([0.0, self._step, 0.0]),
            rotation=np.zeros(3),
            gripper=min(max(float(observation.state[3]), 0.0), 1.0),
        )
        bins = self.action_space.to_bins(action)
        text = " ".join(str(int(b)) for b in bins)
        # The action itself, as bins have no zero: it would sink and turn by half a bin each time.
        return Decision(action, bins=bins, text=text, plan="sweep", confidence=1.0)

    def answer(self, image: np.ndarray, question: str) -> str:
        """Say that there is no model here."""
        return "this policy moves the arm to and fro and knows nothing"
