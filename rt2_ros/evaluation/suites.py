# SPDX-License-Identifier: Apache-2.0
"""Suites: what a policy is tried on, read from config/evaluation/NAME.yaml.

>>> scenario = load_suite("emergent").cell("symbols").scenario(seed=7)
>>> scenario.instruction, scenario.task.target
('move the pear to the cross mark', 'cross mark')

A scenario depends on suite, cell and seed alone. Everything that a suite names is looked up when it
is loaded, so that an unknown object is an error before the first episode.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from rt2_ros.data import split
from rt2_ros.data.pictographs import by_name
from rt2_ros.evaluation.disturb import Disturbance
from rt2_ros.evaluation.looks import LOOKS, draw_look
from rt2_ros.evaluation.records import PLAIN, cell_title
from rt2_ros.paths import config_path, read_yaml
from rt2_ros.sim.env import Scenario
from rt2_ros.sim.expert import has_room
from rt2_ros.sim.model import MAX_SLOTS
from rt2_ros.sim.scene import APART, random_layout, random_start
from rt2_ros.sim.tasks import Task
from rt2_ros.sim.world import MAX_OPENING

Names = tuple[str, ...]

OTHER = "{other}"  # in phrases: what is to be left alone
# Whole pools by name, for `objects`, `others`, `target` and `cards`.
POOLS: dict[str, Names] = {
    "robot": split.ROBOT_NAMES,
    "unseen-alike": split.unseen_names(alike=True),
    "unseen-other": split.unseen_names(alike=False),
}
# Cases by name, for `cases`: all that the robot does with things, a quarter of the episodes each.
CASES: dict[str, tuple[dict[str, Any], ...]] = {
    "robot": (
        {"task": "pick", "target": ()},
        {"task": "near", "flat": 1},
        {"task": "on", "flat": 1},
        {"task": ("push left", "push right"), "target": ()},
        {"task": "pick", "target": ()},
        {"task": "near", "onto": "block"},
        {"task": "on", "onto": "block"},
        {"task": ("push forward", "push back"), "target": ()},
    ),
}


# Of how scenes are laid and episodes judged: one more with each change of either, by which results
# become others.
RULES = 2


@dataclass(frozen=True)
class Case:
    """A family of scenarios, one for each seed.

    task: one of Task.KINDS. objects: blocks that may be asked for; none to open and close. others:
    blocks that may lie there besides (objects, if none are given). blocks: how many in all,
    (least, most). target: what the object may be brought to; onto: whether that is a card or a
    block. cards: other cards that may lie there. flat: how many cards in all, (least, most).
    phrases: how it is said, with {object}, {target} and {other} in them; the latter is another
    block, which is not to be touched.
    typos: letters of it that go wrong. look: one of looks.LOOKS.
    """

    objects: Names = ()
    phrases: Names = ()
    task: str = "pick"
    others: Names = ()
    blocks: tuple[int, int] = (3, 6)
    target: Names = ()
    onto: str = "card"
    cards: Names = ()
    flat: tuple[int, int] = (0, 0)
    typos: int = 0
    look: str = "plain"

    def __post_init__(self) -> None:
        for name in (*self.objects, *self.others, *self.cards, *self.target):
            by_name(name)
        for key, known in (("task", Task.KINDS), ("look", LOOKS), ("onto", ("card", "block"))):
            if getattr(self, key) not in known:
                value = getattr(self, key)
                raise ValueError(f"{key}: {value!r}, expected one of {', '.join(known)}")
        for key, needed in (
            ("objects", self.task not in Task.GRIPPER),
            ("target", self.task in Task.PLACING),
        ):
            given = getattr(self, key)
            if bool(given) != needed:
                expected = "at least one name" if needed else "none"
                raise ValueError(f"{key}: {list(given)}, expected {expected} for {self.task!r}")
        if not self.phrases:
            raise ValueError("phrases: none, expected at least one")
        if self.target and len({*self.objects, *self.target}) < 2:
            raise ValueError(f"target: {list(self.target)}, expected another thing than the object")
        on_block = bool(self.target) and self.onto == "block"
        cards = 0
        if self.target and not on_block:
            cards = 1 + min(len({*self.cards} - {target}) for target in self.target)
        self._check_pair("flat", min(1, cards), cards)
        asked = bool(self.objects) + on_block
        self._check_pair("blocks", max(1, asked), min(MAX_SLOTS, asked + self._left()))
        if self.blocks[1] + self.flat[1] > MAX_SLOTS:
            raise ValueError(
                f"blocks: {list(self.blocks)}, expected at most {MAX_SLOTS - self.flat[1]} "
                f"beside {self.flat[1]} cards"
            )
        for phrase in self.phrases:
            if not isinstance(phrase, str):
                raise ValueError(f"phrases: {phrase!r}, expected text; quote one with a colon")
            try:
                phrase.format(object="", target="", other="")
            except (KeyError, IndexError):
                raise ValueError(
                    f"phrases: {phrase!r}, expected no other than {{object}}, {{target}}, {{other}}"
                ) from None
            if OTHER in phrase and self.blocks[0] <= asked:
                raise ValueError(
                    f"blocks: {list(self.blocks)}, expected {asked + 1} or more for {phrase!r}"
                )

    def _left(self) -> int:
        """How many blocks there are at least beside what is asked for and the cards."""
        pool = {*(self.others or self.objects)}
        objects, target, cards = (pool & {*of} for of in (self.objects, self.target, self.cards))
        taken = bool(objects) + bool(target) + min(len(cards), max(self.flat[1] - 1, 0))
        return len(pool) - min(taken, len(objects | target | cards))

    def _check_pair(self, key: str, least: int, most: int) -> None:
        pair = getattr(self, key)
        if len(pair) != 2 or not least <= pair[0] <= pair[1] <= most:
            raise ValueError(
                f"{key}: {list(pair)}, expected two numbers from {least} to {most}, the first not "
                "the larger one"
            )

    def scenario(self, seed: int, random: np.random.Generator) -> Scenario:
        """Draw the scenario of a seed."""
        thing = str(random.choice(self.objects)) if self.objects else ""
        targets = [name for name in self.target if name != thing]
        target = str(random.choice(targets)) if targets else ""
        cards = []
        if target and self.onto == "card":
            cards = [target, *_draw(random, self.cards, {thing, target}, self.flat, 1)]
        asked = [thing] * bool(thing) + [target] * bool(target and not cards)
        blocks = _draw(
            random, self.others or self.objects, {thing, *cards, target}, self.blocks, len(asked)
        )
        names = [*asked, *cards, *blocks]
        kinds = ["block"] * len(asked) + ["card"] * len(cards) + ["block"] * len(blocks)
        task = Task(self.task, thing, target)
        while True:
            # All cards, not the right one alone: which it is must not be told by where it lies.
            layout = random_layout(
                random, names, kinds, APART if target else 0.0, max(1, len(cards))
            )
            if has_room(task, layout):
                break
        phrase = str(random.choice(self.phrases))
        words = {"object": thing, "target": target, "other": blocks[0] if blocks else ""}
        if OTHER in phrase:
            task = replace(task, spared=words["other"])
        said = phrase.format_map({key: _spoken(phrase, name) for key, name in words.items()})
        return Scenario(
            seed,
            task,
            misspell(random, said, self.typos),
            layout,
            random_start(random),
            draw_look(random, self.look),
            0.0 if self.task == "open" else MAX_OPENING,
        )


@dataclass(frozen=True)
class Cell:
    """One cell of the results' table; its cases are taken in turn by the seed, and the kinds of
    task of a case that has several in turn as well.

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
        return cell_title(self.suite, self.name)

    @property
    def digest(self) -> str:
        """Of all that its file says of its tables, and of RULES: equal for equal ones."""
        what = (RULES, self.cases, self.disturb)
        return hashlib.sha256(repr(what).encode()).hexdigest()[:12]

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
    raw = read_yaml(path)
    if not isinstance(raw, Mapping) or not isinstance(raw.get("cells"), list) or not raw["cells"]:
        raise ValueError(f"{path}: expected a mapping with a description and a list `cells`")
    cells = tuple(_cell(path, entry) for entry in raw["cells"])
    names = [cell.name for cell in cells]
    for name in (path.stem, *names):
        if not PLAIN.fullmatch(name):
            raise ValueError(
                f"{path}: name {name!r}, expected letters, digits, space and '_.-' only"
            )
    if len(set(names)) < len(names):
        raise ValueError(f"{path}: cells are named {names}, expected each name once")
    return Suite(path.stem, str(raw.get("description", "")), cells)


