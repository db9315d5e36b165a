# SPDX-License-Identifier: Apache-2.0
"""Any Hugging Face image-text-to-text model as a reader of sequences that grow.

forward = CachedForward(model, [inputs], Stages(model.device))
hidden = forward([[plan_token]])   # (1, 2, H): after the prompt, and after the token
hidden = forward([[apple, red]])   # (1, 2, H): the cache holds what came before
forward.forget([1])                # "red" was never read
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel

Inputs = Mapping[str, torch.Tensor]

# Position of a sequence's first token, by model type; models that are not here count in ways of
# their own (Qwen-VL in three axes), so their sequences are decoded one by one.
FIRST_POSITION = {"paligemma": 1, "llava": 0, "idefics3": 0, "smolvlm": 0}


class Stages:
    """Seconds by stage, in the device's own time where it has one: nothing waits for a clock."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._marks: list[tuple[str, Any]] = []  # seconds, or an event of the device
        self.mark("")

    def mark(self, name: str) -> None:
        """The stage `name` ends here."""
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append((name, event))
        else:
            self._marks.append((name, time.perf_counter()))

    def seconds(self) -> dict[str, float]:
        """Duration of each stage; waits for the device."""
        if self._cuda:
            torch.cuda.synchronize()
        total: dict[str, float] = {}
        for (_, before), (name, after) in zip(self._marks, self._marks[1:], strict=False):
            took = before.elapsed_time(after) / 1e3 if self._cuda else after - before
            total[name] = total.get(name, 0.0) + took
        return total


class CachedForward:
    """Last hidden states of several sequences that grow by different numbers of tokens.

    Sequences are padded on the left at first, and each later block of tokens too, so that the last
    column is always a sequence's last token; positions count real tokens only.
    """

    guessing = True  # whether there is room for tokens that may be forgotten

    def __init__(self, model: PreTrainedModel, inputs: Sequence[Inputs], stages: Stages) -> None:
        self._model, self._inputs, self._stages = model, inputs, stages
        self.device = model.device
        self._cache = DynamicCache(config=model.config.get_text_config())
        self._seen = torch.empty(0)  # (B, L) 1 where the cache holds a token, 0 for padding
        self._next = torch.empty(0)  # (B,) position of the next token

    def __call__(self, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """Read tokens, after the prompts at first; (B, T, H), aligned to the right, of the prompt's
        last token and all that were read.
        """
        wanted = max(map(len, tokens))
        if len(self._seen):
            given = self._block(tokens)
        else:
            wanted, given = wanted + 1, self._prompts(tokens)
        with _marking(self._model, self._stages, "vision"):
            output = self._model.base_model(past_key_values=self._cache, use_cache=True, **given)
        self._stages.mark("prefill" if "pixel_values" in given else "decode")
        return output.last_hidden_state[:, -wanted:]

    def forget(self, counts: Sequence[int]) -> None:
        """Take back the last tokens of each sequence, as if they had never been read."""
        if len(counts) == 1:
            if counts[0]:
                self._cache.crop(-counts[0])
        else:
            self._hide(counts)

    def _hide(self, counts: Sequence[int]) -> None:
        for row, count in enumerate(counts):
            self._seen[row, self._seen.shape[1] - count :] = 0
        self._next = self._next - torch.tensor(counts, device=self.device)

    def _prompts(self, tokens: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        model_type = self._model.config.model_type
        sequences = [
            _with_suffix(i, t, model_type) for i, t in zip(self._inputs, tokens, strict=True)
        ]
        longest = max(s["input_ids"].shape[1] for s in sequences)
        given = {}
        for key, first in sequences[0].items():
            values = [s[key] for s in sequences]
            if first.shape == sequences[0]["input_ids"].shape:
                values = [pad(v, (longest - v.shape[1], 0)) for v in values]
            given[key] = torch.cat(values)
        self._seen = given["attention_mask"]
        if len(sequences) == 1:
            del given["attention_mask"]
        else:
            first_position = FIRST_POSITION[model_type]
            counted = self._seen.cumsum(1)
            given["position_ids"] = (counted - 1).clamp(min=0) + first_position
            self._next = counted[:, -1] + first_position
        return given

    def _block(self, tokens: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
        if len(tokens) == 1:
            return {"input_ids": torch.tensor([list(tokens[0])], device=self.device)}
        ids, positions = self._padded(tokens, max(map(len, tokens)))
        return {"input_ids": ids, "attention_mask": self._seen, "position_ids": positions}

    def _padded(
        self, tokens: Sequence[Sequence[int]], width: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Ids and positions (B, width) of a block, noted as seen."""
        ids = torch.tensor([[0] * (width - len(t)) + list(t) for t in tokens], device=self.device)
        counts = torch.tensor([len(t) for t in tokens], device=self.device)
        real = torch.arange(width, device=self.device) >= width - counts[:, None]
        self._seen = torch.cat([self._seen, real.to(self._seen.dtype)], dim=1)
        positions = (self._next[:, None] + real.cumsum(1) - 1).clamp(min=0)
        self._next = self._next + counts
        return ids, positions


class _marking:
    """Marks the end of the vision tower's work, wherever the model calls it."""

    TOWERS = ("vision_tower", "vision_model", "visual")

    def __init__(self, model: PreTrainedModel, stages: Stages, name: str) -> None:
        parts = [getattr(model.base_model, tower, None) for tower in self.TOWERS]
        self._tower = next((part for part in parts if part is not None), None)
        self._stages, self._name = stages, name

    def __enter__(self) -> None:
        if self._tower is not None:
            self._hook = self._tower.register_forward_hook(lambda *_: self._stages.mark(self._name))

    def __exit__(self, *_: object) -> None:
        if self._tower is not None:
            self._hook.remove()


def _with_suffix(inputs: Inputs, tokens: Sequence[int], model_type: str) -> dict[str, torch.Tensor]:
    """A prompt's inputs with the first tokens of its answer."""
    ids = inputs["input_ids"]
    suffix = torch.tensor([list(tokens)], dtype=ids.dtype, device=ids.device)
    # Other models' types say which modality a token is; PaliGemma's 1 is what is causal.
    ones = {"attention_mask"} | ({"token_type_ids"} if model_type == "paligemma" else set())
    longer = {}
    for key, value in inputs.items():
        if value.shape == ids.shape:
            kind = torch.ones_like if key in ones else torch.zeros_like
            new = suffix if key == "input_ids" else kind(suffix).to(value.dtype)
            value = torch.cat([value, new], dim=1)
        longer[key] = value
    return longer
