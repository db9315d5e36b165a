# SPDX-License-Identifier: Apache-2.0
"""Constrained decoding with Hugging Face `generate`: only tokens that the grammar allows, for any
architecture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from transformers import LogitsProcessor

from rt2_ros.actions import TokenGrammar


@dataclass(frozen=True)
class Step:
    """One token: its id, the ids that were allowed, and their probabilities among each other."""

    token: int
    allowed: torch.Tensor
    probabilities: torch.Tensor


class GrammarProcessor(LogitsProcessor):
    """Masks what a grammar does not allow next, for one sequence; keeps the probabilities of what
    it did allow.
    """

    def __init__(self, grammar: TokenGrammar, prompt_length: int) -> None:
        self.grammar = grammar
        self._read = prompt_length
        self._state = grammar.start()
        self._offered: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Scores (1, V) with everything else at minus infinity."""
        if len(input_ids) != 1:
            raise ValueError(f"batch of {len(input_ids)}, expected one sequence")
        for token in input_ids[0, self._read :].tolist():
            self._state = self.grammar.advance(self._state, token)
        self._read = input_ids.shape[1]
        allowed = torch.as_tensor(self.grammar.allowed(self._state), device=scores.device)
        if not len(allowed):  # complete: `generate` is past the end token
            return scores
        picked = scores[0, allowed].float()
        self._offered.append((allowed, picked.softmax(-1)))
        masked = torch.full_like(scores, -torch.inf)
        masked[0, allowed] = scores[0, allowed]
        return masked

    def steps(self, tokens: list[int]) -> list[Step]:
        """What was chosen, with what it was chosen from."""
        return [
            Step(token, *offered) for token, offered in zip(tokens, self._offered, strict=False)
        ]


@torch.inference_mode()
def generate(model, inputs, grammar: TokenGrammar, max_tokens: int = 128) -> list[Step]:
    """Greedy decoding of one sequence within the grammar; ends at its end token."""
    length = inputs["input_ids"].shape[1]
    processor = GrammarProcessor(grammar, length)
    ids = model.generate(
        **inputs, logits_processor=[processor], do_sample=False, max_new_tokens=max_tokens
    )
    return processor.steps(ids[0, length:].tolist())
