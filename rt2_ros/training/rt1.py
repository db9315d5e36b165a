# SPDX-License-Identifier: Apache-2.0
"""Training RT-1, the baseline, on robot demonstrations alone: `rt2 train --config rt1-small`.

A stage ends when trainer and workers together have used its CPU-minutes: on a machine that is
shared, wall time says little of what was spent.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
import torch
from rich.console import Console
from torch import nn

from rt2_ros.actions import ActionSpace
from rt2_ros.data.episodes import Batch, EpisodeSource, Windows
from rt2_ros.data.robot import SPACE
from rt2_ros.models.rt1 import RT1, RT1Config
from rt2_ros.training import checkpoint, config
from rt2_ros.training.data import loader
from rt2_ros.training.rt1_objective import RT1Losses, RT1Objective
from rt2_ros.training.schedule import schedule, soften
from rt2_ros.typed import build

SAVE_EVERY = 300.0  # s
LOG_EVERY = 50  # steps
WINDOW = 100  # steps that shown figures are averaged over


@dataclass(frozen=True)
class RT1Stage:
    """One stretch of training.

    cpu_minutes: of trainer and workers together; learning rate and sigma follow them.
    images: length of the windows; 1 is an episode's first picture.
    readings: how often a window is read, each time for another instruction and in other colours.
    acts: False asks each cell what it shows, and nothing else.
    """

    name: str
    cpu_minutes: float
    learning_rate: float
    images: int = 6
    batch_size: int = 8
    readings: int = 4
    acts: bool = True
    looking_weight: float = 0.0
    sigma: tuple[float, float] = (5.0, 2.0)
    warmup: float = 0.02
    floor: float = 0.05

    def __post_init__(self) -> None:
        for name in ("cpu_minutes", "learning_rate", "images", "batch_size", "readings"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"stage {self.name}: {name} is {getattr(self, name)}; expected > 0"
                )
        if len(self.sigma) != 2 or min(self.sigma) <= 0:
            raise ValueError(f"stage {self.name}: sigma is {self.sigma}; expected two numbers > 0")


@dataclass(frozen=True)
class RT1TrainingConfig:
    """One run: the model's sizes, the stages."""

    name: str
    stages: tuple[RT1Stage, ...]
    out: str
    model: RT1Config = field(default_factory=RT1Config)
    seed: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ValueError(f"workers is {self.workers}; expected at least 0")

    @classmethod
    def load(cls, name_or_path: str) -> RT1TrainingConfig:
        """Read config/training/NAME.yaml or a file; ValueError names the key and what was
        expected.
        """
        path, raw = config.read(name_or_path)
        stages = config.build_stages(RT1Stage, path, raw)
        sizes = build(RT1Config, raw.get("model") or {}, f"{path}: model")
        for stage in stages:
            if stage.images > sizes.history:
                raise ValueError(
                    f"{path}: stage {stage.name}: images is {stage.images}; expected at most the "
                    f"model's history, {sizes.history}"
                )
        raw = {key: value for key, value in raw.items() if key != "type"}
        return build(cls, {"name": path.stem, **raw, "stages": stages, "model": sizes}, str(path))


def cpu_seconds() -> float:
    """CPU time of this process and its children, those that ended included."""
    process = psutil.Process()
    times = process.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in process.children(recursive=True):
        try:
            used = child.cpu_times()
        except psutil.NoSuchProcess:  # ended meanwhile: counted with those that ended
            continue
        total += used.user + used.system
    return total


