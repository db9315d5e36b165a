# SPDX-License-Identifier: Apache-2.0
"""Windows of consecutive pictures, for models that remember: the same demonstrations as single
pictures, acted on for some steps.

    source = EpisodeSource()
    window = source.draw(np.random.default_rng(7), length=6)   # real physics between the pictures
    sample = window.read(random, source, grid=12)              # one instruction about all of them
    sample.text, sample.bins                                   # "grab the key", (6, 8)

A state is drawn for a task as for single pictures; then the expert works for it. The truth behind
every picture is kept, so that a window can be read for another task too: what the hand did so far
then does not tell what was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

from rt2_ros.data import split
from rt2_ros.data.pictographs import by_name
from rt2_ros.data.robot import (
    SIZE,
    Demonstration,
    RobotSource,
    observe,
    recolour,
    request,
)
from rt2_ros.data.samples import NOTHING, Thing, patch_owners

if TYPE_CHECKING:  # the simulator is imported when it is first used
    from rt2_ros.sim.env import TabletopEnv
    from rt2_ros.sim.tasks import Task

KEPT_FRAMES = 18_000  # that one worker keeps to read them again; 2 GB at 192 px
ACTED = 0.5  # share of readings that ask for what the expert worked for


@dataclass(frozen=True)
class Sample:
    """T pictures and one instruction. NOTHING stands where there is no label.

    images: uint8 (T, S, S, 3); states: float32 (T, 4) x, y, z in m and closedness; text: what is
    asked for; bins: int64 (T, 8), the expert's; shown: int64 (T, P), which of split.ROBOT_NAMES a
    cell shows, len(ROBOT_NAMES) for none; centres: int64 (T, P, 2), u, v of what it shows; named:
    bool (T, P), whether it shows the object of the task.
    """

    images: NDArray[np.uint8]
    states: NDArray[np.float32]
    text: str
    bins: NDArray[np.int64]
    shown: NDArray[np.int64]
    centres: NDArray[np.int64]
    named: NDArray[np.bool_]


@dataclass(frozen=True)
class Batch:
    """Samples as tensors, stacked; shorter windows are filled up behind, without labels."""

    images: torch.Tensor
    states: torch.Tensor
    texts: list[str]
    bins: torch.Tensor
    shown: torch.Tensor
    centres: torch.Tensor
    named: torch.Tensor

    @classmethod
    def of(cls, samples: list[Sample]) -> Batch:
        """Every tensor (B, T, ...)."""
        length = max(len(sample.images) for sample in samples)

        def stack(name: str, empty: int | None) -> torch.Tensor:
            rows = []
            for sample in samples:
                row = getattr(sample, name)
                missing = length - len(row)
                fill = row[-1:] if empty is None else np.full_like(row[-1:], empty)
                rows.append(np.concatenate([row, *missing * [fill]]))
            return torch.from_numpy(np.stack(rows))

        return cls(
            stack("images", None), stack("states", None), [sample.text for sample in samples],
            stack("bins", NOTHING), stack("shown", NOTHING), stack("centres", NOTHING),
            stack("named", 0),
        )  # fmt: skip


@dataclass(frozen=True)
class Window:
    """Consecutive demonstrations on one table; acted: the task that the expert worked for."""

    frames: tuple[Demonstration, ...]
    acted: Task

    def read(
        self, random: np.random.Generator, source: RobotSource, grid: int,
        task: Task | None = None,
    ) -> Sample:  # fmt: skip
        """Ask for `task`, or for one that the first picture allows, drawn at random.

        source: whose tasks and action space. grid: cells along a picture's side that `shown` and
        the like are told for.
        """
        from rt2_ros.sim.expert import expert

        if task is None:
            others = () if random.random() < ACTED else source.others(random, self.frames[0], 1)
            task = next(iter(others), self.acted)
        there = self.frames[0].truth.objects
        rest = [by_name(thing.name) for thing in there if thing.name not in task.things]
        cells = [_cells(frame.things, grid, frame.image.shape[0]) for frame in self.frames]
        bins = np.stack([source.space.to_bins(expert(f.truth, task)) for f in self.frames])
        shown = np.stack([shown for shown, _ in cells])
        asked = split.ROBOT_NAMES.index(task.object) if task.object else -1
        return Sample(
            recolour(random, np.stack([frame.image for frame in self.frames])),
            np.stack([frame.state for frame in self.frames]).astype(np.float32),
            split.words_around(random, request(random, task)[0], rest),
            bins.astype(np.int64),
            shown,
            np.stack([centres for _, centres in cells]),
            shown == asked,
        )


def _cells(
    things: tuple[Thing, ...], grid: int, size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What each of a picture's cells shows (P,), and the centre of that (P, 2)."""
    numbers = [split.ROBOT_NAMES.index(thing.name) for thing in things]
    owner = patch_owners(things, grid, size).ravel()
    there = owner != NOTHING
    shown = np.full(len(owner), len(split.ROBOT_NAMES), np.int64)
    shown[there] = np.array(numbers)[owner[there]]
    centres = np.full((len(owner), 2), NOTHING, np.int64)
    centres[there] = np.array([(thing.u, thing.v) for thing in things])[owner[there]]
    return shown, centres


