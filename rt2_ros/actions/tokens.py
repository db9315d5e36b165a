# SPDX-License-Identifier: Apache-2.0
"""The little that the action language needs of a tokenizer.

A `transformers` tokenizer fits as it is. A word's tokens depend on what stands before it (" 7" is
"▁7" for one tokenizer and "▁", "7" for another), so nothing here encodes a word by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

TokenIds = NDArray[np.int64]

# What an answer follows in a prompt; some tokenizers spell a word by what stands before it.
ANCHOR = "A:"


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that is needed here."""

    @property
    def eos_token_id(self) -> int | None:
        """The token that ends an answer."""

    @property
    def all_special_ids(self) -> Sequence[int]:
        """Tokens that are no text."""

    def get_vocab(self) -> Mapping[str, int]:
        """Every token's spelling and id."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Token ids of a text."""

    def decode(
        self, ids: list[int], *, skip_special_tokens: bool, clean_up_tokenization_spaces: bool
    ) -> str:
        """Text of token ids."""


def continuation(tokenizer: Tokenizer, text: str, anchor: str = ANCHOR) -> tuple[int, ...]:
    """The ids that a text takes after an anchor and a space, which may differ from its ids alone.

    ValueError where the anchor's own tokens change with what follows.
    """
    head = tokenizer.encode(anchor, add_special_tokens=False)
    both = tokenizer.encode(f"{anchor} {text}", add_special_tokens=False)
    if list(both[: len(head)]) != list(head):
        raise ValueError(f"the tokenizer joins {anchor!r} with what follows it")
    return tuple(int(i) for i in both[len(head) :])


def decode_text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Text of ids as they stand: what is special stays visible, so that `parse` refuses it."""
    return tokenizer.decode(
        list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
    )


def special_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Every token that is no text: padding, ends, images and the like."""
    added: Mapping[int, Any] = getattr(tokenizer, "added_tokens_decoder", {})
    return frozenset(tokenizer.all_special_ids) | {i for i, t in added.items() if t.special}


def added_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Tokens that somebody put beside the trained ones, special or not."""
    return frozenset(getattr(tokenizer, "added_tokens_decoder", {}))


def eos_id(tokenizer: Tokenizer) -> int:
    """The token that ends an answer; ValueError for a tokenizer without one."""
    eos = tokenizer.eos_token_id
    if eos is None:
        raise ValueError("tokenizer: eos_token_id is None, expected the token that ends an answer")
    return int(eos)


def frozen_ids(ids: Iterable[int]) -> TokenIds:
    """Sorted ids as an array that nobody can change."""
    array = np.array(sorted(ids), dtype=np.int64)
    array.flags.writeable = False
    return array
