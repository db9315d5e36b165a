# SPDX-License-Identifier: Apache-2.0
"""How bins are written in a model's tokens: four ways, one interface.

    scheme       class            bin 127 becomes
    integers     IntegerTokens    the tokenizer's own token for 127 (PaLI-X in RT-2)
    digits       DigitStrings     what the tokenizer spells " 127" with: " ", "1", "2", "7"
    least_used   LeastUsedTokens  one of 256 rare tokens, given a new meaning (PaLM-E in RT-2)
    openvla      OpenVLATokens    token 32000 - 1 - 127: the last 256, in inverted order

Each is checked when it is built: whatever it writes must read back, as text, as the integers that
`parse` expects. A tokenizer for which that does not hold is refused, with the first bad example.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import InitVar, dataclass, field
from itertools import groupby
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rt2_ros.actions.bins import BINS, checked_bins
from rt2_ros.actions.prompts import ACTION, PLAN
from rt2_ros.actions.tokens import (
    TokenIds,
    Tokenizer,
    added_ids,
    continuation,
    decode_text,
    eos_id,
    frozen_ids,
    special_ids,
)


@dataclass(frozen=True)
class Vocabulary:
    """Bins as token ids and back. spellings: for each of the 256 bins, the ids that write it."""

    tokenizer: Tokenizer = field(repr=False)
    spellings: tuple[tuple[int, ...], ...] = field(init=False, repr=False)

    scheme: ClassVar[str] = ""
    is_text: ClassVar[bool] = True  # the tokenizer itself reads these tokens as integers

    def encode(self, bins: ArrayLike) -> list[int]:
        """Token ids of (n,) bins, as they follow a prompt."""
        return [i for b in np.atleast_1d(checked_bins(bins)).tolist() for i in self.spellings[b]]

    def decode(self, ids: Sequence[int]) -> NDArray[np.uint8]:
        """The bins of what `encode` wrote; ValueError for ids that it never writes."""
        bins: list[int] = []
        known = {spelling: b for b, spelling in enumerate(self.spellings)}
        longest = max(map(len, self.spellings))
        rest = tuple(int(i) for i in ids)
        while rest:
            for size in range(min(longest, len(rest)), 0, -1):
                if rest[:size] in known:
                    bins.append(known[rest[:size]])
                    rest = rest[size:]
                    break
            else:
                raise ValueError(f"ids: no bin is written as {list(rest[:longest])}")
        return np.array(bins, dtype=np.uint8)

    def text(self, ids: Iterable[int]) -> str:
        """An answer as text for `parse`: up to its end token, action tokens as integers."""
        answer: list[int] = []
        for i in map(int, ids):
            if i == self.tokenizer.eos_token_id:
                break
            answer.append(i)
        if self.is_text:
            return decode_text(self.tokenizer, answer)
        bins = {ids[0]: b for b, ids in enumerate(self.spellings)}
        parts = []
        for is_action, run in groupby(answer, lambda i: i in bins):
            if is_action:
                parts.append(" ".join(str(bins[i]) for i in run))
            else:
                parts.append(decode_text(self.tokenizer, list(run)))
        return " ".join(parts)

    @property
    def overwritten(self) -> frozenset[int]:
        """Tokens that mean a bin and are text no longer."""
        return frozenset() if self.is_text else frozenset(ids[0] for ids in self.spellings)

    def free_tokens(self, forbidden: Iterable[int] = (), *, colons: bool = True) -> TokenIds:
        """Sorted ids of the tokens that are text: not special, not an action's, not forbidden."""
        tokenizer = self.tokenizer
        refused = special_ids(tokenizer) | self.overwritten | {eos_id(tokenizer), *forbidden}
        return frozen_ids(
            i
            for text, i in tokenizer.get_vocab().items()
            if i not in refused and (colons or (":" not in text and text != "<0x3A>"))
        )

    def _finish(self, spellings: Iterable[Sequence[int]]) -> None:
        """Keep the spellings, after a look at whether they read back."""
        object.__setattr__(self, "spellings", tuple(tuple(int(i) for i in s) for s in spellings))
        rows = np.arange(BINS).reshape(-1, 8)
        for row in [*rows, *np.random.default_rng(0).permutation(BINS).reshape(-1, 8)]:
            wanted, ids = " ".join(map(str, row.tolist())), self.encode(row)
            if self.is_text and (found := continuation(self.tokenizer, wanted)) != tuple(ids):
                raise ValueError(
                    f"{self.scheme}: the tokenizer writes '{wanted}' as {list(found)}, "
                    f"which is not its integers one by one, {ids}"
                )
            if (read := self.text(ids)).split() != wanted.split():
                raise ValueError(f"{self.scheme}: tokens of '{wanted}' read back as {read!r}")
            if self.decode(ids).tolist() != row.tolist():
                raise ValueError(f"{self.scheme}: tokens of '{wanted}' are ambiguous: {ids}")


