# SPDX-License-Identifier: Apache-2.0
"""One HTML page about one or several runs, for people to look at and to pass on.

    runs = [RunFolder("out/eval/rt2-tiny"), RunFolder("out/eval/rt1-small")]
    write_report(runs, "out/eval/report.html")

The page needs no other file and asks no server for anything: tables, charts (SVG that follows the
reader's light or dark theme) and pictures of failures are all in it, below 5 MB. Films are linked
where the run made some; those links work beside the runs' folders. The look is in report.html.j2;
what is said is put together here.
"""

from __future__ import annotations

import base64
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from rt2_ros.evaluation import paper
from rt2_ros.evaluation.metrics import (
    Calibration,
    Difference,
    Paired,
    Rate,
    episode_calibration,
    mcnemar,
    same_episodes,
    summary,
)
from rt2_ros.evaluation.page import p_value, points
from rt2_ros.evaluation.paper import Cell
from rt2_ros.evaluation.records import FAILURES, EpisodeRecord, cell_title
from rt2_ros.evaluation.runs import RunFolder, RunInfo

PICTURES_MAX = 3_000_000  # bytes of pictures in a page
STRIPS_PER_CLASS = 3  # at most, of each run
WORD_EPISODES = 5  # a word in fewer says nothing
CHINESE = "(in Chinese)"
_CHINESE = re.compile(r"[\u4e00-\u9fff]")
_WORD = re.compile(r"[a-z][a-z'-]*|\d+")


@dataclass(frozen=True)
class Run:
    """A run as a column of the page."""

    label: str
    path: Path
    info: RunInfo
    records: tuple[EpisodeRecord, ...]
    figures: dict[str, Any]  # metrics.summary
    seen: Rate
    unseen: Rate
    emergent: Rate
    reached: Rate
    calibration: Calibration | None

    @classmethod
    def of(cls, folder: RunFolder, label: str) -> Run:
        """From a folder; what it has so far, where it is still being played."""
        records = folder.records
        return cls(
            label, folder.path, folder.info, records, summary(records),
            _together(folder, (paper.SEEN,)), _together(folder, paper.UNSEEN),
            _together(folder, paper.EMERGENT), Rate.reached(records), episode_calibration(records),
        )  # fmt: skip

    def tables(self, cell: Cell) -> str:
        """Their digest; "" where the run has no such cell."""
        title = cell_title(*cell)
        return self.info.cells[title].tables if title in self.info.cells else ""

    @property
    def gap(self) -> Difference | None:
        """Seen minus unseen; None where not all of both was measured."""
        return self.seen.minus(self.unseen) if self.seen.episodes and self.unseen.episodes else None


@dataclass(frozen=True)
class Row:
    """A line of a table: a rate for each run, None where a run has no such episode."""

    title: str
    rates: tuple[Rate | None, ...]
    paper: tuple[int, ...] | None = None  # percent, of paper.MODELS


@dataclass(frozen=True)
class Strip:
    """A failed episode in pictures: `image` is a data: address, `film` a link or ""."""

    run: int
    record: EpisodeRecord
    image: str
    film: str


def write_report(runs: Sequence[RunFolder], html: str | Path) -> Path:
    """Write the page about some runs, side by side in the order given.

    Returns:
        The page's path.

    Raises:
        ValueError: no run given.
    """
    if not runs:
        raise ValueError("no run to report on; expected at least one folder")
    html = Path(html)
    html.parent.mkdir(parents=True, exist_ok=True)
    html.write_text(_render(_named(runs), html.parent), encoding="utf-8")
    return html


def _render(runs: Sequence[Run], home: Path) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"points": points, "p_value": p_value}
    cells = _rows(runs, lambda record: [(record.suite, record.cell)])
    order = paper.in_order(set(cells))
    rows = {cell: Row(paper.title(cell), cells[cell], paper.PAPER.get(cell)) for cell in order}
    return environment.get_template("report.html.j2").render(
        runs=runs,
        models=paper.MODELS,
        source=paper.SOURCE,
        not_comparable=paper.NOT_COMPARABLE,
        cells=list(rows.values()),
        charts=_charts(runs, rows),
        pairs=[(a, b, _compared(runs[a], runs[b], order)) for a, b in _pairs(runs)],
        breakdowns=_breakdowns(runs),
        failures=_failures(runs),
        crashes=Counter(r.error for run in runs for r in run.records if r.error).most_common(5),
        strips=_strips(runs, home),
        links=[quote(os.path.relpath(run.path, home)) for run in runs],
    )


def _named(folders: Sequence[RunFolder]) -> list[Run]:
    """Runs by their policy's name; with their folder where two have the same."""
    for name in (
        lambda folder: folder.info.policy,
        lambda folder: f"{folder.info.policy} ({folder.path.name})",
        lambda folder: str(folder.path),
    ):
        labels = [name(folder) for folder in folders]
        if len(set(labels)) == len(labels):
            break
    return [Run.of(folder, label) for folder, label in zip(folders, labels, strict=True)]


def _rows(
    runs: Sequence[Run], groups: Callable[[EpisodeRecord], Iterable[Any]]
) -> dict[Any, tuple[Rate | None, ...]]:
    """For each group that a record is in: each run's rate, None where it has no episode in it."""
    columns = []
    for run in runs:
        outcomes: dict[Any, list[bool]] = {}
        for record in run.records:
            for group in groups(record):
                outcomes.setdefault(group, []).append(record.success)
        columns.append({g: Rate(sum(found), len(found)) for g, found in outcomes.items()})
    names = dict.fromkeys(name for column in columns for name in column)
    return {name: tuple(column.get(name) for column in columns) for name in names}


