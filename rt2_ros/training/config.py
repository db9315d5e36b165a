# SPDX-License-Identifier: Apache-2.0
"""What a training run does, read from config/training/NAME.yaml and checked before anything
starts.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol, TypeVar

import yaml

from rt2_ros.paths import config_path

T = TypeVar("T")


class Annealed(Protocol):
    """What falls over a stage: the learning rate to a share `floor` of it, the soft targets' width
    in bins from sigma[0] to sigma[1].
    """

    @property
    def learning_rate(self) -> float:
        """At its highest."""

    @property
    def warmup(self) -> float:
        """Share of the stage in which it rises."""

    @property
    def floor(self) -> float:
        """Share of it that is left at the end."""

    @property
    def sigma(self) -> tuple[float, float]:
        """Width at the start, and at the end."""


@dataclass(frozen=True)
class Stage:
    """One stretch of training with its own data and learning rate.

    minutes: how long it lasts; the learning rate follows elapsed time, so a slower machine sees
        fewer pictures, not another schedule.
    shares: source name -> weight; answers: whether questions are asked (False: patches only).
    sigma: width of the soft targets in bins, (at the start, at the end).
    """

    name: str
    minutes: float
    shares: dict[str, float]
    learning_rate: float
    answers: bool = True
    batch_size: int = 16
    dense_weight: float = 0.3
    grounding_weight: float = 0.5
    web_weight: float = 1.0
    state_rows: int = 0  # rows of robot questions without a picture, in each batch
    sigma: tuple[float, float] = (5.0, 2.0)
    warmup: float = 0.02  # share of the stage
    floor: float = 0.05  # of the learning rate, at the end

    def __post_init__(self) -> None:
        for name in ("minutes", "learning_rate", "batch_size"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"stage {self.name}: {name} is {getattr(self, name)}; expected > 0"
                )
        if len(self.sigma) != 2 or min(self.sigma) <= 0:
            raise ValueError(f"stage {self.name}: sigma is {self.sigma}; expected two numbers > 0")
        if not self.shares:
            raise ValueError(f"stage {self.name}: shares is empty; expected source: weight")


@dataclass(frozen=True)
class TrainingConfig:
    """One run: the model, its data, the stages."""

    name: str
    stages: tuple[Stage, ...]
    out: str
    seed: int = 0
    workers: int = 1
    model: dict[str, int] | None = None  # sizes for build_model; None: its defaults
    web_queries: int = 8  # a picture
    robot_queries: int = 3  # a picture
    web_things: int = 12  # pictographs in a web picture at most
    robot_names_share: float = 0.5  # of web pictures, those that show only things robots meet too

    @classmethod
    def load(cls, name_or_path: str) -> TrainingConfig:
        """Read config/training/NAME.yaml or a file; ValueError names the key and what was
        expected.
        """
        path, raw = read(name_or_path)
        stages = tuple(build(Stage, stage, f"{path}: stage") for stage in raw.pop("stages"))
        return build(cls, {"name": path.stem, **raw, "stages": stages}, str(path))


def read(name_or_path: str) -> tuple[Path, dict[str, Any]]:
    """The file that is meant and what it says; ValueError where there is none or it has no
    stages.
    """
    path = Path(name_or_path)
    if not path.is_file():
        path = config_path("training", f"{name_or_path}.yaml")
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in config_path("training").glob("*.yaml")))
        raise ValueError(f"no training configuration {name_or_path!r}; there are: {known}")
    raw = yaml.safe_load(path.read_text())
    if not isinstance(raw, dict) or not isinstance(raw.get("stages"), list):
        raise ValueError(f"{path}: expected a mapping with a list `stages`")
    return path, raw


def build(cls: type[T], values: dict[str, Any], where: str) -> T:
    """A dataclass from a file's keys; ValueError names an unknown or a missing one."""
    known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(
            f"{where}: unknown key {unknown[0]!r}; expected {', '.join(sorted(known))}"
        )
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error
