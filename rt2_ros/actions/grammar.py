# SPDX-License-Identifier: Apache-2.0
"""Which token may come next, so that whatever a model writes is exactly one valid action.

    [Plan: at most N free tokens Action:] terminate dx dy dz drx dry drz gripper <eos>
    [Plan: what a form allows. Action:] terminate dx dy dz drx dry drz gripper <eos>

    state = grammar.start()
    while not grammar.done(state):
        token = ...                       # the likeliest of grammar.allowed(state)
        state = grammar.advance(state, token)

The grammar works on tokens and takes their spelling from a vocabulary; integers of several tokens
are walked in a trie. It allows what `parse` accepts and nothing else: a colon can only come with
"Action:", so a plan cannot spell the marker by other tokens. All sets are computed beforehand, and
`allowed` returns the very same read-only array for the same situation, so a caller may cache by it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol

from numpy.typing import ArrayLike

from rt2_ros.actions.bins import checked_bins
from rt2_ros.actions.form import Leaf, Part, PlanForm
from rt2_ros.actions.parsing import Parsed, parse
from rt2_ros.actions.prompts import ACTION, PLAN, tidy_plan
from rt2_ros.actions.space import ActionSpace
from rt2_ros.actions.tokens import ANCHOR, TokenIds, continuation, eos_id, frozen_ids
from rt2_ros.actions.vocabularies import Vocabulary

PLAN_MODES = ("none", "optional", "required")

_IN_PLAN = -1
_DONE = -2


class State(NamedTuple):
    """Where a walk stands; hashable. Callers only hand it back."""

    node: int  # of the trie, or one of the two places above
    matched: int = 0  # tokens of "Action:" that the plan ends with
    tokens: int = 0  # free ones so far


class TokenGrammar(Protocol):
    """What a decoder needs: a walk through the answers that are allowed."""

    def start(self) -> Any:
        """The state before the first token."""

    def allowed(self, state: Any) -> TokenIds:
        """Sorted ids, one of which must come next; empty when done."""

    def advance(self, state: Any, token: int) -> Any:
        """The state after a token; ValueError for one that is not allowed."""

    def done(self, state: Any) -> bool:
        """Whether the answer is complete."""


MOST_TOKENS = 192  # of an answer; decoders write no longer ones


class Grammar:
    """The answers to a robot prompt.

    plan: none, optional or required; max_plan_tokens: after as many, "Action:" is forced.
    forbidden: further ids that no plan may hold, such as image tokens that are not special.
    form: what plans look like, instead of free tokens.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        space: ActionSpace,
        *,
        plan: str = "optional",
        max_plan_tokens: int = 32,
        forbidden: Iterable[int] = (),
        form: PlanForm | None = None,
    ) -> None:
        if plan not in PLAN_MODES:
            raise ValueError(f"plan: {plan!r}, expected one of {', '.join(PLAN_MODES)}")
        if max_plan_tokens < 1:
            raise ValueError(f"max_plan_tokens: {max_plan_tokens}, expected 1 or more")
        self.vocabulary, self.space = vocabulary, space
        self.plan, self.max_plan_tokens, self._plan_form = plan, max_plan_tokens, form
        self._eos = eos_id(vocabulary.tokenizer)
        self._words: dict[str, tuple[int, ...]] = {}  # tokens of what stands in a plan
        self._children: list[dict[int, int]] = []  # by node: what each token leads to
        self._behind: dict[int, int] = {}  # by node where a path ends and others go on: its end
        # Built from the end: an integer that is complete goes on as what comes after it.
        root = self._choice({(self._eos,): _DONE})
        for bins in reversed(space.allowed_bins()):
            integers = {vocabulary.spellings[b]: root for b in bins}
            root = self._choice(integers)
        self._integers = self._root = root
        self._formed = range(0)  # nodes of plans
        if plan != "none":
            self._plan_marker = continuation(vocabulary.tokenizer, PLAN)
            self._prepare_plan(forbidden)
            start = _IN_PLAN if form is None else self._form(form)
            # A root of its own, so that there is no second plan after "Action:".
            starts = integers if plan == "optional" else {}
            if form is None:
                self._check_length(len(space.allowed_bins()))
            self._root = self._choice({**starts, self._plan_marker: start})
        self._allowed = _shared_arrays(self._children)
        if plan != "none":
            self._check_plan("0" if form is None else form.shortest())

    def start(self) -> State:
        """The state before the answer's first token."""
        return State(self._root)

    def allowed(self, state: State) -> TokenIds:
        """Sorted ids, one of which must come next; empty when done."""
        if state.node == _DONE:
            return _NOTHING
        if state.node != _IN_PLAN:
            return self._allowed[state.node]
        if state.tokens >= self.max_plan_tokens:
            return self._forced[state.matched]
        last = state.matched == len(self._action_marker) - 1
        return self._free_or_end if last else self._free

    def advance(self, state: State, token: int) -> State:
        """The state after a token; ValueError for one that `allowed` does not hold."""
        token = int(token)
        if state.node >= 0 and token in (children := self._children[state.node]):
            return State(children[token])
        if state.node == _IN_PLAN:
            expected = token == self._action_marker[state.matched]
            if expected and state.matched == len(self._action_marker) - 1:
                return State(self._integers)
            if state.tokens >= self.max_plan_tokens:
                if expected:
                    return State(_IN_PLAN, state.matched + 1, state.tokens)
            elif token in self._free_set:
                return State(_IN_PLAN, self._matched(state.matched, token), state.tokens + 1)
        raise ValueError(f"token {token} is not allowed here")

    def done(self, state: State) -> bool:
        """Whether the answer is complete, its end token included."""
        return state.node == _DONE

    def in_plan(self, state: State) -> bool:
        """Whether the next token belongs to the plan or to the "Action:" after it."""
        return state.node == _IN_PLAN or state.node in self._formed

    def accepts(self, ids: Iterable[int]) -> bool:
        """Whether ids, the end token included, are one whole answer."""
        state = self._walk(ids)
        return state is not None and self.done(state)

    def encode(self, bins: ArrayLike, plan: str | None = None) -> list[int]:
        """The ids of an answer, end token included: (8,) bins after an optional plan.

        Training targets made here are what decoding allows; ValueError where they would not be.
        """
        self.space.from_bins(bins)  # refuses what is no action
        ids = self._plan_ids(plan)
        ids += self.vocabulary.encode(checked_bins(bins)[-len(self.space.written) :])
        ids.append(self._eos)
        state = self.start()
        for n, i in enumerate(ids):
            try:
                state = self.advance(state, i)
            except ValueError:
                known = {
                    token: text for text, token in self.vocabulary.tokenizer.get_vocab().items()
                }
                raise ValueError(
                    f"plan: {plan!r} is not in this grammar (plan {self.plan}, at most "
                    f"{self.max_plan_tokens} tokens): {known.get(i)!r} cannot come as token {n}"
                ) from None
        return ids

    def read(self, ids: Iterable[int]) -> Parsed:
        """The action that ids mean, or why they mean none; free of the grammar or not.

        The end token may be missing only where nothing else could follow: "... 12" cut short may
        have been about to be 127.
        """
        ids = [int(i) for i in ids]
        parsed = parse(self.vocabulary.text(ids), self.space)
        if parsed.valid and self._eos not in ids:
            state = self._walk(ids)
            if state is None or self.allowed(state).tolist() != [self._eos]:
                return Parsed(None, None, parsed.plan, "the answer is cut off: no end token")
        return parsed

    def lasting(self, ids: Sequence[int]) -> tuple[dict[State, int], dict[State, TokenIds]]:
        """Of what lasts in an answer's plan: which of its tokens was chosen in which state, and
        where it ends but could go on ("cat", "cat face"), what may come behind it as it is.

        The first call takes some tenths of a second where there are many choices.
        """
        found = self._lasting.match(_characters(ids)) if self._lasting else None
        if found is None:
            return {}, {}
        states = [self.start()]
        for token in ids:
            states.append(self.advance(states[-1], token))
        spans = [found.span(group + 1) for group in range(found.re.groups)]
        places = {states[i]: i for span in spans for i in range(*span)}  # (-1, -1): left out
        ends: dict[State, TokenIds] = {}
        for node in (states[end].node for _, end in spans if end >= 0):
            ends |= self._apart(node, self._behind.get(node, node))
        return places, ends

    def _apart(self, node: int, end: int) -> dict[State, TokenIds]:
        """What may come at a node, and at those behind it, if they are but a path's end."""
        if node == end:
            return {}
        found = {State(node): self._allowed[end]}
        for token, place in self._children[end].items():
            found |= self._apart(self._children[node][token], place)
        return found

    @cached_property
    def _lasting(self) -> re.Pattern[str] | None:
        """Plans, token by token: as text they may be spelled otherwise ("t - shirt", "pinata")."""
        if self.plan == "none" or self._plan_form is None:
            return None
        plan = self._plan_form.pattern(lambda text: _characters(self._word(text)))
        before, after = (
            re.escape(_characters(ids)) for ids in (self._plan_marker, self._plan_end())
        )
        return re.compile(f"{before}{plan}{after}")

    def _walk(self, ids: Iterable[int]) -> State | None:
        """The state after ids, None where one of them is not allowed."""
        state = self.start()
        try:
            for i in ids:
                state = self.advance(state, i)
        except ValueError:
            return None
        return state

    def _plan_ids(self, plan: str | None) -> list[int]:
        if plan is None:
            return []
        if self.plan == "none":
            raise ValueError(f"plan: {plan!r}, but the grammar has none")
        text = f"{tidy_plan(plan)}."
        words = continuation(self.vocabulary.tokenizer, text, f"{ANCHOR} {PLAN}")
        return [*self._plan_marker, *words, *self._action_marker]

    def _choice(self, paths: Mapping[tuple[int, ...], int], apart: bool = True) -> int:
        """A node, the root of a trie, from which each path of tokens leads to its place.

        apart: it is an error if a path's end cannot be told by the token that comes after it.
        """
        tails: dict[int, dict[tuple[int, ...], int]] = {}
        for path, place in paths.items():
            tails.setdefault(path[0], {})[path[1:]] = place
        children = {}
        for token, rest in tails.items():
            end = rest.pop((), None)
            if not rest:
                assert end is not None
                children[token] = end
                continue
            children[token] = node = self._choice(rest, apart)
            if end is not None:  # "1" is complete, and may become "12" as well
                after = self._children[end] if end >= 0 else {}
                if apart and (end < 0 or after.keys() & self._children[node].keys()):
                    raise ValueError(f"tokenizer: where integers end is ambiguous at {token}")
                children[token] = both = self._either(node, end)
                self._behind[both] = end
        self._children.append(children)
        return len(self._children) - 1

    def _either(self, one: int, other: int) -> int:
        """A node that goes on as either of two does."""
        if one == other:
            return one
        if min(one, other) < 0:
            raise ValueError("an answer may be complete and go on")
        children = dict(self._children[one])
        for token, place in self._children[other].items():
            children[token] = self._either(children[token], place) if token in children else place
        self._children.append(children)
        both = len(self._children) - 1
        if one in self._behind or other in self._behind:
            ends = (self._behind.get(node, node) for node in (one, other))
            self._behind[both] = self._either(*ends)
        return both

    def _form(self, form: PlanForm) -> int:
        """The node where plans of a form begin."""
        first = len(self._children)
        begun = self._begun(form.parts, {self._plan_end(): self._integers})
        node = self._choice(begun, apart=False)
        self._formed = range(first, len(self._children))
        return node

    def _plan_end(self) -> tuple[int, ...]:
        """What stands behind a plan of a form."""
        return (*self._word("0.")[len(self._word("0")) :], *self._action_marker)

    def _begun(
        self, parts: Sequence[Part], after: dict[tuple[int, ...], int]
    ) -> dict[tuple[int, ...], int]:
        """How parts may begin, with the place to which each beginning leads; so does what follows
        them, `after`.
        """
        for part in reversed(parts):
            if isinstance(part, Leaf):
                node = self._choice(after, apart=False)
                after = {self._word(text): node for text in part.texts}
            else:
                for path, place in self._begun(part, after).items():
                    both = path in after and after[path] != place
                    after = {**after, path: self._either(place, after[path]) if both else place}
        return after

    def _word(self, text: str) -> tuple[int, ...]:
        if text not in self._words:
            tokenizer = self.vocabulary.tokenizer
            self._words[text] = continuation(tokenizer, text, f"{ANCHOR} {PLAN} 0")
        return self._words[text]

    def _prepare_plan(self, forbidden: Iterable[int]) -> None:
        """What may stand between "Plan:" and "Action:", and how "Action:" is recognised."""
        marker = self._word(ACTION)
        self._free = self.vocabulary.free_tokens(forbidden, colons=False)
        self._free_set = frozenset(self._free.tolist())
        *before, end = marker
        if end in self._free_set or not self._free_set.issuperset(before):
            raise ValueError(f"tokenizer: the last token of '{ACTION}' must be all with a colon")
        self._action_marker = marker
        self._free_or_end = frozen_ids({*self._free_set, end})
        self._forced = [frozen_ids({i}) for i in marker]

    def _matched(self, matched: int, token: int) -> int:
        """How many tokens of "Action:" the plan ends with after one more."""
        seen = (*self._action_marker[:matched], token)
        sizes = range(len(seen), 0, -1)
        return next((n for n in sizes if seen[-n:] == self._action_marker[:n]), 0)

    def _check_length(self, integers: int) -> None:
        """ValueError unless decoders write the longest answer to its end."""
        spelled = integers * max(map(len, self.vocabulary.spellings))
        most = MOST_TOKENS - len(self._plan_marker) - len(self._action_marker) - spelled - 1
        if self.max_plan_tokens > most:
            raise ValueError(
                f"max_plan_tokens: {self.max_plan_tokens}, expected at most {most} with this "
                f"tokenizer: an answer has at most {MOST_TOKENS} tokens"
            )

    def _check_plan(self, plan: str) -> None:
        """ValueError unless a plan reads back as it was written."""
        ids = self.encode([0] * len(self.space.names), plan)
        if self.read(ids).plan != plan:
            raise ValueError(
                f"tokenizer: an answer with a plan reads back as {self.vocabulary.text(ids)!r}; "
                f"add '{PLAN}' and '{ACTION}' to it as tokens, or use plan 'none'"
            )


def _characters(ids: Iterable[int]) -> str:
    """Ids as a text of one character each, for regular expressions."""
    return "".join(map(chr, ids))


def _shared_arrays(children: Sequence[Mapping[int, int]]) -> list[TokenIds]:
    """For each node its tokens; nodes with the same tokens have the same array."""
    arrays: dict[tuple[int, ...], TokenIds] = {}
    keys = [tuple(sorted(c)) for c in children]
    return [arrays.setdefault(k, frozen_ids(k)) for k in keys]


_NOTHING = frozen_ids(())
