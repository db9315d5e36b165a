# SPDX-License-Identifier: Apache-2.0
"""What is known of the rest of an answer before it is written.

    ahead(grammar, state)     # Rest(choices=(256 bins, ..., 2 tokens), forced=((), ..., (eos,)))

Where each choice leads to the same place whatever is chosen, as the bins of an action do that are
one token each, all the rest can be decided without looking at the choices: on a GPU, without
waiting for it. A plan, or an integer of several tokens, leads elsewhere, and has no such rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rt2_ros.actions import MOST_TOKENS, TokenGrammar

MOST = 1024  # tokens of a choice that are looked behind


@dataclass(frozen=True, eq=False)
class Rest:
    """choices: the tokens allowed at each; forced: those that must come after it. states: all that
    the grammar goes through.
    """

    choices: tuple[np.ndarray, ...]
    forced: tuple[tuple[int, ...], ...]
    states: frozenset[Any] = frozenset()

    @property
    def tokens(self) -> int:
        """How many there are to write."""
        return len(self.choices) + sum(map(len, self.forced))


class Lookahead:
    """`ahead`, remembered by the state of one grammar."""

    def __init__(self, grammar: TokenGrammar) -> None:
        self.grammar = grammar
        self._known: dict[Any, Rest | None] = {}

    def __call__(self, state: Any) -> Rest | None:
        """The rest from a state on, the same object each time; None where it is not known."""
        if state not in self._known:
            if len(self._known) >= MOST:
                self._known.clear()
            self._known[state] = ahead(self.grammar, state)
        return self._known[state]


def ahead(grammar: TokenGrammar, state: Any) -> Rest | None:
    """The rest of an answer from a state in which there is a choice; None where it depends."""
    choices: list[np.ndarray] = []
    forced: list[list[int]] = []
    states: set[Any] = set()
    while not grammar.done(state):
        allowed = grammar.allowed(state)
        if not 0 < len(allowed) <= MOST or len(states) == MOST_TOKENS:
            return None
        states.add(state)
        after = grammar.advance(state, int(allowed[0]))
        if any(grammar.advance(state, int(token)) != after for token in allowed[1:]):
            return None
        if len(allowed) > 1:
            choices.append(allowed)
            forced.append([])
        elif forced:
            forced[-1].append(int(allowed[0]))
        else:
            return None
        state = after
    if not choices:
        return None
    return Rest(tuple(choices), tuple(map(tuple, forced)), frozenset(states))
