# SPDX-License-Identifier: Apache-2.0
"""A reader of growing sequences whose computations all have one of few shapes, for a GPU.

    steps = StaticSteps(model)                       # once: caches, buffers and graphs are kept
    forward = StaticForward(steps, [inputs], stages)
    hidden = forward([[plan_token]])                 # as `CachedForward`
    forward.finish(rest, [[]], head, smoothing)      # all that is left, without asking the host

On a GPU a forward is hundreds of operations, each shorter than its launch. Here keys and values lie
in a static cache, and what else a forward reads in buffers: prompts are padded to a multiple of 16
tokens, later blocks to a power of two, batches to one of few sizes, and a mask says what is seen.
So pictures, prompts, blocks and rests of answers are each recorded once and replayed in one launch
(`rt2_ros.models.graphs`). Without a GPU nothing is recorded, and all else is the same.

Slots of the cache: what stands before the picture in every prompt, which stays; prompts, aligned
to the right; then the answers. A token that is forgotten keeps its slot, and is hidden.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from rt2_ros.actions import MOST_TOKENS
from rt2_ros.models.ahead import Rest
from rt2_ros.models.constrain import Smoothing, Step
from rt2_ros.models.forward import FIRST_POSITION, Inputs, Prefix, Stages
from rt2_ros.models.graphs import Graphs
from rt2_ros.models.head import Head
from rt2_ros.models.picture import Pictures
from rt2_ros.models.room import Room
from rt2_ros.models.text import AXES, language_model, text_model

BLOCKS = (1, 2, 4, 8, 16, 32, 64, 128)  # tokens; a longer one is as long as it is
WANTED = (1, 16, 64)  # last tokens of a prompt whose states are handed out
BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
# Slots of the cache behind a prompt: an answer of MOST_TOKENS, however it is cut into blocks (at
# most 372, for those of 17 tokens), and before that guesses.
ROOM, ANSWER_ROOM = 512, 384
ROUND = 16  # tokens of prompts, and slots that attention looks at, as its kernels want them
ROOMS = 6  # caches that are kept; the one that was used longest ago goes first
KINDS = (*FIRST_POSITION, "qwen2_5_vl")  # model types whose positions are known here


class StaticSteps:
    """A model's parts, and rooms by batch and length."""

    def __init__(self, model: PreTrainedModel, keep_prefix: bool = True) -> None:
        self.model, self.text, self.graphs = model, text_model(model), Graphs(model.device)
        self.pictures = Pictures(model)
        self.prefix = Prefix(model) if keep_prefix else None
        self.embed = language_model(model).get_input_embeddings()
        self.type = model.config.model_type
        self.axes = AXES.get(model.config.get_text_config().model_type, 1)
        self._rooms: OrderedDict[tuple[int, int], Room] = OrderedDict()
        self._places: dict[Any, tuple[np.ndarray, int]] = {}

    def room(self, batch: int, slots: int) -> Room:
        """One for so many sequences of so many slots."""
        if (batch, slots) not in self._rooms:
            while len(self._rooms) >= ROOMS:
                self._rooms.popitem(last=False)[1].kept.clear()
            cache = self.text.cache(batch, slots)
            self._rooms[batch, slots] = Room(cache, batch, slots, self.model.device)
        self._rooms.move_to_end((batch, slots))
        return self._rooms[batch, slots]

    def clear(self) -> None:
        """Give the memory of all rooms back."""
        for room in self._rooms.values():
            room.kept.clear()  # whose computations refer to their room
        self._rooms.clear()

    def positions(self, inputs: Inputs, more: int) -> tuple[np.ndarray, int]:
        """Positions (A, L + more) of a prompt and the tokens after it, and the next one."""
        known, after = self._prompt_positions(inputs)
        later = np.broadcast_to(np.arange(after, after + more), (self.axes, more))
        return np.concatenate([known, later], axis=1), after + more

    def _prompt_positions(self, inputs: Inputs) -> tuple[np.ndarray, int]:
        """Of the prompt alone (A, L), and the position after it."""
        length = inputs["input_ids"].shape[1]
        kinds, grid = inputs.get("mm_token_type_ids"), inputs.get("image_grid_thw")
        if self.axes == 1 or kinds is None or grid is None:
            first = FIRST_POSITION.get(self.type, 0)
            plain = np.arange(first, first + length)
            return np.broadcast_to(plain, (self.axes, length)), first + length
        kinds, grid = kinds.cpu(), grid.cpu()
        key = kinds.numpy().tobytes(), grid.numpy().tobytes()
        if key not in self._places:
            if len(self._places) >= 64:
                self._places.clear()
            found, _ = self.model.base_model.get_rope_index(
                inputs["input_ids"].cpu(), mm_token_type_ids=kinds, image_grid_thw=grid
            )
            self._places[key] = found[:, 0].numpy(), int(found.max()) + 1
        return self._places[key]

    def mask(
        self, seen: torch.Tensor, slots: torch.Tensor, reach: int, both: torch.Tensor | None = None
    ) -> torch.Tensor:
        """What is added to scores (B, 1, T, reach): of slots (T,) that see what is seen (B, S)
        before them, and of what lies before `both` (B,) everything.
        """
        others = torch.arange(reach, device=slots.device)
        before = others <= slots[:, None]
        if both is not None:
            before = before | (others < both[:, None, None])
        visible = seen[:, None, :reach].bool() & before
        # Padding sees itself: a row of nothing but minus infinity has no softmax.
        visible = visible | (others == slots[:, None])
        mask = torch.zeros(visible.shape, dtype=self.model.dtype, device=slots.device)
        return mask.masked_fill_(~visible, torch.finfo(mask.dtype).min)[:, None]


