# SPDX-License-Identifier: Apache-2.0
"""Constrained decoding: a model writes only what a grammar allows, greedily, one sequence at a
time.

Where integers are chosen, the likeliest neighbourhood may count instead of the likeliest single
one (`Smoothing`): a model that is three quarters sure of "about 125" and one quarter of "127"
would else write 127.

`generate` works with any Hugging Face model and is the reference that `rt2_ros.models.decode` is
held to: the same tokens, in less time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessor, PreTrainedModel

from rt2_ros.actions import MOST_TOKENS, TokenGrammar
from rt2_ros.actions.tokens import TokenIds, frozen_ids


@dataclass(frozen=True)
class Step:
    """One token: its id, the ids that were allowed (sorted), their probabilities among each
    other. One that was chosen before may stand alone, with the probability that it was given then.
    """

    token: int
    allowed: torch.Tensor
    probabilities: torch.Tensor


class Held:
    """A grammar in some of whose states the token stands already, as it was chosen before.

    steps: by state; begin: from the start on; only: by state, what may come there, where that is
    less.
    """

    def __init__(
        self, grammar: TokenGrammar, steps: Mapping[Any, Step], begin: Sequence[Step] = (),
        only: Mapping[Any, TokenIds] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        self._grammar, self._held, self._only = grammar, dict(steps), only
        self.start, self.advance, self.done = grammar.start, grammar.advance, grammar.done
        state = self.start()
        for step in begin:
            self._held[state] = step
            state = self.advance(state, step.token)

    def allowed(self, state: Any) -> TokenIds:
        """As the grammar's; that token alone where one stands."""
        if step := self._held.get(state):
            return frozen_ids([step.token])
        return self._only[state] if state in self._only else self._grammar.allowed(state)

    def steps(self, steps: Sequence[Step]) -> list[Step]:
        """An answer's, with those that stand in place of what was no choice."""
        state, found = self.start(), []
        for step in steps:
            found.append(self._held.get(state, step))
            state = self.advance(state, step.token)
        return found


class Smoothing:
    """Spreads the probability of each integer over its neighbours before the likeliest is taken.

    values: bin of each integer token; width: standard deviation of the spread in bins, 0 for none.
    """

    def __init__(self, values: Mapping[int, int], width: float) -> None:
        if not 0 <= width <= 64:
            raise ValueError(f"smoothing: {width}, expected 0 to 64 bins")
        self._values, self._width = values, width
        self._kernels: dict[tuple[bytes, torch.device], torch.Tensor | None] = {}

    def __call__(self, allowed: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
        """Scores (..., n) to choose by, from probabilities (..., n) of the allowed tokens (n,)."""
        kernel = self.kernel(allowed.tolist(), probabilities.device)
        return probabilities if kernel is None else probabilities @ kernel

    def kernel(
        self, allowed: Sequence[int] | np.ndarray, device: torch.device
    ) -> torch.Tensor | None:
        """What probabilities (..., n) of sorted tokens are multiplied by to be spread, None where
        not all integers are among them: of a few, each may mean something else, as a switch's two
        do.

        Where words may come as well, an integer counts with all that is near it, as what a word
        competes with is that a number follows at all.
        """
        count = len(self._values)
        if not self._width or not count <= len(allowed) <= 2 * count:
            return None  # a few of them, or among thousands of words, where there is no telling
        key = (np.asarray(allowed).tobytes(), device)
        if key not in self._kernels:
            self._kernels[key] = self._made([self._values.get(int(token)) for token in allowed])
            if (kernel := self._kernels[key]) is not None:
                self._kernels[key] = kernel.to(device)
        return self._kernels[key]

    def _made(self, bins: Sequence[int | None]) -> torch.Tensor | None:
        """A kernel for tokens of these bins, None for one that is no integer."""
        numbers = [index for index, value in enumerate(bins) if value is not None]
        if len(numbers) < len(self._values):
            return None
        place = torch.tensor([float(bins[index] or 0) for index in numbers])
        distance = (place[:, None] - place[None, :]) / self._width
        spread = torch.exp(-0.5 * distance**2)
        if len(numbers) == len(bins):
            # The ends have neighbours on one side only: a saturated step stays saturated.
            return (spread / spread.sum(1, keepdim=True)).T
        kernel = torch.eye(len(bins))
        kernel[np.ix_(numbers, numbers)] = spread  # never more than all of a number's probability
        return kernel


NO_SMOOTHING = Smoothing({}, 0)


class GrammarProcessor(LogitsProcessor):
    """Masks what a grammar does not allow next and remembers what it did allow."""

    def __init__(
        self, grammar: TokenGrammar, prompt_length: int, smoothing: Smoothing = NO_SMOOTHING
    ) -> None:
        self.grammar, self._smoothing = grammar, smoothing
        self._read = prompt_length
        self._state = grammar.start()
        self._offered: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Scores (1, V) with everything that is not allowed at minus infinity."""
        if len(input_ids) != 1:
            raise ValueError(f"batch of {len(input_ids)}, expected one sequence")
        for token in input_ids[0, self._read :].tolist():
            self._state = self.grammar.advance(self._state, token)
        self._read = input_ids.shape[1]
        ids = self.grammar.allowed(self._state)
        if not len(ids):  # complete: `generate` is past the end token
            return scores
        allowed = torch.tensor(np.array(ids), device=scores.device)
        probabilities = scores[0, allowed].float().softmax(-1)
        self._offered.append((allowed, probabilities))
        masked = torch.full_like(scores, -torch.inf)
        masked[0, allowed] = self._smoothing(allowed, probabilities).log().to(scores.dtype)
        return masked

    def steps(self, tokens: list[int]) -> list[Step]:
        """What was chosen, with what it was chosen from."""
        return [
            Step(token, *offered) for token, offered in zip(tokens, self._offered, strict=False)
        ]


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    inputs: Mapping[str, torch.Tensor],
    grammar: TokenGrammar,
    max_tokens: int = MOST_TOKENS,
    smoothing: Smoothing = NO_SMOOTHING,
) -> list[Step]:
    """The grammar's answer by the model's own `generate`."""
    length = inputs["input_ids"].shape[1]
    processor = GrammarProcessor(grammar, length, smoothing)
    # What a checkpoint asks for besides, such as a penalty on repetition, would change the scores.
    own = model.generation_config
    model.generation_config = GenerationConfig(
        bos_token_id=own.bos_token_id, eos_token_id=own.eos_token_id, pad_token_id=own.pad_token_id
    )
    try:
        ids = model.generate(
            **inputs, logits_processor=[processor], do_sample=False, max_new_tokens=max_tokens
        )
    finally:
        model.generation_config = own
    return processor.steps(ids[0, length:].tolist())
