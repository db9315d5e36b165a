# SPDX-License-Identifier: Apache-2.0
"""Progress of an evaluation in a terminal, with the share of successes so far.

with RunScreen(run, {episode.key for episode in wanted}) as screen:
    play(wanted, player, run, on_record=screen.show)
"""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from rt2_ros.evaluation.questions import Answers
    from rt2_ros.evaluation.records import EpisodeRecord, Key
    from rt2_ros.evaluation.runs import RunFolder
    from rt2_ros.policies import Policy


def ask_with_progress(policy: Policy, count: int, seed: int, before: str = "") -> Answers:
    """`questions.ask`, with a bar that tells the share of right answers so far."""
    from rt2_ros.evaluation.questions import ask

    with _bar() as progress:
        task, outcomes = progress.add_task(f"{policy.name}: questions", total=count), [0, 0]

        def note(right: bool) -> None:
            outcomes[right] += 1
            share = outcomes[1] / sum(outcomes)
            told = f"{policy.name}: questions, {share:.0%} right so far"
            progress.update(task, advance=1, description=told)

        return ask(policy, count, seed, before=before, on_answer=note)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(),
    )  # fmt: skip


class RunScreen:
    """Progress with a running estimate; a context manager."""

    def __init__(self, run: RunFolder, wanted: Set[Key]) -> None:
        """wanted: the episodes that are to be there in the end."""
        self._progress, done = _bar(), run.done() & wanted
        self._done = {record.key: record.success for record in run.records if record.key in done}
        self._task = self._progress.add_task("", total=len(wanted), completed=len(self._done))
        self._say("going on" if self._done else "starting")

    def __enter__(self) -> RunScreen:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, record: EpisodeRecord) -> None:
        """Count one more episode."""
        self._done[record.key] = record.success
        self._progress.advance(self._task)
        if record.error:
            told = f"{record.key}: {record.error}"
            self._progress.console.print(told, style="yellow", markup=False)
        self._say(record.title)

    def _say(self, what: str) -> None:
        rate = sum(self._done.values()) / max(len(self._done), 1)
        self._progress.update(self._task, description=f"{what}: {rate:.0%} so far")
