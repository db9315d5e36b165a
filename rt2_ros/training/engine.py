# SPDX-License-Identifier: Apache-2.0
"""The training loop, readable from top to bottom.

A run passes through its stages, writes `log.jsonl` and a checkpoint every few minutes, and goes on
from the last checkpoint when it is started again.
"""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from rt2_ros.actions import ActionSpace
from rt2_ros.models.tiny import IMAGE_SIZE, PATCH_SIZE, build_model, build_processor, whiten_patches
from rt2_ros.training import checkpoint
from rt2_ros.training.config import Annealed, Stage, TrainingConfig
from rt2_ros.training.data import Mixture, Source, WebSource, loader, named_words
from rt2_ros.training.objective import Losses, Objective
from rt2_ros.training.packing import Batch, Packer

SAVE_EVERY = 240.0  # s
LOG_EVERY = 50  # steps
WINDOW = 100  # steps that shown figures are averaged over


def schedule(stage: Annealed, progress: float) -> float:
    """Learning rate after `progress` (0..1) of a stage: linear warm-up, then a cosine to its
    floor.
    """
    if progress < stage.warmup:
        return stage.learning_rate * (0.02 + 0.98 * progress / stage.warmup)
    after = min((progress - stage.warmup) / (1 - stage.warmup), 1.0)
    return stage.learning_rate * (
        stage.floor + (1 - stage.floor) * (1 + math.cos(math.pi * after)) / 2
    )


def soften(stage: Annealed, progress: float) -> float:
    """Width of the soft targets in bins: geometric from first to last."""
    first, last = stage.sigma
    return first * (last / first) ** progress


