# SPDX-License-Identifier: Apache-2.0
"""What every policy answers: one observation in, one decision out.

    policy = load_policy("rt2-tiny")
    decision = policy.infer(Observation({"scene": image}, "pick up the red apple"))
    decision.action   # an Action in metres and radians, or None with decision.reason

Nodes, benchmarks and evaluation know this interface only, so a model and a wrapper around it are
the same to them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from rt2_ros.actions import Action, ActionSpace

MOST_ATTEMPTS = 1024  # that a policy with a memory tells apart at a time; it forgets the oldest
FORGET_S = 2.0  # s without an image after which what was seen before no longer counts


@dataclass(frozen=True, eq=False)
class Observation:
    """What a policy sees at one instant.

    images: camera name -> uint8 (H, W, 3) RGB; at least one, the first is the main view.
    instruction: the task in plain words.
    state: (4,) float: x, y, z of the gripper's tip in the base frame (m) and gripper closedness
        (0 open .. 1 closed); None where the robot's joints are not known.
    stamp_ns: when the oldest image was taken, nanoseconds; 0 where nobody measures.
    episode: which attempt, of which robot, this is part of; a policy that remembers past images
        keeps one memory for each and starts afresh with a new one; "" is of none, and nothing is
        remembered: of two robots one would act on what the other saw.
    """

    images: Mapping[str, np.ndarray]
    instruction: str
    state: np.ndarray | None = None
    stamp_ns: int = 0
    episode: str = ""

    def __post_init__(self) -> None:
        if not self.images:
            raise ValueError("Observation.images is empty; expected at least one camera")
        for name, image in self.images.items():
            kind = f"{getattr(image, 'dtype', type(image).__name__)} {np.shape(image)}"
            if (
                not isinstance(image, np.ndarray)
                or image.dtype != np.uint8
                or image.ndim != 3
                or image.shape[2] != 3
                or 0 in image.shape
            ):
                raise ValueError(
                    f"Observation.images[{name!r}] is {kind}; expected uint8 (H, W, 3)"
                )
        if self.state is not None:
            state = np.asarray(self.state, dtype=float)
            if state.shape != (4,) or not np.isfinite(state).all():
                raise ValueError(f"Observation.state is {self.state}; expected 4 finite numbers")
            object.__setattr__(self, "state", state)
        if self.stamp_ns < 0:
            raise ValueError(f"Observation.stamp_ns is {self.stamp_ns}; expected >= 0")

    @property
    def image(self) -> np.ndarray:
        """The main view, uint8 (H, W, 3) RGB."""
        return next(iter(self.images.values()))


@dataclass(frozen=True, eq=False)
class Decision:
    """Exactly one valid action, or none and the reason why.

    bins: (8,) uint8, the integers that the model wrote; given whenever there is an action.
    text: the model's raw words; plan: its words before the action, "" for none; tokens: the ids
        that it wrote, where it is a language model.
    confidence: 0..1, the model's probability of what it wrote.
    latency: seconds by stage, for example {"prepare": 0.002, "prefill": 0.03, "decode": 0.05}.
    """

    action: Action | None
    reason: str = ""
    bins: np.ndarray | None = None
    text: str = ""
    plan: str = ""
    tokens: Sequence[int] = ()
    confidence: float = 0.0
    latency: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.action is None and not self.reason:
            raise ValueError("Decision.reason is empty; expected a reason where there is no action")
        if self.action is not None and self.bins is None:
            raise ValueError("Decision.bins is None; expected 8 bins where there is an action")
        if self.bins is not None:
            bins = np.asarray(self.bins)
            if bins.shape != (8,) or (bins < 0).any() or (bins > 255).any():
                raise ValueError(f"Decision.bins is {self.bins}; expected 8 integers in 0..255")
            object.__setattr__(self, "bins", bins.astype(np.uint8))
        if not 0.0 <= self.confidence <= 1.0:
            raise ValueError(f"Decision.confidence is {self.confidence}; expected 0..1")

    @classmethod
    def invalid(cls, reason: str, **details: Any) -> Decision:
        """No action: the arm holds, and `reason` is what the status says."""
        return cls(action=None, reason=reason, **details)


@runtime_checkable
class Policy(Protocol):
    """A model that speaks the action language. To be called from one thread at a time.

    image_size is the side in pixels of the square images that it wants; other sizes are resized.
    One that looks at several of an observation's has `pictures`, how many; see `pictures_of`.
    """

    name: str
    image_size: int
    action_space: ActionSpace

    def infer(self, observation: Observation) -> Decision:
        """One action for what is seen now; never raises for what the model wrote."""
        ...

    def answer(self, image: np.ndarray, question: str) -> str:
        """Free text about uint8 (H, W, 3) RGB from the same weights."""
        ...


def pictures_of(policy: Policy) -> int:
    """How many of an observation's pictures a policy looks at, from the first on."""
    return int(getattr(policy, "pictures", 1))


def infer_batch(policy: Policy, observations: Sequence[Observation]) -> list[Decision]:
    """One decision for each observation, in their order, in one call where the policy has one.

    Such a policy has `infer_batch(observations) -> list[Decision]`; others are asked one by one.
    """
    together = getattr(policy, "infer_batch", None)
    if together is not None:
        return list(together(observations))
    return [policy.infer(observation) for observation in observations]
