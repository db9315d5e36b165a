# SPDX-License-Identifier: Apache-2.0
"""Several questions about one picture in one sequence.

    [image tokens][question 1 answer 1][question 2 answer 2]...[padding]

Each question sees the image and itself, never its neighbours, and its positions count on from the
image: a model trained so gives the same answers to a question asked alone. The picture is encoded
once for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from rt2_ros.actions.prompts import ACTION
from rt2_ros.data.samples import NOTHING, Frame, Query, patch_crowds, patch_owners

IGNORED = NOTHING
BACKGROUND = "nothing"  # the word for a patch that shows no thing
SHOWN = 8, 1, 2, 1, 4  # numbers of a patch: words, name, centre, whether flat, room at sides


@dataclass(frozen=True)
class Batch:
    """Tensors of one step; N pictures, B >= N rows of text, T positions, P patches, W words.

    The first N rows are about the pictures, the others stand alone.
    """

    pixels: torch.Tensor  # uint8 (N, H, W, 3)
    ids: torch.Tensor  # int64 (B, T)
    segments: torch.Tensor  # int64 (B, T): number of the question, -1 for padding
    positions: torch.Tensor  # int64 (B, T), counted from 0 at each question's start
    labels: torch.Tensor  # int64 (B, T): the token to be written next, or IGNORED
    soft: torch.Tensor  # bool (B, T): the label is an integer whose neighbours are nearly right
    robot: torch.Tensor  # bool (B, T): the label belongs to a robot question
    named: torch.Tensor  # int64 (B, T): which thing of the picture the token names, or IGNORED
    owner: torch.Tensor  # int64 (N, P): which thing the patch shows, or IGNORED
    patch_words: torch.Tensor  # int64 (N, P, W), IGNORED-padded: words of what the patch shows
    patch_name: torch.Tensor  # int64 (N, P): which of the packer's names it has, or IGNORED
    patch_uv: torch.Tensor  # int64 (N, P, 2): centre of what the patch shows, or IGNORED
    patch_flat: torch.Tensor  # int64 (N, P): whether what the patch shows is flat, or IGNORED
    patch_room: torch.Tensor  # int64 (N, P, 4): whether there is room at its sides, or IGNORED
    patch_crowd: torch.Tensor  # int64 (N, P): how many things are around the patch, or IGNORED

    @property
    def asked(self) -> tuple[int, int]:
        """How many questions there are, and how many tokens are to be written."""
        questions = int((self.segments.amax(1) + 1).sum()) if self.segments.shape[1] else 0
        return questions, int((self.labels != IGNORED).sum())

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return Batch(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))


class Packer:
    """Frames to batches for one tokenizer, in the layout of PaliGemma's processor."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, *, image_size: int, patch_size: int,
        words: dict[str, str],
        length: int = 208,
    ):  # fmt: skip
        """words: for each thing's name, the text (names, translations) whose words its patches
        show.
        """
        self.tokenizer, self.length = tokenizer, length
        self.grid = image_size // patch_size
        self.patch_size = patch_size
        ids = tokenizer.convert_tokens_to_ids([str(i) for i in range(256)])
        self._integers = frozenset(ids)
        self._action = tokenizer.convert_tokens_to_ids(ACTION)
        self._words = {
            name: list(dict.fromkeys(self._encode(text)))[:8] for name, text in words.items()
        }
        self._numbers = {name: i for i, name in enumerate(words)}
        self._background = self._encode(BACKGROUND)

    def _encode(self, text: str) -> list[int]:
        # Past the tokenizer's Python half, which takes five times as long as what it wraps.
        return self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids

    def encode(self, query: Query) -> tuple[list[int], list[int], list[bool]]:
        """Ids, labels (the next token, IGNORED in the prompt) and soft flags of one question."""
        tokenizer = self.tokenizer
        prompt = [tokenizer.bos_token_id, *self._encode(query.prompt + "\n")]
        answer = self._encode(query.answer) + [tokenizer.eos_token_id] * query.ends
        soft = [token in self._integers for token in answer]
        if self._action in answer or query.kind == "robot":
            first = answer.index(self._action) + 1 if self._action in answer else 0
            soft[first] = soft[first + 7] = False  # terminate and gripper are switches
        elif sum(soft) == 1:
            soft = [False] * len(answer)  # a count
        given = len(self._encode(query.given))
        unasked = len(prompt) - 1 + given
        labels = [IGNORED] * unasked + answer[given:]
        return prompt + answer[:-1], labels, [False] * unasked + soft[given:]

    def pack(self, frames: Sequence[Frame]) -> Batch:
        """One batch, always of the same length, so that a compiled model is compiled once.

        ValueError for a question that would never find room.
        """
        pictured = [frame for frame in frames if frame.image is not None]
        if several := next((len(f.pictures) for f in pictured if f.others), 0):
            raise ValueError(f"a frame has {several} pictures; this model looks at one")
        rows = []
        for frame in [*pictured, *(frame for frame in frames if frame.image is None)]:
            row: list[tuple[int, int, int, int, bool, bool, int]] = []
            numbers = {thing.name: i for i, thing in enumerate(frame.things)}
            for number, query in enumerate(frame.queries):
                robot = query.kind == "robot"
                encoded = list(zip(*self.encode(query), strict=True))
                if len(encoded) > self.length:
                    raise ValueError(
                        f"a question has {len(encoded)} tokens with its answer; expected at most "
                        f"{self.length}, as `tokens` says"
                    )
                if len(row) + len(encoded) > self.length:
                    break  # the picture's other questions find their place another time
                named = self._mentions(query, numbers, [token for token, _, _ in encoded])
                row += [
                    (token, number, place, label, soft, robot, named.get(place, IGNORED))
                    for place, (token, label, soft) in enumerate(encoded)
                ]
            rows.append(row)
        length = self.length if any(rows) else 0
        empty = (self.tokenizer.pad_token_id, -1, 0, IGNORED, False, False, IGNORED)
        table = np.array([row + [empty] * (length - len(row)) for row in rows], dtype=np.int64)
        table = table.reshape(len(rows), length, len(empty))
        ids, segments, positions, labels, soft, robot, named = torch.from_numpy(table).unbind(-1)
        side, count = self.grid * self.patch_size, len(pictured)
        images = [f.image for f in pictured if f.image is not None]
        pixels = np.stack(images) if images else np.zeros((0, side, side, 3), np.uint8)
        patches = [self._patches(frame) for frame in pictured] or [self._unknown()]
        owner, *shown = (torch.stack(of)[:count] for of in zip(*patches, strict=True))
        return Batch(
            torch.from_numpy(pixels), ids, segments, positions, labels, soft.bool(), robot.bool(),
            named, owner, *shown,
        )  # fmt: skip

    def _mentions(self, query: Query, numbers: dict[str, int], ids: list[int]) -> dict[int, int]:
        """Which thing is named by the token at a place, in the prompt and in a plan."""
        places: dict[int, int] = {}
        for about, mention in ((query.about, query.mention), query.second):
            if about not in numbers:
                continue
            for text in {mention, about} if mention else ():
                name = self._encode(text)
                for start in range(len(ids) - len(name) + 1):
                    end = start + len(name)
                    if ids[start:end] == name:
                        places.update(dict.fromkeys(range(start, end), numbers[about]))
                        if name[0] in self._integers:  # "to 3"; further on 3 is a place
                            break
        return places

    def _patches(self, frame: Frame) -> tuple[torch.Tensor, ...]:
        """What each patch shows: the thing's number, its words, its name's number, its centre,
        whether it is flat, at which sides of it there is room; and how many things are around the
        patch.
        """
        grid = self.grid
        assert frame.image is not None
        if not frame.labelled:
            return self._unknown()
        owner = patch_owners(frame.things, grid, frame.image.shape[0]).ravel()
        # A row for each thing, and a last one for none, which is what IGNORED picks as well.
        shown = np.full((len(frame.things) + 1, sum(SHOWN)), IGNORED)
        for row, thing in zip(shown, frame.things, strict=False):
            ids = self._words[thing.name]
            row[: len(ids)] = ids
            flat = IGNORED if thing.flat is None else thing.flat
            number, room = self._numbers[thing.name], thing.room or (IGNORED,) * SHOWN[-1]
            row[8:] = number, thing.u, thing.v, flat, *room
        shown[-1, : len(self._background)] = self._background
        patches = torch.from_numpy(shown[np.where(owner == IGNORED, -1, owner)])
        words, name, uv, flat, room = patches.split(SHOWN, dim=1)
        crowd = torch.from_numpy(patch_crowds(frame.things, grid).ravel())
        return torch.from_numpy(owner), words, name[:, 0], uv, flat[:, 0], room, crowd

    def _unknown(self) -> tuple[torch.Tensor, ...]:
        """The same where nobody said what a picture shows."""
        unknown = torch.full((self.grid * self.grid, sum(SHOWN)), IGNORED)
        words, name, uv, flat, room = unknown.split(SHOWN, dim=1)
        return name[:, 0], words, name[:, 0], uv, flat[:, 0], room, flat[:, 0]


def attention_mask(
    segments: torch.Tensor, image_tokens: int, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """Who sees whom: (B, 1, L, L), L = image_tokens + T; causal, questions apart from each other.

    Additive, 0 where one sees and the dtype's least number elsewhere: eager attention adds what it
    is given, and a mask of booleans would mask nothing.
    """
    rows, length = segments.shape
    whole = torch.cat([segments.new_full((rows, image_tokens), -2), segments], dim=1)
    image = whole == -2
    same = whole[:, :, None] == whole[:, None, :]
    causal = torch.ones(image_tokens + length, image_tokens + length, device=segments.device)
    seen = ((same | image[:, None, :]) & causal.tril().bool())[:, None]
    hidden = torch.finfo(dtype).min
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, hidden)
