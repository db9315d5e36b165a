# SPDX-License-Identifier: Apache-2.0
"""`rt2 bench train`: training's speed against a plain Hugging Face `Trainer` with the same model.

Both see the same mixture of pictures and questions, plans included, with the same number of
workers, the same attention, in bfloat16 where the machine computes in it, and take turns, so that
whatever else it does falls on both. The Trainer has one row for each question, as its examples
have, and as many of them in a batch as the engine has questions in a step (at most MOST_ROWS, for
memory: on a CPU more are no faster); the engine encodes a picture once and packs its questions
behind it, those that find room. What is counted is what is learned from: questions, and tokens of
their answers.

With `--memory STEPS` memory is measured instead: the trainer's and its workers', each without what
others share, by the same data and engine with few weights and two pictures a step, as what leaks
does so step by step.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import numpy as np
import psutil
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch.utils.data import IterableDataset, get_worker_info
from transformers import (
    ProcessorMixin,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from rt2_ros.data.mixture import Mixing
from rt2_ros.data.samples import Query
from rt2_ros.data.split import TRAIN_SEEDS
from rt2_ros.models.tiny import FEW_WEIGHTS, build_model, build_processor
from rt2_ros.provenance import machine
from rt2_ros.training.config import TinyConfig, TinyStage, load
from rt2_ros.training.data import Source
from rt2_ros.training.engine import Run
from rt2_ros.training.packing import IGNORED
from rt2_ros.training.parallel import precision
from rt2_ros.training.sources import build, main_space
from rt2_ros.training.tiny import ATTENTION, TinyRecipe
from rt2_ros.up import end_with_parent

T = TypeVar("T")

WARM_UP = 5  # steps: compilation, workers, memory
COUNTED = ("questions", "tokens")
MOST_ROWS = {"cpu": 32, "cuda": 512}  # questions in a Trainer's batch


class QuestionRows(IterableDataset[dict[str, Any]]):
    """The mixture as rows: one question with its picture each."""

    def __init__(
        self, sources: Mapping[str, Source], shares: Mapping[str, float], seed: int = 0
    ) -> None:
        self._sources, self._seed = [sources[name] for name in shares], TRAIN_SEEDS.start + seed
        self._shares = np.array(list(shares.values())) / sum(shares.values())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        random = np.random.default_rng([self._seed, worker.id if worker else 0])
        while True:
            frame = self._sources[random.choice(len(self._sources), p=self._shares)](random)
            for query in frame.queries:
                yield {"image": frame.image, "query": query}


class Collator:
    """Rows to a batch as PaliGemma's processor makes it, labels included."""

    def __init__(self, processor: ProcessorMixin) -> None:
        self._processor = processor

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Tensors of one batch."""
        queries: list[Query] = [row["query"] for row in rows]
        return dict(
            self._processor(
                images=[row["image"] for row in rows],
                text=[f"{self._processor.image_token}{query.prompt}" for query in queries],
                suffix=[query.answer for query in queries], padding="longest", return_tensors="pt",
            )
        )  # fmt: skip


class Clock(TrainerCallback):
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Note the time."""
        self.ends.append(time.perf_counter())


class CountingTrainer(Trainer):
    """Counts tokens of answers as they are learned."""

    tokens: list[int]

    def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        """The model's own loss."""
        self.tokens.append(int((inputs["labels"] != IGNORED).sum()))
        return super().compute_loss(model, inputs, *args, **kwargs)


def by_trainer(
    config: TinyConfig, stage: TinyStage, steps: int, questions: float
) -> dict[str, float]:
    """Questions and tokens per second of a plain Trainer, and the rows of its batches: so many
    questions, or MOST_ROWS.
    """
    sources = build(config.sources, config.augment)
    processor = build_processor()
    model = build_model(processor, seed=config.seed, **dataclasses.asdict(config.model))
    clock = Clock()
    model.set_attn_implementation(ATTENTION)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = min(round(questions), MOST_ROWS[device.type])
    low = precision(config.precision, device) == "bf16"
    with tempfile.TemporaryDirectory() as folder:
        trainer = CountingTrainer(
            model, data_collator=Collator(processor), callbacks=[clock],
            train_dataset=QuestionRows(sources, stage.shares, config.seed),
            args=TrainingArguments(
                folder, max_steps=WARM_UP + steps, per_device_train_batch_size=rows,
                dataloader_num_workers=config.workers, bf16=low, report_to=[],
                learning_rate=stage.learning_rate, save_strategy="no", logging_strategy="no",
                disable_tqdm=True, remove_unused_columns=False,
                use_cpu=device.type == "cpu",
            ),
        )  # fmt: skip
        trainer.tokens = []
        trainer.train()
    seconds = clock.ends[-1] - clock.ends[WARM_UP - 1]
    return {
        "questions": steps * rows / seconds, "tokens": sum(trainer.tokens[WARM_UP:]) / seconds,
        "rows": rows,
    }  # fmt: skip


