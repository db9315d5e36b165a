# SPDX-License-Identifier: Apache-2.0
"""docs/results.md: what has been measured so far, written by `rt2 eval --results`, never by hand.

    update_results("docs/results.md", [RunFolder("out/eval/rt2-tiny"), RunFolder("out/eval/rt1")])

docs/results.json beside it is what the page is made of: for each policy and cell the outcome of
every episode ("1101..."), so policies can be compared on the same tables long after their runs
are gone. A newer run of a policy replaces its cells and leaves all others.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

from rt2_ros.evaluation import paper
from rt2_ros.evaluation.metrics import Difference, Rate, mcnemar
from rt2_ros.evaluation.paper import Cell
from rt2_ros.evaluation.records import EpisodeRecord, checked_fields
from rt2_ros.evaluation.runs import RunFolder, RunInfo

HEAD = (
    "# Results", "",
    "Written by `rt2 eval --results`; never by hand. Each episode is a random table, and the",
    "simulator's physics says whether the task was done. Intervals, in brackets, are 95 %.", "",
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


Table = Mapping[tuple[str, Cell], CellResult]


def update_results(path: str | Path, runs: Sequence[RunFolder]) -> None:
    """Put runs into results.md and results.json, in place of older results of the same cells.

    Raises:
        ValueError: results.json is not what this module wrote.
    """
    path = Path(path)
    data = path.with_suffix(".json")
    known = {result.key: result for result in _read(data)}
    for run in runs:
        by_cell: dict[Cell, list[EpisodeRecord]] = {}
        for record in run.records:
            by_cell.setdefault((record.suite, record.cell), []).append(record)
        for records in by_cell.values():
            result = CellResult.of(run.info, records)
            known[result.key] = result
    results = list(known.values())
    lines = ",\n".join(json.dumps(asdict(result), ensure_ascii=False) for result in results)
    _replace(data, f"[\n{lines}\n]\n" if results else "[]\n")
    _replace(path, render(results))


def render(results: Sequence[CellResult]) -> str:
    """The page; policies in the order in which they were first measured, cells in the paper's."""
    table = {result.key: result for result in results}
    policies = list(dict.fromkeys(result.policy for result in results))
    cells = paper.in_order({cell for _, cell in table})
    parts = [
        *HEAD, *_overview(table, policies, cells), *_gaps(table, policies),
        *_compared(table, policies, cells), *_paper(), *_measured(table, policies, cells),
    ]  # fmt: skip
    return "\n".join(parts).rstrip() + "\n"


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


def _read(path: Path) -> list[CellResult]:
    if not path.exists():
        return []
    try:
        known = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(known, list):
        raise ValueError(f"{path}: {type(known).__name__}; expected a list of results")
    return [CellResult(**checked_fields(item, CellResult, str(path))) for item in known]


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    os.replace(new, path)
