# SPDX-License-Identifier: Apache-2.0
"""Free text as a grammar: what a model may write when it is asked a question."""

from __future__ import annotations

from collections.abc import Iterable

from rt2_ros.actions.tokens import TokenIds, eos_id, frozen_ids
from rt2_ros.actions.vocabularies import Vocabulary

_DONE = -2
_NOTHING = frozen_ids(())


class AnswerGrammar:
    """Free text: one to `max_tokens` tokens that are text, then the end token."""

    def __init__(
        self, vocabulary: Vocabulary, *, max_tokens: int = 64, forbidden: Iterable[int] = ()
    ) -> None:
        if max_tokens < 1:
            raise ValueError(f"max_tokens: {max_tokens}, expected 1 or more")
        self._eos, self._max_tokens = eos_id(vocabulary.tokenizer), max_tokens
        self._free = vocabulary.free_tokens(forbidden)
        self._end = frozen_ids({self._eos})
        self._free_or_end = frozen_ids({*self._free.tolist(), self._eos})
        self._free_set = frozenset(self._free.tolist())

    def start(self) -> int:
        """The state before the first token: the number of tokens so far."""
        return 0

    def allowed(self, state: int) -> TokenIds:
        """Sorted ids, one of which must come next; empty when done."""
        if state == _DONE:
            return _NOTHING
        if state >= self._max_tokens:
            return self._end
        return self._free_or_end if state else self._free

    def advance(self, state: int, token: int) -> int:
        """The state after a token; ValueError for one that `allowed` does not hold."""
        if state > 0 and token == self._eos:
            return _DONE
        if 0 <= state < self._max_tokens and token in self._free_set:
            return state + 1
        raise ValueError(f"token {token} is not allowed here")

    def done(self, state: int) -> bool:
        """Whether the answer is complete, its end token included."""
        return state == _DONE
