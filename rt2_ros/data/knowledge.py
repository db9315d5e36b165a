# SPDX-License-Identifier: Apache-2.0
"""What is known of pictographs beside their names: kinds, colours, weights, uses, trades, sums.

    >>> [fact.texts[0] for fact in facts_of("hammer")][:3]
    ['the tool', 'what I could use to drive a nail']
    >>> fact("the tool").tells("hammer", among=["hammer", "banana"])
    True

Plain common knowledge, written down by hand (`knowledge.yaml`) for the web set, which asks it of
pictures in which exactly one thing answers. Nothing here is an instruction to a robot.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from rt2_ros.data.pictographs import NUMBERS
from rt2_ros.data.split import web_pictographs

TABLE = Path(__file__).with_suffix(".yaml")
NUMBERS_ZH = "零一二三四五六七八九十"


@dataclass(frozen=True)
class Fact:
    """Something that is true of some things and surely not of others; of the rest nobody says.

    texts, texts_zh: what a thing that it is true of may be called; or, with `said`, a sentence that
    asks for it ("I am thirsty").
    """

    texts: tuple[str, ...]
    texts_zh: tuple[str, ...]
    true: frozenset[str]
    false: frozenset[str]
    said: bool = False

    def tells(self, name: str, among: Collection[str]) -> bool:
        """Whether it singles that thing out among those in a picture."""
        return name in self.true and all(other == name or other in self.false for other in among)


@cache
def facts() -> tuple[Fact, ...]:
    """Everything that is known, kinds first."""
    known, names = _table(), frozenset(p.name for p in web_pictographs())
    found = list(kinds())
    colours = {entry["text"][0]: _of(entry["things"]) for entry in known["colours"]}
    for entry in known["colours"]:
        english, chinese = entry["text"]
        near, true = (english, *entry.get("near", ())), colours[english]
        others = frozenset().union(*(of for word, of in colours.items() if word not in near)) - true
        so = (f"the {english} one", f"something {english}", f"the {english} thing")
        found.append(Fact(so, (f"{chinese}的东西", f"{chinese}的那个"), true, others))
        not_so = (f"the one that is not {english}", f"something that is not {english}")
        found.append(Fact(not_so, (f"不是{chinese}的那个", f"不是{chinese}的东西"), others, true))
    for pair in known["pairs"]:
        for one, other in (pair, pair[::-1]):
            false = _of(other["things"]) | _of(one.get("never", ()))
            found.append(
                Fact(tuple(one["texts"]), tuple(one["texts_zh"]), _of(one["things"]), false)
            )
    by_text = {fact.texts[0]: fact.true for fact in found}
    useless = _of(known["useless"])
    forms: tuple[str, ...]
    for key, forms, chinese_form, rest in (
        ("uses", ("what I could use to {}", "something to {}", "the thing to {}"),
         "用来{}的东西", useless),
        ("needs", ("{}",), "{}", useless),
        ("lives", ("the animal that {}", "the one that {}"), "{}的动物", by_text["the animal"]),
        ("trades", ("the person who {}", "the one who {}"), "{}的人", by_text["the person"]),
    ):  # fmt: skip
        for entry in known[key]:
            english, chinese = entry["text"]
            true = _of(entry["things"])
            called = tuple(form.format(english) for form in forms)
            said = key == "needs"
            false = rest - true - _of(entry.get("unsure", ()))
            found.append(Fact(called, (chinese_form.format(chinese),), true, false, said))
    sizes = [_of(line) for line in known["sizes"]]
    for place, members in enumerate(sizes):
        for word, chinese, tiers in (
            ("smallest", "最小", sizes[place + 1 :]),
            ("largest", "最大", sizes[:place]),
        ):
            both = (f"the {word} animal", f"the {word} one")
            false = frozenset().union(*tiers)
            found.append(Fact(both, (f"{chinese}的动物", f"{chinese}的那个"), members, false))
    return tuple(fact for fact in found if fact.true and fact.false and fact.true <= names)


@cache
def texts() -> frozenset[str]:
    """Everything in English that a fact may be called by."""
    return frozenset(text for fact in facts() for text in fact.texts)


@cache
def kinds() -> tuple[Fact, ...]:
    """The facts that say what kind of thing it is."""
    names, found = frozenset(p.name for p in web_pictographs()), []
    for entry in _table()["kinds"]:
        english, chinese = entry["text"]
        true = _of(entry["things"]) - _of(entry.get("not", ()))
        false = names - true - _of(entry.get("unsure", ()))
        found.append(Fact((f"the {english}", f"a {english}"), (chinese,), true, false))
    return tuple(found)


def colours_of(name: str) -> tuple[str, ...]:
    """Its colour, where it has one obvious one."""
    entries = _table()["colours"]
    return tuple(entry["text"][0] for entry in entries if name in _of(entry["things"]))


def uses_of(name: str) -> tuple[str, ...]:
    """What it is for: "drive a nail"."""
    entries = _table()["uses"]
    return tuple(entry["text"][0] for entry in entries if name in _of(entry["things"]))


def fact(text: str) -> Fact:
    """What a description says. Raises KeyError for one that nobody wrote down."""
    for known in facts():
        if text in known.texts or text in known.texts_zh:
            return known
    raise KeyError(f"nothing is known of {text!r}")


@cache
def facts_of(name: str) -> tuple[Fact, ...]:
    """The facts that are true of a thing."""
    return tuple(known for known in facts() if name in known.true)


def sums(random: np.random.Generator, value: int, chinese: bool) -> str:
    """An expression whose result is `value`, 0..10, in words or digits."""
    minus = value < 10 and random.random() < (0.4 if value else 1.0)
    if minus:
        second = int(random.integers(1, 11 - value))
        first, operation, named = value + second, ("minus", "-", "减"), ("difference", "差")
    else:
        second = int(random.integers(0, value + 1))
        first, operation, named = value - second, ("plus", "+", "加"), ("sum", "和")
    if chinese:
        text = f"{NUMBERS_ZH[first]}{operation[2]}{NUMBERS_ZH[second]}"
        return f"{text}的{named[1]}" if random.random() < 0.5 else text
    if random.random() < 0.3:
        return f"{first} {operation[1]} {second}"
    text = f"{NUMBERS[first]} {operation[0]} {NUMBERS[second]}"
    if random.random() < 0.4:
        of = "of" if named[0] == "sum" else "between"
        return f"the {named[0]} {of} {text}" if of == "of" else f"the result of {text}"
    return text


def words() -> Iterable[str]:
    """Every text that descriptions are made of."""
    for known in facts():
        yield from known.texts
        yield from known.texts_zh
    yield " ".join(NUMBERS)
    yield "the sum of plus minus + - the result of"
    yield from ("的和", "的差", *(f"{a}加{b}减" for a in NUMBERS_ZH for b in NUMBERS_ZH))


@cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return table


@cache
def _groups() -> dict[str, frozenset[str]]:
    """What names and subgroups stand for, of what web pictures show."""
    groups: dict[str, set[str]] = {}
    for p in web_pictographs():
        groups.setdefault(p.name, set()).add(p.name)
        groups.setdefault(p.subgroup, set()).add(p.name)
        groups.setdefault(f"{p.subgroup.partition('-')[0]}-*", set()).add(p.name)
    return {name: frozenset(members) for name, members in groups.items()}


def _of(names: Iterable[str]) -> frozenset[str]:
    """What these names and subgroups stand for. Raises ValueError for one that stands for none."""
    found: set[str] = set()
    for name in names:
        if name not in _groups():
            raise ValueError(f"{TABLE.name}: {name!r} is no thing of web pictures and no subgroup")
        found |= _groups()[name]
    return frozenset(found)