class Run:
    """One training run in its folder."""

    def __init__(
        self, config: TrainingConfig, space: ActionSpace, sources: dict[str, Source],
        states: Source | None = None,
    ) -> None:  # fmt: skip
        """sources: by the names that stages' shares use, besides "web"; states: no pictures."""
        self.config, self.space, self.states = config, space, states
        self.folder = Path(config.out)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.sources: dict[str, Source] = {
            "web": WebSource(
                queries=config.web_queries,
                robot_names_share=config.robot_names_share,
                most=config.web_things,
            ),
            **sources,
        }
        self.console = Console()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(config.seed)
        self.processor = build_processor()
        model = build_model(self.processor, seed=config.seed, **(config.model or {}))
        model.set_attn_implementation("eager")  # faster than SDPA's backward at these lengths
        random = np.random.default_rng(config.seed)
        sample = [frame.image for frame in (self.sources["web"](random) for _ in range(200))]
        pixels = np.stack([image for image in sample if image is not None])
        whiten_patches(model, torch.from_numpy(pixels))
        tokenizer = self.processor.tokenizer
        integers = torch.tensor(tokenizer.convert_tokens_to_ids([str(i) for i in range(256)]))
        self.objective = Objective(model, integers).to(self.device)
        self.packer = Packer(
            tokenizer, image_size=IMAGE_SIZE, patch_size=PATCH_SIZE, words=named_words()
        )
        # Muon for the matrices inside layers, AdamW for the rest (arXiv 2502.16982).
        matrices: list[torch.nn.Parameter] = []
        rest: list[torch.nn.Parameter] = []
        for name, parameter in self.objective.named_parameters():
            inside = ".layers." in name and parameter.ndim == 2
            (matrices if inside else rest).append(parameter)
        self.optimizers: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(matrices, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0.01, fused=True),
        )
        self.stage, self.elapsed, self.step, self.pictures = 0, 0.0, 0, 0
        self.blind_error = 0.0  # bins; what a model reaches that does not read the instruction
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
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        for name in ("stage", "elapsed", "step", "pictures"):
            setattr(self, name, state[name])
        self.console.print(f"resuming at step {self.step}, stage {self.stage}")

    def save(self) -> None:
        """Write the checkpoint with all that resuming needs."""
        state = {
            "objective": self.objective.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "stage": self.stage, "elapsed": self.elapsed, "step": self.step,
            "pictures": self.pictures,
        }  # fmt: skip
        checkpoint.save(
            self.checkpoint, self.objective.model, self.processor, self.space, self.record(), state
        )

    def record(self) -> dict[str, Any]:
        """How this model came about, for training.json."""
        return {
            "config": asdict(self.config), "steps": self.step, "pictures": self.pictures,
            "parameters": sum(p.numel() for p in self.objective.model.parameters()),
        }  # fmt: skip

    def run(self) -> Path:
        """Go through the stages that are left; returns the checkpoint's folder."""
        for number in range(self.stage, len(self.config.stages)):
            if number != self.stage:
                self.stage, self.elapsed = number, 0.0
            self._run_stage(self.config.stages[number])
        self.stage, self.elapsed = len(self.config.stages), 0.0
        self.save()
        return self.checkpoint

    def _run_stage(self, stage: Stage) -> None:
        mixture = Mixture(
            self.sources, stage.shares, self.packer,
            batch_size=stage.batch_size, states=self.states, state_rows=stage.state_rows,
            seed=self.config.seed + 1000 * self.step + self.stage,
        )  # fmt: skip
        batches: Iterator[Batch] = loader(mixture, self.config.workers)
        window: deque[Losses] = deque(maxlen=WINDOW)
        saved = time.monotonic()
        budget = stage.minutes * 60
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(),
                   TextColumn("{task.fields[figures]}"))  # fmt: skip
        with (
            Progress(*columns, console=self.console) as progress,
            (self.folder / "log.jsonl").open("a") as log,
        ):
            task = progress.add_task(stage.name, total=budget, figures="")
            while self.elapsed < budget:
                begun = time.monotonic()
                batch = next(batches)
                waited = time.monotonic() - begun
                part = self.elapsed / budget
                rate, sigma = schedule(stage, part), soften(stage, part)
                for optimizer in self.optimizers:
                    for group in optimizer.param_groups:
                        group["lr"] = rate
                losses = self._step(stage, batch.to(self.device), sigma)
                self.step += 1
                self.pictures += stage.batch_size
                self.elapsed += time.monotonic() - begun
                if losses is not None:
                    window.append(losses)
                if self.step % LOG_EVERY == 0 and window:
                    figures = _mean(window)
                    entry = {"step": self.step, "stage": stage.name, "elapsed": self.elapsed,
                             "pictures": self.pictures, "lr": rate, "sigma": sigma,
                             "waited": waited, "blind_error": self.blind_error,
                             **figures}  # fmt: skip
                    log.write(json.dumps(entry) + "\n")
                    log.flush()
                    progress.update(
                        task, completed=self.elapsed, figures=_shown(figures, self.blind_error)
                    )
                if time.monotonic() - saved > SAVE_EVERY:
                    self.save()
                    saved = time.monotonic()
        self.save()

    def _step(self, stage: Stage, batch: Batch, sigma: float) -> Losses | None:
        with torch.autocast(self.device.type, torch.bfloat16):
            losses = self.objective(
                batch, sigma=sigma, dense_weight=stage.dense_weight,
                web_weight=stage.web_weight, answers=stage.answers,
                grounding_weight=stage.grounding_weight,
            )  # fmt: skip
        self.objective.zero_grad(set_to_none=True)
        losses.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.objective.parameters(), 1.0)
        if not torch.isfinite(norm):
            self.console.print(f"[yellow]step {self.step}: the gradient is {norm}; left out")
            return None
        for optimizer in self.optimizers:
            optimizer.step()
        return losses


def _mean(window: deque[Losses]) -> dict[str, float]:
    names = (
        "answer",
        "dense",
        "robot_share",
        "integer_error",
        "robot_error",
        "state_error",
        "patch_accuracy",
        "grounding",
    )
    return {
        name: round(sum(getattr(losses, name) for losses in window) / len(window), 4)
        for name in names
    }


def _shown(figures: dict[str, float], blind: float) -> str:
    return (
        f"loss {figures['answer']:.2f} dense {figures['dense']:.2f} "
        f"patch {figures['patch_accuracy']:.0%} web {figures['integer_error']:.1f} "
        f"robot {figures['robot_error']:.1f} bins (blind {blind:.1f})"
    )
