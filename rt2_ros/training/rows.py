# SPDX-License-Identifier: Apache-2.0
"""Frames as rows that any Hugging Face image-text-to-text model is trained on.

    [what the model's processor makes of picture and prompt][answer][end][padding]

The prompt is prepared by the code that prepares it for a policy, and a robot answer is spelled by
the grammar that constrains decoding: a model is trained on exactly what it will read and may write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import pad
from transformers import PaliGemmaProcessor, ProcessorMixin

from rt2_ros.actions import ActionSpace, Grammar, choose_vocabulary, parse
from rt2_ros.actions.tokens import continuation, eos_id, special_ids
from rt2_ros.data.samples import Frame, Query
from rt2_ros.models.prepare import Preparation
from rt2_ros.training.packing import IGNORED

MAX_PLAN_TOKENS = 128


@dataclass(frozen=True)
class Rows:
    """One row for each question; B rows of T tokens.

    inputs: what the model reads. labels: int64 (B, T), the token to be written next, or IGNORED.
    robot: bool (B,).
    """

    inputs: dict[str, torch.Tensor]
    labels: torch.Tensor
    robot: torch.Tensor

    def to(self, device: torch.device) -> Rows:
        """The same on another device."""
        inputs = {name: value.to(device, non_blocking=True) for name, value in self.inputs.items()}
        return Rows(inputs, self.labels.to(device), self.robot.to(device))

    def weights(self, web_weight: float) -> torch.Tensor:
        """(B, T) what each label counts."""
        row = torch.where(self.robot, 1.0, web_weight)[:, None]
        return (self.labels != IGNORED) * row


class Rower:
    """Frames to rows, for one processor and one action space."""

    def __init__(
        self, processor: ProcessorMixin, space: ActionSpace, *, vocabulary: str | None = None,
        causal: bool = False, tokens: int = 512,
    ) -> None:  # fmt: skip
        """causal: prompts are read from left to right, whatever the model's own processor says.

        tokens: of a question with its answer, at most.
        """
        self.vocabulary = choose_vocabulary(processor.tokenizer, vocabulary)
        self.space, self._processor, self._causal = space, processor, causal
        self._tokens = tokens
        self._grammar = Grammar(
            self.vocabulary, space, plan="optional", max_plan_tokens=MAX_PLAN_TOKENS
        )
        self._eos = eos_id(processor.tokenizer)
        self._special = special_ids(processor.tokenizer) | {
            getattr(processor, "image_token_id", None)
        }
        self._pad = processor.tokenizer.pad_token_id
        if self._pad is None:
            self._pad = self._eos
        # PaliGemma's type 1 is a suffix, read from left to right; others mark images with types.
        self._suffix_type = int(isinstance(processor, PaliGemmaProcessor))
        self._prepare: dict[int, Preparation] = {}

    def answer(self, query: Query) -> list[int]:
        """The tokens of an answer, with its end token; ValueError for no valid action."""
        if query.kind == "robot":
            parsed = parse(query.answer, self.space)
            if parsed.bins is None:
                raise ValueError(f"answer {query.answer!r}: {parsed.reason}")
            return self._grammar.encode(parsed.bins, parsed.plan or None)
        ids = continuation(self._processor.tokenizer, query.answer)
        if special := sorted({*ids} & self._special):
            names = self._processor.tokenizer.convert_ids_to_tokens(special)
            raise ValueError(f"answer {query.answer!r:.80} spells {', '.join(names)}")
        return [*ids, self._eos] if query.ends else list(ids)

    def __call__(self, frames: Sequence[Frame]) -> Rows:
        """All questions about all frames; ValueError for one without a picture, given in part, or
        too long.
        """
        rows, robot = [], []
        for frame in frames:
            if frame.image is None:
                raise ValueError("a frame has no picture; this model's questions need one")
            if any(query.given for query in frame.queries):
                raise ValueError("an answer is given in part; this model is asked for all of it")
            size = frame.image.shape[0]
            if size not in self._prepare:
                self._prepare[size] = Preparation(self._processor, size)
            for query in frame.queries:
                answer = self.answer(query)
                count = len(continuation(self._processor.tokenizer, query.prompt)) + len(answer)
                if count > self._tokens:
                    raise ValueError(
                        f"a question has {count} tokens with its answer; expected at most "
                        f"{self._tokens}, as `tokens` says"
                    )
                rows.append((self._prepare[size](frame.pictures, query.prompt), answer))
                robot.append(query.kind == "robot")
        return self._stack(rows, torch.tensor(robot))

    def _stack(
        self, rows: list[tuple[dict[str, torch.Tensor], list[int]]], robot: torch.Tensor
    ) -> Rows:
        # The last token of an answer is never read, only written.
        lengths = [prompt["input_ids"].shape[1] + len(answer) - 1 for prompt, answer in rows]
        longest = max(lengths)
        labels = torch.full((len(rows), longest), IGNORED)
        columns: dict[str, list[torch.Tensor]] = {}
        for number, (prompt, answer) in enumerate(rows):
            shape, start = prompt["input_ids"].shape, prompt["input_ids"].shape[1] - 1
            labels[number, start : start + len(answer)] = torch.tensor(answer)
            for name, value in prompt.items():
                if name == "token_type_ids" and self._causal:
                    continue
                if value.shape == shape:  # one number for each token
                    tail = value.new_full((longest - shape[1],), self._filler(name))
                    if name == "input_ids":
                        tail[: len(answer) - 1] = value.new_tensor(answer[:-1])
                    elif name == "attention_mask":
                        tail[: len(answer) - 1] = 1
                    value = torch.cat([value[0], tail])[None]
                columns.setdefault(name, []).append(value)
        return Rows({n: _joined(values) for n, values in columns.items()}, labels, robot)

    def _filler(self, name: str) -> int:
        return {"input_ids": self._pad, "token_type_ids": self._suffix_type}.get(name, 0)


def _joined(values: list[torch.Tensor]) -> torch.Tensor:
    """Below each other. Idefics3 and SmolVLM have a row's pictures beside each other, and take one
    that is all zeros for none.
    """
    if values[0].ndim > 2:
        most = max(value.shape[1] for value in values)
        values = [pad(v, (0, 0) * (v.ndim - 2) + (0, most - v.shape[1])) for v in values]
    return torch.cat(values)