def _charts(runs: Sequence[Run], rows: dict[Cell, Row]) -> list[dict[str, Any]]:
    """The paper's figures 4 and 6, ours and its own; where there are groups enough for one."""
    found = []
    for figure, caption, chosen, average, rates, theirs in (
        (4, "Generalisation", lambda cell: cell in (paper.SEEN, *paper.UNSEEN),
         "unseen, average", [run.unseen for run in runs], paper.UNSEEN_AVERAGE),
        (6, "Emergent capabilities", lambda cell: cell in paper.EMERGENT,
         "emergent, average", [run.emergent for run in runs], paper.EMERGENT_AVERAGE),
    ):  # fmt: skip
        groups = [row for cell, row in rows.items() if chosen(cell)]
        if len(groups) > 1:
            whole = tuple(rate if rate.episodes else None for rate in rates)
            groups.append(Row(average, whole, theirs))
            found.append({"figure": figure, "caption": caption, "groups": groups})
    return found


def _together(folder: RunFolder, cells: Sequence[Cell]) -> Rate:
    """Of all of these cells together; of no episode where one was not played to its end."""
    played = folder.cells()
    if any(cell not in played or folder.missing(cell) for cell in cells):
        return Rate.of(())
    return Rate.of([record for cell in cells for record in played[cell]])


def _pairs(runs: Sequence[Run]) -> list[tuple[int, int]]:
    return list(combinations(range(len(runs)), 2))


def _compared(first: Run, second: Run, cells: Sequence[Cell]) -> list[tuple[str, Paired]]:
    """McNemar's test on the episodes that both played: each cell's, and of all together.

    None of a cell whose suite was changed between the two.
    """

    def of(run: Run, cell: Cell) -> list[EpisodeRecord]:
        return [record for record in run.records if (record.suite, record.cell) == cell]

    each = [(cell, same_episodes(of(first, cell), of(second, cell)))
            for cell in cells if first.tables(cell) == second.tables(cell)]  # fmt: skip
    tests = [(paper.title(cell), mcnemar(pairs)) for cell, pairs in each if pairs]
    if len(tests) > 1:
        tests.append(("all together", mcnemar(pair for _, pairs in each for pair in pairs)))
    return tests


def words(instruction: str) -> set[str]:
    """The words of an instruction, each once: "Pick up the key!" -> pick, up, the, key.

    Chinese is not cut into words: any of it counts as one, "(in Chinese)".
    """
    found = set(_WORD.findall(instruction.lower()))
    return found | {CHINESE} if _CHINESE.search(instruction) else found


def _breakdowns(runs: Sequence[Run]) -> list[tuple[str, str, list[Row]]]:
    """Success by skill, by object and by word: name, a sentence about it, rows, weakest first."""
    counts = Counter(word for run in runs for r in run.records for word in words(r.instruction))
    episodes = sum(len(run.records) for run in runs)
    telling = {
        word for word, n in counts.items() if n >= WORD_EPISODES * len(runs) and n <= episodes / 2
    }
    parts: list[tuple[str, str, Callable[[EpisodeRecord], Iterable[str]]]] = [
        ("skill", "What was to be done.", lambda r: filter(None, [r.skill])),
        ("object", "What was to be taken.", lambda r: filter(None, [r.object])),
        ("target", "Where it was to be brought.", lambda r: filter(None, [r.target])),
        ("word", f"Words in at least {WORD_EPISODES} episodes a run and at most half of all.",
         lambda r: words(r.instruction) & telling),
    ]  # fmt: skip
    found = []
    for name, about, groups in parts:
        rows = [Row(title, rates) for title, rates in _rows(runs, groups).items()]
        rows.sort(key=lambda row: (_weakness(row), row.title))
        if rows:
            found.append((name, about, rows))
    return found


def _weakness(row: Row) -> tuple[float, int]:
    """Sorts by the first run that has the row: low rates first, of many episodes first."""
    rate = next(rate for rate in row.rates if rate)
    return rate.value, -rate.episodes


def _failures(runs: Sequence[Run]) -> list[tuple[str, list[int]]]:
    """How often each class occurred in each run; classes that occurred."""
    counts = [Counter(record.failure for record in run.records) for run in runs]
    return [(f, [c[f] for c in counts]) for f in FAILURES if any(c[f] for c in counts)]


def _strips(runs: Sequence[Run], home: Path) -> dict[str, list[Strip]]:
    """Pictures for each class of failure: every class and run gets a first before any a second."""
    waiting = {
        (failure, i): [r for r in run.records if r.failure == failure and r.strip]
        for failure in FAILURES
        for i, run in enumerate(runs)
    }
    found: dict[str, list[Strip]] = {}
    left = PICTURES_MAX
    for turn in range(STRIPS_PER_CLASS):
        for (failure, i), records in waiting.items():
            path = runs[i].path / records[turn].strip if turn < len(records) else None
            if path is None or not path.is_file() or path.is_symlink():
                continue
            if 4 * path.stat().st_size / 3 + 100 > left:  # a smaller one may still fit
                continue
            image = "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()
            left -= len(image)
            film = runs[i].path / "videos" / (path.stem + ".mp4")
            link = quote(os.path.relpath(film, home)) if film.is_file() else ""
            found.setdefault(failure, []).append(Strip(i, records[turn], image, link))
    return {failure: sorted(strips, key=lambda s: s.run) for failure, strips in found.items()}
