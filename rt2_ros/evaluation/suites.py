# SPDX-License-Identifier: Apache-2.0
"""Suites: what a policy is tried on, read from config/evaluation/NAME.yaml.

>>> scenario = load_suite("emergent").cell("symbols").scenario(seed=7)
>>> scenario.instruction, scenario.task
('move the pear to the cross mark', Task(kind='near', object='pear', target='cross mark'))

A scenario depends on suite, cell and seed alone. Everything that a suite names is looked up when it
is loaded, so that an unknown object is an error before the first episode.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from rt2_ros.data import split
from rt2_ros.data.pictographs import by_name
from rt2_ros.evaluation.disturb import Disturbance
from rt2_ros.evaluation.looks import LOOKS, draw_look
from rt2_ros.paths import config_path
from rt2_ros.sim.env import Scenario
from rt2_ros.sim.expert import CLEARANCE, free_place
from rt2_ros.sim.model import MAX_SLOTS
from rt2_ros.sim.scene import random_layout, random_start
from rt2_ros.sim.tasks import Task

Names = tuple[str, ...]

# Whole pools by name, for `objects` and `others`; and for `phrases`.
POOLS: dict[str, Names] = {
    "robot": split.ROBOT_NAMES,
    "unseen-alike": split.unseen_names(alike=True),
    "unseen-other": split.unseen_names(alike=False),
}
PHRASES: dict[str, Names] = {
    "robot": split.ROBOT_PHRASES["pick"],
}
APART = 0.16  # m at least between a thing and where it is to be put


@dataclass(frozen=True)
class Case:
    """A family of scenarios, one for each seed.

    task: pick, near or on. objects: blocks that may be asked for. others: blocks that may lie there
    besides (objects, if none are given). blocks: how many in all, (least, most).
    target: the card that the object is to be brought to. cards: other cards that may lie there.
    flat: how many cards in all, (least, most).
    phrases: how it is said, with {object}, {target} and {other}, another block, in them.
    typos: letters of it that go wrong. look: one of looks.LOOKS.
    """

    objects: Names
    phrases: Names
    task: str = "pick"
    others: Names = ()
    blocks: tuple[int, int] = (3, 6)
    target: str = ""
    cards: Names = ()
    flat: tuple[int, int] = (0, 0)
    typos: int = 0
    look: str = "plain"

    def __post_init__(self) -> None:
        for name in (*self.objects, *self.others, *self.cards, *filter(None, [self.target])):
            by_name(name)
        for key, known in (("task", Task.KINDS), ("look", LOOKS)):
            if getattr(self, key) not in known:
                value = getattr(self, key)
                raise ValueError(f"{key}: {value!r}, expected one of {', '.join(known)}")
        for key in ("objects", "phrases"):
            if not getattr(self, key):
                raise ValueError(f"{key}: none, expected at least one")
        if (self.task == "pick") != (not self.target):
            expected = "none" if self.task == "pick" else "a name"
            raise ValueError(f"target: {self.target!r}, expected {expected} for {self.task}")
        at_hand = min(MAX_SLOTS, len({*self.objects, *self.others}))
        self._check_pair("blocks", 1, at_hand)
        cards = len({*self.cards, self.target} - {""})
        self._check_pair("flat", min(1, cards), cards)
        for phrase in self.phrases:
            if not isinstance(phrase, str):
                raise ValueError(f"phrases: {phrase!r}, expected text; quote one with a colon")
            try:
                phrase.format(object="", target="", other="")
            except (KeyError, IndexError):
                raise ValueError(
                    f"phrases: {phrase!r}, expected no other than {{object}}, {{target}}, {{other}}"
                ) from None

    def _check_pair(self, key: str, least: int, most: int) -> None:
        pair = getattr(self, key)
        if len(pair) != 2 or not least <= pair[0] <= pair[1] <= most:
            raise ValueError(
                f"{key}: {list(pair)}, expected two numbers from {least} to {most}, the first not "
                "the larger one"
            )

    def scenario(self, seed: int, random: np.random.Generator) -> Scenario:
        """Draw the scenario of a seed."""
        thing = str(random.choice(self.objects))
        blocks = _draw(random, self.others or self.objects, {thing}, self.blocks, 1)
        cards: list[str] = []
        if self.target:
            cards = [self.target, *_draw(random, self.cards, {self.target}, self.flat, 1)]
        names = [thing, *cards, *blocks]
        kinds = ["block"] + ["card"] * len(cards) + ["block"] * len(blocks)
        while True:
            layout = random_layout(random, names, kinds, APART if cards else 0.0)
            centres = [np.asarray(placement.position)[:2] for placement in layout]
            if self.task != "near":
                break
            _, clearance = free_place(centres[0], centres[1], centres[2:])
            if clearance >= CLEARANCE:
                break
        phrase = str(random.choice(self.phrases))
        words = {"object": thing, "target": self.target, "other": blocks[0] if blocks else ""}
        said = phrase.format_map({key: _spoken(phrase, name) for key, name in words.items()})
        return Scenario(
            seed,
            Task(self.task, thing, self.target),
            misspell(random, said, self.typos),
            layout,
            random_start(random),
            draw_look(random, self.look),
        )


@dataclass(frozen=True)
class Cell:
    """One cell of the results' table; its cases are taken in turn by the seed.

    source: the file that it was read from.
    """

    suite: str
    name: str
    cases: tuple[Case, ...]
    disturb: Disturbance
    source: str = ""

    @property
    def title(self) -> str:
        """'unseen-objects/easy', or the suite's name where it has one cell."""
        return f"{self.suite}/{self.name}" if self.name else self.suite

    def random(self, seed: int, part: int) -> np.random.Generator:
        """Generator for one part of an episode: 0 its scene, 1 its disturbances."""
        return np.random.default_rng([seed, zlib.crc32(self.title.encode()), part])

    def scenario(self, seed: int) -> Scenario:
        """The scenario of a seed."""
        case = self.cases[seed % len(self.cases)]
        return case.scenario(seed, self.random(seed, 0))


