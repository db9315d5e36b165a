# SPDX-License-Identifier: Apache-2.0
"""docs/results.md: what has been measured so far, written by `rt2 eval --results`, never by hand.

    update_results("docs/results.md", [RunFolder("out/eval/rt2-tiny"), RunFolder("out/eval/rt1")])

docs/results.json beside it is what the page is made of, {"cells": [...], "answers": [...],
"ablation": ...}: for each policy and cell the outcome of every episode ("1101..."), so policies can
be compared on the same tables long after their runs are gone, for each policy those of its answers
to held-back questions, and the newest ablation. A newer run of a policy replaces its cells and
leaves all others.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from rt2_ros.data.samples import COORDINATES
from rt2_ros.evaluation import paper
from rt2_ros.evaluation.metrics import Difference, Rate, mcnemar
from rt2_ros.evaluation.paper import Cell
from rt2_ros.evaluation.questions import KINDS, NEAR, Answers, kept
from rt2_ros.evaluation.records import EpisodeRecord, checked_fields
from rt2_ros.evaluation.runs import RunFolder, RunInfo

T = TypeVar("T")
HEAD = (
    "# Results", "",
    "Written by `rt2 eval --results`; never by hand. Each episode is a random table, and the",
    "simulator's physics says whether the task was done. Intervals, in brackets, are 95 %.", "",
    "Seen, unseen and robustness are a quarter each of picking, putting near, putting on and",
    "pushing. What emergent stands on, its cards and descriptions, is in no demonstration; the web",
    "set asks for the same things in questions about pictures. So emergent measures what carries",
    "over from such questions to a robot's tasks, not reasoning that nothing was said about.", "",
)  # fmt: skip


@dataclass(frozen=True)
class CellResult:
    """What a policy did in one cell.

    policy: its name, with " (ros)" where it ran in the real node graph.
    outcomes: "1" or "0" for each episode, in the order of their seeds.
    episodes: four hex digits for each episode, of its seed and instruction, equal for the same
        ones; "----" where it crashed before anyone said what was asked.
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

    @classmethod
    def of(cls, info: RunInfo, records: Sequence[EpisodeRecord]) -> CellResult:
        """From the episodes of one cell of a run; at least one."""
        records = sorted(records, key=lambda record: record.seed)
        return cls(
            policy=info.policy if info.mode == "in-process" else f"{info.policy} ({info.mode})",
            suite=records[0].suite,
            cell=records[0].cell,
            outcomes="".join(str(int(record.success)) for record in records),
            episodes="".join(map(_digest, records)),
            seeds=_ranges(record.seed for record in records),
            failures=dict(Counter(r.failure for r in records if not r.success).most_common()),
            revision=", ".join(info.revisions),
            date=info.started[:10],
        )

    @property
    def key(self) -> tuple[str, Cell]:
        """What a newer result of the same replaces."""
        return self.policy, (self.suite, self.cell)

    @property
    def rate(self) -> Rate:
        """Successes of episodes."""
        return Rate(self.outcomes.count("1"), len(self.outcomes))


@dataclass(frozen=True)
class Arm:
    """One model of an ablation: what it started from, its data, what it then did and knew.

    start: name of the shared start, "" for random weights. shares: source -> weight.
    steps, pictures: how far it came in its minutes.
    """

    name: str
    start: str
    shares: Mapping[str, float]
    steps: int
    pictures: int
    cells: tuple[CellResult, ...]
    answers: Answers

    def rate(self, group: str) -> Rate:
        """Successes in all cells of one of GROUPS together."""
        found = [cell.rate for cell in self.cells if GROUPS[group](cell.suite)]
        return Rate(sum(r.successes for r in found), sum(r.episodes for r in found))


@dataclass(frozen=True)
class Ablation:
    """Models that differ in their start and data alone. start: what the shared start answered."""

    minutes: float
    seed: int
    machine: str
    start: Answers
    arms: tuple[Arm, ...]


@dataclass(frozen=True)
class Results:
    """All that the page tells."""

    cells: tuple[CellResult, ...] = ()
    answers: tuple[Answers, ...] = ()
    ablation: Ablation | None = None


# What an ablation averages over, as the paper's figures do.
GROUPS: dict[str, Callable[[str], bool]] = {
    "seen": lambda suite: suite == paper.SEEN[0],
    "unseen": paper.is_unseen,
    "emergent": paper.is_emergent,
}
PLOT = "ablation.png"
Table = Mapping[tuple[str, Cell], CellResult]


def cell_results(run: RunFolder) -> list[CellResult]:
    """What a run did, cell by cell."""
    by_cell: dict[Cell, list[EpisodeRecord]] = {}
    for record in run.records:
        by_cell.setdefault((record.suite, record.cell), []).append(record)
    return [CellResult.of(run.info, records) for records in by_cell.values()]


