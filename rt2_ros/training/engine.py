# SPDX-License-Identifier: Apache-2.0
"""The training loop, readable from top to bottom, for every model and any number of processes.

    run = Run(config, recipe, sources, space)    # goes on from the last checkpoint in config.out
    checkpoint = run.run()

A run passes through its stages and writes into its folder: `log.jsonl`, `loss.png` and
`tensorboard/`, `checkpoint/` every few minutes, where it validates `best/`, and the checkpoints of
stages that are to be kept, by their names.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as hub_logging

from rt2_ros.actions import ActionSpace
from rt2_ros.paths import find_folder
from rt2_ros.training import checkpoint, parallel
from rt2_ros.training.config import Stage, TrainingConfig
from rt2_ros.training.data import HELD_OUT, Drawn, Mixture, Source, loader
from rt2_ros.training.journal import Journal
from rt2_ros.training.objective import Losses, mean_figures
from rt2_ros.training.recipe import Recipe
from rt2_ros.training.schedule import schedule
from rt2_ros.training.sources import spaces, statistics

MOST_BAD_STEPS = 50  # in a row, after which a run is given up, skipping or not


class Stopped(ValueError):
    """The run ended early, as configured; its message says why and where it was saved."""


@dataclass
class Place:
    """Where a run is. `drawn` counts batches of this stage, over all processes."""

    stage: int = 0
    step: int = 0
    stage_step: int = 0
    drawn: int = 0
    pictures: int = 0
    elapsed: float = 0.0  # s in this stage
    best: float = math.inf  # validation loss of this stage
    waiting: int = 0  # validations since


def finished(config: TrainingConfig) -> Path | None:
    """What `Run.run` returns, where all stages of a run are done already; None where some are not.

    Without the model in memory, or the data.
    """
    folder = Path(config.out) / "checkpoint"
    checkpoint.recover(folder)
    path = folder / checkpoint.STATE_FILE
    if not path.exists():
        return None
    state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    done = state.get("place", {}).get("stage", 0) >= len(config.stages)
    return _to_use(config) if done else None


def _to_use(config: TrainingConfig) -> Path:
    """A run's best checkpoint where its stages may end early by it, else the newest."""
    watched, best = config.validation, Path(config.out) / "best"
    return best if watched and watched.patience and best.exists() else best.with_name("checkpoint")


