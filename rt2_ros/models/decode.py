# SPDX-License-Identifier: Apache-2.0
"""The fast decoder: the tokens of `rt2_ros.models.constrain.generate`, in less time, for several
sequences at once.

    decode = Decoder(model)
    steps = decode([inputs], grammar)[0]            # one robot
    for steps in decode([a, b, c], grammar): ...    # three, prompts of any length

What it saves: the model is asked nothing where only one token may come (such tokens are read along
with the next question); scores are computed for the tokens that the grammar allows, not for the
whole vocabulary; one forward serves all sequences, each in a grammar state of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel

from rt2_ros.actions import TokenGrammar
from rt2_ros.models.constrain import NO_SMOOTHING, Smoothing, Step

Inputs = Mapping[str, torch.Tensor]

# Position of a sequence's first token, by model type; models that are not here count in ways of
# their own (Qwen-VL in three axes), so their sequences are decoded one by one.
FIRST_POSITION = {"paligemma": 1, "llava": 0, "idefics3": 0, "smolvlm": 0}


class Decoder:
    """Decodes with one model; what it prepares for the model's output matrix is kept."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model, self._head = model, Head(model)

    @torch.inference_mode()
    def __call__(
        self,
        inputs: Sequence[Inputs],
        grammar: TokenGrammar,
        max_tokens: int = 128,
        smoothing: Smoothing = NO_SMOOTHING,
    ) -> list[list[Step]]:
        """The grammar's answer to each prompt; inputs are a processor's, one sequence in each."""
        if self._model.config.model_type in FIRST_POSITION:
            batches = [inputs] if inputs else []
        else:
            batches = [[each] for each in inputs]
        answers = []
        for batch in batches:
            forward = CachedForward(self._model, batch)
            answers += _Walk(forward, self._head, grammar, smoothing).run(max_tokens)
        return answers


class _Walk:
    """Where each sequence of a batch stands in the grammar."""

    def __init__(
        self, forward: CachedForward, head: Head, grammar: TokenGrammar, smoothing: Smoothing
    ) -> None:
        self._forward, self._head = forward, head
        self._grammar, self._smoothing = grammar, smoothing
        self._states = [grammar.start() for _ in range(forward.batch)]
        self._steps: list[list[Step]] = [[] for _ in range(forward.batch)]
        self._certain = torch.ones(1, device=forward.device)

    def run(self, max_tokens: int) -> list[list[Step]]:
        """Until every sequence is done or has `max_tokens` tokens."""
        rows = range(len(self._states))
        waiting: list[list[int]] = [[] for _ in rows]  # written, not yet read by the model
        while True:
            for row in rows:
                waiting[row] += self._forced(row, max_tokens)
            asked = [row for row in rows if self._open(row, max_tokens)]
            if not asked:
                return self._steps
            hidden = self._forward(waiting)
            waiting = [[] for _ in rows]
            for row, step in self._choose(asked, hidden):
                self._take(row, step)
                waiting[row].append(step.token)

    def _open(self, row: int, max_tokens: int) -> bool:
        return not self._grammar.done(self._states[row]) and len(self._steps[row]) < max_tokens

    def _take(self, row: int, step: Step) -> None:
        self._steps[row].append(step)
        self._states[row] = self._grammar.advance(self._states[row], step.token)

    def _forced(self, row: int, max_tokens: int) -> list[int]:
        """Take the tokens that have no rival."""
        tokens = []
        while self._open(row, max_tokens):
            allowed = self._grammar.allowed(self._states[row])
            if len(allowed) > 1:
                break
            tokens.append(int(allowed[0]))
            self._take(row, Step(tokens[-1], self._head.ids(allowed), self._certain))
        return tokens

    def _choose(self, rows: list[int], hidden: torch.Tensor) -> list[tuple[int, Step]]:
        """The next token of each row; rows that may write the same tokens are scored together."""
        groups: dict[int, list[int]] = {}
        offered = {}
        for row in rows:
            allowed = self._grammar.allowed(self._states[row])
            groups.setdefault(id(allowed), []).append(row)
            offered[id(allowed)] = allowed
        chosen = []
        for key, group in groups.items():
            ids = self._head.ids(offered[key])
            probabilities = self._head(hidden[group], offered[key]).float().softmax(-1)
            for row, each in zip(group, probabilities, strict=True):
                token = int(ids[self._smoothing(ids, each).argmax()])
                chosen.append((row, Step(token, ids, each)))
        return chosen


