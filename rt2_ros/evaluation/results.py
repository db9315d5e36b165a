# SPDX-License-Identifier: Apache-2.0
"""What has been measured so far: what docs/results.md is made of (`rt2_ros.evaluation.page`).

docs/results.json is {"cells": [...], "answers": [...],
"ablation": ...}: for each policy and cell the outcome of every episode ("1101..."), so policies can
be compared on the same tables long after their runs are gone, for each policy those of its answers
to held-back questions, and the newest ablation. A newer run of a policy replaces its cells and
leaves all others.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from rt2_ros.evaluation import paper
from rt2_ros.evaluation.metrics import Rate
from rt2_ros.evaluation.paper import Cell
from rt2_ros.evaluation.questions import Answers
from rt2_ros.evaluation.records import EpisodeRecord, checked_fields
from rt2_ros.evaluation.runs import RunFolder, RunInfo

T = TypeVar("T")
DIGITS = 4  # of an episode's digest


@dataclass(frozen=True)
class CellResult:
    """What a policy did in one cell.

    policy: its name, with " (ros)" where it ran in the real node graph.
    outcomes: "1" or "0" for each episode, in the order of their seeds.
    reached: the same of reaching the right thing (EpisodeRecord.reached), "-" where there was none
        to reach; "" where nobody looked.
    episodes: four hex digits for each episode, of its seed and instruction, equal for the same
        ones; "----" where it crashed before anyone said what was asked.
    tables: digest of them (suites.Cell); "" in results from before it was kept.
    weights: digest of the checkpoint; "" where there is none, or it was not kept yet.
    settings: digest of what else makes the policy what it is; "" where it was not kept yet.
    """

    policy: str
    suite: str
    cell: str
    outcomes: str
    episodes: str
    seeds: str
    failures: Mapping[str, int]
    revision: str
    date: str
    reached: str = ""
    tables: str = ""
    weights: str = ""
    settings: str = ""

    @classmethod
    def of(cls, info: RunInfo, records: Sequence[EpisodeRecord]) -> CellResult:
        """From the episodes of one cell of a run; at least one."""
        records = sorted(records, key=lambda record: record.seed)
        reached = "".join("-" if r.reached is None else str(int(r.reached)) for r in records)
        return cls(
            policy=info.policy if info.mode == "in-process" else f"{info.policy} ({info.mode})",
            suite=records[0].suite,
            cell=records[0].cell,
            outcomes="".join(str(int(record.success)) for record in records),
            episodes="".join(map(_digest, records)),
            seeds=_ranges(record.seed for record in records),
            failures=dict(Counter(r.failure for r in records if not r.success).most_common()),
            revision=", ".join(info.cells[records[0].title].revisions),
            date=info.cells[records[0].title].started[:10],
            reached=reached if reached.strip("-") else "",
            tables=info.cells[records[0].title].tables,
            weights=str(info.config.get("digest", "")),
            settings=info.settings,
        )

    @property
    def key(self) -> tuple[str, Cell]:
        """What a newer result of the same replaces."""
        return self.policy, (self.suite, self.cell)

    @property
    def rate(self) -> Rate:
        """Successes of episodes."""
        return Rate(self.outcomes.count("1"), len(self.outcomes))

    @property
    def reach(self) -> Rate:
        """How often the right thing was reached; of no episode where nobody looked."""
        return Rate(self.reached.count("1"), len(self.reached) - self.reached.count("-"))


@dataclass(frozen=True)
class Arm:
    """One model of an ablation: what it started from, its data, what it then did and knew.

    start: name of the shared start, "" for random weights. shares: source -> weight. plans: whether
    it plans. steps, pictures: how far it came in its minutes. answers: none of RT-1, which answers
    nothing. base: the recipe of RT-1, "" for the ablation's. trained: at which revision of the
    code; "" in results from before it was kept.
    """

    name: str
    start: str
    shares: Mapping[str, float]
    plans: bool
    steps: int
    pictures: int
    cells: tuple[CellResult, ...]
    answers: Answers | None
    base: str = ""
    trained: str = ""

    def rate(self, group: str) -> Rate:
        """Successes in all cells of one of GROUPS together."""
        return Rate.together(cell.rate for cell in self.group(group))

    def reach(self, group: str) -> Rate:
        """The same of reaching the right thing."""
        return Rate.together(cell.reach for cell in self.group(group))

    def group(self, group: str) -> list[CellResult]:
        """Its cells, in an order that all arms have; none of a part of it: cells differ much."""
        found = {cell.key[1]: cell for cell in self.cells}
        return [found[c] for c in GROUPS[group]] if found.keys() >= GROUPS[group] else []


@dataclass(frozen=True)
class Ablation:
    """Models that differ in start, data and plans alone. start: what the shared start answered.

    minutes: of each arm; start_minutes: of the start before.
    """

    minutes: float
    seed: int
    machine: str
    start: Answers
    arms: tuple[Arm, ...]
    start_minutes: float = 0.0


@dataclass(frozen=True)
class Results:
    """All that the page tells."""

    cells: tuple[CellResult, ...] = ()
    answers: tuple[Answers, ...] = ()
    ablation: Ablation | None = None


# What an ablation averages over, as the paper's figures do.
GROUPS: dict[str, frozenset[Cell]] = {
    "seen": frozenset({paper.SEEN}),
    "unseen": frozenset(paper.UNSEEN),
    "emergent": frozenset(paper.EMERGENT),
    "reasoning": frozenset({("emergent", "reasoning")}),  # where plans should help
}


def cell_results(run: RunFolder) -> list[CellResult]:
    """What a run did, cell by cell; of cells that were played to their end."""
    cells = run.cells()
    return [CellResult.of(run.info, cells[cell]) for cell in cells if not run.missing(cell)]


def _digest(record: EpisodeRecord) -> str:
    what = f"{record.seed} {record.instruction}"
    whole = hashlib.sha256(what.encode()).hexdigest() if record.instruction else "-" * DIGITS
    return whole[:DIGITS]


def _ranges(numbers: Iterable[int]) -> str:
    """Sorted numbers in words: "0 to 99, 120"."""
    runs = groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    found = [[number for _, number in run] for _, run in runs]
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]} to {r[-1]}" for r in found)


def written(results: Results) -> str:
    """Text of results.json: a result a line, so that a change of one is a change of a line."""

    def lines(items: Sequence[CellResult | Answers]) -> str:
        each = ",\n".join(json.dumps(asdict(item), ensure_ascii=False) for item in items)
        return f"[\n{each}\n]" if items else "[]"

    ablation = json.dumps(asdict(results.ablation) if results.ablation else None)
    return (
        f'{{"cells": {lines(results.cells)},\n"answers": {lines(results.answers)},\n'
        f'"ablation": {ablation}}}\n'
    )


def read(path: Path) -> Results:
    """Results of results.json; none where there is no such file.

    Raises:
        ValueError: it is not what `written` wrote.
    """
    if not path.exists():
        return Results()
    try:
        known = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    values, where = checked_fields(known, Results, str(path)), str(path)
    ablation = values["ablation"]
    return Results(
        tuple(read_made(CellResult, item, where) for item in values["cells"]),
        tuple(read_made(Answers, item, where) for item in values["answers"]),
        None if ablation is None else _read_ablation(ablation, where),
    )


def _read_ablation(known: Any, where: str) -> Ablation:
    """An ablation of its JSON; ValueError names `where` it was read and what is amiss."""
    values = checked_fields(known, Ablation, where)
    arms = [checked_fields(item, Arm, where) for item in values["arms"]]
    return Ablation(**{
        **values,
        "start": read_made(Answers, values["start"], where),
        "arms": tuple(
            Arm(**{
                **arm,
                "cells": tuple(read_made(CellResult, item, where) for item in arm["cells"]),
                "answers": None
                if arm["answers"] is None
                else read_made(Answers, arm["answers"], where),
            })
            for arm in arms
        ),
    })  # fmt: skip


def read_made(kind: type[T], known: Any, where: str) -> T:
    """A result of its JSON; ValueError names `where` it was read and what is amiss."""
    return kind(**checked_fields(known, kind, where))
