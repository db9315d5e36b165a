# SPDX-License-Identifier: Apache-2.0
"""A reader of growing sequences whose later forwards all have one of few shapes, for CUDA graphs.

    steps = StaticSteps(model)                       # once: caches, buffers and graphs are kept
    forward = StaticForward(steps, [inputs], stages)
    hidden = forward([[plan_token]])                 # as `CachedForward`

On a GPU a forward for a few tokens is hundreds of kernels, each shorter than its launch. Here keys
and values lie in a static cache, blocks of tokens are padded to 1, 2, 4 or 16, and a mask of fixed
shape says what is hidden; so the launches of a forward are recorded once and replayed as one. A
recording is used only if its first replay gives what the plain forward gives. Without a GPU nothing
is recorded, and all else is the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, StaticCache

from rt2_ros.models.forward import FIRST_POSITION, CachedForward, Inputs, Prefix, Stages

BLOCKS = (1, 2, 4, 16)  # tokens; a longer one is as long as it is, and is not recorded
# Slots of the cache behind a prompt: an answer of MOST_TOKENS, padded, and before that guesses.
ROOM, ANSWER_ROOM = 384, 256
ROUND = 64


@dataclass
class _Block:
    """The buffers that a forward of one shape reads, its recording, and where that writes."""

    ids: torch.Tensor  # (B, T)
    positions: torch.Tensor  # (B, T), or (3, B, T) where positions have three axes
    mask: torch.Tensor  # (B, 1, T, slots), added to scores
    graph: torch.cuda.CUDAGraph | None = None
    hidden: torch.Tensor | None = None


class StaticSteps:
    """Static caches by batch and length, and the recorded forwards on them."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model, self.records = model, model.device.type == "cuda"
        self._caches: dict[tuple[int, int], StaticCache] = {}
        self._blocks: dict[tuple[int, int, int], _Block] = {}

    def cache(self, batch: int, prompt: int) -> tuple[StaticCache, int]:
        """An empty cache for prompts of that length, and its slots."""
        slots = -(-(prompt + ROOM) // ROUND) * ROUND
        if (batch, slots) not in self._caches:
            text = self.model.config.get_text_config()
            self._caches[batch, slots] = StaticCache(config=text, max_cache_len=slots)
        cache = self._caches[batch, slots]
        cache.reset()
        return cache, slots

    def read(self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Last hidden states (B, T, H) of a block behind what its cache holds."""
        batch, count = ids.shape
        slots = mask.shape[-1]
        block = self._blocks.get((batch, slots, count))
        if not self.records or count not in BLOCKS:
            return self._plain(self._caches[batch, slots], ids, positions, mask)
        if block is None:
            block = _Block(ids.clone(), positions.clone(), mask.clone())
            self._blocks[batch, slots, count] = block
            return self._record(self._caches[batch, slots], block)
        for buffer, value in zip(
            (block.ids, block.positions, block.mask), (ids, positions, mask), strict=True
        ):
            buffer.copy_(value)
        if block.graph is None or block.hidden is None:
            return self._plain(self._caches[batch, slots], ids, positions, mask)
        block.graph.replay()
        return block.hidden.clone()

    def _plain(
        self, cache: StaticCache, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        output = self.model.base_model(
            input_ids=ids, position_ids=positions, attention_mask=mask, past_key_values=cache,
            use_cache=True,
        )  # fmt: skip
        return output.last_hidden_state

    def _record(self, cache: StaticCache, block: _Block) -> torch.Tensor:
        """The block's states; its recording, if one succeeds and agrees."""
        buffers = (block.ids, block.positions, block.mask)
        lengths = [layer.cumulative_length for layer in cache.layers]
        before = [length.clone() for length in lengths]

        def rewind() -> None:
            for length, value in zip(lengths, before, strict=True):
                length.copy_(value)

        expected = self._plain(cache, *buffers)  # warms up what is made when first used
        try:
            rewind()
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                block.hidden = self._plain(cache, *buffers)
            rewind()
            graph.replay()
            near = torch.allclose(block.hidden, expected, rtol=1e-2, atol=1e-2)
            reason = "" if near else "its replay differs from the plain forward"
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            rewind()
            expected = self._plain(cache, *buffers)
        if reason:
            warnings.warn(f"no CUDA graph, decisions take longer: {reason}", stacklevel=2)
            self.records, block.hidden = False, None
        else:
            block.graph = graph
        return expected


class StaticForward(CachedForward):
    """`CachedForward` on a static cache; forgotten tokens keep their slots, hidden by the mask."""

    def __init__(
        self,
        steps: StaticSteps,
        inputs: Sequence[Inputs],
        stages: Stages,
        prefix: Prefix | None = None,
    ) -> None:
        super().__init__(steps.model, inputs, stages, prefix)
        self._steps = steps
        self._slots = self._end = 0
        self._deltas: torch.Tensor | None = None  # of Qwen-VL's positions, which have three axes

    def __call__(self, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """As `CachedForward`'s."""
        if not len(self._seen):
            longest = max(
                i["input_ids"].shape[1] + len(t) for i, t in zip(self._inputs, tokens, strict=True)
            )
            self._cache, self._slots = self._steps.cache(len(tokens), longest)
            hidden = super().__call__(tokens)
            self._end = self._seen.shape[1]
            self._deltas = getattr(self._model.base_model, "rope_deltas", None)
            if len(tokens) == 1:  # the model has counted the positions itself
                first = FIRST_POSITION.get(self._model.config.model_type, 0)
                self._next = torch.tensor([self._end + first], device=self.device)
                if self._deltas is not None:
                    self._next = self._next + self._deltas.flatten()
            return hidden
        wanted = max(map(len, tokens))
        count = next((block for block in BLOCKS if block >= wanted), wanted)
        if self._end + count > self._slots:
            raise ValueError(
                f"{self._end + count} tokens and padding, the static cache has {self._slots} slots"
            )
        ids, positions = self._padded(tokens, count)
        if self._deltas is not None:
            positions = positions.expand(3, *positions.shape)
        real = self._seen[:, -count:].bool()
        # Slots before the block as they were seen; in the block what is real and not later.
        reach = torch.arange(count, device=self.device)
        visible = torch.zeros(len(tokens), count, self._slots, dtype=torch.bool, device=self.device)
        visible[:, :, : self._end] = self._seen[:, None, : self._end].bool()
        inside = real[:, None, :] & (reach[None, None, :] <= reach[None, :, None])
        # A column of padding sees itself: a row of nothing but minus infinity has no softmax.
        inside |= torch.eye(count, dtype=torch.bool, device=self.device)
        visible[:, :, self._end : self._end + count] = inside
        mask = torch.zeros(visible.shape, dtype=self._model.dtype, device=self.device)
        mask.masked_fill_(~visible, torch.finfo(mask.dtype).min)
        hidden = self._steps.read(ids, positions, mask[:, None])
        self._end += count
        self._stages.mark("decode")
        return hidden[:, -wanted:]

    def forget(self, counts: Sequence[int]) -> None:
        """As `CachedForward`'s."""
        self._hide(counts)

    @property
    def guessing(self) -> bool:  # type: ignore[override]
        """Whether an answer fits behind what a guess would take."""
        return not self._slots or self._slots - self._end > ANSWER_ROOM
