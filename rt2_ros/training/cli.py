# SPDX-License-Identifier: Apache-2.0
"""`rt2 train --config rt2-tiny`: run, or go on with, a training run.

    rt2 train --config my-robot.yaml
    torchrun --nproc_per_node 8 -m rt2_ros.training.cli --config my-robot.yaml

A configuration of `type: tiny` makes the default model, `type: vlm` fine-tunes any Hugging Face
model, `type: rt1` trains RT-1, the baseline.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from safetensors.torch import load_file, save_file

from rt2_ros.training import checkpoint
from rt2_ros.training.config import Stage, TinyConfig, TrainingConfig, VlmConfig, load, read

if TYPE_CHECKING:  # both take seconds to import
    from rt2_ros.training.rt1 import RT1Run, RT1Stage

S = TypeVar("S", bound="Stage | RT1Stage")
# What exports wrote that do not list it under `files`: of models, processors, tokenizers, our own.
WRITTEN = (
    "config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json",
    "processor*", "preprocessor*", "tokenizer*", "special_tokens_map.json", "added_tokens.json",
    "chat_template*", "action_space.json", "plan_form.json", checkpoint.RECORD_FILE,
)  # fmt: skip
ASIDE = ".{}.rt2"  # beside an export, where a person may have a NAME.old of their own


def main(arguments: list[str]) -> int:
    """Returns 0 when all stages are done."""
    parser = argparse.ArgumentParser(
        prog="rt2 train", description="Train a model as config/training says."
    )
    parser.add_argument(
        "--config", default="rt2-tiny",
        help="config/training/NAME.yaml or a file (default: rt2-tiny, 150 minutes on two cores)",
    )  # fmt: skip
    parser.add_argument("--out", help="folder of the run (default: the configuration's)")
    parser.add_argument(
        "--minutes", type=float,
        help="in all, each stage its share of them (default: the configuration's; of RT-1, minutes "
        "of CPU)",
    )  # fmt: skip
    parser.add_argument("--export", type=Path, help="copy the finished checkpoint here")
    parser.add_argument(
        "--half", action="store_true", help="with --export: weights in float16, half the size"
    )
    args = parser.parse_args(arguments)
    if args.half and not args.export:
        parser.error("--half: expected --export with it")
    try:
        rt1 = read(args.config)[1].get("type") == "rt1"
        if rt1 and args.half:
            raise ValueError("--half: an RT-1 is small; expected a configuration of RT-2")
        run = _rt1(args).run if rt1 else _rt2(args)
    except (ValueError, ImportError) as error:  # what a model's processor needs may be missing
        print(f"rt2 train: {error}", file=sys.stderr)
        return 2
    finished = run()
    if args.export and int(os.environ.get("RANK", "0")) == 0:  # one of those torchrun started
        try:
            export(finished, args.export, args.half)
        except ValueError as error:
            print(f"rt2 train: {error}", file=sys.stderr)
            return 2
        print(f"exported to {args.export}")
    return 0


def _rt2(args: argparse.Namespace) -> Callable[[], Path]:
    """RT-2, on robot and web data: the default model, or any of the hub. What trains it and returns
    the checkpoint; nothing is loaded to export one that is finished.
    """
    config: TrainingConfig = load(args.config)
    if args.out:
        config = dataclasses.replace(config, out=args.out)
    if args.minutes is not None:
        config = dataclasses.replace(config, stages=in_all(config.stages, "minutes", args.minutes))
    from rt2_ros.data.robot import RobotSource
    from rt2_ros.training.engine import Run, finished
    from rt2_ros.training.recipe import Recipe
    from rt2_ros.training.sources import build, main_space

    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1  # others would wait for this one
    if args.export and alone and (done := finished(config)) is not None:
        print(f"all {len(config.stages)} stages are done")
        return lambda: done
    # A row for each question: with several about a picture, shares of pictures would be no shares
    # of what is learned.
    queries = 1 if isinstance(config, VlmConfig) else None
    sources = build(config.sources, config.augment, queries=queries)
    held_out = build(config.sources, {}, True, queries) if config.validation else None
    recipe: Recipe
    if isinstance(config, VlmConfig):
        from rt2_ros.training.vlm import VlmRecipe

        recipe, space = VlmRecipe(config, sources), main_space(sources, config.space)
    else:
        from rt2_ros.training.tiny import TinyRecipe

        assert isinstance(config, TinyConfig)
        recipe, space = TinyRecipe(config, sources), main_space(sources, config.space)
    run = Run(config, recipe, sources, space, held_out)
    if any(settings.get("type") == "robot" for settings in config.sources.values()):
        # Measured with a simulator of its own, and without pictures: this process must stay free of
        # OpenGL, for it forks.
        blind = RobotSource().language_blind_error(np.random.default_rng(0), render=False)
        run.journal.say(
            f"robot error of a model that does not read the instruction: {blind:.1f} bins"
        )
    return run.run


def _rt1(args: argparse.Namespace) -> RT1Run:
    """RT-1, on robot data alone."""
    from rt2_ros.training.rt1 import RT1Run, RT1TrainingConfig

    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1:
        raise ValueError(f"torchrun with {processes} processes: an RT-1 is trained by one alone")
    config = RT1TrainingConfig.load(args.config)
    if args.out:
        config = dataclasses.replace(config, out=args.out)
    if args.minutes is not None:
        stages = in_all(config.stages, "cpu_minutes", args.minutes)
        config = dataclasses.replace(config, stages=stages)
    return RT1Run(config)


def in_all(stages: tuple[S, ...], name: str, minutes: float) -> tuple[S, ...]:
    """Stages that last so many minutes together, in the same proportions.

    Raises:
        ValueError: minutes is not above 0, or a stage lasts steps.
    """
    if not minutes > 0:
        raise ValueError(f"--minutes {minutes:g}: expected above 0")
    lasts = [getattr(stage, name) for stage in stages]
    if not all(lasts):
        stage = stages[lasts.index(0)]
        raise ValueError(
            f"--minutes: stage {stage.name} lasts steps; expected {name} in every stage"
        )
    scale = minutes / sum(lasts)
    return tuple(
        dataclasses.replace(stage, **{name: last * scale})
        for stage, last in zip(stages, lasts, strict=True)
    )


def export(finished: Path, target: Path, half: bool = False) -> None:
    """Copy a checkpoint without what only resuming needs; half: its weights in float16.

    It takes the place of one that is there, whole or not at all. What else is there, such as a
    README.md, stays.

    Raises:
        ValueError: half, and a weight is too large for float16; the target holds something else,
            or what a run goes on from.
    """
    target = target.resolve()
    there = {path.name for path in target.iterdir()} if target.is_dir() else set()
    exported = checkpoint.RECORD_FILE in there and checkpoint.STATE_FILE not in there
    if target == finished.resolve() or target.is_file() or (there and not exported):
        raise ValueError(f"--export {target}: expected a new folder or an exported checkpoint's")
    with checkpoint.replacing(target, ASIDE) as new:
        files = {path.name for path in finished.iterdir()} - {checkpoint.STATE_FILE}
        for name in files:
            _copy(finished / name, new)
        if half:
            _halve(new)
        path = new / checkpoint.RECORD_FILE
        record = json.loads(path.read_text()) | {"files": sorted(files)}
        path.write_text(json.dumps(record, indent=1) + "\n")
        if (target / checkpoint.RECORD_FILE).exists():
            written = _written(target)
            for path in target.iterdir():
                if path.name not in files | written:
                    _copy(path, new)


def _copy(path: Path, folder: Path) -> None:
    """A file, or a folder with all that is in it, into another folder."""
    if path.is_dir():
        shutil.copytree(path, folder / path.name)
    else:
        shutil.copy2(path, folder)


def _written(folder: Path) -> set[str]:
    """The names of what an export wrote there."""
    record = json.loads((folder / checkpoint.RECORD_FILE).read_text())
    if "files" in record:
        return set(record["files"])
    files = (path.name for path in folder.iterdir() if path.is_file())
    return {name for name in files if any(fnmatch(name, known) for known in WRITTEN)}


def _halve(folder: Path) -> None:
    """Weights in float16; ValueError for one that is too large."""
    for path in folder.glob("*.safetensors"):
        weights = {name: value.half() for name, value in load_file(path).items()}
        if large := [name for name, value in weights.items() if not value.isfinite().all()]:
            raise ValueError(f"--half: {large[0]} does not fit float16; export it whole")
        save_file(weights, path, {"format": "pt"})
    config = folder / "config.json"
    settings = json.loads(config.read_text()) | {"dtype": "float16"}
    config.write_text(json.dumps(settings, indent=2) + "\n")


if __name__ == "__main__":  # what torchrun starts
    from rt2_ros.cli import main as rt2

    sys.exit(rt2(["train", *sys.argv[1:]]))
