# SPDX-License-Identifier: Apache-2.0
"""One answer as it is written: what the decoder asks of it, and tells it.

row = Row(grammar, prompt, head, max_tokens)
row.read(192)                    # tokens for the model: what it has not read, then a guess
row.questions()                  # where there is a choice, and among which tokens
row.take(steps)                  # the choices; those behind a wrong guess are the next one
row.settle()                     # how many tokens of the guess are to be forgotten
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import numpy as np

from rt2_ros.actions import TokenGrammar
from rt2_ros.actions.tokens import TokenIds
from rt2_ros.models.ahead import Lookahead, Rest
from rt2_ros.models.constrain import Step
from rt2_ros.models.forward import Inputs
from rt2_ros.models.head import Head


@dataclass(frozen=True)
class Prompt:
    """What is to be answered.

    inputs: a processor's, one sequence. begin: what the answer begins with as it was chosen before,
    such as a plan that is kept. held: by the grammar's state, what stands there as it was chosen
    before. only: by state, what may come there, where that is less than the grammar allows.
    guesses: whole answers that this one may be like, the likeliest first.
    """

    inputs: Inputs
    begin: Sequence[Step] = ()
    held: Mapping[Any, Step] = field(default_factory=dict)
    only: Mapping[Any, TokenIds] = field(default_factory=dict)
    guesses: Sequence[Sequence[int]] = ()


class Row:
    """Where one sequence stands: what is written, what the model has read, what is guessed."""

    def __init__(self, grammar: TokenGrammar, prompt: Prompt, head: Head, max_tokens: int) -> None:
        self._grammar, self._head, self._max_tokens = grammar, head, max_tokens
        self._state = grammar.start()
        self._guesses, self._held, self._only = prompt.guesses, prompt.held, prompt.only
        self._guess: Sequence[int] = ()  # the one of them that is tried
        self._drafts: dict[int, int] = {}  # by place in the answer, what the model chose on trial
        self.steps: list[Step] = []
        self._read = 0  # of the tokens in `steps`
        self._path: list[int] = []  # read beyond them, on trial
        self._asked: list[tuple[int, np.ndarray]] = []  # place in `_path`, what is allowed there
        for step in prompt.begin:
            self._write(step)
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
        return rest if rest.states.isdisjoint([*self._held, *self._only]) else None

    def finish(self, steps: Sequence[Step]) -> None:
        """All choices that are left; RuntimeError where the grammar would not have made them."""
        try:
            for step in steps:
                self._choose(step)
        except ValueError as error:
            raise RuntimeError(f"chosen against the grammar: {error}") from error
        if self.open:
            raise RuntimeError("the rest of an answer is not all of it")

    def _may_go_on(self, state: Any, written: int) -> bool:
        return not self._grammar.done(state) and written < self._max_tokens

    def read(self, most: int) -> list[int]:
        """What the model is to read: what it has not read of the answer, then so much of the guess
        that both are at most so many tokens.
        """
        self._path, self._asked = [], []
        if not self.open:
            return []
        known = self.unread
        self._read, room = len(self.steps), most - len(known)
        state, self._guess = self._state, self._best_guess() if room > 0 else ()
        while self._may_go_on(state, self._read + len(self._path)):
            step = self._certain(state)
            if step is None:
                self._asked.append((len(self._path), self._allowed(state)))
                place = self._read + len(self._path)
                tokens = [self._drafts.get(place), self._past(place)]
            else:
                tokens = [step.token]
            if len(self._path) >= room:
                break
            for token in (each for each in tokens if each is not None):
                with suppress(ValueError):  # a guess that the grammar does not allow
                    state = self._grammar.advance(state, token)
                    self._path.append(token)
                    break
            else:
                break
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

    def questions(self) -> list[tuple[int, np.ndarray]]:
        """How far before the last token read each choice is made, and the tokens allowed."""
        return [(len(self._path) - place, allowed) for place, allowed in self._asked]

    def take(self, steps: Sequence[Step]) -> None:
        """What the model chooses at the questions.

        Where the guess has been left, what was read behind it says nothing for sure: it is what the
        model would write if the guess were right there, and guessed next (Jacobi decoding,
        arXiv 2305.10427), as long as that is no worse than the past.
        """
        better = True
        for (place, _), step in zip(self._asked, steps, strict=True):
            at, written = self._read + place, len(self.steps) - self._read
            if place == written and self._matches(written):
                if self._drafts.get(at, step.token) != step.token == self._past(at):
                    better = False
                    self._drafts.clear()
                self._choose(step)
            elif better:
                self._drafts[at] = step.token

    def _choose(self, step: Step) -> None:
        """Write it, and what must follow."""
        self._write(step)
        self._write_forced()

    def _past(self, place: int) -> int | None:
        """What the guess has there."""
        return int(self._guess[place]) if place < len(self._guess) else None

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
        allowed = self._allowed(state)
        return self._head.certain(int(allowed[0])) if len(allowed) == 1 else None

    def _allowed(self, state: Any) -> TokenIds:
        return self._only[state] if state in self._only else self._grammar.allowed(state)