def by_engine(config: TinyConfig, stage: TinyStage, steps: int) -> dict[str, float]:
    """The same of the engine, with the share of time that it waits for data, and the questions in
    one of its steps.
    """
    sources = build(config.sources, config.augment)
    with tempfile.TemporaryDirectory() as folder:
        stage = dataclasses.replace(stage, minutes=0.0, steps=WARM_UP + steps)
        config = dataclasses.replace(config, out=folder, stages=(stage,), log_every=1)
        Run(config, TinyRecipe(config, sources), sources, main_space(sources)).run()
        lines = (Path(folder) / "log.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    seconds = entries[-1]["time"] - entries[WARM_UP - 1]["time"]
    measured = entries[WARM_UP:]
    spent = [entry["seconds_per_step"] for entry in measured]
    sums = {
        name: sum(entry[name] * s for entry, s in zip(measured, spent, strict=True))
        for name in ("questions_per_second", "tokens_per_second", "waited_share")
    }
    return {
        "questions": sums["questions_per_second"] / seconds,
        "tokens": sums["tokens_per_second"] / seconds,
        "waited_share": sums["waited_share"] / sum(spent),
        "questions_per_step": sums["questions_per_second"] / steps,
    }


def memory(config: TinyConfig, stage: TinyStage, steps: int) -> dict[str, list[float]]:
    """MB of the trainer and of its workers together, again and again while the engine runs."""
    stage = dataclasses.replace(stage, minutes=0.0, steps=steps, batch_size=2)
    model = dataclasses.replace(config.model, **FEW_WEIGHTS)
    found: dict[str, list[float]] = {"trainer": [], "workers": []}
    over = threading.Event()

    def watch() -> None:
        while True:
            found["trainer"].append(_own_memory(psutil.Process()))
            found["workers"].append(sum(map(_own_memory, psutil.Process().children())))
            if over.wait(0.5):
                return

    sources = build(config.sources, config.augment)
    with tempfile.TemporaryDirectory() as folder:
        config = dataclasses.replace(config, model=model, out=folder, stages=(stage,))
        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            Run(config, TinyRecipe(config, sources), sources, main_space(sources)).run()
        finally:
            over.set()
            watcher.join()
    return found


def _own_memory(process: psutil.Process) -> float:
    """MB that a process shares with no other; 0 of one that has ended."""
    try:
        return process.memory_full_info().uss / 2**20
    except psutil.Error:
        return 0.0


def grown(samples: Sequence[float]) -> tuple[float, float]:
    """Medians of the second tenth of a run, when all is loaded, and of the last one."""
    tenth = max(1, len(samples) // 10)
    return median(samples[tenth : 2 * tenth] or samples), median(samples[-tenth:])


def apart(function: Callable[..., T], *args: Any) -> T:
    """Call it in a process of its own: each sets up its arithmetic for the whole process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_quiet) as pool:
        return pool.submit(function, *args).result()


def _quiet() -> None:
    """Neither progress bars nor summaries between the bench's own lines; no life of its own."""
    end_with_parent()
    sys.stdout = io.StringIO()


def measure(
    name: str, steps: int, repeats: int, workers: int | None, seed: int | None = None
) -> dict[str, Any]:
    """Both in turns; medians, and the ratio of questions per second."""
    config, stage = _asked(name, workers, seed)
    # What a Trainer's rows have: a picture each, every plan, and sources by their weights.
    stage = dataclasses.replace(stage, state_rows=0, plan_share=1.0, mixing=Mixing())
    found: dict[str, list[dict[str, float]]] = {"engine": [], "trainer": []}
    for _ in track(range(repeats), "repeats"):
        found["engine"].append(apart(by_engine, config, stage, steps))
        questions = found["engine"][-1]["questions_per_step"]
        found["trainer"].append(apart(by_trainer, config, stage, steps, questions))
    rates = {
        f"{way}_{what}_per_second": median(one[what] for one in found[way])
        for way in ("trainer", "engine")
        for what in COUNTED
    }
    ratios = {
        what: [
            ours[what] / theirs[what]
            for ours, theirs in zip(found["engine"], found["trainer"], strict=True)
        ]
        for what in COUNTED
    }
    return {
        "config": name, "machine": machine(), "steps": steps, "repeats": repeats,
        "workers": config.workers, "seed": config.seed, **rates,
        "engine_questions_per_step": median(one["questions_per_step"] for one in found["engine"]),
        "trainer_rows": found["trainer"][-1]["rows"],
        "speedup_vs_trainer": median(ratios["questions"]),
        "speedup_range": [min(ratios["questions"]), max(ratios["questions"])],
        "tokens_speedup_vs_trainer": median(ratios["tokens"]),
        "waited_share": median(one["waited_share"] for one in found["engine"]),
    }  # fmt: skip


def measure_memory(
    name: str, steps: int, workers: int | None, seed: int | None = None
) -> dict[str, Any]:
    """Of trainer and workers, MB early and late in a run of these steps."""
    config, stage = _asked(name, workers, seed)
    found = apart(memory, config, stage, steps)
    each = {f"{who}_mb": grown(samples) for who, samples in found.items()}
    return {
        "config": name, "machine": machine(), "steps": steps, "workers": config.workers,
        "seed": config.seed, **each,
    }  # fmt: skip


def _asked(name: str, workers: int | None, seed: int | None) -> tuple[TinyConfig, TinyStage]:
    """A configuration with what is asked for otherwise, and its last stage."""
    config = load(name, TinyConfig)
    config = dataclasses.replace(
        config, workers=config.workers if workers is None else workers,
        seed=config.seed if seed is None else seed,
    )  # fmt: skip
    stage = config.stages[-1]
    assert isinstance(stage, TinyStage)
    return config, stage


def main(argv: list[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser("rt2 bench train", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--config", default="rt2-tiny", help="a configuration of type tiny (default: rt2-tiny)"
    )
    parser.add_argument("--steps", type=int, default=60, help="of each way (default: 60)")
    parser.add_argument("--repeats", type=int, default=3, help="(default: 3)")
    parser.add_argument("--workers", type=int, help="(default: the configuration's)")
    parser.add_argument("--seed", type=int, help="(default: the configuration's)")
    parser.add_argument(
        "--memory", type=int, metavar="STEPS", help="measure its growth over these, and no speed"
    )
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    args = parser.parse_args(argv)
    if args.steps < 1 or args.repeats < 1 or (args.memory is not None and args.memory < 1):
        raise ValueError("--steps, --repeats and --memory: expected at least 1 each")
    console = Console()
    if args.memory:
        figures = measure_memory(args.config, args.memory, args.workers, args.seed)
        for who in ("trainer", "workers"):
            early, late = figures[f"{who}_mb"]
            console.print(f"{who}: {early:.0f} MB in the second tenth, {late:.0f} in the last")
        _write(args.json, figures)
        return 0
    figures = measure(args.config, args.steps, args.repeats, args.workers, args.seed)
    table = Table("way", "questions per second", "answer tokens per second")
    for way in ("trainer", "engine"):
        table.add_row(way, *(f"{figures[f'{way}_{w}_per_second']:.1f}" for w in COUNTED))
    console.print(table)
    low, high = figures["speedup_range"]
    console.print(
        f"{figures['speedup_vs_trainer']:.2f} times the questions ({low:.2f} to {high:.2f}); "
        f"{figures['engine_questions_per_step']:.0f} in a step of the engine, "
        f"{figures['trainer_rows']:.0f} in one of the Trainer; "
        f"{figures['waited_share']:.1%} of the engine's time waits for data"
    )
    _write(args.json, figures)
    return 0


def _write(path: Path | None, figures: Mapping[str, Any]) -> None:
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=1) + "\n")
