# SPDX-License-Identifier: Apache-2.0
"""The stream of batches that a run reads: sources, their shares, and worker processes that prepare
ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from rt2_ros.data.samples import Frame
from rt2_ros.data.split import TRAIN_SEEDS, robot_pictographs, web_pictographs
from rt2_ros.data.web import web_frame
from rt2_ros.training.packing import Batch, Packer

T = TypeVar("T")
# A source draws one frame from a random generator.
Source = Callable[[np.random.Generator], Frame]


class WebSource:
    """The built-in web set; `robot_names_share` of its pictures show only things that robots meet
    as well.
    """

    def __init__(self, *, queries: int = 8, robot_names_share: float = 0.0, most: int = 12) -> None:
        self._all, self._robot = web_pictographs(), robot_pictographs()
        self._queries, self._share, self._most = queries, robot_names_share, most

    def __call__(self, random: np.random.Generator) -> Frame:
        """One picture with its questions."""
        things = self._robot if random.random() < self._share else self._all
        return web_frame(random, things, queries=self._queries, most=self._most)


class Mixture(IterableDataset[Batch]):
    """Endless batches in which each frame comes from source i with probability shares[i]."""

    def __init__(
        self, sources: Mapping[str, Source], shares: Mapping[str, float], packer: Packer, *,
        batch_size: int, seed: int, states: Source | None = None, state_rows: int = 0,
    ) -> None:  # fmt: skip
        """states: gives `state_rows` further rows without a picture."""
        unknown = sorted(set(shares) - set(sources))
        if unknown:
            raise ValueError(f"shares: unknown source {unknown[0]!r}; expected {sorted(sources)}")
        total = sum(shares.values())
        if not total > 0 or min(shares.values()) < 0:
            raise ValueError(f"shares: {dict(shares)}; expected weights of at least 0, not all 0")
        self._sources = [sources[name] for name in shares]
        self._shares = np.array([share / total for share in shares.values()])
        self._states = [states] * state_rows if states else []
        self._packer, self._batch_size, self._seed = packer, batch_size, seed

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        random = np.random.default_rng(
            [TRAIN_SEEDS.start + self._seed, 1 + (worker.id if worker else 0)]
        )
        if worker:
            torch.set_num_threads(1)
        while True:
            picks = random.choice(len(self._sources), size=self._batch_size, p=self._shares)
            drawn = [*(self._sources[pick] for pick in picks), *self._states]
            yield self._packer.pack([source(random) for source in drawn])


def loader(mixture: IterableDataset[T], workers: int) -> Iterator[T]:
    """Batches made ahead by worker processes (0: in this one)."""
    return iter(
        DataLoader(
            mixture, batch_size=None, num_workers=workers,
            prefetch_factor=4 if workers else None,
            multiprocessing_context="fork" if workers else None,
        )
    )  # fmt: skip


def named_words(names: Sequence[str] | None = None) -> dict[str, str]:
    """The words that a patch showing each thing should mean: its English and Chinese names."""
    things = web_pictographs()
    return {p.name: f"{p.name} {p.name_zh}" for p in things if names is None or p.name in names}
