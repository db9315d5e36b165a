# SPDX-License-Identifier: Apache-2.0
"""`rt2 bench eval`: episodes per minute of the evaluation's runner, against one table in a loop.

The loop plays as most evaluations do: one environment, and for each of its steps one call of the
policy. Both play the same episodes of suite `seen` with the same policy, in turns, so that whatever
else the machine does falls on both; the runner's processes start anew each time, and that counts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from rt2_ros.evaluation.runner import Episode, PolicyPlayer, episodes, play
from rt2_ros.evaluation.runs import RunFolder, RunInfo
from rt2_ros.evaluation.suites import load_suite
from rt2_ros.evaluation.tables import Act, Begin, OneTable, Seen
from rt2_ros.provenance import machine


def loop(wanted: list[Episode], player: PolicyPlayer, table: OneTable) -> int:
    """Play one after another, deciding for one table at a time; how many succeeded."""
    successes = 0
    for episode in wanted:
        reply = table.begin(Begin(episode.cell, episode.seed))
        while isinstance(reply, Seen):
            (decision,) = player.decide([(episode.title, reply)])
            reply = table.act(Act(decision.action))
        successes += getattr(reply, "success", False)
    return successes


def run(wanted: list[Episode], player: PolicyPlayer) -> int:
    """Play them by the runner; how many succeeded."""
    with tempfile.TemporaryDirectory() as folder:
        info = RunInfo.here(player.name, {}, ("seen",), len(wanted), 0)
        with RunFolder.create(folder, info) as records:
            play(wanted, player, records)
            return sum(record.success for record in records.records)


def measure(policy: str, count: int, repeats: int, seed: int) -> dict[str, Any]:
    """Episodes per minute of both (medians), their ratio, and successes, which must be alike."""
    from rt2_ros.policies import load_policy

    player = PolicyPlayer(load_policy(policy))
    table = OneTable(player.image_size)
    loop(episodes([load_suite("seen")], 1, seed), player, table)  # opens OpenGL, warms up
    rates: dict[str, list[float]] = {"loop": [], "runner": []}
    successes = {"loop": 0, "runner": 0}
    ways: dict[str, Callable[[list[Episode]], int]] = {
        "loop": lambda wanted: loop(wanted, player, table),
        "runner": lambda wanted: run(wanted, player),
    }
    for number in track(range(repeats), "repeats"):
        wanted = episodes([load_suite("seen")], count, seed + number * count)
        for name, way in ways.items():
            started = time.perf_counter()
            successes[name] += way(wanted)
            rates[name].append(60 * count / (time.perf_counter() - started))
    ratios = sorted(b / a for a, b in zip(*rates.values(), strict=True))
    return {
        "policy": policy, "machine": machine(), "repeats": repeats, "episodes": repeats * count,
        "loop_per_minute": sorted(rates["loop"])[repeats // 2],
        "runner_per_minute": sorted(rates["runner"])[repeats // 2],
        "speedup_vs_loop": ratios[repeats // 2], "speedup_range": [ratios[0], ratios[-1]],
        "loop_successes": successes["loop"], "runner_successes": successes["runner"],
    }  # fmt: skip


def main(argv: list[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser("rt2 bench eval", description=__doc__.splitlines()[0])
    parser.add_argument("--policy", default="rt2-tiny")
    parser.add_argument("--episodes", type=int, default=24, help="in each repeat (default: 24)")
    parser.add_argument("--repeats", type=int, default=3, help="(default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the first episode")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    if args.episodes < 1 or args.repeats < 1:
        raise ValueError("--episodes and --repeats: expected at least 1 each")
    figures = measure(args.policy, args.episodes, args.repeats, args.seed)
    table = Table("way", "episodes a minute", "successes")
    for name in ("loop", "runner"):
        table.add_row(
            name, f"{figures[f'{name}_per_minute']:.1f}", str(figures[f"{name}_successes"])
        )
    console = Console()
    console.print(table)
    low, high = figures["speedup_range"]
    console.print(f"{figures['speedup_vs_loop']:.2f} times as many ({low:.2f} to {high:.2f})")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0