class Head:
    """Scores of the allowed tokens alone: their rows of the output matrix.

    Grammars hand out the same array for the same situation, so ids and rows are kept by it.
    """

    FEW = 4096  # more rows than that are not copied; the whole matrix is multiplied

    def __init__(self, model: PreTrainedModel) -> None:
        self._linear = model.get_output_embeddings()
        text = model.config.get_text_config()
        self._cap = getattr(text, "final_logit_softcapping", None)
        self._kept: dict[int, tuple[np.ndarray, torch.Tensor, torch.Tensor | None]] = {}

    def ids(self, allowed: np.ndarray) -> torch.Tensor:
        """The allowed tokens (n,) on the model's device."""
        return self._rows(allowed)[1]

    def __call__(self, hidden: torch.Tensor, allowed: np.ndarray) -> torch.Tensor:
        """Scores (B, n) from last hidden states (B, H)."""
        _, ids, rows = self._rows(allowed)
        if rows is None:
            scores = self._linear(hidden)[:, ids]
        else:
            bias = self._linear.bias
            scores = torch.nn.functional.linear(hidden, rows, None if bias is None else bias[ids])
        return scores if self._cap is None else self._cap * torch.tanh(scores / self._cap)

    def _rows(self, allowed: np.ndarray) -> tuple[np.ndarray, torch.Tensor, torch.Tensor | None]:
        if id(allowed) not in self._kept:
            weight = self._linear.weight
            ids = torch.tensor(np.array(allowed), device=weight.device)
            rows = weight[ids] if 1 < len(ids) <= self.FEW else None
            self._kept[id(allowed)] = (allowed, ids, rows)  # `allowed` lives as long as its id
        return self._kept[id(allowed)]


class CachedForward:
    """Last hidden states of several sequences that grow by different numbers of tokens.

    Sequences are padded on the left at first, and each later block of tokens too, so that the last
    column is always a sequence's last token; positions count real tokens only.
    """

    def __init__(self, model: PreTrainedModel, inputs: Sequence[Inputs]) -> None:
        self._model, self._inputs = model, inputs
        self.batch, self.device = len(inputs), model.device
        self._cache = DynamicCache(config=model.config.get_text_config())
        self._seen = torch.empty(0)  # (B, L) 1 where the cache holds a token, 0 for padding
        self._next = torch.empty(0)  # (B,) position of the next token

    def __call__(self, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """Read tokens (after the prompts, at first); (B, H) of each sequence's last one."""
        given = self._prompts(tokens) if not len(self._seen) else self._block(tokens)
        output = self._model.base_model(past_key_values=self._cache, use_cache=True, **given)
        return output.last_hidden_state[:, -1]

    def _prompts(self, tokens: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        sequences = [_with_suffix(i, t) for i, t in zip(self._inputs, tokens, strict=True)]
        longest = max(s["input_ids"].shape[1] for s in sequences)
        given = {}
        for key, first in sequences[0].items():
            values = [s[key] for s in sequences]
            if first.shape == sequences[0]["input_ids"].shape:
                values = [torch.nn.functional.pad(v, (longest - v.shape[1], 0)) for v in values]
            given[key] = torch.cat(values)
        self._seen = given["attention_mask"]
        if len(sequences) == 1:
            del given["attention_mask"]
        else:
            first_position = FIRST_POSITION[self._model.config.model_type]
            counted = self._seen.cumsum(1)
            given["position_ids"] = (counted - 1).clamp(min=0) + first_position
            self._next = counted[:, -1] + first_position
        return given

    def _block(self, tokens: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        device = self._seen.device
        longest = max(map(len, tokens))
        ids = torch.tensor([[0] * (longest - len(t)) + list(t) for t in tokens], device=device)
        if len(tokens) == 1:
            return {"input_ids": ids}
        counts = torch.tensor([len(t) for t in tokens], device=device)
        real = torch.arange(longest, device=device) >= longest - counts[:, None]
        self._seen = torch.cat([self._seen, real.to(self._seen.dtype)], dim=1)
        positions = (self._next[:, None] + real.cumsum(1) - 1).clamp(min=0)
        self._next = self._next + counts
        return {"input_ids": ids, "attention_mask": self._seen, "position_ids": positions}


def _with_suffix(inputs: Inputs, tokens: Sequence[int]) -> dict[str, torch.Tensor]:
    """A prompt's inputs with the first tokens of its answer."""
    shape = inputs["input_ids"].shape
    suffix = torch.tensor([list(tokens)], dtype=torch.long, device=inputs["input_ids"].device)
    longer = {}
    for key, value in inputs.items():
        if value.shape == shape:
            # token_type_ids of PaliGemma too: 1 is the causal part after the prefix.
            new = suffix if key == "input_ids" else torch.ones_like(suffix)
            value = torch.cat([value, new.to(value.dtype)], dim=1)
        longer[key] = value
    return longer