@dataclass(frozen=True)
class Suite:
    """A named set of cells."""

    name: str
    description: str
    cells: tuple[Cell, ...]

    def cell(self, name: str) -> Cell:
        """Return the cell of that name. Raises ValueError with the names that there are."""
        for cell in self.cells:
            if cell.name == name:
                return cell
        known = ", ".join(repr(cell.name) for cell in self.cells)
        raise ValueError(f"suite {self.name}: no cell {name!r}; it has {known}")


def suite_names() -> Names:
    """What config/evaluation holds: 'seen', then the others sorted."""
    names = [path.stem for path in config_path("evaluation").glob("*.yaml")]
    return tuple(sorted(names, key=lambda name: (name != "seen", name)))


def load_suite(name_or_path: str) -> Suite:
    """Read config/evaluation/NAME.yaml or a file.

    Raises:
        ValueError: naming the file, the cell, the key, the value and what was expected.
    """
    path = Path(name_or_path)
    if not path.is_file():
        path = config_path("evaluation", f"{name_or_path}.yaml")
    if not path.is_file():
        raise ValueError(f"no suite {name_or_path!r}; there are {', '.join(suite_names())}")
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(raw, Mapping) or not isinstance(raw.get("cells"), list) or not raw["cells"]:
        raise ValueError(f"{path}: expected a mapping with a description and a list `cells`")
    cells = tuple(_cell(path, entry) for entry in raw["cells"])
    names = [cell.name for cell in cells]
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: cells are named {names}, expected each name once")
    return Suite(path.stem, str(raw.get("description", "")), cells)


def misspell(random: np.random.Generator, text: str, typos: int) -> str:
    """Swap, drop or double a letter, `typos` times, within words of at least four letters."""
    for _ in range(typos):
        inside = [i for i in range(1, len(text) - 2) if text[i - 1 : i + 3].isalpha()]
        if not inside:
            break
        i = int(random.choice(inside))
        pair = text[i : i + 2]
        wrong = str(random.choice([pair[::-1], pair[1], pair[0] + pair]))
        text = text[:i] + wrong + text[i + 2 :]
    return text


def _draw(
    random: np.random.Generator, pool: Names, taken: set[str], counts: tuple[int, int], have: int
) -> list[str]:
    """Draw from a pool, so that with the `have` there are, there are as many as `counts` says."""
    count = int(random.integers(counts[0], counts[1] + 1)) - have
    left = [name for name in pool if name not in taken]
    return [str(name) for name in random.permutation(left)[:count]]


def _spoken(phrase: str, name: str) -> str:
    """What a thing is called in a phrase: by its Chinese name in a Chinese one."""
    if phrase.isascii() or not name:
        return split.SHORT_NAMES.get(name, name)
    return by_name(name).name_zh


def _cell(path: Path, entry: Any) -> Cell:
    if not isinstance(entry, Mapping):
        raise ValueError(f"{path}: cell {entry!r}, expected a mapping")
    rest = dict(entry)
    name = str(rest.pop("name", ""))
    where = f"{path}: cell {name!r}"
    variants = rest.pop("cases", [{}])
    try:
        disturb = Disturbance(**rest.pop("disturb", {}))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: disturb: {error}") from None
    cases = tuple(
        _case(where if len(variants) == 1 else f"{where}, case {number}", {**rest, **variant})
        for number, variant in enumerate(variants, 1)
    )
    return Cell(path.stem, name, cases, disturb, str(path.absolute()))


def _case(where: str, entry: dict[str, Any]) -> Case:
    known = [f.name for f in fields(Case)]
    unknown = sorted(set(entry) - set(known))
    if unknown:
        raise ValueError(
            f"{where}: unknown key {unknown[0]!r}; expected {', '.join(known)}, "
            "and in a cell name, disturb, cases"
        )
    values = dict(entry)
    for key, named in (("objects", POOLS), ("others", POOLS), ("cards", {}), ("phrases", PHRASES)):
        if key in values:
            given = values[key]
            values[key] = named.get(given, (given,)) if isinstance(given, str) else tuple(given)
    for key in ("blocks", "flat"):
        if key in values:
            given = values[key]
            values[key] = tuple(given) if isinstance(given, (list, tuple)) else (given, given)
    try:
        return Case(**values)
    except KeyError as error:
        raise ValueError(f"{where}: {error.args[0]}") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from None