def update_results(
    path: str | Path, runs: Sequence[RunFolder] = (), answers: Sequence[Answers] = (),
    ablation: Ablation | None = None,
) -> None:  # fmt: skip
    """Put runs into results.md and results.json in place of older results of the same cells,
    answers in place of older ones of the same policy, and an ablation in place of the older one.

    Raises:
        ValueError: results.json is not what this module wrote.
    """
    path = Path(path)
    data = path.with_suffix(".json")
    known = _read(data)
    cells = {result.key: result for result in known.cells}
    cells |= {result.key: result for run in runs for result in cell_results(run)}
    told = {a.policy: a for a in known.answers} | {a.policy: a for a in answers}
    results = Results(tuple(cells.values()), tuple(told.values()), ablation or known.ablation)
    _replace(data, _written(results))
    _replace(path, render(results))


def render(results: Results) -> str:
    """The page; policies in the order in which they were first measured, cells in the paper's."""
    table = {result.key: result for result in results.cells}
    policies = list(dict.fromkeys(result.policy for result in results.cells))
    cells = paper.in_order({cell for _, cell in table})
    parts = [
        *HEAD, *_overview(table, policies, cells), *_gaps(table, policies),
        *_answers(results.answers), *_ablation(results.ablation),
        *_compared(table, policies, cells), *_paper(), *_measured(table, policies, cells),
    ]  # fmt: skip
    return "\n".join(parts).rstrip() + "\n"


def answer_rows(answers: Sequence[Answers]) -> list[tuple[str, ...]]:
    """A table: its head, then how each policy answered, and what it kept of another's answers."""
    by_name = {found.policy: found for found in answers}
    kinds = [kind for kind in KINDS if any(kind in found.outcomes for found in answers)]
    rows = [("policy", "questions", "right", *kinds, "kept of", "share kept")]
    for found in answers:
        before = by_name.get(found.before)
        same = before is not None and before.questions == found.questions
        rows.append((
            found.policy, str(found.rate().episodes), _percent(found.rate()),
            *(_percent(found.rate(k)) if k in found.outcomes else "" for k in kinds),
            found.before, _kept(before, found) if before and same else "",
        ))  # fmt: skip
    return rows


def _kept(before: Answers, after: Answers) -> str:
    return points(kept(before, after)) if before.rate().successes else ""


def _answers(answers: Sequence[Answers]) -> Iterable[str]:
    if answers:
        yield from ("## Web questions", "")
        yield "Held-back questions about web pictures, answered freely: right ones, by the sort of"
        yield f"answer. A place counts within {NEAR} of {COORDINATES}. Share kept, in percent:"
        yield "accuracy over accuracy before robot data, same questions, Wald's paired interval."
        head, *rows = answer_rows(answers)
        yield from ("", *_head(*head), *(_row(*row) for row in rows), "")


def _ablation(ablation: Ablation | None) -> Iterable[str]:
    """The paper's question: what web knowledge, and keeping it, is worth to a robot."""
    if ablation is None:
        return
    yield from ("## Ablation", "")
    yield f"Models that differ in start and data alone, {ablation.minutes:g} minutes each on"
    yield f"{ablation.machine}, seed {ablation.seed}, as in section 4.3 of the paper. Cells of a"
    yield "group count together. Web answers kept, in percent: accuracy over that of the start."
    yield from ("", f"![Ablation]({PLOT})", "")
    yield from _head("model", "start", "data", *GROUPS, "web answers", "web answers kept", "steps")
    start = ablation.start
    yield _row(start.policy, "", "", *("" for _ in GROUPS), _percent(start.rate()), "", "")
    for arm in ablation.arms:
        data = ", ".join(f"{name} {share:g}" for name, share in arm.shares.items())
        rates = [arm.rate(group) for group in GROUPS]
        yield _row(
            arm.name, arm.start or "random weights", data,
            *(_percent(rate) if rate.episodes else "" for rate in rates),
            _percent(arm.answers.rate()), _kept(start, arm.answers), arm.steps,
        )  # fmt: skip
    yield ""


def _overview(table: Table, policies: Sequence[str], cells: Sequence[Cell]) -> Iterable[str]:
    yield from _head("suite", "cell", *policies)
    for cell in cells:
        entries = [table[p, cell].rate if (p, cell) in table else None for p in policies]
        yield _row(*cell, *(_percent(rate) if rate else "" for rate in entries))
    yield ""


def _measured(table: Table, policies: Sequence[str], cells: Sequence[Cell]) -> Iterable[str]:
    yield from ("## Every measurement", "")
    yield from _head(
        "policy", "suite", "cell", "success", "95 % interval", "episodes", "seeds", "failures",
        "revision", "date",
    )  # fmt: skip
    for cell in cells:
        for result in (table[p, cell] for p in policies if (p, cell) in table):
            failures = ", ".join(f"{count} {name}" for name, count in result.failures.items())
            low, high = result.rate.interval
            yield _row(
                result.policy, result.suite, result.cell, f"{result.rate.value:.0%}",
                f"{low:.0%} to {high:.0%}", result.rate.episodes, result.seeds,
                failures or "none", result.revision, result.date,
            )  # fmt: skip
    yield ""