class RT1Run:
    """One training run in its folder; goes on from its last checkpoint."""

    def __init__(self, config: RT1TrainingConfig, space: ActionSpace = SPACE) -> None:
        self.config = config
        self.space = replace(space, name=config.name)
        self.folder = Path(config.out)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.console = Console()
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # workers are forked
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(config.seed)
        self.objective = RT1Objective(RT1(config.model), self.space).to(self.device)
        parameters = [p for p in self.objective.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            parameters, betas=(0.9, 0.98), weight_decay=0.01, fused=True
        )
        self.stage, self.elapsed, self.spent, self.step, self.images = 0, 0.0, 0.0, 0, 0
        self._resume()

    @property
    def checkpoint(self) -> Path:
        """Where the run's newest checkpoint is."""
        return self.folder / "checkpoint"

    def _resume(self) -> None:
        checkpoint.recover(self.checkpoint)
        path = self.checkpoint / "state.pt"
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.objective.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name in ("stage", "elapsed", "spent", "step", "images"):
            setattr(self, name, state[name])
        self.console.print(f"resuming at step {self.step}, stage {self.stage}")

    def save(self) -> None:
        """Write the checkpoint with all that resuming needs."""
        state = {
            "objective": self.objective.state_dict(), "optimizer": self.optimizer.state_dict(),
            "stage": self.stage, "elapsed": self.elapsed, "spent": self.spent, "step": self.step,
            "images": self.images,
        }  # fmt: skip
        checkpoint.save(
            self.checkpoint, self.objective.model, None, self.space, self.record(), state
        )

    def record(self) -> dict[str, Any]:
        """How this model came about and is to be read, for training.json."""
        return {
            "policy": {"type": "rt1", "smoothing": 4},
            "config": asdict(self.config), "seed": self.config.seed,
            "mixture": {stage.name: {"robot": 1.0} for stage in self.config.stages},
            "action_spaces": {"robot": asdict(self.space)},
            "steps": self.step, "pictures": self.images,
            "cpu_minutes": round(self.spent / 60, 1),
            "parameters": sum(p.numel() for p in self.objective.model.parameters()),
        }  # fmt: skip

    def run(self) -> Path:
        """Go through the stages that are left; returns the checkpoint's folder."""
        if self.stage == len(self.config.stages):  # its record stays: these weights are its
            self.console.print("all stages are done")
            return self.checkpoint
        for number in range(self.stage, len(self.config.stages)):
            if number != self.stage:
                self.stage, self.elapsed = number, 0.0
            self._run_stage(self.config.stages[number])
        self.stage, self.elapsed = len(self.config.stages), 0.0
        self.save()
        return self.checkpoint

    def _run_stage(self, stage: RT1Stage) -> None:
        sizes = self.config.model
        windows = Windows(
            EpisodeSource(sizes.image_size, sizes.period),
            self.objective.model.vision.side, length=stage.images, batch_size=stage.batch_size,
            readings=stage.readings, seed=self.config.seed + 1000 * self.step + self.stage,
        )  # fmt: skip
        self.objective.train()
        before = cpu_seconds()
        batches: Iterator[Batch] = loader(windows, self.config.workers)
        window: deque[RT1Losses] = deque(maxlen=WINDOW)
        saved, budget = time.monotonic(), stage.cpu_minutes * 60
        with (self.folder / "log.jsonl").open("a") as log:
            while self.elapsed < budget:
                part = self.elapsed / budget
                rate, sigma = schedule(stage, part), soften(stage, part)
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
                window.append(self._step(stage, next(batches), sigma))
                self.step += 1
                self.images += stage.batch_size * stage.images
                now = cpu_seconds()
                self.elapsed, self.spent = self.elapsed + now - before, self.spent + now - before
                before = now
                if self.step % LOG_EVERY == 0:
                    entry = {"step": self.step, "stage": stage.name, "time": round(time.time()),
                             "cpu_minutes": round(self.spent / 60, 2), "pictures": self.images,
                             "lr": rate, "sigma": sigma, **_mean(window)}  # fmt: skip
                    log.write(json.dumps(entry) + "\n")
                    log.flush()
                    self.console.print(_shown(entry), highlight=False)
                if time.monotonic() - saved > SAVE_EVERY:
                    self.save()
                    saved = time.monotonic()
        self.save()

    def _step(self, stage: RT1Stage, batch: Batch, sigma: float) -> RT1Losses:
        batch, objective = _to(batch, self.device), self.objective
        losses = (
            objective.act(batch, sigma, stage.looking_weight)
            if stage.acts
            else objective.see(batch, sigma)
        )
        self.optimizer.zero_grad(set_to_none=True)
        losses.total.backward()
        norm = nn.utils.clip_grad_norm_(self.objective.parameters(), 1.0)
        if torch.isfinite(norm):
            self.optimizer.step()
        else:
            self.console.print(f"[yellow]step {self.step}: the gradient is {norm}; left out")
        return losses


def _to(batch: Batch, device: torch.device) -> Batch:
    moved = {
        name: value.to(device, non_blocking=True)
        for name, value in vars(batch).items()
        if isinstance(value, torch.Tensor)
    }
    return replace(batch, **moved)


def _mean(window: deque[RT1Losses]) -> dict[str, float]:
    names = [name for name, value in vars(window[-1]).items() if isinstance(value, float)]
    figures = {n: sum(getattr(losses, n) for losses in window) / len(window) for n in names}
    for part in window[-1].parts:
        values = [losses.parts[part] for losses in window if part in losses.parts]
        figures[part] = sum(values) / len(values)
    return {name: round(value, 4) for name, value in figures.items()}


def _shown(entry: dict[str, Any]) -> str:
    return "  ".join(f"{key} {value}" for key, value in entry.items() if key != "time")