def misspell(random: np.random.Generator, text: str, typos: int) -> str:
    """Swap, drop or double a letter, `typos` times, within words of at least four letters.

    Each time something changes, and nothing is mended; a text without such words stays as it is.
    """
    texts = [text]
    while len(texts) <= typos:
        text = texts[-1]
        inside = [i for i in range(1, len(text) - 2) if text[i - 1 : i + 3].isalpha()]
        if not inside:
            if len(texts) == 1:
                break
            texts = texts[:1]  # too short by now: begin anew
            continue
        i = int(random.choice(inside))
        pair = text[i : i + 2]
        wrong = str(random.choice([pair[::-1], pair[1], pair[0] + pair]))
        wrong = text[:i] + wrong + text[i + 2 :]
        if wrong not in texts:
            texts.append(wrong)
    return texts[-1]


def robot_phrases(kind: str) -> Names:
    """How demonstrations ask for a kind of task, so that one of five drawn is Chinese."""
    english, chinese = split.ROBOT_PHRASES[kind], split.ROBOT_PHRASES_ZH[kind]
    return (*english * (4 * len(chinese)), *chinese * len(english))


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
    if isinstance(variants, str):
        if variants not in CASES:
            raise ValueError(f"{where}: cases: {variants!r}, expected a list or {', '.join(CASES)}")
        variants = CASES[variants]
    if not isinstance(variants, (list, tuple)) or not variants:
        raise ValueError(f"{where}: cases: {variants!r}, expected a list of mappings")
    try:
        disturb = Disturbance(**rest.pop("disturb", {}))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: disturb: {error}") from None
    rounds = []
    for number, variant in enumerate(variants, 1):
        at = where if len(variants) == 1 else f"{where}, case {number}"
        if not isinstance(variant, Mapping):
            raise ValueError(f"{at}: {variant!r}, expected a mapping")
        values = {**rest, **variant}
        kinds = values.get("task", "pick")
        kinds = kinds if isinstance(kinds, (list, tuple)) and kinds else (kinds,)
        rounds.append([_case(at, {**values, "task": kind}) for kind in kinds])
    cases = tuple(
        case[turn % len(case)]
        for turn in range(math.lcm(*(len(case) for case in rounds)))
        for case in rounds
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
    for key in ("objects", "others", "target", "cards", "phrases"):
        if key in values:
            given = values[key]
            if not isinstance(given, (str, list, tuple)):
                raise ValueError(f"{where}: {key}: {given!r}, expected text or a list of it")
            named = {} if key == "phrases" else POOLS
            values[key] = named.get(given, (given,)) if isinstance(given, str) else tuple(given)
    if values.get("phrases") == ("robot",) and values["task"] in Task.KINDS:
        values["phrases"] = robot_phrases(values["task"])
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
