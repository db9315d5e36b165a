# SPDX-License-Identifier: Apache-2.0
"""Constrained decoding: a model writes only what a grammar allows, greedily, one sequence at a
time.

`generate` works with any Hugging Face model and is the reference; `decode` runs PaliGemma's own
forward and writes the same tokens in less time, for it asks the model nothing where only one token
may come.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from transformers import DynamicCache, LogitsProcessor, PreTrainedModel

from rt2_ros.actions import TokenGrammar


@dataclass(frozen=True)
class Step:
    """One token: its id, the ids that were allowed (sorted), their probabilities among each
    other.
    """

    token: int
    allowed: torch.Tensor
    probabilities: torch.Tensor


class GrammarProcessor(LogitsProcessor):
    """Masks what a grammar does not allow next and remembers what it did allow."""

    def __init__(self, grammar: TokenGrammar, prompt_length: int) -> None:
        self.grammar = grammar
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
        self._offered.append((allowed, scores[0, allowed].float().softmax(-1)))
        masked = torch.full_like(scores, -torch.inf)
        masked[0, allowed] = scores[0, allowed]
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
    max_tokens: int = 128,
) -> list[Step]:
    """The grammar's answer by the model's own `generate`."""
    length = inputs["input_ids"].shape[1]
    processor = GrammarProcessor(grammar, length)
    ids = model.generate(
        **inputs, logits_processor=[processor], do_sample=False, max_new_tokens=max_tokens
    )
    return processor.steps(ids[0, length:].tolist())


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    inputs: Mapping[str, torch.Tensor],
    grammar: TokenGrammar,
    max_tokens: int = 128,
) -> list[Step]:
    """The same for PaliGemma by forwards of our own, tokens without a choice joined to the next."""
    given = {k: v for k, v in inputs.items() if k != "attention_mask"}  # one sequence: no padding
    device = given["input_ids"].device
    cache = DynamicCache(config=model.config.get_text_config())
    state = grammar.start()
    steps: list[Step] = []
    waiting: list[int] = []
    certain = torch.ones(1, device=device)
    while not grammar.done(state) and len(steps) < max_tokens:
        allowed = torch.tensor(np.array(grammar.allowed(state)), device=device)
        if len(allowed) == 1:
            token, probabilities = int(allowed[0]), certain
        else:
            scores = _scores(model, given, waiting, cache)[allowed]
            given, waiting = {}, []
            probabilities = scores.float().softmax(-1)
            token = int(allowed[scores.argmax()])
        waiting.append(token)
        steps.append(Step(token, allowed, probabilities))
        state = grammar.advance(state, token)
    return steps


def _scores(
    model: PreTrainedModel, given: dict[str, torch.Tensor], waiting: list[int], cache: DynamicCache
) -> torch.Tensor:
    """Scores (V,) of the next token after the prompt, if it is still to be read, and `waiting`."""
    ids = torch.tensor([waiting], dtype=torch.long, device=model.device)
    if given:
        given = dict(given)
        ids = torch.cat([given.pop("input_ids"), ids], dim=1)
        if "token_type_ids" in given:  # 1: the causal part after the prefix
            types = given["token_type_ids"]
            suffix = types.new_ones((1, len(waiting)))
            given["token_type_ids"] = torch.cat([types, suffix], dim=1)
    output = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1, **given)
    return output.logits[0, -1]