class EpisodeSource:
    """Windows drawn on the fly. The simulator is made when first used, in the process using it."""

    def __init__(self, size: int = SIZE, period: float = 0.25, tasks: Sequence[str] = ()) -> None:
        """size: of the pictures, px. period: s of simulated time between them. tasks: kinds that
        are asked for, all if none are given.
        """
        self._size, self._period = size, period
        self._env: TabletopEnv | None = None
        self.states = RobotSource(tasks=tasks, size=size)

    def draw(self, random: np.random.Generator, length: int = 6) -> Window:
        """Up to `length` pictures; fewer where the expert is done before."""
        from rt2_ros.sim.expert import expert

        if self._env is None:
            self._env = self._make()
        env = self._env
        first = self.states.draw(random)
        assert first.task is not None
        frames, done = [first], False
        truth = first.truth
        if length > 1:
            env.reset(
                0
            )  # a grip slackens meanwhile, and what the first picture asks for mends that
        while len(frames) < length and not done:
            observation, done = env.step(expert(truth, first.task))
            truth = observation.truth
            frames.append(observe(env.tabletop, size=self._size))
        return Window(tuple(frames), first.task)

    def _make(self) -> TabletopEnv:
        from rt2_ros.sim.env import TabletopEnv
        from rt2_ros.sim.tabletop import Tabletop, TabletopState

        class Laid(Tabletop):
            """A table that keeps, when an episode begins, what was laid on it before."""

            def reset(self, *args: object, **kwargs: object) -> TabletopState:
                return self.state()

        table = self.states.table = Laid(names=split.ROBOT_NAMES)
        return TabletopEnv(table, step_period=self._period, render=False)


class Windows(IterableDataset[Batch]):
    """Endless batches of windows, each drawn once and read several times: for another task, in
    other words, in other colours. Drawing takes ten times as long as reading.
    """

    def __init__(
        self, source: EpisodeSource, grid: int, *, length: int, batch_size: int, readings: int,
        seed: int,
    ) -> None:  # fmt: skip
        """readings: how often a window is read, on average."""
        self._source, self._grid, self._length = source, grid, length
        self._batch_size, self._readings, self._seed = batch_size, readings, seed

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        random = np.random.default_rng(
            [split.TRAIN_SEEDS.start + self._seed, 1 + (worker.id if worker else 0)]
        )
        if worker:
            torch.set_num_threads(1)
        kept: list[Window] = []
        while True:
            yield Batch.of(
                [
                    self._next(random, kept).read(random, self._source.states, self._grid)
                    for _ in range(self._batch_size)
                ]
            )

    def _next(self, random: np.random.Generator, kept: list[Window]) -> Window:
        if kept and random.random() >= 1 / self._readings:
            return kept[int(random.integers(len(kept)))]
        window = self._source.draw(random, self._length)
        if len(kept) * self._length < KEPT_FRAMES:
            kept.append(window)
        else:
            kept[int(random.integers(len(kept)))] = window
        return window
