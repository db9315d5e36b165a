# SPDX-License-Identifier: Apache-2.0
"""`rt2 eval --policy rt2-tiny --suite seen --suite unseen-objects`: what a policy can do, measured.

Each episode lays a table from its seed, gives an instruction and lets the policy act through the
same controller as on the ROS graph. Physics decides whether it was done. Episodes are written one
by one to out/eval/NAME, so that the same command goes on after whatever ended it; at the end there
is a page to look at, out/eval/NAME/report.html.

    rt2 eval --policy out/train/rt2-tiny-gpu/checkpoint --questions 500
        --before out/train/rt2-tiny-gpu/read

What a policy knows: held-back web questions, and the share of them that robot data has left.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rt2_ros.evaluation.metrics import summary
from rt2_ros.evaluation.records import Key
from rt2_ros.evaluation.runs import RunFolder, RunInfo
from rt2_ros.evaluation.screen import RunScreen, ask_with_progress

if TYPE_CHECKING:
    from rt2_ros.evaluation.questions import Answers
    from rt2_ros.evaluation.runner import Player
    from rt2_ros.evaluation.suites import Suite

OUT = Path("out/eval")
RESULTS = Path("docs/results.md")
ALL = "all"


def main(arguments: list[str]) -> int:
    """Returns 0 when all episodes were played, whatever the success rate."""
    args = _parser().parse_args(arguments)
    try:
        if args.questions is not None or args.before:
            _publish_answers(args, _ask(args))
        else:
            if args.report:
                _publish(args, [RunFolder(path) for path in args.report])
            else:
                run, asked = _evaluate(args)
                _publish(args, [run], asked)
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
        help="name, YAML file or checkpoint folder; expert, guess, random and hold are the bounds "
        "(default: rt2-tiny)",
    )  # fmt: skip
    parser.add_argument(
        "--suite", action="append",
        help="of config/evaluation, or a YAML file; SUITE/CELL for one cell; repeatable; "
        f"{ALL} for all (default: seen)",
    )  # fmt: skip
    parser.add_argument("--episodes", type=int, default=100, help="of each cell (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="the first; each episode has the next")
    parser.add_argument(
        "--blind", choices=("language", "image"), help="withhold the one or the other"
    )
    parser.add_argument(
        "--without-plan", action="store_true",
        help="a model that writes a plan before each action does not",
    )  # fmt: skip
    parser.add_argument(
        "--questions", type=int, metavar="N",
        help="play nothing: ask N held-back questions about web pictures",
    )  # fmt: skip
    parser.add_argument(
        "--before", metavar="POLICY",
        help="with --questions: what it was before robot data, to tell the share that is kept",
    )  # fmt: skip
    parser.add_argument(
        "--ros", action="store_true", help="through the real node graph, in real time"
    )
    parser.add_argument("--name", help="of the run (default: the policy's)")
    parser.add_argument("--out", type=Path, default=OUT, help=f"folder of runs (default: {OUT})")
    parser.add_argument(
        "--processes", type=int, help="simulators in parallel (default: by the number of cores)"
    )
    parser.add_argument("--videos", action="store_true", help="film every episode")
    parser.add_argument(
        "--report", nargs="+", type=Path, metavar="RUN",
        help="play nothing: one page about these runs, side by side, in the first one's folder",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, help="write the figures and every episode here")
    parser.add_argument("--results", action="store_true", help=f"put the figures into {RESULTS}")
    return parser


def chosen_suites(names: Sequence[str]) -> list[Suite]:
    """Suites by name or file; SUITE/CELL is one cell of it.

    Raises:
        ValueError: there is no such suite or cell.
    """
    from rt2_ros.evaluation.suites import load_suite, suite_names

    suites = []
    for name in suite_names() if ALL in names else names:
        suite, _, cell = name.rpartition("/")
        if suite and not Path(name).is_file():
            whole = load_suite(suite)
            suites.append(replace(whole, cells=(whole.cell(cell),)))
        else:
            suites.append(load_suite(name))
    return suites


def evaluate(
    folder: Path, player: Player, config: Mapping[str, Any], suites: Sequence[Suite], count: int,
    seed: int, *, processes: int | None = None, films: bool = False,
) -> RunFolder:  # fmt: skip
    """Play what the run in a folder does not have yet, with progress; the run, all of it done."""
    from rt2_ros.evaluation.runner import episodes, play

    wanted = episodes(suites, count, seed)
    info = RunInfo.here(player.name, config, digests(suites), count, seed)
    with RunFolder.create(folder, info) as run:
        with RunScreen(run, {episode.key for episode in wanted}) as screen:
            play(wanted, player, run, processes=processes, films=films, on_record=screen.show)
        return run


def digests(suites: Sequence[Suite]) -> dict[str, str]:
    """Of the tables of each cell, by its title."""
    return {cell.title: cell.digest for suite in suites for cell in suite.cells}


def _evaluate(args: argparse.Namespace) -> tuple[RunFolder, set[Key]]:
    """Play what is to be played; the run with all its records, and which of them were asked for."""
    if args.processes is not None and args.processes < 1:
        raise ValueError(f"--processes is {args.processes}; expected at least 1")
    suites = chosen_suites(args.suite or ["seen"])
    seeds = range(args.seed, args.seed + args.episodes)
    asked = {(c.suite, c.name, seed) for suite in suites for c in suite.cells for seed in seeds}
    if args.ros:
        return _evaluate_graph(args, suites), asked
    player, config = _player(args)
    run = evaluate(
        args.out / (args.name or player.name), player, config, suites, args.episodes, args.seed,
        processes=args.processes, films=args.videos,
    )  # fmt: skip
    return run, asked


def _evaluate_graph(args: argparse.Namespace, suites: Sequence[Suite]) -> RunFolder:
    from rt2_ros.bringup import describe
    from rt2_ros.evaluation.graph import play_on_graph
    from rt2_ros.evaluation.runner import EXPERTS, episodes
    from rt2_ros.policies.registry import policy_identity
    from rt2_ros.up import use_transport

    use_transport()
    expert = args.policy in EXPERTS
    if args.blind or expert or args.videos or args.without_plan or args.processes:
        raise ValueError(
            "--ros plays policies as they are, one table after another: without --blind, --videos, "
            "--without-plan, --processes, expert and guess"
        )
    wanted = episodes(suites, args.episodes, args.seed)
    name, config = policy_identity(args.policy)
    _check_pictures(name, config)
    info = RunInfo.here(name, config, digests(suites), args.episodes, args.seed, mode="ros")
    with RunFolder.create(args.out / (args.name or f"{name}-ros"), info) as run:
        with RunScreen(run, {episode.key for episode in wanted}) as screen:
            log = run.path / "nodes.log"
            play_on_graph(
                wanted, describe(policy=args.policy), name, run, log=log, on_record=screen.show
            )
        return run


def _player(args: argparse.Namespace) -> tuple[Player, dict[str, Any]]:
    """Who plays, and what makes it what it is."""
    from rt2_ros.evaluation.runner import EXPERTS, PolicyPlayer
    from rt2_ros.policies import load_policy
    from rt2_ros.policies.baselines import BlindPolicy
    from rt2_ros.policies.registry import policy_identity
    from rt2_ros.sim.env import TabletopEnv

    if args.policy in EXPERTS:
        if args.blind:
            raise ValueError("--blind: the expert looks at the world's state, not at pictures")
        if args.without_plan:
            raise ValueError("--without-plan: the expert is no model")
        return EXPERTS[args.policy](), {"type": args.policy}
    name, config = policy_identity(args.policy)
    _check_pictures(name, config)
    if args.without_plan:
        if config.get("plan", "none") == "none":
            raise ValueError(f"--without-plan: policy {args.policy} writes no plans anyway")
        config = {**config, "plan": "none"}
        policy = load_policy(args.policy, plan="none")
        policy.name += "-without-plan"
    else:
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


def _check_pictures(name: str, config: Mapping[str, Any]) -> None:
    """ValueError for a policy that looks at several cameras: suites have one."""
    if (count := config.get("pictures", 1)) not in (1, None):
        raise ValueError(
            f"policy {name}: it looks at {count} pictures; expected 1, for the simulated table "
            "has one camera"
        )


def _ask(args: argparse.Namespace) -> list[Answers]:
    """What the policy answers, after what it answered before, where that is asked for."""
    from rt2_ros.policies import load_policy
    from rt2_ros.policies.registry import policy_identity

    if args.questions is None:
        raise ValueError("--before: nothing is asked; expected --questions N")
    playing = (args.report, args.ros, args.blind, args.suite, args.without_plan, args.name,
               args.processes, args.videos)  # fmt: skip
    if any(playing):
        raise ValueError("--questions: expected --policy and --before, nothing of how to play")
    asked = [*filter(None, [args.before, args.policy])]
    policies = [load_policy(name) for name in asked]
    if args.before and policies[0].name == policies[1].name:
        raise ValueError(f"--before: both policies are called {policies[0].name!r}")
    before, found = "", []
    for name, policy in zip(asked, policies, strict=True):
        weights = str(policy_identity(name)[1].get("digest", ""))
        answers = ask_with_progress(policy, args.questions, args.seed, before)
        found.append(replace(answers, weights=weights))
        before = policy.name
    return found


def _publish_answers(args: argparse.Namespace, found: Sequence[Answers]) -> None:
    """Table on the terminal, JSON, results."""
    from rt2_ros.evaluation.page import answer_rows, update_results

    head, *rows = answer_rows(found)
    table = Table(*head, title="held-back web questions")
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.print(table)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps([asdict(a) for a in found], indent=1) + "\n")
    if args.results:
        update_results(RESULTS, answers=found)
        console.print(f"results: {RESULTS}")


def _publish(
    args: argparse.Namespace, runs: Sequence[RunFolder], asked: Set[Key] | None = None
) -> None:
    """Table on the terminal, page, JSON, results. asked: of which episodes the JSON's figures are,
    where a run has others as well.
    """
    from rt2_ros.evaluation.page import update_results
    from rt2_ros.evaluation.report import write_report

    console = Console()
    for run in runs:
        table = Table("suite", "cell", "success", "95 % interval", "episodes", "failures")
        for (suite, cell), records in run.cells().items():
            figures = summary(records)
            low, high = figures["low"], figures["high"]
            failures = ", ".join(f"{n} {reason}" for reason, n in figures["failures"].items())
            table.add_row(
                suite, cell, f"{figures['success_rate']:.0%}", f"{low:.0%} to {high:.0%}",
                _counted(len(records), run.missing((suite, cell))), failures,
            )  # fmt: skip
        table.title = Text(run.info.policy)
        console.print(table)
    page = runs[0].path / "report.html"
    write_report(runs, page)
    console.print(f"report: {page}", markup=False)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        each = [_figures(run, asked) for run in runs]
        whole = each[0] if len(each) == 1 else {"runs": each}
        args.json.write_text(json.dumps(whole, indent=1) + "\n")
    if args.results:
        update_results(RESULTS, runs, present=digests(chosen_suites([ALL])))
        console.print(f"results: {RESULTS} (of cells played to their end, on tables of today)")


def _counted(episodes: int, missing: int) -> str:
    return f"{episodes} of {episodes + missing}" if missing else str(episodes)


def _figures(run: RunFolder, asked: Set[Key] | None) -> dict[str, Any]:
    """Figures of a run as JSON: of what was asked for together (None: all), of each cell, and the
    episodes.
    """
    cells = {records[0].title: summary(records) for records in run.cells().values()}
    chosen = [record for record in run.records if asked is None or record.key in asked]
    return {
        **summary(chosen), "policy": run.info.policy, "seed": run.info.seed, "cells": cells,
        "log": [asdict(record) for record in run.records],
    }  # fmt: skip
