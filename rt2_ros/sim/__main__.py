# SPDX-License-Identifier: Apache-2.0
"""How often the scripted expert picks up what it is asked for, through action space and controller.

$ python -m rt2_ros.sim --episodes 100
expert: 100 of 100, 10.6 steps on average, 13 at most
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable

import numpy as np

from rt2_ros.actions import Action, ActionSpace
from rt2_ros.sim.env import EnvObservation, TabletopEnv, run_episode
from rt2_ros.sim.expert import expert
from rt2_ros.sim.tasks import Verdict


def expert_verdicts(env: TabletopEnv, space: ActionSpace, seeds: Iterable[int]) -> list[Verdict]:
    """Let the expert play an episode for each seed, its actions cut into the space's bins."""

    def decide(observation: EnvObservation) -> Action:
        return space.from_bins(space.to_bins(expert(observation.truth, env.task)))

    return [run_episode(env, decide, seed) for seed in seeds]


def main(arguments: list[str]) -> int:
    """Return 0 if at least 98 % of the episodes succeed."""
    parser = argparse.ArgumentParser(prog="python -m rt2_ros.sim", description=__doc__)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the first episode (default: 0)")
    options = parser.parse_args(arguments)

    from rt2_ros.data.robot import SPACE
    from rt2_ros.data.split import ROBOT_NAMES
    from rt2_ros.sim.tabletop import Tabletop

    env = TabletopEnv(Tabletop(ROBOT_NAMES), render=False)
    seeds = range(options.seed, options.seed + options.episodes)
    verdicts = expert_verdicts(env, SPACE, seeds)
    steps = [verdict.steps for verdict in verdicts]
    won = sum(verdict.success for verdict in verdicts)
    print(
        f"expert: {won} of {len(verdicts)}, {np.mean(steps):.1f} steps on average, "
        f"{max(steps)} at most"
    )
    for seed, verdict in zip(seeds, verdicts, strict=True):
        if not verdict.success:
            print(f"seed {seed}: {verdict.reason}")
    return 0 if won >= 0.98 * len(verdicts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
