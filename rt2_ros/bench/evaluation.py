# SPDX-License-Identifier: Apache-2.0
"""`rt2 bench eval`: episodes per minute of the evaluation's runner, against one table in a loop.

A loop plays as most evaluations do: one environment, and for each of its steps one call of the
policy; once with our decoder, and once by the model's own `generate`, as most projects decide. All
play the same episodes of suite `seen` with the same policy, in turns, so that whatever else the
machine does falls on all; the runner's processes start anew each time, and that counts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.progress import track
from rich.table import Table

from rt2_ros.evaluation.runner import Episode, PolicyPlayer, episodes, play
from rt2_ros.evaluation.runs import RunFolder, RunInfo
from rt2_ros.evaluation.suites import load_suite
from rt2_ros.evaluation.tables import Act, Begin, OneTable, Seen
from rt2_ros.provenance import machine

if TYPE_CHECKING:
    from rt2_ros.policies.vlm import VlmPolicy


TITLES = {
    "loop": "loop",
    "generate_loop": "loop that decides by `generate`",
    "runner": "runner",
}


class ByGenerate:
    """A policy that decides by its model's own `generate`; all else is that policy's."""

    def __init__(self, policy: VlmPolicy) -> None:
        self._policy = policy
        self.name, self.image_size = policy.name, policy.image_size
        self.action_space = policy.action_space
        self.infer, self.answer = policy.infer_by_generate, policy.answer


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
        info = RunInfo.here(player.name, {}, {"seen": ""}, len(wanted), 0)
        with RunFolder.create(folder, info) as records:
            play(wanted, player, records)
            return sum(record.success for record in records.records)


def measure(policy: str, count: int, repeats: int, seed: int) -> dict[str, Any]:
    """Episodes per minute of each way (medians), the runner's ratio to the others, and successes,
    which must be alike. The loop by `generate` is left out for a policy that has none.
    """
    from rt2_ros.policies import load_policy

    # One for each way: they remember their episodes, which are the same ones.
    alone, reference, many = (load_policy(policy) for _ in range(3))
    player = PolicyPlayer(alone)
    table = OneTable(player.image_size)
    unplayed = seed + repeats * count
    loop(episodes([load_suite("seen")], 1, unplayed), player, table)  # opens OpenGL, warms up
    ways: dict[str, Callable[[list[Episode]], int]] = {
        "loop": lambda wanted: loop(wanted, player, table),
        "runner": lambda wanted: run(wanted, PolicyPlayer(many)),
    }
    if hasattr(reference, "infer_by_generate"):
        generating = PolicyPlayer(ByGenerate(cast("VlmPolicy", reference)))
        ways["generate_loop"] = lambda wanted: loop(wanted, generating, table)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    successes = dict.fromkeys(ways, 0)
    for number in track(range(repeats), "repeats"):
        wanted = episodes([load_suite("seen")], count, seed + number * count)
        for name, way in ways.items():
            started = time.perf_counter()
            successes[name] += way(wanted)
            rates[name].append(60 * count / (time.perf_counter() - started))
    figures: dict[str, Any] = {
        "policy": policy, "machine": machine(), "repeats": repeats, "episodes": repeats * count,
    }  # fmt: skip
    for name, values in rates.items():
        figures[f"{name}_per_minute"] = median(values)
        figures[f"{name}_successes"] = successes[name]
    for name in rates.keys() - {"runner"}:
        ratios = [b / a for a, b in zip(rates[name], rates["runner"], strict=True)]
        figures[f"speedup_vs_{name}"] = median(ratios)
        figures[f"speedup_vs_{name}_range"] = [min(ratios), max(ratios)]
    return figures


def main(argv: list[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser("rt2 bench eval", description=__doc__.splitlines()[0])
    parser.add_argument("--policy", default="rt2-tiny", help="name, file or folder (rt2-tiny)")
    parser.add_argument("--episodes", type=int, default=24, help="in each repeat (default: 24)")
    parser.add_argument("--repeats", type=int, default=3, help="(default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the first episode")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args(argv)
    if args.episodes < 1 or args.repeats < 1:
        raise ValueError("--episodes and --repeats: expected at least 1 each")
    figures = measure(args.policy, args.episodes, args.repeats, args.seed)
    table = Table("way", "episodes a minute", "successes")
    console = Console()
    for name, title in TITLES.items():
        if f"{name}_per_minute" in figures:
            rate, successes = figures[f"{name}_per_minute"], figures[f"{name}_successes"]
            table.add_row(title, f"{rate:.1f}", str(successes))
    console.print(table)
    for name, title in TITLES.items():
        if f"speedup_vs_{name}" in figures:
            low, high = figures[f"speedup_vs_{name}_range"]
            ratio = figures[f"speedup_vs_{name}"]
            console.print(f"the runner: {ratio:.2f} times the {title} ({low:.2f} to {high:.2f})")
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(figures, indent=1) + "\n")
    return 0
