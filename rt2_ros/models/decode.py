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
  token stands, so that guesses change the time only.
- What stands before the picture in every prompt is read once, where attention is causal.
- On a GPU, where all that is left is one choice after the other whatever is chosen, as in the bins
  of an action, no choice waits for the host (`rt2_ros.models.ahead`, `rt2_ros.models.static`).
- One forward serves all sequences, each in a grammar state of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import Any, Protocol

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from rt2_ros.actions import MOST_TOKENS, TokenGrammar
from rt2_ros.models.ahead import Lookahead, Rest
from rt2_ros.models.constrain import NO_SMOOTHING, Smoothing, Step
from rt2_ros.models.forward import FIRST_POSITION, CachedForward, Inputs, Prefix, Stages
from rt2_ros.models.head import Head
from rt2_ros.models.lean import LeanForward, lean_weights
from rt2_ros.models.static import KINDS, StaticForward, StaticSteps

MOST = 64  # sequences in one batch


@dataclass(frozen=True)
class Prompt:
    """What is to be answered.

    inputs: a processor's, one sequence. begin: tokens that the answer begins with, such as a plan
    that is kept. held: by the grammar's state, what stands there as it was chosen before. guesses:
    whole answers that this one may be like, the likeliest first.
    """

    inputs: Inputs
    begin: Sequence[int] = ()
    held: Mapping[Any, Step] = field(default_factory=dict)
    guesses: Sequence[Sequence[int]] = ()


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
    def guessing(self) -> bool:
        """Whether there is room for tokens that may be forgotten."""
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
        self.forwards = 0  # of the model, so far
        self._model, self._head = model, Head(model)
        self._lean = lean_weights(model)
        text = model.config.get_text_config()
        self._both_ways = bool(getattr(text, "use_bidirectional_attention", False))
        self._most = MOST
        # A sliding window forgets for good what a wrong guess has pushed out.
        layers = DynamicCache(config=text).layers
        self._guesses = all(type(layer) is DynamicLayer for layer in layers)
        static = model.device.type == "cuda" and self._guesses and model.config.model_type in KINDS
        self._static = StaticSteps(model, keep_prefix) if static else None
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
        while len(answers) < len(prompts):
            kinds = KINDS if self._static else FIRST_POSITION
            most = self._most if self._model.config.model_type in kinds else 1
            batch = prompts[len(answers) : len(answers) + most]
            try:
                answers += self._batch(batch, grammar, max_tokens, smoothing)
            except torch.OutOfMemoryError as error:
                if len(batch) == 1:
                    raise RuntimeError(
                        f"{self._model.device} has too little memory for one sequence"
                    ) from error
                self._most = (len(batch) + 1) // 2
                warnings.warn(
                    f"{self._model.device} has too little memory for {len(batch)} sequences at "
                    f"once: {self._most} from now on, which takes longer",
                    stacklevel=2,
                )
                if self._static is not None:
                    self._static.clear()
            except RuntimeError as error:
                if self._static is None:
                    raise
                warnings.warn(
                    f"decisions take longer, without static caches and CUDA graphs: {error}",
                    stacklevel=2,
                )
                self._static = None
        return answers

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
        rows = [_Row(grammar, prompt, self._head, max_tokens) for prompt in prompts]
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
    rows: list[_Row], forward: Forward, head: Head, smoothing: Smoothing, ahead: Lookahead
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
        hidden = forward([row.read(forward.guessing) for row in rows])
        while places := [
            (row, allowed, (index, hidden.shape[1] - 1 - back))
            for index, row in enumerate(rows)
            for back, allowed in row.question()
        ]:
            chosen = head.choose(hidden, [place[1:] for place in places], smoothing)
            for (row, _, _), step in zip(places, chosen, strict=True):
                row.take(step)
        forward.forget([row.settle() for row in rows])
    return forwards


