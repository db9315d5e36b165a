# SPDX-License-Identifier: Apache-2.0
"""`rt2 eval --policy rt2-tiny --suite seen --suite unseen-objects`: what a policy can do, measured.

Each episode lays a table from its seed, gives an instruction and lets the policy act through the
same controller as on the ROS graph. Physics decides whether it was done. Episodes are written one
by one to out/eval/NAME, so that the same command goes on after whatever ended it; at the end there
is a page to look at, out/eval/NAME/report.html.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from rt2_ros.evaluation.metrics import summary
from rt2_ros.evaluation.records import EpisodeRecord
from rt2_ros.evaluation.runs import RunFolder, RunInfo

if TYPE_CHECKING:
    from rt2_ros.evaluation.runner import Episode, Player

OUT = Path("out/eval")
RESULTS = Path("docs/results.md")
ALL = "all"


def main(arguments: list[str]) -> int:
    """Returns 0 when all episodes were played, whatever the success rate."""
    args = _parser().parse_args(arguments)
    try:
        runs = [RunFolder(path) for path in args.report] if args.report else [_evaluate(args)]
        _publish(args, runs)
    except (ValueError, OSError) as error:
        print(f"rt2 eval: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rt2 eval",
        description="Measure a policy on simulated tables. The same command goes on where it was "
        "stopped.",
    )
    parser.add_argument(
        "--policy", default="rt2-tiny",
        help="name, YAML file or checkpoint folder; expert and random are the bounds",
    )  # fmt: skip
    parser.add_argument(
        "--suite", action="append",
        help=f"of config/evaluation, or a YAML file; repeatable; {ALL} for all (default: seen)",
    )  # fmt: skip
    parser.add_argument("--episodes", type=int, default=100, help="of each cell (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="first seed; each episode has the next")
    parser.add_argument(
        "--blind", choices=("language", "image"), help="withhold the one or the other"
    )
    parser.add_argument(
        "--ros", action="store_true", help="through the real node graph, in real time"
    )
    parser.add_argument("--name", help="of the run (default: the policy's)")
    parser.add_argument("--out", type=Path, default=OUT, help=f"folder of runs (default: {OUT})")
    parser.add_argument("--processes", type=int, help="of tables (default: by the cores)")
    parser.add_argument("--videos", action="store_true", help="film every episode")
    parser.add_argument(
        "--report", nargs="+", type=Path, metavar="RUN",
        help="play nothing: one page about these runs, side by side, in the first one's folder",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, help="write the figures and every episode here")
    parser.add_argument("--results", action="store_true", help=f"put the figures into {RESULTS}")
    return parser


def _evaluate(args: argparse.Namespace) -> RunFolder:
    """Play what is to be played; the run with all its records."""
    from rt2_ros.evaluation.runner import episodes, play
    from rt2_ros.evaluation.suites import load_suite, suite_names

    if args.processes is not None and args.processes < 1:
        raise ValueError(f"--processes is {args.processes}; expected at least 1")
    names = args.suite or ["seen"]
    suites = [load_suite(name) for name in (suite_names() if ALL in names else names)]
    wanted = episodes(suites, args.episodes, args.seed)
    if args.ros:
        return _evaluate_graph(args, wanted, [suite.name for suite in suites])
    player, config = _player(args)
    info = RunInfo.here(
        player.name, config, [suite.name for suite in suites], args.episodes, args.seed
    )
    with RunFolder.create(args.out / (args.name or player.name), info) as run:
        with _Screen(run, len(wanted)) as screen:
            play(
                wanted, player, run, processes=args.processes, films=args.videos,
                on_record=screen.show,
            )  # fmt: skip
        return run


def _evaluate_graph(
    args: argparse.Namespace, wanted: Sequence[Episode], suites: Sequence[str]
) -> RunFolder:
    from rt2_ros.bringup import describe
    from rt2_ros.evaluation.graph import play_on_graph
    from rt2_ros.policies.registry import policy_config

    if args.blind or args.policy == "expert" or args.videos:
        raise ValueError("--ros plays policies as they are: without --blind, --videos and expert")
    name, config = policy_config(args.policy)
    info = RunInfo.here(name, config, suites, args.episodes, args.seed, mode="ros")
    with RunFolder.create(args.out / (args.name or f"{name}-ros"), info) as run:
        with _Screen(run, len(wanted)) as screen:
            log = run.path / "nodes.log"
            play_on_graph(
                wanted, describe(policy=args.policy), name, run, log=log, on_record=screen.show
            )
        return run


def _player(args: argparse.Namespace) -> tuple[Player, dict[str, Any]]:
    """Who plays, and what makes it what it is."""
    from rt2_ros.evaluation.runner import ExpertPlayer, PolicyPlayer
    from rt2_ros.policies import load_policy
    from rt2_ros.policies.baselines import BlindPolicy
    from rt2_ros.policies.registry import policy_config
    from rt2_ros.sim.env import TabletopEnv

    if args.policy == ExpertPlayer.name:
        if args.blind:
            raise ValueError("--blind: the expert looks at the world's state, not at pictures")
        return ExpertPlayer(), {"type": "expert"}
    _, config = policy_config(args.policy)
    policy = load_policy(args.policy)
    frame = policy.action_space.frame
    if frame != TabletopEnv.frame:
        raise ValueError(
            f"policy {policy.name}: its actions are in frame {frame!r}; expected "
            f"{TabletopEnv.frame!r}, the base frame of the simulated arm"
        )
    if args.blind:
        return PolicyPlayer(BlindPolicy(policy, args.blind)), {**config, "blind": args.blind}
    return PolicyPlayer(policy), config


def _publish(args: argparse.Namespace, runs: Sequence[RunFolder]) -> None:
    """Table on the terminal, page, JSON, results."""
    from rt2_ros.evaluation.report import write_report
    from rt2_ros.evaluation.results import update_results

    console = Console()
    for run in runs:
        table = Table("suite", "cell", "success", "95 % interval", "episodes", "failures")
        for (suite, cell), records in _cells(run.records).items():
            figures = summary(records)
            low, high = figures["low"], figures["high"]
            failures = ", ".join(f"{n} {reason}" for reason, n in figures["failures"].items())
            table.add_row(
                suite, cell, f"{figures['success_rate']:.0%}", f"{low:.0%} to {high:.0%}",
                str(len(records)), failures,
            )  # fmt: skip
        table.title = run.info.policy
        console.print(table)
    page = runs[0].path / "report.html"
    write_report([run.path for run in runs], page)
    console.print(f"report: {page}")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        each = [_figures(run) for run in runs]
        whole = each[0] if len(each) == 1 else {"runs": each}
        args.json.write_text(json.dumps(whole, indent=1) + "\n")
    if args.results:
        update_results(RESULTS, runs)
        console.print(f"results: {RESULTS}")


def _cells(records: Sequence[EpisodeRecord]) -> dict[tuple[str, str], list[EpisodeRecord]]:
    cells: dict[tuple[str, str], list[EpisodeRecord]] = {}
    for record in records:
        cells.setdefault((record.suite, record.cell), []).append(record)
    return cells


def _figures(run: RunFolder) -> dict[str, Any]:
    """All figures of a run as JSON: of all episodes, of each cell, and the episodes."""
    cells = {
        "/".join(filter(None, cell)): summary(records)
        for cell, records in _cells(run.records).items()
    }
    return {
        **summary(run.records), "policy": run.info.policy, "seed": run.info.seed, "cells": cells,
        "log": [asdict(record) for record in run.records],
    }  # fmt: skip


class _Screen:
    """Progress with a running estimate; a context manager."""

    def __init__(self, run: RunFolder, total: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeElapsedColumn(), TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(),
        )  # fmt: skip
        self._done = {record.key: record.success for record in run.records}
        self._task = self._progress.add_task("", total=total, completed=len(self._done))
        self._say("going on" if self._done else "starting")

    def __enter__(self) -> _Screen:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, record: EpisodeRecord) -> None:
        """Count one more episode."""
        self._done[record.key] = record.success
        self._progress.advance(self._task)
        if record.error:
            self._progress.console.print(f"{record.key}: {record.error}", style="yellow")
        self._say("/".join(filter(None, (record.suite, record.cell))))

    def _say(self, what: str) -> None:
        rate = sum(self._done.values()) / max(len(self._done), 1)
        self._progress.update(self._task, description=f"{what}: {rate:.0%} so far")
