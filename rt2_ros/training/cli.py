# SPDX-License-Identifier: Apache-2.0
"""`rt2 train --config rt2-tiny`: run, or go on with, a training run."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
from pathlib import Path

import numpy as np

from rt2_ros.training.config import TrainingConfig


def main(arguments: list[str]) -> int:
    """Returns 0 when all stages are done."""
    parser = argparse.ArgumentParser(
        prog="rt2 train", description="Co-fine-tune a model on robot and web data."
    )
    parser.add_argument("--config", default="rt2-tiny", help="config/training/NAME.yaml or a file")
    parser.add_argument("--out", help="folder of the run (default: the configuration's)")
    parser.add_argument("--export", type=Path, help="copy the finished checkpoint here")
    args = parser.parse_args(arguments)
    try:
        config = TrainingConfig.load(args.config)
    except ValueError as error:
        print(f"rt2 train: {error}", file=sys.stderr)
        return 2
    if args.out:
        config = dataclasses.replace(config, out=args.out)
    from rt2_ros.data.robot import RobotSource, StateSource
    from rt2_ros.training.engine import Run

    robot = RobotSource(robot_queries=config.robot_queries)
    run = Run(config, robot.space, {"robot": robot}, StateSource())
    # Measured with a simulator of its own: this process must stay free of OpenGL, for it forks.
    blind = RobotSource().language_blind_error(np.random.default_rng(0), render=False)
    run.console.print(
        f"robot error of a model that does not read the instruction: {blind:.1f} bins"
    )
    run.blind_error = blind
    finished = run.run()
    if args.export:
        export(finished, args.export)
        run.console.print(f"exported to {args.export}")
    return 0


def export(checkpoint: Path, target: Path) -> None:
    """Copy a checkpoint without what only resuming needs."""
    target.mkdir(parents=True, exist_ok=True)
    for path in checkpoint.iterdir():
        if path.name != "state.pt":
            shutil.copy2(path, target / path.name)
