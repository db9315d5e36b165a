# SPDX-License-Identifier: Apache-2.0
"""The stream of batches that a run reads: sources, their shares, and worker processes that prepare
ahead.

Batch number n is a function of the run's seed and of n alone, whichever worker of whichever process
makes it. So a run that goes on reads what it would have read, and two processes read together what
one would have read.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from rt2_ros.actions.prompts import ACTION, PLAN
from rt2_ros.data.faults import BadSample, BadSetting
from rt2_ros.data.samples import Frame, Query
from rt2_ros.data.split import TRAIN_SEEDS, web_pictographs

T = TypeVar("T")
# A source draws one frame from a random generator.
Source = Callable[[np.random.Generator], Frame]
# Frames to a batch for a model.
Pack = Callable[[Sequence[Frame]], Any]

TRAINING, HELD_OUT = 0, 1  # what batches are for: they are drawn from different seeds
# What workers need, imported once for all of them where they are not forked from the trainer.
PRELOADED = ("rt2_ros.training.sources", "rt2_ros.training.rows", "rt2_ros.data.poses",
             "rt2_ros.sim.tabletop")  # fmt: skip
# What a prompt says of the plan before.
REMINDER = re.compile(rf" {PLAN} [^:]*\.(?= A:$)")
MOST_BAD = 100  # bad samples in a row after which a source is given up, skipping or not


@dataclass(frozen=True)
class Drawn:
    """A batch and where it came from.

    sources, origins: of each picture; left_out: what was wrong with samples that were skipped.
    stopped: what is wrong with the one that ends the run; then batch is None. skippable: whether
    on_bad_sample: skip would leave that one out.
    """

    batch: Any
    sources: tuple[str, ...]
    origins: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    stopped: str = ""
    skippable: bool = False

    @property
    def pictures(self) -> list[str]:
        """What each picture is, for messages."""
        pairs = zip(self.sources, self.origins, strict=False)
        return [origin or f"a picture of {source}" for source, origin in pairs]


class Mixture(IterableDataset[Drawn]):
    """Endless batches in which each frame comes from source i with probability shares[i]."""

    def __init__(
        self, sources: Mapping[str, Source], shares: Mapping[str, float], pack: Pack, *,
        batch_size: int, seed: int, use: int = TRAINING, stage: int = 0, start: int = 0,
        process: int = 0, processes: int = 1, plan_share: float = 1.0, skip: bool = False,
        states: Source | None = None, state_rows: int = 0,
    ) -> None:  # fmt: skip
        """start: number of the first batch, over all processes, of which this is number `process`.

        plan_share: of robot answers with a plan, those that keep it. skip: whether a bad sample is
        left out. states: gives `state_rows` further rows without a picture.
        """
        unknown = sorted(set(shares) - set(sources))
        if unknown:
            raise ValueError(f"shares: unknown source {unknown[0]!r}; expected {sorted(sources)}")
        total = sum(shares.values())
        if not total > 0 or min(shares.values()) < 0:
            raise ValueError(f"shares: {dict(shares)}; expected weights of at least 0, not all 0")
        self._names = tuple(shares)
        self._sources = [sources[name] for name in shares]
        self.shares = np.array([share / total for share in shares.values()])
        self._states = [states] * state_rows if states else []
        self._pack, self._batch_size, self._skip = pack, batch_size, skip
        self._seed = (TRAIN_SEEDS.start + seed, use, stage)
        self._start, self._process, self._processes = start, process, processes
        self._plan_share = plan_share

    def __iter__(self) -> Iterator[Drawn]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        if worker:  # there are others beside it
            torch.set_num_threads(1)
            if cv2.getNumThreads() > 1:  # not forked: see `loader`
                cv2.setNumThreads(1)
        while True:
            drawn = self.draw(self._start + number * self._processes + self._process)
            yield drawn
            if drawn.stopped:
                return
            number += workers

    def draw(self, number: int) -> Drawn:
        """Batch `number`."""
        left_out: list[str] = []
        try:
            names, frames = self._frames(number, left_out)
            try:
                batch = self._pack(frames)
            except ValueError:  # drawn again, each packed alone: that tells which are bad
                left_out.clear()
                names, frames = self._frames(number, left_out, alone=True)
                batch = self._pack(frames)
        except BadSample as error:
            return Drawn(None, (), (), stopped=str(error), skippable=not self._skip)
        except BadSetting as error:
            return Drawn(None, (), (), stopped=str(error))
        return Drawn(batch, names, tuple(frame.origin for frame in frames), tuple(left_out))

    def _frames(
        self, number: int, left_out: list[str], alone: bool = False
    ) -> tuple[tuple[str, ...], list[Frame]]:
        """The frames of a batch and the names of their sources.

        left_out: takes what was wrong with those that are skipped. alone: whether one that cannot
            be packed is bad too.

        Raises:
            BadSample: one that is not skipped, or too many in a row.
            BadSetting: never skipped.
        """
        random = np.random.default_rng([*self._seed, number])
        picks = random.choice(len(self._sources), size=self._batch_size, p=self.shares)
        names = tuple(self._names[pick] for pick in picks)
        sources = [*(self._sources[pick] for pick in picks), *self._states]
        frames = []
        for place, source in enumerate(sources):
            for _ in range(MOST_BAD):
                try:
                    frame = keep_plans(random, source(random), self._plan_share)
                    if alone and place < len(names):
                        self._pack_alone(frame, names[place])
                    break
                except BadSample as error:
                    if not self._skip:
                        raise
                    left_out.append(str(error))
            else:
                raise BadSample(f"{MOST_BAD} bad samples in a row; the last", left_out[-1])
            frames.append(frame)
        return names, frames

    def _pack_alone(self, frame: Frame, source: str) -> None:
        try:
            self._pack([frame])
        except ValueError as error:
            raise BadSample(frame.origin or f"source {source}", str(error)) from error


def keep_plans(random: np.random.Generator, frame: Frame, share: float) -> Frame:
    """The frame with the plans of that share of its robot answers."""
    if share >= 1:
        return frame
    return replace(
        frame,
        queries=tuple(
            query if query.kind != "robot" or random.random() < share else _without_plan(query)
            for query in frame.queries
        ),
    )


def _without_plan(query: Query) -> Query:
    """The action alone, asked for without a word of the plan before."""
    _, marker, action = query.answer.partition(ACTION)
    if not marker or query.given:
        return query
    return replace(query, prompt=REMINDER.sub("", query.prompt), answer=action.strip())


def loader(mixture: IterableDataset[T], workers: int) -> Iterator[T]:
    """Batches made ahead by worker processes (0: in this one).

    Its generator is its own: a run that goes on opens a loader where one that was never stopped
    does not, and both must draw the same numbers from torch's afterwards. Workers are forked, but
    for a process that has used a GPU: what they inherit of it does not work in them.
    """
    context = torch.multiprocessing.get_context(
        "forkserver" if torch.cuda.is_initialized() else "fork"
    )
    context.set_forkserver_preload(list(PRELOADED))
    gc.collect()  # an earlier loader ends its workers here, or theirs to come would try it as well
    if workers:  # before they are forked: OpenCV's threads cannot be ended in a child
        cv2.setNumThreads(1)
    return iter(
        DataLoader(
            mixture, batch_size=None, num_workers=workers,
            prefetch_factor=4 if workers else None,
            multiprocessing_context=context if workers else None,
            generator=torch.Generator(),
        )
    )  # fmt: skip


def named_words(names: Sequence[str] | None = None) -> dict[str, str]:
    """The words that a patch showing each thing should mean: its English and Chinese names."""
    things = web_pictographs()
    return {p.name: f"{p.name} {p.name_zh}" for p in things if names is None or p.name in names}