@dataclass(frozen=True)
class IntegerTokens(Vocabulary):
    """The tokenizer's own token for each of 0..255."""

    scheme: ClassVar[str] = "integers"

    def __post_init__(self) -> None:
        spellings = [continuation(self.tokenizer, str(b)) for b in range(BINS)]
        for b, spelling in enumerate(spellings):
            if len(spelling) != 1:
                raise ValueError(f"integers: {b} takes {len(spelling)} tokens, expected 1")
        if len(set(spellings)) != BINS:
            raise ValueError("integers: the tokenizer has one token for several integers")
        self._finish(spellings)


@dataclass(frozen=True)
class DigitStrings(Vocabulary):
    """As many tokens as the tokenizer spells an integer with, the space before it included."""

    scheme: ClassVar[str] = "digits"

    def __post_init__(self) -> None:
        self._finish(continuation(self.tokenizer, str(b)) for b in range(BINS))


@dataclass(frozen=True)
class LeastUsedTokens(Vocabulary):
    """256 tokens that text hardly uses, one for each bin from 0 on; `choose` finds them.

    The ids belong to the checkpoint: a model trained with one choice is read with the same.
    """

    ids: InitVar[Sequence[int]]

    scheme: ClassVar[str] = "least_used"
    is_text: ClassVar[bool] = False

    def __post_init__(self, ids: Sequence[int]) -> None:
        _check_overwritten(self.scheme, self.tokenizer, ids)
        self._finish((i,) for i in ids)

    @classmethod
    def choose(cls, tokenizer: Tokenizer) -> LeastUsedTokens:
        """The last tokens: tokenizers number them by falling frequency.

        Special and added tokens and those of "Plan:", "Action:" and digits are left alone.
        """
        kept = special_ids(tokenizer) | _plan_ids(tokenizer) | added_ids(tokenizer)
        free = sorted(i for i in tokenizer.get_vocab().values() if i not in kept)
        if len(free) < BINS:
            raise ValueError(f"least_used: {len(free)} ordinary tokens, expected {BINS} or more")
        return cls(tokenizer, free[-BINS:])

    @property
    def token_ids(self) -> tuple[int, ...]:
        """(256,) ids by bin, to be saved with a checkpoint."""
        return tuple(ids[0] for ids in self.spellings)


@dataclass(frozen=True)
class OpenVLATokens(Vocabulary):
    """The last 256 tokens, bin 0 the very last; `vocab_size` is 32000 for Llama 2."""

    vocab_size: InitVar[int | None] = None

    scheme: ClassVar[str] = "openvla"
    is_text: ClassVar[bool] = False

    def __post_init__(self, vocab_size: int | None) -> None:
        size = vocab_size or int(getattr(self.tokenizer, "vocab_size", 0))
        ids = [size - 1 - b for b in range(BINS)]
        _check_overwritten(self.scheme, self.tokenizer, ids)
        self._finish((i,) for i in ids)


VOCABULARIES: dict[str, type[Vocabulary]] = {
    c.scheme: c for c in (IntegerTokens, DigitStrings, LeastUsedTokens, OpenVLATokens)
}


def choose_vocabulary(
    tokenizer: Tokenizer, scheme: str | None = None, ids: Sequence[int] | None = None
) -> Vocabulary:
    """The named vocabulary, else integer tokens where the tokenizer has them, else digit strings.

    `least_used` takes the checkpoint's ids, or chooses them. It and `openvla` change what tokens
    mean, so they are never chosen unnamed. ValueError says why a tokenizer does not fit.
    """
    if scheme is not None and scheme not in VOCABULARIES:
        raise ValueError(f"scheme: {scheme!r}, expected one of {', '.join(VOCABULARIES)}")
    if ids is not None and scheme != "least_used":
        raise ValueError(f"ids: given for scheme {scheme!r}, only least_used takes them")
    makers: dict[str, Callable[[], Vocabulary]] = {
        "integers": lambda: IntegerTokens(tokenizer),
        "digits": lambda: DigitStrings(tokenizer),
        "openvla": lambda: OpenVLATokens(tokenizer),
        "least_used": lambda: (
            LeastUsedTokens.choose(tokenizer) if ids is None else LeastUsedTokens(tokenizer, ids)
        ),
    }
    if scheme is not None:
        return makers[scheme]()
    reasons = []
    for name in ("integers", "digits"):
        try:
            return makers[name]()
        except ValueError as error:
            reasons.append(str(error))
    raise ValueError(
        f"this tokenizer cannot write 0..255 as text ({'; '.join(reasons)}); "
        "train with scheme least_used"
    )


def _plan_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """What any plan is written with."""
    texts = (PLAN, ACTION, "0 1 2 3 4 5 6 7 8 9.")
    return frozenset(i for text in texts for i in continuation(tokenizer, text))


def _check_overwritten(scheme: str, tokenizer: Tokenizer, ids: Sequence[int]) -> None:
    if len(ids) != BINS or len(set(ids)) != BINS:
        raise ValueError(f"{scheme}: {len(set(ids))} different ids, expected {BINS}")
    if missing := sorted(set(ids) - set(tokenizer.get_vocab().values())):
        raise ValueError(f"{scheme}: ids {missing[:3]} are not in the tokenizer's vocabulary")
    if special := sorted(set(ids) & special_ids(tokenizer)):
        raise ValueError(f"{scheme}: ids {special[:3]} are special tokens")
