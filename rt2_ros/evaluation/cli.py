# SPDX-License-Identifier: Apache-2.0
"""`rt2 eval --policy rt2-tiny --episodes 100`: how often a policy does what it is told.

Each episode lays a random table (3 to 6 seen objects) from its seed, asks for one of them and lets
the policy act through the same controller as on the ROS graph. Physics decides: the object must be
held by both fingers, more than 10 cm above the table.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from rt2_ros.evaluation.metrics import wilson

if TYPE_CHECKING:
    from rt2_ros.policies import Policy
    from rt2_ros.sim.env import TabletopEnv

RESULTS = Path("docs/results.md")


@dataclass(frozen=True)
class Episode:
    """How one episode went; reason is '' for a success."""

    seed: int
    instruction: str
    success: bool
    reason: str
    steps: int
    invalid: int  # decisions without an action


def run_episode(env: TabletopEnv, policy: Policy, seed: int) -> Episode:
    """One episode to its end; an invalid decision is a step in which the arm holds."""
    from rt2_ros.actions import Action
    from rt2_ros.data.images import square
    from rt2_ros.policies import Observation

    observation, done, invalid = env.reset(seed), False, 0
    while not done:
        assert observation.image is not None  # the environment renders
        image = square(observation.image, policy.image_size)
        decision = policy.infer(
            Observation({"scene": image}, observation.instruction, observation.state)
        )
        action = decision.action
        if action is None:
            invalid += 1
            action = Action(False, np.zeros(3), np.zeros(3), float(observation.state[3] > 0.2))
        observation, done = env.step(action)
    verdict = env.verdict()
    return Episode(seed, env.instruction, verdict.success, verdict.reason, verdict.steps, invalid)


def summary(episodes: list[Episode]) -> dict[str, Any]:
    """success_rate, low, high, episodes, failures by reason."""
    successes = sum(episode.success for episode in episodes)
    low, high = wilson(successes, len(episodes))
    failures = Counter(episode.reason for episode in episodes if not episode.success)
    return {
        "success_rate": successes / max(len(episodes), 1), "low": low, "high": high,
        "episodes": len(episodes), "failures": dict(failures.most_common()),
        "mean_steps": sum(e.steps for e in episodes) / max(len(episodes), 1),
        "invalid_decisions": sum(e.invalid for e in episodes),
    }  # fmt: skip


def write_results(path: Path, row: str, key: str) -> None:
    """Put a row into the results table, in place of the one with the same key."""
    head = [
        "# Results", "",
        "Written by `rt2 eval --results`; never by hand. Intervals are 95 % (Wilson).", "",
        "| policy | suite | success | 95 % interval | episodes | seeds | failures | revision |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    lines = path.read_text().splitlines() if path.exists() else head
    kept = [line for line in lines if not line.startswith(key)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*kept, row]) + "\n")


def main(arguments: list[str]) -> int:
    """Returns 0 when all episodes were played, whatever the success rate."""
    parser = argparse.ArgumentParser(
        prog="rt2 eval", description="Measure a policy's success on simulated tables."
    )
    parser.add_argument("--policy", default="rt2-tiny", help="name, YAML file or checkpoint folder")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="first seed; each episode has the next")
    parser.add_argument("--json", type=Path, help="write the figures and every episode here")
    parser.add_argument("--results", action="store_true", help=f"put a row into {RESULTS}")
    args = parser.parse_args(arguments)
    from rt2_ros.data.split import ROBOT_NAMES, TEST_SEEDS
    from rt2_ros.policies import load_policy
    from rt2_ros.sim.env import TabletopEnv
    from rt2_ros.sim.tabletop import Tabletop
    from rt2_ros.training.checkpoint import git_revision

    last = args.seed + args.episodes - 1
    if args.episodes < 1 or args.seed not in TEST_SEEDS or last not in TEST_SEEDS:
        print(
            f"rt2 eval: seeds {args.seed} to {last}; expected at least one, all within the test "
            f"seeds {TEST_SEEDS.start} to {TEST_SEEDS.stop - 1}",
            file=sys.stderr,
        )
        return 2
    try:
        policy = load_policy(args.policy)
    except (ValueError, OSError) as error:
        print(f"rt2 eval: {error}", file=sys.stderr)
        return 2
    env = TabletopEnv(Tabletop(names=ROBOT_NAMES))
    episodes: list[Episode] = []
    console = Console()
    with Progress(console=console) as progress:
        task = progress.add_task("seen", total=args.episodes)
        for seed in range(args.seed, args.seed + args.episodes):
            episodes.append(run_episode(env, policy, seed))
            rate = sum(e.success for e in episodes) / len(episodes)
            progress.update(task, advance=1, description=f"seen: {rate:.0%}")
    figures = summary(episodes)
    table = Table("suite", "success", "95 % interval", "episodes", "failures")
    failures = ", ".join(f"{count} {reason}" for reason, count in figures["failures"].items())
    interval = f"{figures['low']:.0%} to {figures['high']:.0%}"
    share = f"{figures['success_rate']:.0%}"
    table.add_row("seen", share, interval, str(len(episodes)), failures)
    console.print(table)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        whole = {**figures, "policy": args.policy, "seed": args.seed,
                 "log": [asdict(episode) for episode in episodes]}  # fmt: skip
        args.json.write_text(json.dumps(whole, indent=1) + "\n")
    if args.results:
        key = f"| {policy.name} | seen |"
        seeds = f"{args.seed} to {args.seed + args.episodes - 1}"
        cells = [share, interval, str(len(episodes)), seeds, failures or "none", git_revision()]
        row = f"{key} {' | '.join(cells)} |"
        write_results(RESULTS, row, key)
    return 0
