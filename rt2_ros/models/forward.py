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
from transformers import Cache, DynamicCache, PreTrainedModel

from rt2_ros.actions import MOST_TOKENS

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


class Prefix:
    """Keys and values of what stands before the picture in every prompt: system prompt, role
    markers. Where attention is causal, nothing behind them changes them.

    They are taken from the cache of one prompt and begin the caches of the next.
    """

    CAUSAL = ("llava", "idefics3", "smolvlm", "qwen2_5_vl")  # model types that are known to be

    def __init__(self, model: PreTrainedModel) -> None:
        causal = model.config.model_type in self.CAUSAL
        self._image = model.config.image_token_id if causal else None
        self._ids: list[int] = []
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []  # (1, heads, tokens, width)

    def head(self, inputs: Sequence[Inputs]) -> list[int]:
        """The ids before the first picture, none where the prompts differ in them."""
        if self._image is None:
            return []
        prompts = [each["input_ids"][0].tolist() for each in inputs]
        if any(self._image not in ids for ids in prompts):
            return []
        heads = [ids[: ids.index(self._image)] for ids in prompts]
        return heads[0] if all(head == heads[0] for head in heads) else []

    def begin(self, cache: Cache, head: list[int], batch: int) -> int:
        """Put the head into an empty cache; how many tokens, 0 where it is not known."""
        if not head or head != self._ids:
            return 0
        for index, layer in enumerate(self._layers):
            cache.update(*(part.expand(batch, -1, -1, -1) for part in layer), index)
        return len(head)

    def keep(self, cache: Cache, head: list[int], row: int) -> None:
        """Remember the head, which a cache's row begins with, unless it is the one known."""
        if head and head != self._ids:
            self._ids = head
            self._layers = [
                (
                    layer.keys[row : row + 1, :, : len(head)].clone(),
                    layer.values[row : row + 1, :, : len(head)].clone(),
                )
                for layer in cache.layers
            ]


class CachedForward:
    """Last hidden states of several sequences that grow by different numbers of tokens.

    Sequences are padded on the left at first, and each later block of tokens too, so that the last
    column is always a sequence's last token; positions count real tokens only. prefix: what is
    known of their beginning, which is not read again.
    """

    trial = MOST_TOKENS  # the cache grows where it must

    def __init__(
        self,
        model: PreTrainedModel,
        inputs: Sequence[Inputs],
        stages: Stages,
        prefix: Prefix | None = None,
    ) -> None:
        self._model, self._inputs, self._stages = model, inputs, stages
        self._prefix = prefix
        self._head = [] if prefix is None else prefix.head(inputs)
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
        if self._prefix is not None and "pixel_values" in given:
            lengths = [
                i["input_ids"].shape[1] + len(t) for i, t in zip(self._inputs, tokens, strict=True)
            ]
            self._prefix.keep(self._cache, self._head, lengths.index(max(lengths)))
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
            with_suffix(i, t, model_type) for i, t in zip(self._inputs, tokens, strict=True)
        ]
        given = {}
        known = 0
        if self._prefix is not None:
            known = self._prefix.begin(self._cache, self._head, len(sequences))
        if known:
            base = self._model.base_model
            if hasattr(base, "get_rope_index"):  # counts on from the picture, in three axes
                whole = {k: v for k, v in sequences[0].items() if k != "pixel_values"}
                positions, base.rope_deltas = base.get_rope_index(**whole)
                given["position_ids"] = positions[..., known:]
            sequences = [_behind(each, known) for each in sequences]
        longest = max(s["input_ids"].shape[1] for s in sequences)
        for key, first in sequences[0].items():
            values = [s[key] for s in sequences]
            if first.shape == sequences[0]["input_ids"].shape:
                values = [pad(v, (longest - v.shape[1], 0)) for v in values]
            given[key] = torch.cat(values)
        self._seen = pad(given.pop("attention_mask"), (known, 0), value=1)
        if len(sequences) > 1:
            given["attention_mask"] = self._seen
            first_position = FIRST_POSITION[model_type]
            counted = self._seen.cumsum(1)
            given["position_ids"] = (counted[:, known:] - 1).clamp(min=0) + first_position
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


def with_suffix(inputs: Inputs, tokens: Sequence[int], model_type: str) -> dict[str, torch.Tensor]:
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


def _behind(inputs: Inputs, count: int) -> dict[str, torch.Tensor]:
    """A prompt's inputs without its first tokens."""
    shape = inputs["input_ids"].shape
    return {k: v[:, count:] if v.shape == shape else v for k, v in inputs.items()}