class Run:
    """One training run in its folder."""

    def __init__(
        self, config: TrainingConfig, recipe: Recipe, sources: Mapping[str, Source],
        space: ActionSpace, held_out: Mapping[str, Source] | None = None,
    ) -> None:  # fmt: skip
        """sources: by the names that stages' shares use; held_out: the same for validation."""
        self.config, self.recipe, self.space = config, recipe, space
        self.sources, self._held_out = sources, held_out
        self.folder = Path(config.out)
        hub_logging.disable_progress_bar()
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # workers are forked
        self.accelerator = parallel.join()
        self.precision = parallel.precision(config.precision, self.accelerator.device)
        self._module = parallel.spread(
            self.accelerator, recipe.objective, config.parallel, self.precision,
            blocks=recipe.blocks, unused=recipe.unused,
        )  # fmt: skip
        self.optimizers = recipe.optimizers()
        self._trained = [p for p in recipe.objective.parameters() if p.requires_grad]
        self.place = Place()
        self._bad_steps = 0  # in a row
        torch.manual_seed(config.seed + self.accelerator.process_index)
        gang = self.accelerator
        self.journal = Journal(self.folder, gang.is_main_process, gang.num_processes)
        if self.precision != config.precision:
            self.journal.say(f"this CPU has no {config.precision}: {self.precision} instead")
        self._saved_at = time.monotonic()
        self._resume()
        start = find_folder(getattr(config, "init", None) or "")
        start = self.checkpoint if self.place.step else start
        self._sittings = checkpoint.sittings(start, asdict(config))

    @property
    def checkpoint(self) -> Path:
        """Where the run's newest checkpoint is."""
        return self.folder / "checkpoint"

    @property
    def best(self) -> Path:
        """Where the stage's checkpoint of the lowest validation loss is, after a first look."""
        return self.folder / "best"

    def run(self) -> Path:
        """Go through the stages that are left; returns the folder of the checkpoint to use: of the
        last stage that with the lowest validation loss, where stages may end early by it.
        """
        if self.place.stage >= len(self.config.stages):
            self.journal.say(
                f"all {len(self.config.stages)} stages are done: to train more add a stage, or "
                "choose another --out"
            )
        for number in range(self.place.stage, len(self.config.stages)):
            if number != self.place.stage:
                self._begin(number)
            self._run_stage(self.config.stages[number])
        if self.place.stage < len(self.config.stages):
            self._begin(len(self.config.stages))
            self.save()
        self.journal.close()
        return _to_use(self.config)

    def _begin(self, stage: int) -> None:
        place = self.place
        self.place = Place(stage, place.step, pictures=place.pictures)

    def _run_stage(self, stage: Stage) -> None:
        place, config, world = self.place, self.config, self.accelerator.num_processes
        if self.accelerator.is_main_process:
            if place.stage_step:
                checkpoint.recover(self.best)
            elif self.best.exists():  # an earlier stage's, or another run's in this folder
                shutil.rmtree(self.best)
        mixture = self._mixture(stage)
        batches: Iterator[Drawn] = loader(mixture, config.workers)
        held_out = self._draw_held_out(stage)
        self.recipe.objective.train()
        shares = dict(zip(stage.shares, mixture.shares.tolist(), strict=True))
        with self.journal.stage(stage.name, shares):
            while (progress := self._progress(stage)) < 1 and not self._patience_is_over():
                begun = time.monotonic()
                drawn = [self._next(batches) for _ in range(stage.accumulate)]
                waited = time.monotonic() - begun
                rate = schedule(stage, progress)
                for optimizer in self.optimizers:
                    for group in optimizer.param_groups:
                        group["lr"] = rate
                figures = self._step(stage, drawn, progress)
                place.step += 1
                place.stage_step += 1
                place.drawn += stage.accumulate * world
                place.pictures += stage.batch_size * stage.accumulate * world
                place.elapsed = self._agreed(place.elapsed + time.monotonic() - begun)
                self.journal.step(
                    place.step, progress, rate, figures, drawn, waited,
                    time.monotonic() - begun,
                    [self.recipe.size(d.batch) for d in drawn],
                )  # fmt: skip
                if place.step % config.log_every == 0:
                    self.journal.write(stage.name, place.pictures)
                if held_out and place.stage_step % config.validation.every == 0:  # type: ignore[union-attr]
                    self._validate(stage, held_out)
                if self._save_is_due():
                    self.save()
        self.save()
        if stage.keep:
            self._export(self.folder / stage.name)

    def _mixture(self, stage: Stage, held_out: bool = False) -> Mixture:
        place, gang = self.place, self.accelerator
        start = {"use": HELD_OUT} if held_out else {"start": place.drawn}
        sources = self._held_out if held_out else self.sources
        assert sources is not None
        return Mixture(
            sources, stage.mixing.shares(stage.shares, sources), self.recipe.pack,
            batch_size=stage.batch_size, seed=self.config.seed, stage=place.stage,
            process=gang.process_index, processes=gang.num_processes,
            plan_share=stage.plan_share, skip=self.config.on_bad_sample == "skip",
            states=self.recipe.states, state_rows=getattr(stage, "state_rows", 0), **start,
        )  # fmt: skip

    def _progress(self, stage: Stage) -> float:
        if stage.steps:
            return self.place.stage_step / stage.steps
        return self.place.elapsed / (60 * stage.minutes)

    def _agreed(self, seconds: float) -> float:
        """The main process's clock, for all to stop and save at the same step."""
        if self.accelerator.num_processes == 1:
            return seconds
        clock = torch.tensor(seconds, device=self.accelerator.device, dtype=torch.float64)
        torch.distributed.broadcast(clock, 0)
        return float(clock)

    def _summed(self, *values: float) -> list[float]:
        """Sums over all processes."""
        if self.accelerator.num_processes == 1:
            return list(values)
        sums = torch.tensor(values, device=self.accelerator.device, dtype=torch.float64)
        torch.distributed.all_reduce(sums)
        return sums.tolist()

    def _next(self, batches: Iterator[Drawn]) -> Drawn:
        drawn = next(batches)
        for bad in drawn.left_out:
            self.journal.warn(f"left out: {bad}", left_out=1)
        (stopped,) = self._summed(bool(drawn.stopped))
        if stopped:
            self.save()
            remedy = ", and on_bad_sample: skip would leave it out" if drawn.skippable else ""
            raise Stopped(
                f"step {self.place.step}: {drawn.stopped or 'a sample of another process is bad'}; "
                f"{self.checkpoint} is saved{remedy}"
            )
        return drawn

    def _step(self, stage: Stage, drawn: list[Drawn], progress: float) -> dict[str, float]:
        """One step of the optimizers; no figures where it was left out."""
        settings = self.recipe.settings(stage, progress)
        weights = [self.recipe.weight(d.batch, stage) for d in drawn]
        (total,) = self._summed(sum(weights))
        for optimizer in self.optimizers:  # its parameters: the shards, also where a look at what
            optimizer.zero_grad(set_to_none=True)  # is kept out has left the model whole
        done: list[Losses] = []
        for number, (batch, weight) in enumerate(zip(drawn, weights, strict=True)):
            with parallel.held_back(self._module, last=number == len(drawn) - 1):
                with parallel.arithmetic(self.accelerator.device, self.precision):
                    losses: Losses = self._module(
                        batch.batch.to(self.accelerator.device), **settings
                    )
                # Processes' gradients are averaged: this makes it the sum of what each batch counts
                share = weight * self.accelerator.num_processes / max(total, 1e-9)
                (losses.total * share).backward()
            done.append(Losses(losses.total.detach(), losses.figures))
        norm = parallel.norm_of(self._trained, self.config.clip)
        if not math.isfinite(norm):
            self._bad_step(norm, [float(losses.total) for losses in done], drawn)
            return {}
        self._bad_steps = 0
        for optimizer in self.optimizers:
            optimizer.step()
        return {**mean_figures(done), "gradient": norm}

    def _bad_step(self, norm: float, losses: list[float], drawn: list[Drawn]) -> None:
        """Tell of each process's first batch whose loss is not finite, of all where each is."""
        own = [(loss, each.pictures) for loss, each in zip(losses, drawn, strict=True)]
        found = parallel.gathered(self.accelerator.num_processes, own)
        bad = [[pair for pair in of if not math.isfinite(pair[0])][:1] for of in found]
        told = sum(bad, []) or sum(found, [])
        pictures = dict.fromkeys(picture for _, some in told for picture in some)
        message = (
            f"step {self.place.step}: the loss is {told[0][0]}, the gradient {norm}; left "
            f"out. It was drawn from {', '.join(pictures) or 'states in words'}"
        )
        self._bad_steps += 1
        if self.config.on_bad_step == "skip" and self._bad_steps < MOST_BAD_STEPS:
            if self.accelerator.is_main_process:  # the others would tell the same
                self.journal.warn(message, left_out=1)
            return
        self.save()
        if self.config.on_bad_step == "skip":
            message = f"{MOST_BAD_STEPS} steps in a row were left out; the last: {message}"
        raise Stopped(f"{message}; {self.checkpoint} is saved")

    def _draw_held_out(self, stage: Stage) -> list[Drawn]:
        """Drawn once, by a worker, and kept: always the same, and the simulator opens once."""
        if self.config.validation is None or self._held_out is None:
            return []
        batches: Iterator[Drawn] = loader(
            self._mixture(stage, held_out=True), min(self.config.workers, 1)
        )
        return [self._next(batches) for _ in range(self.config.validation.batches)]

    def _validate(self, stage: Stage, held_out: list[Drawn]) -> None:
        """The loss on what is kept out; the lowest so far is saved as `best`."""
        objective, sums = self.recipe.objective, [0.0, 0.0]
        objective.eval()
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(0)
            for drawn in held_out:
                weight = self.recipe.weight(drawn.batch, stage)
                with parallel.arithmetic(self.accelerator.device, self.precision):
                    losses = self._module(
                        drawn.batch.to(self.accelerator.device),
                        **self.recipe.settings(stage, 1.0),
                    )
                sums = [sums[0] + weight * float(losses.total), sums[1] + weight]
        objective.train()
        total, weight = self._summed(*sums)
        loss = total / max(weight, 1e-9)
        self.journal.validated(self.place.step, loss)
        if loss < self.place.best:
            self.place.best, self.place.waiting = loss, 0
            self._export(self.best)
        else:
            self.place.waiting += 1

    def _patience_is_over(self) -> bool:
        watched = self.config.validation
        if watched is None or not watched.patience or self.place.waiting < watched.patience:
            return False
        if self.accelerator.is_main_process:
            self.journal.warn(
                f"step {self.place.step}: no lower validation loss than {self.place.best:.4f} in "
                f"{watched.patience} looks; the stage ends"
            )
        return True

    def _save_is_due(self) -> bool:
        every = self.config.save_steps
        late = self._agreed(time.monotonic() - self._saved_at) > 60 * self.config.save_minutes
        return late or bool(every and self.place.step % every == 0)

    def save(self) -> None:
        """Write the checkpoint with all that resuming needs. All processes call it.

        The log is written up to here, for a run that goes on from here knows no more of it.
        """
        gang, place = self.accelerator, self.place
        if place.stage < len(self.config.stages):
            self.journal.write(self.config.stages[place.stage].name, place.pictures)
        weights = parallel.weights_of(self.recipe.objective)
        state = {
            "place": asdict(self.place), "weights": weights,
            "optimizers": parallel.state_of(self.recipe.objective, self.optimizers),
            "random": parallel.gathered(gang.num_processes, parallel.random_state(gang.device)),
        }  # fmt: skip
        self._export(self.checkpoint, weights, state)
        self.journal.plot()
        self._saved_at = time.monotonic()

    def _export(
        self, folder: Path, weights: dict[str, torch.Tensor] | None = None,
        state: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        if weights is None:
            weights = parallel.weights_of(self.recipe.objective)
        if self.accelerator.is_main_process:
            model, own = self.recipe.exported(weights)
            checkpoint.save(
                folder, model, self.recipe.processor, self.space, self.record(), state, own,
                self.recipe.plan_form,
            )  # fmt: skip
        self.accelerator.wait_for_everyone()

    def record(self) -> dict[str, Any]:
        """How this model came about, for training.json."""
        parameters = list(self.recipe.objective.model.parameters())
        return {
            **self.recipe.record(),
            "config": asdict(self.config), "seed": self.config.seed,
            "mixture": {stage.name: stage.shares for stage in self.config.stages},
            "statistics": statistics(self.sources),
            "action_spaces": {name: asdict(s) for name, s in spaces(self.sources).items()},
            "steps": self.place.step, "pictures": self.place.pictures,
            "parameters": sum(p.numel() for p in parameters),
            "trained": sum(p.numel() for p in parameters if p.requires_grad),
            "sittings": self._sittings,
        }  # fmt: skip

    def _resume(self) -> None:
        gang = self.accelerator
        if gang.is_main_process:
            checkpoint.recover(self.checkpoint)
        gang.wait_for_everyone()
        path = self.checkpoint / checkpoint.STATE_FILE
        if not path.exists():
            self.journal.cut(0)
            return
        # Mapped, all processes of a host read the same memory; into a CPU's own it would be kept.
        mapped = parallel.sharded(self.recipe.objective) or gang.device.type == "cuda"
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        if "place" not in state:
            raise ValueError(f"{path} is not of this engine; expected another folder, --out")
        checkpoint.check_spaces(self.checkpoint, self.space, spaces(self.sources))
        parallel.restore(
            self.recipe.objective, self.optimizers, state["weights"], state["optimizers"]
        )
        self.place = Place(**{f.name: state["place"][f.name] for f in fields(Place)})
        if len(state["random"]) == gang.num_processes:
            parallel.set_random_state(state["random"][gang.process_index], gang.device)
        self.journal.cut(self.place.step)
        self.journal.say(f"resuming at step {self.place.step}, stage {self.place.stage}")
        other = checkpoint.changed(self.checkpoint, asdict(self.config), self.place.stage)
        if other and gang.is_main_process:
            self.journal.warn(
                f"{self.checkpoint} was trained with other {', '.join(other)} than are configured "
                "now; what it has learned stays as it is"
            )
