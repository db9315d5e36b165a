# SPDX-License-Identifier: Apache-2.0
"""The fast decoder: the tokens of `rt2_ros.models.constrain.generate`, in less time, for several
sequences at once.

    decode = Decoder(model)
    answer = decode([Prompt(inputs)], grammar)[0]          # one robot
    answer.tokens                                          # [..., eos]
    decode([Prompt(inputs, guesses=[answer.tokens]), Prompt(other)], grammar)

What it saves:

- The model is asked nothing where only one token may come; such a token is read along with the next
  question.
- Scores are computed for the tokens that the grammar allows, not for the whole vocabulary.
- A guess, such as the answer before this one, is read in one forward and kept as far as the model
  would have written it (speculative decoding, arXiv 2211.17192, with the past as the draft model):
  a robot's words change little from picture to picture. Where a guess is wrong the model's own
  token stands, so that guesses change the time only; what it would write behind that is the next
  guess (Jacobi decoding, arXiv 2305.10427).
- What stands before the picture in every prompt is read once, where attention is causal.
- On a GPU, where all that is left is one choice after the other whatever is chosen, as in the bins
  of an action, no choice waits for the host (`rt2_ros.models.ahead`, `rt2_ros.models.static`).
- One forward serves all sequences, each in a grammar state of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from typing import Protocol

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from rt2_ros.actions import MOST_TOKENS, TokenGrammar
from rt2_ros.models.ahead import Lookahead
from rt2_ros.models.constrain import NO_SMOOTHING, Smoothing, Step
from rt2_ros.models.forward import FIRST_POSITION, CachedForward, Inputs, Prefix, Stages
from rt2_ros.models.graphs import current
from rt2_ros.models.head import Head
from rt2_ros.models.lean import LeanForward, lean_weights
from rt2_ros.models.row import Prompt, Row
from rt2_ros.models.static import KINDS, StaticForward, StaticSteps
from rt2_ros.models.text import MOVED, both_ways, check_kind

MOST = 64  # sequences in one batch


@dataclass(frozen=True)
class Answer:
    """Tokens, with what each was chosen from; latency: seconds by stage, of the whole batch."""

    steps: list[Step]
    latency: dict[str, float]

    @property
    def tokens(self) -> list[int]:
        """The ids, end token included."""
        return [step.token for step in self.steps]


class Forward(Protocol):
    """A model that reads several sequences as they grow.

    `CachedForward` for any model, `StaticForward` on a GPU, `LeanForward` for small ones on a CPU.
    """

    @property
    def trial(self) -> int:
        """How many tokens may be read at once where some of them may be forgotten."""
        ...

    def __call__(self, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """Read tokens, after the prompts at first; (B, T, H), aligned to the right."""
        ...

    def forget(self, counts: Sequence[int]) -> None:
        """Take back the last tokens of each sequence."""
        ...


class Decoder:
    """Decodes with one model; what it prepares for that is kept."""

    def __init__(self, model: PreTrainedModel, keep_prefix: bool = True) -> None:
        """keep_prefix: whether what stands before the picture is read once only."""
        check_kind(model)
        self.forwards = 0  # of the model, so far
        self._model, self._head = model, Head(model)
        self._lean = lean_weights(model)
        text = model.config.get_text_config()
        self._both_ways = both_ways(model)
        self._most = MOST
        # A sliding window forgets for good what a wrong guess has pushed out.
        layers = DynamicCache(config=text).layers
        others = [layer for layer in layers if type(layer) is not DynamicLayer]
        self._guesses = not others
        self._window = min((getattr(each, "sliding_window", 0) for each in others), default=None)
        self._static = self._static_steps(keep_prefix)
        self._ahead: dict[int, Lookahead] = {}  # by the identity of the grammars that they keep
        keep_prefix = keep_prefix and self._guesses and not self._both_ways
        self._prefix = Prefix(model) if keep_prefix else None

    @property
    def lost(self) -> dict[str, str]:
        """What is not replayed as a CUDA graph, and why."""
        if self._static is None:
            return {"everything": "no static caches"}
        return dict(self._static.graphs.lost)

    @torch.inference_mode()
    def __call__(
        self,
        prompts: Sequence[Prompt],
        grammar: TokenGrammar,
        max_tokens: int = MOST_TOKENS,
        smoothing: Smoothing = NO_SMOOTHING,
    ) -> list[Answer]:
        """The grammar's answer to each prompt; ValueError for a `begin` that it does not allow."""
        if not self._guesses:
            prompts = [replace(prompt, guesses=()) for prompt in prompts]
        answers: list[Answer] = []
        spent: dict[str, float] = {}  # s by stage, by parts of a batch that is too large for one
        cleared = False  # whether this batch has all the memory that there is
        while len(answers) < len(prompts):
            most = self._at_once(prompts, max_tokens)
            batch = _alike(prompts[len(answers) : len(answers) + most])
            try:
                with current(self._model.device):
                    part = self._batch(batch, grammar, max_tokens, smoothing)
                answers += part
                for stage, seconds in part[0].latency.items():
                    spent[stage] = spent.get(stage, 0.0) + seconds
                cleared = False
            except torch.OutOfMemoryError as error:
                if len(batch) == 1 and (cleared or self._static is None):
                    raise RuntimeError(
                        f"{self._model.device} has too little memory for one sequence"
                    ) from error
                if len(batch) > 1:
                    self._most = (len(batch) + 1) // 2
                    warnings.warn(
                        f"{self._model.device} has too little memory for {len(batch)} sequences at "
                        f"once: {self._most} from now on, which takes longer",
                        stacklevel=2,
                    )
                if self._static is not None:
                    self._static.clear()
                    cleared = True
            except MOVED as error:
                if self._static is None:
                    raise
                warnings.warn(
                    f"decisions take longer, without static caches and CUDA graphs: {error}",
                    stacklevel=2,
                )
                self._static = None
        return [replace(answer, latency=spent) for answer in answers]

    @torch.inference_mode()
    def clean(self) -> None:
        """Leave nothing in any cache: what is no number there would spread to later decisions."""
        if self._static is not None:
            self._static.clear()
        if self._prefix is not None:
            self._prefix = Prefix(self._model)
        if self._lean is not None:
            self._lean.cache.zero_()

    def _static_steps(self, keep_prefix: bool) -> StaticSteps | None:
        """For a GPU; why it has none is told."""
        kind = self._model.config.model_type
        if self._model.device.type != "cuda":
            return None
        if self._guesses and kind in KINDS:
            return StaticSteps(self._model, keep_prefix)
        reason = f"model_type is {kind}, expected one of {', '.join(KINDS)}"
        if kind in KINDS:
            reason = f"layers of this {kind} see {self._window} tokens back only"
        warnings.warn(
            f"decisions take longer, without static caches and CUDA graphs: {reason}", stacklevel=3
        )
        return None

    def _at_once(self, prompts: Sequence[Prompt], max_tokens: int) -> int:
        """How many sequences are decoded together at most."""
        if self._model.config.model_type not in (KINDS if self._static else FIRST_POSITION):
            return 1
        if self._window is None:
            return self._most
        # What pads one sequence's blocks, as long as another's answer, must not fill its window.
        longest = max(prompt.inputs["input_ids"].shape[1] for prompt in prompts)
        return min(self._most, max(1, (self._window - longest) // max_tokens))

    def _batch(
        self,
        prompts: Sequence[Prompt],
        grammar: TokenGrammar,
        max_tokens: int,
        smoothing: Smoothing,
    ) -> list[Answer]:
        stages = Stages(self._model.device)
        inputs = [prompt.inputs for prompt in prompts]
        if self._both_ways and not all("token_type_ids" in each for each in inputs):
            raise ValueError(
                "inputs: no token_type_ids, but this model's prompt attends both ways "
                "(use_bidirectional_attention), which an answer must not"
            )
        forward = self._forward(inputs, stages)
        rows = [Row(grammar, prompt, self._head, max_tokens) for prompt in prompts]
        if id(grammar) not in self._ahead:
            self._ahead[id(grammar)] = Lookahead(grammar)
        ahead = self._ahead[id(grammar)]
        self.forwards += _decode(rows, forward, self._head, smoothing, ahead)
        stages.mark("decode")
        latency = stages.seconds()
        return [Answer(row.steps, latency) for row in rows]

    def _forward(self, inputs: Sequence[Inputs], stages: Stages) -> Forward:
        if self._lean is not None:
            return LeanForward(self._lean, inputs, stages)
        if self._static is not None:
            return StaticForward(self._static, inputs, stages)
        return CachedForward(self._model, inputs, stages, self._prefix)


def _decode(
    rows: list[Row], forward: Forward, head: Head, smoothing: Smoothing, ahead: Lookahead
) -> int:
    """Write every row to its end; how many forwards that took."""
    forwards = 0
    while any(row.open for row in rows):
        # One sequence's guess costs nothing beside its prompt, and may spare most of the rest.
        guessed = len(rows) == 1 and not forwards and rows[0].guessed
        if isinstance(forward, StaticForward) and not guessed:
            rest, unread = rows[0].rest(ahead), [row.unread for row in rows]
            same = rest and all(row.rest(ahead) is rest for row in rows)
            if rest and same and forward.fits(rest, unread):
                for row, steps in zip(
                    rows, forward.finish(rest, unread, head, smoothing), strict=True
                ):
                    row.finish(steps)
                return forwards + len(rest.choices)
        forwards += 1
        hidden = forward([row.read(forward.trial) for row in rows])
        asked = [row.questions() for row in rows]
        places = [
            (allowed, (index, hidden.shape[1] - 1 - back))
            for index, questions in enumerate(asked)
            for back, allowed in questions
        ]
        chosen = iter(head.choose(hidden, places, smoothing))
        for row, questions in zip(rows, asked, strict=True):
            row.take(list(islice(chosen, len(questions))))
        forward.forget([row.settle() for row in rows])
    return forwards


def _alike(prompts: Sequence[Prompt]) -> Sequence[Prompt]:
    """The first of them whose pictures are cut into as many pieces: those make one batch."""

    def pieces(prompt: Prompt) -> tuple[int, ...]:
        pixels = prompt.inputs.get("pixel_values")
        return tuple(pixels.shape[1:]) if pixels is not None and pixels.ndim == 5 else ()

    return list(takewhile(lambda prompt: pieces(prompt) == pieces(prompts[0]), prompts))
