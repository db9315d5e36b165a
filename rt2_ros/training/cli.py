# SPDX-License-Identifier: Apache-2.0
"""`rt2 train --config rt2-tiny`: run, or go on with, a training run.

A configuration of `type: rt1` trains RT-1, the baseline.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rt2_ros.training.config import TrainingConfig, read

if TYPE_CHECKING:  # both take seconds to import
    from rt2_ros.training.engine import Run
    from rt2_ros.training.rt1 import RT1Run


def main(arguments: list[str]) -> int:
    """Returns 0 when all stages are done."""
    parser = argparse.ArgumentParser(
        prog="rt2 train", description="Train a model as config/training says."
    )
    parser.add_argument("--config", default="rt2-tiny", help="config/training/NAME.yaml or a file")
    parser.add_argument("--out", help="folder of the run (default: the configuration's)")
    parser.add_argument("--export", type=Path, help="copy the finished checkpoint here")
    args = parser.parse_args(arguments)
    try:
        rt1 = read(args.config)[1].get("type") == "rt1"
        run = _rt1(args) if rt1 else _rt2(args)
    except ValueError as error:
        print(f"rt2 train: {error}", file=sys.stderr)
        return 2
    finished = run.run()
    if args.export:
        export(finished, args.export)
        run.console.print(f"exported to {args.export}")
    return 0


def _rt2(args: argparse.Namespace) -> Run:
    """RT-2, on robot and web data."""
    config = TrainingConfig.load(args.config)
    from rt2_ros.data.robot import RobotSource, StateSource
    from rt2_ros.training.engine import Run

    if args.out:
        config = dataclasses.replace(config, out=args.out)
    robot = RobotSource(robot_queries=config.robot_queries)
    run = Run(config, robot.space, {"robot": robot}, StateSource())
    # Measured with a simulator of its own: this process must stay free of OpenGL, for it forks.
    blind = RobotSource().language_blind_error(np.random.default_rng(0), render=False)
    run.console.print(
        f"robot error of a model that does not read the instruction: {blind:.1f} bins"
    )
    run.blind_error = blind
    return run


def _rt1(args: argparse.Namespace) -> RT1Run:
    """RT-1, on robot data alone."""
    from rt2_ros.training.rt1 import RT1Run, RT1TrainingConfig

    config = RT1TrainingConfig.load(args.config)
    return RT1Run(dataclasses.replace(config, out=args.out) if args.out else config)


def export(checkpoint: Path, target: Path) -> None:
    """Copy a checkpoint without what only resuming needs."""
    target.mkdir(parents=True, exist_ok=True)
    for path in checkpoint.iterdir():
        if path.name != "state.pt":
            shutil.copy2(path, target / path.name)
