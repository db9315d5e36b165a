# SPDX-License-Identifier: Apache-2.0
"""What a run tells while it goes on: a progress bar, log.jsonl, TensorBoard, a plot of the loss.

A line of log.jsonl holds means over the steps since the line before, of all processes:

    {"step": 200, "stage": "act", "answer": 1.93, "lr": 0.0019, "share/web": 0.19, ...}
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from rt2_ros.training import parallel
from rt2_ros.training.data import Drawn

LOG, PLOT, BOARD = "log.jsonl", "loss.png", "tensorboard"
SHOWN = ("answer", "dense", "robot", "web", "robot_error", "validation")  # in the progress bar


@dataclass
class Noted:
    """What one process has noted since the line before.

    sums, counts: of each figure; seen: pictures of each source. warnings: not yet in log.jsonl.
    """

    sums: dict[str, float] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    questions: int = 0
    tokens: int = 0
    left_out: int = 0
    warnings: list[str] = field(default_factory=list)


class Journal:
    """The main process writes, for all; the others only warn."""

    def __init__(self, folder: Path, show: bool = True, processes: int = 1) -> None:
        """show: whether this is the main process; processes: how many there are."""
        self._folder, self._writes, self._processes = folder, show, processes
        self.console = Console()
        self._board: Any = None
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._shares: dict[str, float] = {}  # of each source, which a stage expects
        if show:
            folder.mkdir(parents=True, exist_ok=True)
        self._clear()

    def _clear(self) -> None:
        self._noted = Noted()
        self._seconds = self._waited = 0.0
        self._steps = 0

    def say(self, text: str) -> None:
        """A line on the terminal, from the main process."""
        if self._writes:
            self.console.print(text, highlight=False)

    def warn(self, text: str, left_out: int = 0) -> None:
        """A line on the terminal, and one in log.jsonl: from another process than the main one with
        the next that is written.

        left_out: how many samples or steps are, of which it tells.
        """
        self.console.print(f"warning: {text}", style="yellow", highlight=False, markup=False)
        self._noted.left_out += left_out
        self._append({"warning": text})
        if not self._writes:
            self._noted.warnings.append(text)

    @contextlib.contextmanager
    def stage(self, name: str, shares: Mapping[str, float]) -> Iterator[None]:
        """Show progress through a stage; shares: what its mixture expects of each source."""
        self._shares = dict(shares)
        if not self._writes:
            yield
            return
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(),
                   TextColumn("{task.fields[figures]}"))  # fmt: skip
        with Progress(*columns, console=self.console) as self._bar:
            self._task = self._bar.add_task(name, total=1.0, figures="")
            yield
        self._bar = None

    def step(
        self, step: int, progress: float, rate: float, figures: Mapping[str, float],
        drawn: Sequence[Drawn], waited: float, seconds: float, sizes: Sequence[tuple[int, int]],
    ) -> None:  # fmt: skip
        """Take note of one step.

        waited: for data, s; seconds: in all; sizes: questions and answer tokens of each batch.
        """
        self._step, self._progress, self._rate = step, progress, rate
        noted = self._noted
        for name, value in figures.items():
            noted.sums[name] = noted.sums.get(name, 0.0) + value
            noted.counts[name] += 1
        for batch in drawn:
            noted.seen.update(batch.sources)
        noted.questions += sum(questions for questions, _ in sizes)
        noted.tokens += sum(tokens for _, tokens in sizes)
        self._steps += 1
        self._waited += waited
        self._seconds += seconds

    def write(self, stage: str, pictures: int) -> None:
        """A line of what was noted since the last, if a step was. All processes call it."""
        if not self._steps:
            return
        every: list[Noted] = parallel.gathered(self._processes, self._noted)
        for text in (text for noted in every for text in noted.warnings):
            self._append({"warning": text})
        counts = sum((noted.counts for noted in every), Counter[str]())
        seen = sum((noted.seen for noted in every), Counter[str]())
        means = {name: sum(n.sums.get(name, 0.0) for n in every) / counts[name] for name in counts}
        questions, tokens, left_out = (
            sum(getattr(noted, of) for noted in every) for of in ("questions", "tokens", "left_out")
        )
        entry: dict[str, Any] = {
            "step": self._step, "stage": stage, "pictures": pictures,
            "time": round(time.time(), 3), "lr": self._rate,
            **{name: round(value, 6) for name, value in means.items()},
            **{f"share/{name}": 0.0 for name in self._shares},
            **{f"share/{name}": round(n / seen.total(), 4) for name, n in seen.items()},
            **{f"expected/{source}": share for source, share in self._shares.items()},
            "seconds_per_step": round(self._seconds / self._steps, 4),
            "waited_share": round(self._waited / self._seconds, 4),
            "questions_per_second": round(questions / self._seconds, 2),
            "tokens_per_second": round(tokens / self._seconds, 1),
            "left_out": left_out,
            "memory_mb": round(psutil.Process().memory_info().rss / 2**20),
        }  # fmt: skip
        self._append(entry)
        if self._bar is not None and self._task is not None:
            shown = "  ".join(f"{n} {means[n]:.3g}" for n in SHOWN if n in means)
            self._bar.update(self._task, completed=self._progress, figures=shown)
        self._clear()

    def validated(self, step: int, loss: float) -> None:
        """A line of the loss on what is kept out."""
        self.say(f"step {step}: validation loss {loss:.4f}")
        self._append({"step": step, "validation": round(loss, 6)})

    def cut(self, step: int) -> None:
        """Forget what a run that was killed wrote after its last checkpoint."""
        path = self._folder / LOG
        if not self._writes or not path.exists():
            return
        lines = [
            line
            for line in path.read_text().splitlines()
            if line.endswith("}") and json.loads(line).get("step", 0) <= step
        ]
        new = path.with_suffix(".new")
        new.write_text("".join(f"{line}\n" for line in lines))
        new.replace(path)

    def plot(self) -> None:
        """Draw loss.png anew."""
        if self._writes:
            plot(self._folder / LOG, self._folder / PLOT)

    def close(self) -> None:
        """Let go of TensorBoard's file."""
        if self._board is not None:
            self._board.close()
            self._board = None

    def _append(self, entry: dict[str, Any]) -> None:
        if not self._writes:
            return
        with (self._folder / LOG).open("a") as log:
            log.write(json.dumps(entry) + "\n")
        step = entry.get("step")
        if step is None:
            return
        if self._board is None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self._folder / BOARD), purge_step=step)
        for name, value in entry.items():
            if isinstance(value, (int, float)) and name != "step":
                self._board.add_scalar(name, value, step)


def plot(log: Path, picture: Path) -> None:
    """Draw the losses of a log.jsonl over its steps."""
    from matplotlib.figure import Figure

    entries = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    figure = Figure(figsize=(8, 4.5))
    axes = figure.add_subplot(xlabel="step", ylabel="loss")
    for name in ("answer", "robot", "web", "dense", "validation"):
        points = [(e["step"], e[name]) for e in entries if name in e]
        if points:
            axes.plot(*zip(*points, strict=True), label=name, marker="." * (len(points) < 50))
    if axes.lines:
        axes.legend()
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=110)