def _gaps(table: Table, policies: Sequence[str]) -> Iterable[str]:
    """Seen minus unseen, for policies that were measured on both."""
    rows = []
    for policy in policies:
        unseen = [r.rate for (p, (s, _)), r in table.items() if p == policy and paper.is_unseen(s)]
        if (policy, paper.SEEN) in table and unseen:
            seen = table[policy, paper.SEEN].rate
            rest = Rate(sum(r.successes for r in unseen), sum(r.episodes for r in unseen))
            difference = points(seen.minus(rest))
            rows.append(_row(policy, f"{seen.value:.0%}", f"{rest.value:.0%}", difference))
    if rows:
        yield from ("## Generalisation gap", "")
        yield "Seen minus all unseen suites together, in points, with Newcombe's interval."
        yield from ("", *_head("policy", "seen", "unseen", "gap"), *rows, "")


def _compared(table: Table, policies: Sequence[str], cells: Sequence[Cell]) -> Iterable[str]:
    """The policy that was measured first against each other one, on the same episodes."""
    first, others = (policies[0], policies[1:]) if policies else ("", [])
    rows = []
    for cell in cells:
        entries = [_pair(table.get((first, cell)), table.get((o, cell))) for o in others]
        if any(entries):
            rows.append(_row(*cell, *entries))
    if rows:
        yield from ("## Compared", "")
        yield f"{first} and another policy on the same episodes: +, those that {first} alone did;"
        yield "−, those that the other alone did; p, McNemar's exact test, two-sided, not corrected"
        yield "for the number of comparisons. Empty where their episodes are not the same."
        yield from ("", *_head("suite", "cell", *others), *rows, "")


def _pair(first: CellResult | None, other: CellResult | None) -> str:
    if first is None or other is None or not _same_episodes(first, other):
        return ""
    pairs = ((a == "1", b == "1") for a, b in zip(first.outcomes, other.outcomes, strict=True))
    found = mcnemar(pairs)
    return f"+{found.first} −{found.second}, p {p_value(found.p)}"


def _same_episodes(first: CellResult, other: CellResult) -> bool:
    return first.seeds == other.seeds and all(
        "-" in (a, b) or a == b for a, b in zip(first.episodes, other.episodes, strict=True)
    )


def _digest(record: EpisodeRecord) -> str:
    what = f"{record.seed} {record.instruction}"
    return hashlib.sha256(what.encode()).hexdigest()[:4] if record.instruction else "----"


def _paper() -> Iterable[str]:
    yield f"## The paper's figures ({paper.SOURCE})"
    yield from ("", f"In percent, of {paper.NOT_COMPARABLE}.", "")
    yield from _head("suite", "cell", *paper.MODELS)
    for cell, rates in paper.PAPER.items():
        yield _row(*cell, *rates)
    yield _row("unseen", "average", *paper.UNSEEN_AVERAGE)
    yield _row("emergent", "average", *paper.EMERGENT_AVERAGE)
    yield ""


def _percent(rate: Rate) -> str:
    low, high = rate.interval
    return f"{rate.value:.0%} ({100 * low:.0f} to {100 * high:.0f})"


def points(difference: Difference) -> str:
    """A difference in percentage points: "12 (3 to 21)"."""
    value, low, high = (round(100 * x) for x in (difference.value, difference.low, difference.high))
    return f"{value} ({low} to {high})".replace("-", "−")


def p_value(p: float) -> str:
    """How a p-value is written: "= 0.031", "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"= {p:.3f}".rstrip("0").rstrip(".")


def _ranges(numbers: Iterable[int]) -> str:
    """Sorted numbers in words: "0 to 99, 120"."""
    runs = groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    found = [[number for _, number in run] for _, run in runs]
    return ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]} to {r[-1]}" for r in found)


def _head(*names: str) -> tuple[str, str]:
    return _row(*names), "|" + "---|" * len(names)


def _row(*cells: object) -> str:
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _written(results: Results) -> str:
    """results.json: a result a line, so that a change of one is a change of a line."""

    def lines(items: Sequence[CellResult | Answers]) -> str:
        each = ",\n".join(json.dumps(asdict(item), ensure_ascii=False) for item in items)
        return f"[\n{each}\n]" if items else "[]"

    ablation = json.dumps(asdict(results.ablation) if results.ablation else None)
    return (
        f'{{"cells": {lines(results.cells)},\n"answers": {lines(results.answers)},\n'
        f'"ablation": {ablation}}}\n'
    )


def _read(path: Path) -> Results:
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
                "answers": read_made(Answers, arm["answers"], where),
            })
            for arm in arms
        ),
    })  # fmt: skip


def read_made(kind: type[T], known: Any, where: str) -> T:
    """A result of its JSON; ValueError names `where` it was read and what is amiss."""
    return kind(**checked_fields(known, kind, where))


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    os.replace(new, path)
