# SPDX-License-Identifier: Apache-2.0
"""What `rt2 demo` shows: a panel that changes in place; a line a second without a terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Attempt:
    """How one instruction ended. reason is "" for a success."""

    instruction: str
    seed: int
    success: bool
    reason: str
    seconds: float
    decisions: int
    height: float  # m, how far the object was above the table at the end


@dataclass
class View:
    """What is known of an attempt now, and the pictures kept of it."""

    instruction: str = ""
    state: str = ""
    plan: str = ""
    integers: str = ""
    distance: float | None = None  # m, fingertips to the object asked for
    rate: float = 0.0  # Hz
    seconds: float = 0.0
    tiles: list[NDArray[np.uint8]] = field(default_factory=list)

    def lines(self) -> dict[str, str]:
        """Label and value of each line."""
        distance = "" if self.distance is None else f"{100 * self.distance:.1f} cm"
        return {
            "instruction": self.instruction,
            "state": self.state,
            "plan": self.plan,
            "integers": self.integers,
            "hand to object": distance,
            "rate": f"{self.rate:.1f} Hz",
            "time": f"{self.seconds:.1f} s",
        }


class Screen:
    """A context manager; `say` prints a line that stays, `show` what is now."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._live = (
            Live(console=self._console, refresh_per_second=8, transient=True)
            if self._console.is_terminal and not self._console.is_dumb_terminal
            else None
        )
        self._next_line = 0.0

    def __enter__(self) -> Screen:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.stop()

    def say(self, text: str) -> None:
        """Print a line that stays."""
        self._console.print(text, markup=False, soft_wrap=True)

    def show(self, view: View) -> None:
        """Show a view; without a terminal at most once a second."""
        lines = view.lines()
        if self._live is not None:
            grid = Table.grid(padding=(0, 2))
            for label, value in lines.items():
                grid.add_row(Text(label, style="dim"), Text(value))
            self._live.update(Panel(grid, title="rt2 demo", width=min(100, self._console.width)))
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + 1.0
            self.say("  ".join(f"{label}: {value}" for label, value in lines.items() if value))

    def verdict(self, attempt: Attempt) -> None:
        """Print how an attempt ended."""
        ended = "done" if attempt.success else f"failed, {attempt.reason}"
        self.say(f'"{attempt.instruction}": {ended} after {attempt.seconds:.1f} s')

    def table(self, attempts: Sequence[Attempt]) -> None:
        """Print the verdicts."""
        table = Table(title="verdicts of the simulator")
        for column in ("instruction", "seed", "verdict", "lifted", "time", "decisions", "reason"):
            table.add_column(column, overflow="fold")
        for a in attempts:
            table.add_row(
                Text(a.instruction),
                str(a.seed),
                Text("done", style="green") if a.success else Text("failed", style="red"),
                f"{100 * a.height:.1f} cm",
                f"{a.seconds:.1f} s",
                str(a.decisions),
                Text(a.reason),
            )
        self._console.print(table)