class StaticForward:
    """Last hidden states of sequences that grow; the interface is `CachedForward`'s."""

    def __init__(self, steps: StaticSteps, inputs: Sequence[Inputs], stages: Stages) -> None:
        self._steps, self._stages, self._count = steps, stages, len(inputs)
        batch = next((size for size in BATCHES if size >= len(inputs)), len(inputs))
        self._inputs = [*inputs, *[inputs[0]] * (batch - len(inputs))]
        self._head = steps.prefix.head(inputs) if steps.prefix is not None else []
        self._room: Room | None = None
        self._end = 0  # slots that are taken
        self._seen = np.empty(0, dtype=bool)  # (B, slots) False for padding, and what is forgotten
        self._next = np.empty(0, dtype=np.int64)  # (B,) position of the next token
        self._last = torch.empty(0)  # (B, H) states of the prompts' last tokens

    @property
    def trial(self) -> int:
        """The longest block behind which an answer fits; a prompt brings its own room."""
        if self._room is None:
            return MOST_TOKENS
        spare = self._room.slots - self._end - ANSWER_ROOM
        return max((block for block in BLOCKS if block <= spare), default=0)

    def __call__(self, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """As `CachedForward`'s."""
        rows = [*map(list, tokens), *[list(tokens[0])] * (len(self._inputs) - self._count)]
        if self._room is None:
            return self._prompts(rows)[: self._count]
        return self._block(self._room, rows)[: self._count]

    def forget(self, counts: Sequence[int]) -> None:
        """As `CachedForward`'s."""
        for row, count in enumerate(counts):
            self._seen[row, self._end - count : self._end] = False
            self._next[row] -= count

    def fits(self, rest: Rest, tokens: Sequence[Sequence[int]]) -> bool:
        """Whether `finish` can read those tokens and write that rest."""
        if self._room is None:
            return True
        same = len({len(each) for each in tokens}) == 1 and len(tokens[0]) > 0
        return same and self._end + len(tokens[0]) + rest.tokens <= self._room.slots

    def finish(
        self, rest: Rest, tokens: Sequence[Sequence[int]], head: Head, smoothing: Smoothing
    ) -> list[list[Step]]:
        """Read tokens, then choose all that is left: for each sequence a step for each choice.

        What is chosen is read where it was computed; the host hears of it at the end.
        """
        rows = [*map(list, tokens), *[list(tokens[0])] * (len(self._inputs) - self._count)]
        if self._room is None:
            self._prompts(rows)
            rows = [[] for _ in rows]
        room, steps, fresh = self._room, self._steps, len(rows[0])
        assert room is not None
        reach = _round(self._end + fresh + rest.tokens, ROUND)
        key = ("answer", fresh, reach, rest, smoothing)
        given = room.give(
            key, ids=np.array(rows).reshape(len(rows), fresh), begin=self._end, next=self._next,
            seen=self._seen[:, :reach], forced=[t for each in rest.forced for t in each],
        )  # fmt: skip
        last = room.buffers.hold("last", self._last, steps.model.device) if not fresh else None
        spans = [fresh, *[1 + len(forced) for forced in rest.forced[:-1]]]
        ends = np.cumsum(spans).tolist()

        def compute() -> tuple[torch.Tensor, ...]:
            later = torch.arange(ends[-1], device=steps.model.device)
            positions = (given.next[:, None] + later).expand(steps.axes, -1, -1)
            turns, slots = steps.text.turns(positions), given.begin + later
            mask = steps.mask(given.seen, slots, reach)

            def read(part: int, ids: torch.Tensor) -> torch.Tensor:
                begin, end = ends[part] - spans[part], ends[part]
                of = tuple(turn[:, begin:end] for turn in turns)
                x = steps.embed(ids)
                return steps.text.read(room.cache, x, of, slots[begin:end], mask[:, :, begin:end])[
                    :, -1
                ]

            hidden = read(0, given.ids) if last is None else last
            chosen, kept, said = [], [], 0
            for part, (allowed, forced) in enumerate(zip(rest.choices, rest.forced, strict=True)):
                token, probabilities = head.pick(hidden, allowed, smoothing)
                chosen.append(token)
                kept.append(probabilities)
                if part + 1 < len(rest.choices):
                    after = given.forced[said : said + len(forced)].expand(len(token), -1)
                    hidden = read(part + 1, torch.cat([token[:, None], after], dim=1))
                    said += len(forced)
            return torch.stack(chosen, dim=1), torch.cat(kept, dim=1)

        chosen, probabilities = (out.cpu() for out in steps.graphs.run(room.kept, key, compute))
        self._stages.mark("decode")
        sizes = [len(allowed) for allowed in rest.choices]
        return [
            [
                Step(token, torch.from_numpy(np.array(allowed)), each)
                for token, allowed, each in zip(row, rest.choices, known.split(sizes), strict=True)
            ]
            for row, known in zip(chosen.tolist(), probabilities, strict=True)
        ][: self._count]

    def _prompts(self, rows: list[list[int]]) -> torch.Tensor:
        """The first forward; hidden states of each prompt's last token and of those after it."""
        steps, known = self._steps, len(self._head)
        prompts = [i["input_ids"][0].tolist() for i in self._inputs]
        whole = [[*p, *t][known:] for p, t in zip(prompts, rows, strict=True)]
        width = _round(max(map(len, whole)), ROUND)
        self._end = known + width
        self._room = room = steps.room(len(rows), _round(self._end + ROOM, 64))
        features = steps.pictures(steps.graphs, room.kept, room.buffers, self._inputs)
        self._stages.mark("vision")
        if room.head != self._head:
            self._read_head(room)
        image = getattr(steps.model.config, "image_token_id", None)
        ids = np.zeros((len(rows), width), dtype=np.int64)
        positions = np.zeros((steps.axes, len(rows), width), dtype=np.int64)
        self._next = np.zeros(len(rows), dtype=np.int64)
        self._seen = np.ones((len(rows), room.slots), dtype=bool)
        for row, (tokens, inputs) in enumerate(zip(whole, self._inputs, strict=True)):
            pad = width - len(tokens)
            ids[row, pad:] = tokens
            self._seen[row, known : known + pad] = False
            found, self._next[row] = steps.positions(inputs, len(rows[row]))
            positions[:, row, pad:] = found[:, known:]
        places = np.flatnonzero(ids == image) if features is not None else np.empty(0)
        if features is not None and len(places) != len(features):
            raise ValueError(
                f"inputs: {len(places)} image tokens, the pictures make {len(features)} of them"
            )
        ids[ids == image] = 0  # it may lie beyond the embedding
        both = None
        if steps.type == "paligemma" and "token_type_ids" in self._inputs[0]:
            both = [self._end - len(tokens) for tokens in rows]
        asked = max(map(len, rows)) + 1
        wanted = next((size for size in WANTED if size >= asked), width)
        key = ("prompt", known, width, wanted, len(places), both is None)
        given = room.give(
            key, ids=ids, positions=positions, begin=known, seen=self._seen[:, : self._end],
            both=both or [], places=places,
        )  # fmt: skip

        def compute() -> tuple[torch.Tensor, ...]:
            x = steps.embed(given.ids)
            if features is not None:
                x.view(-1, x.shape[-1]).index_copy_(0, given.places, features.to(x.dtype))
            slots = given.begin + torch.arange(width, device=x.device)
            reach = _round(known + width, ROUND)
            seen = torch.nn.functional.pad(given.seen, (0, reach - known - width))
            mask = steps.mask(seen, slots, reach, given.both if both else None)
            hidden = steps.text.read(room.cache, x, steps.text.turns(given.positions), slots, mask)
            return (hidden[:, -wanted:],)

        (hidden,) = steps.graphs.run(room.kept, key, compute)
        self._last = hidden[:, -1]
        self._stages.mark("prefill")
        return hidden[:, -asked:]

    def _read_head(self, room: Room) -> None:
        """Keys and values of what every prompt begins with, once and for all."""
        steps, device = self._steps, self._steps.model.device
        room.head = []  # if this fails, nothing is known
        if self._head:
            ids = torch.tensor([self._head] * room.batch, device=device)
            slots = torch.arange(len(self._head), device=device)
            first = FIRST_POSITION.get(steps.type, 0)
            positions = (slots + first).expand(steps.axes, *ids.shape)
            reach = _round(len(self._head), ROUND)
            seen = torch.ones(room.batch, reach, device=device)
            mask = steps.mask(seen, slots, reach)
            steps.text.read(room.cache, steps.embed(ids), steps.text.turns(positions), slots, mask)
        room.head = list(self._head)

    def _block(self, room: Room, rows: list[list[int]]) -> torch.Tensor:
        """A later forward."""
        steps, wanted = self._steps, max(map(len, rows))
        width = next((block for block in BLOCKS if block >= wanted), wanted)
        if self._end + width > room.slots:
            raise RuntimeError(
                f"{self._end + width} tokens and padding, the static cache has {room.slots} slots"
            )
        ids = np.array([[*[0] * (width - len(row)), *row] for row in rows])
        counts = np.array([len(row) for row in rows])
        behind = np.arange(width) - (width - counts[:, None])  # the block's first token is 0
        self._seen[:, self._end : self._end + width] = behind >= 0
        positions = (self._next[:, None] + behind).clip(min=0)
        key = ("block", width)
        given = room.give(
            key, ids=ids, positions=np.broadcast_to(positions, (steps.axes, *positions.shape)),
            begin=self._end, seen=self._seen,
        )  # fmt: skip

        def compute() -> tuple[torch.Tensor, ...]:
            x = steps.embed(given.ids)
            slots = given.begin + torch.arange(width, device=x.device)
            mask = steps.mask(given.seen, slots, room.slots)
            return (steps.text.read(room.cache, x, steps.text.turns(given.positions), slots, mask),)

        (hidden,) = steps.graphs.run(room.kept, key, compute)
        self._end += width
        self._next = self._next + counts
        self._seen[:, self._end :] = True
        self._stages.mark("decode")
        return hidden[:, width - wanted :]


def _round(count: int, to: int) -> int:
    return -(-count // to) * to
