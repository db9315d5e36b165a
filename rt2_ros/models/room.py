# SPDX-License-Identifier: Apache-2.0
"""Tensors that stay where they are, so that what reads them can be recorded and replayed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from rt2_ros.models.graphs import Kept


class Buffers:
    """Tensors at fixed places, by name and shape."""

    def __init__(self) -> None:
        self._kept: dict[Any, torch.Tensor] = {}

    def hold(self, name: Any, value: torch.Tensor, device: torch.device) -> torch.Tensor:
        """The value, at its place."""
        key = (name, value.shape, value.dtype)
        if key not in self._kept:
            self._kept[key] = torch.empty(value.shape, dtype=value.dtype, device=device)
        return self._kept[key].copy_(value)


class Room:
    """A static cache, and what is recorded on it and on the buffers beside it."""

    def __init__(self, cache: Any, batch: int, slots: int, device: torch.device) -> None:
        """cache: of the language model, for so many sequences of so many slots."""
        self.cache, self.batch, self.slots, self._device = cache, batch, slots, device
        self.head: list[int] = []  # ids whose keys and values stand in the first slots
        self.kept: Kept = OrderedDict()
        self.buffers = Buffers()
        self._given: dict[Any, tuple[torch.Tensor, torch.Tensor, SimpleNamespace]] = {}

    def give(self, key: Any, **values: np.ndarray | Sequence[Any] | int) -> SimpleNamespace:
        """Integers at fixed places of the device, by one transfer that nothing waits for: they are
        given again only after something that was computed from them has been read.
        """
        arrays = {name: np.asarray(value, dtype=np.int64) for name, value in values.items()}
        flat = torch.from_numpy(np.concatenate([array.ravel() for array in arrays.values()]))
        if key not in self._given:
            host = torch.empty_like(flat, pin_memory=self._device.type == "cuda")
            place = torch.empty_like(flat, device=self._device)
            parts = place.split([array.size for array in arrays.values()])
            views = {n: p.view(a.shape) for p, (n, a) in zip(parts, arrays.items(), strict=True)}
            self._given[key] = host, place, SimpleNamespace(**views)
        host, place, given = self._given[key]
        place.copy_(host.copy_(flat), non_blocking=True)
        return given
