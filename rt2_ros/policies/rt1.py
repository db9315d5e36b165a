# SPDX-License-Identifier: Apache-2.0
"""RT-1 as a policy: it remembers the last images of each episode, and decides from all of them.

config/policies/rt1-small.yaml
type: rt1
checkpoint: out/train/rt1-small/checkpoint  # config, weights, action_space.json

Of an image that was seen only its eight tokens are kept, so each image goes through the network
once. RT-1 has no words to answer questions with.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rt2_ros.actions import ActionSpace
from rt2_ros.actions.bins import BINS
from rt2_ros.data.images import square
from rt2_ros.models.constrain import Smoothing
from rt2_ros.models.rt1 import RT1
from rt2_ros.models.rt1.model import unit_state
from rt2_ros.paths import find_folder
from rt2_ros.policies.base import FORGET_S, MOST_ATTEMPTS, Decision, Observation
from rt2_ros.policies.checkpoint import load_space
from rt2_ros.policies.settings import COUNT, NUMBER, PATH, TEXT, check, chosen_device

NEAR = 8  # bins to either side that count as the same answer for the confidence
EARLY = 0.8  # share of the period from which an image is kept as one of its own

KEYS = {"checkpoint": PATH, "device": TEXT, "smoothing": NUMBER, "threads": COUNT}


@dataclass(frozen=True)
class _Seen:
    """One image: when it was taken (ns), its tokens (8, hidden), the state then (4,)."""

    stamp_ns: int
    tokens: torch.Tensor
    state: torch.Tensor


class _Memory:
    """The images of one episode that come before the newest."""

    def __init__(self, instruction: str, length: int, period_ns: int) -> None:
        self.instruction = instruction
        self._period_ns = period_ns
        self._past: deque[_Seen] = deque(maxlen=length)
        self._last_ns = 0

    def continues(self, observation: Observation) -> bool:
        """Whether an observation goes on with what is remembered."""
        gap = observation.stamp_ns - self._last_ns
        return observation.instruction == self.instruction and 0 <= gap < FORGET_S * 1e9

    def add(self, seen: _Seen) -> list[_Seen]:
        """The window that ends with the newest image; a camera may be faster than the period."""
        window = [*self._past, seen]
        timed = seen.stamp_ns and self._past
        if not timed or seen.stamp_ns - self._past[-1].stamp_ns >= EARLY * self._period_ns:
            self._past.append(seen)
        self._last_ns = seen.stamp_ns
        return window


class RT1Policy:
    """An RT-1 with an action space, and a memory for each episode."""

    def __init__(
        self, name: str, model: RT1, space: ActionSpace, *, smoothing: float = 0.0
    ) -> None:
        """smoothing: bins over which probabilities are spread before the likeliest is taken."""
        if model.config.state and not space.has_state:
            raise ValueError(f"policy {name}: the model reads a state, its action space has none")
        self.name, self.action_space = name, space
        self.image_size = model.config.image_size
        self._model = model.eval()
        self._device = model.position.device
        self._smoothing = Smoothing({i: i for i in range(BINS)}, smoothing)
        self._memories: OrderedDict[str, _Memory] = OrderedDict()

    @classmethod
    def from_config(cls, name: str, config: dict[str, Any]) -> RT1Policy:
        """Load a checkpoint; every error names the key or the file."""
        settings = check(name, config, KEYS)
        device = chosen_device(name, settings.get("device"))
        folder = find_folder(str(settings.get("checkpoint", "")))
        if folder is None:
            raise OSError(
                f"policy {name}: checkpoint {config.get('checkpoint')!r} is no folder; "
                "`rt2 train --config rt1-small` makes one"
            )
        if "threads" in settings:
            torch.set_num_threads(settings["threads"])
        model, space = RT1.from_pretrained(folder).to(device), load_space(name, Path(folder))
        return cls(name, model, space, smoothing=settings.get("smoothing", 0.0))

    def infer(self, observation: Observation) -> Decision:
        """One action for what is seen now and what was seen before in its episode."""
        return self.infer_batch([observation])[0]

    def infer_batch(self, observations: Sequence[Observation]) -> list[Decision]:
        """One decision for each observation; they pass through the network together."""
        episodes = [o.episode for o in observations if o.episode]
        if len(set(episodes)) < len(episodes):
            return [self.infer(o) for o in observations]  # a later one remembers the earlier
        begun = time.perf_counter()
        decisions: list[Decision | None] = [self._refuse(o) for o in observations]
        asked = [o for o, refused in zip(observations, decisions, strict=True) if refused is None]
        if asked:
            probabilities = self._look_and_decide(asked)
            latency = {"generate": time.perf_counter() - begun}
            answers = iter(map(self._decision, asked, probabilities, [latency] * len(asked)))
            decisions = [next(answers) if refused is None else refused for refused in decisions]
        return [decision for decision in decisions if decision is not None]

    def answer(self, image: np.ndarray, question: str) -> str:
        """Say that this model has no words."""
        return "RT-1 writes actions only; ask a vision-language model, such as rt2-tiny"

    def _refuse(self, observation: Observation) -> Decision | None:
        if not observation.instruction.strip():
            return Decision.invalid("the instruction is empty")
        if self._model.config.state and observation.state is None:
            return Decision.invalid("the robot's state is not known, and this model needs it")
        return None

    @torch.inference_mode()
    def _look_and_decide(self, observations: Sequence[Observation]) -> torch.Tensor:
        """Probabilities (N, 8, 256)."""
        model, device = self._model, self._device
        pictures = np.stack([square(o.image, self.image_size) for o in observations])
        sentences = model.sentences([o.instruction for o in observations])
        tokens, _ = model.look(torch.from_numpy(pictures).to(device), sentences)
        windows = []
        for observation, row in zip(observations, tokens, strict=True):
            state = np.zeros(4) if observation.state is None else observation.state
            seen = _Seen(observation.stamp_ns, row, torch.as_tensor(state, dtype=torch.float32))
            windows.append(self._memory(observation).add(seen))
        # Shorter windows are filled up behind: what comes later is not looked at.
        longest = max(map(len, windows))
        filled = [window + (longest - len(window)) * [window[-1]] for window in windows]
        past = torch.stack([torch.stack([seen.tokens for seen in window]) for window in filled])
        states = None
        if model.config.state:
            raw = torch.stack([torch.stack([seen.state for seen in window]) for window in filled])
            states = unit_state(self.action_space, raw.to(device))
        logits = model.decide(past, states)
        ends = torch.tensor([len(window) - 1 for window in windows], device=device)
        newest = logits[torch.arange(len(windows), device=device), ends].float()
        newest[:, 0, 2:] = -torch.inf  # terminate is 0 or 1
        return newest.softmax(-1).cpu()

    def _memory(self, observation: Observation) -> _Memory:
        memory = self._memories.get(observation.episode)
        if memory is None or not memory.continues(observation):
            config = self._model.config
            memory = _Memory(
                observation.instruction, config.history - 1, round(config.period * 1e9)
            )
            if not observation.episode:
                return memory
            self._memories[observation.episode] = memory
        self._memories.move_to_end(observation.episode)
        while len(self._memories) > MOST_ATTEMPTS:
            self._memories.popitem(last=False)
        return memory

    def _decision(
        self, observation: Observation, probabilities: torch.Tensor, latency: dict[str, float]
    ) -> Decision:
        """From probabilities (8, 256)."""
        if not torch.isfinite(probabilities).all():
            self._memories.pop(observation.episode, None)  # or else they come again
            return Decision.invalid("the model's scores are no numbers", latency=latency)
        smooth = self._smoothing(torch.arange(BINS), probabilities[1:])  # terminate is a switch
        bins = torch.cat([probabilities[:1], smooth]).argmax(-1).numpy()
        near = np.abs(np.arange(BINS) - bins[:, None]) <= NEAR
        near[0] = np.arange(BINS) == bins[0]
        share = (probabilities.numpy() * near).sum(-1)
        return Decision(
            self.action_space.from_bins(bins), bins=bins, text=" ".join(map(str, bins.tolist())),
            confidence=float(np.exp(np.log(np.clip(share, 1e-9, 1.0)).mean())), latency=latency,
        )  # fmt: skip
