# SPDX-License-Identifier: Apache-2.0
"""What the plans of a model look like, where they all look alike.

    form = PlanForm("[<thing> # #] <verb>", {"thing": ("cake", "key"), "verb": ("take", "lift")})

reads: a thing and two integers 0..255, or not, then a verb: "key 38 109 take", "lift". A model that
was trained on such plans brings its form as `plan_form.json` beside its weights; its plans are then
held to it while they are decoded (`rt2_ros.actions.Grammar`).

A bar ends what the model is reminded of with its next picture, in which the arm may hide it:

    PlanForm("[<thing> # #] | <verb>", ...).recalled("key 38 109 take")     # "key 38 109"

A ! says that something lasts: it is in a later plan of the same attempt what it is in the first,
as the place of a thing that nobody moves (`rt2_ros.policies.memory`):

    PlanForm("<thing>! # # <verb>", ...)     # "key" of "key 38 109 take" lasts
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Union

FILE_NAME = "plan_form.json"


@dataclass(frozen=True)
class Leaf:
    """One of some texts stands there. lasts: the same one in all plans of an attempt."""

    texts: tuple[str, ...]
    lasts: bool = False


Part = Union[Leaf, "list[Part]"]  # a list may be left out

_INTEGERS = tuple(str(value) for value in range(256))
_WORDS = re.compile(r"\[|\]|[^\s\[\]]+")


@dataclass(frozen=True)
class PlanForm:
    """Words as they stand, # for an integer 0..255, <name> for one of choices[name], each with a !
    if it lasts, in square brackets what may be left out, and at most one bar, outside of them.
    ValueError for anything else.
    """

    text: str
    choices: Mapping[str, tuple[str, ...]]
    parts: list[Part] = field(init=False, repr=False, compare=False)
    _rest: re.Pattern[str] | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        before, bar, after = self.text.partition("|")
        recalled, rest = (
            self._read(iter(_WORDS.findall(text)), nested=False) for text in (before, after)
        )
        object.__setattr__(self, "parts", [*recalled, *rest])
        words = _pattern(rest, lambda text: f" {text}")
        pattern = re.compile("(.*?)" + words) if bar else None
        object.__setattr__(self, "_rest", pattern)
        if not any(isinstance(part, Leaf) for part in self.parts):
            raise ValueError(f"plan form {self.text!r}: expected something that is never left out")

    def _read(self, words: Iterator[str], nested: bool) -> list[Part]:
        parts: list[Part] = []
        for word in words:
            if word == "[":
                parts.append(self._read(words, nested=True))
            elif word == "]" and nested:
                return parts
            else:
                parts.append(self._leaf(word))
        if nested:
            raise ValueError(f"plan form {self.text!r}: a bracket is not closed")
        return parts

    def _leaf(self, word: str) -> Leaf:
        word, lasts = word.removesuffix("!"), word.endswith("!")
        if word == "#":
            return Leaf(_INTEGERS, lasts)
        if not word.startswith("<"):
            if word in ("", "]") or set(":|!") & set(word):
                raise ValueError(f"plan form {self.text!r}: {word!r} cannot stand there")
            return Leaf((word,), lasts)
        texts = self.choices.get(word.strip("<>"))
        if not texts or not all(isinstance(text, str) and text.split() for text in texts):
            raise ValueError(
                f"plan form {self.text!r}: choices for {word} are {texts!r}, expected texts"
            )
        return Leaf(tuple(texts), lasts)

    def shortest(self) -> str:
        """A plan of this form."""
        return " ".join(part.texts[0] for part in self.parts if isinstance(part, Leaf))

    def recalled(self, plan: str) -> str:
        """What stands before the bar; "" where there is none, and for a plan of another form."""
        found = self._rest.fullmatch(f" {plan}") if self._rest else None
        return found[1].strip() if found else ""

    @cached_property
    def lasting(self) -> bool:
        """Whether anything lasts."""
        return any(leaf.lasts for leaf in _leaves(self.parts))

    def pattern(self, spell: Callable[[str], str]) -> str:
        """A regular expression for plans whose words are spelled so, one after another; it has a
        group for each part that lasts.
        """
        return _pattern(self.parts, spell)

    def save(self, folder: Path) -> None:
        """Write it as `plan_form.json`."""
        content = {"text": self.text, "choices": dict(self.choices)}
        (folder / FILE_NAME).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def load(cls, file: Path) -> PlanForm:
        """Read what `save` wrote; ValueError that names the file."""
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            choices = {name: tuple(texts) for name, texts in content["choices"].items()}
            return cls(content["text"], choices)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{file}: {error!s}; expected text and choices") from error


def _leaves(parts: list[Part]) -> Iterator[Leaf]:
    for part in parts:
        if isinstance(part, Leaf):
            yield part
        else:
            yield from _leaves(part)


def _pattern(parts: list[Part], spell: Callable[[str], str]) -> str:
    texts = (
        f"({'' if part.lasts else '?:'}{'|'.join(re.escape(spell(text)) for text in part.texts)})"
        if isinstance(part, Leaf)
        else f"(?:{_pattern(part, spell)})?"
        for part in parts
    )
    return "".join(texts)