class _Row:
    """Where one sequence stands: what is written, what the model has read, what is guessed."""

    def __init__(self, grammar: TokenGrammar, prompt: Prompt, head: Head, max_tokens: int) -> None:
        self._grammar, self._head, self._max_tokens = grammar, head, max_tokens
        self._state = grammar.start()
        self._guesses, self._held = prompt.guesses, prompt.held
        self.steps: list[Step] = []
        self._read = 0  # of the tokens in `steps`
        self._path: list[int] = []  # read beyond them, on trial
        self._asked: list[tuple[int, np.ndarray]] = []  # place in `_path`, what is allowed there
        for token in prompt.begin:
            self._write(head.certain(int(token)))
        self._write_forced()

    @property
    def open(self) -> bool:
        """Whether there is a token to be chosen."""
        return self._may_go_on(self._state, len(self.steps))

    @property
    def guessed(self) -> bool:
        """Whether there is something to go on beyond the prompt."""
        return bool(self._guesses)

    @property
    def unread(self) -> list[int]:
        """What is written and not read."""
        return [step.token for step in self.steps[self._read :]]

    def rest(self, ahead: Lookahead) -> Rest | None:
        """All that is left to write, where it does not depend on what is chosen."""
        rest = ahead(self._state) if self.open else None
        if not rest or len(self.steps) + rest.tokens > self._max_tokens:
            return None
        return rest if rest.states.isdisjoint(self._held) else None

    def finish(self, steps: Sequence[Step]) -> None:
        """All choices that are left; RuntimeError where the grammar would not have made them."""
        try:
            for step in steps:
                self.take(step)
        except ValueError as error:
            raise RuntimeError(f"chosen against the grammar: {error}") from error
        if self.open:
            raise RuntimeError("the rest of an answer is not all of it")

    def _may_go_on(self, state: Any, written: int) -> bool:
        return not self._grammar.done(state) and written < self._max_tokens

    def read(self, guessing: bool) -> list[int]:
        """What the model is to read: what it has not read of the answer, then the guess."""
        self._path, self._asked = [], []
        if not self.open:
            return []
        known = self.unread
        self._read = len(self.steps)
        state, guess = self._state, self._best_guess() if guessing else ()
        while self._may_go_on(state, self._read + len(self._path)):
            step = self._certain(state)
            if step is None:
                self._asked.append((len(self._path), self._grammar.allowed(state)))
                place = self._read + len(self._path)
                if place >= len(guess):
                    break
                token = int(guess[place])
            else:
                token = step.token
            try:
                state = self._grammar.advance(state, token)
            except ValueError:
                break  # a guess that the grammar does not allow
            self._path.append(token)
        del self._path[self._asked[-1][0] :]  # nothing is asked behind it
        return known + self._path

    def _best_guess(self) -> Sequence[int]:
        """The first of the guesses that agree longest with what was written last."""
        written = [step.token for step in reversed(self.steps)]
        best: Sequence[int] = ()
        most = -1
        for guess in self._guesses:
            past = reversed(guess[: len(written)])
            agreeing = takewhile(lambda pair: pair[0] == pair[1], zip(written, past, strict=False))
            agreed = sum(1 for _ in agreeing) if len(guess) > len(written) else -1
            if agreed > most:
                best, most = guess, agreed
        return best

    def question(self) -> list[tuple[int, np.ndarray]]:
        """How far from the last token read the next choice is made, and the tokens allowed; none
        where the guess has been left: what was read behind it says nothing.
        """
        written = len(self.steps) - self._read
        if not self._asked or self._asked[0][0] != written or not self._matches(written):
            return []
        place, allowed = self._asked.pop(0)
        return [(len(self._path) - place, allowed)]

    def take(self, step: Step) -> None:
        """The choice at the last question."""
        self._write(step)
        self._write_forced()

    def _matches(self, count: int) -> bool:
        return [s.token for s in self.steps[self._read :]] == self._path[:count]

    def settle(self) -> int:
        """How many of the tokens read on trial are to be forgotten."""
        new = [step.token for step in self.steps[self._read :]]
        same = 0
        while same < min(len(new), len(self._path)) and new[same] == self._path[same]:
            same += 1
        self._read += same
        return len(self._path) - same

    def _write(self, step: Step) -> None:
        self._state = self._grammar.advance(self._state, step.token)
        self.steps.append(step)

    def _write_forced(self) -> None:
        while self.open and (step := self._certain(self._state)) is not None:
            self._write(step)

    def _certain(self, state: Any) -> Step | None:
        """What comes where nothing is to be chosen, None where something is."""
        if state in self._held:
            return self._held[state]
        allowed = self._grammar.allowed(state)
        return self._head.certain(int(allowed[0])) if len(allowed) == 1 else None
