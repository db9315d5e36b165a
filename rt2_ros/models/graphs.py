# SPDX-License-Identifier: Apache-2.0
"""CUDA graphs: what is computed from buffers at fixed places is recorded once, then replayed.

    graphs = Graphs(device)
    graphs.run(kept, ("prompt", 304), compute)     # computes, records, and compares the two
    graphs.run(kept, ("prompt", 304), compute)     # one launch instead of some hundreds

The device must be the current one (`current`). `compute` takes nothing, and may be run again with
the same outcome: it reads buffers that its caller has filled, and writes to buffers or returns
tensors. A recording is used only if its first replay gives what was computed without it. Where
recording fails, that kind of computation (the first part of its key) goes on without, with one
warning. Without a GPU nothing is recorded.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch

Compute = Callable[[], tuple[torch.Tensor, ...]]
Key = tuple[Hashable, ...]  # the kind first, then whatever tells shapes apart
MOST = 24  # recordings that are kept in one place; the one that was used longest ago goes first


class Recording(NamedTuple):
    """replay() computes again what outputs hold; compute is kept for the buffers it knows."""

    replay: Callable[[], Any]
    outputs: tuple[torch.Tensor, ...]
    compute: Compute


Kept = OrderedDict[Key, Recording]


def current(device: torch.device) -> AbstractContextManager[Any]:
    """Of several GPUs this one: streams and recordings are the current one's."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


class Graphs:
    """Records and replays; `lost` says of each kind that is not recorded why it is not."""

    def __init__(self, device: torch.device) -> None:
        self.records = device.type == "cuda"
        self.lost: dict[str, str] = {}
        self._pool: Any = None

    def run(self, kept: Kept, key: Key, compute: Compute) -> tuple[torch.Tensor, ...]:
        """What `compute` returns, from a recording in `kept` or to be kept there."""
        if not self.records or key[0] in self.lost:
            return compute()
        if (recording := kept.get(key)) is None:
            return self._record(kept, key, compute)
        kept.move_to_end(key)
        recording.replay()
        return tuple(output.clone() for output in recording.outputs)

    def _record(self, kept: Kept, key: Key, compute: Compute) -> tuple[torch.Tensor, ...]:
        expected = self.warm_up(compute)
        reason = ""
        try:
            recording = self.capture(compute)
            for output in filter(torch.is_floating_point, recording.outputs):
                output.fill_(torch.nan)  # which a replay that computes nothing leaves
            recording.replay()
            if not all(map(_near, recording.outputs, expected)):
                reason = "its replay differs from what was recorded"
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
        if not reason:
            kept[key] = recording
            if len(kept) > MOST:
                kept.popitem(last=False)
            return expected
        self.lost[str(key[0])] = reason
        warnings.warn(
            f"no CUDA graph for the {key[0]}, decisions take longer: {reason}", stacklevel=2
        )
        return compute()  # what was written to buffers may be spoilt

    def warm_up(self, compute: Compute) -> tuple[torch.Tensor, ...]:
        """The first time, on a stream of its own: libraries make what they need."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            expected = compute()
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        return expected

    def capture(self, compute: Compute) -> Recording:
        """Record; all recordings share one pool of memory, for one is replayed at a time."""
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            outputs = compute()
        return Recording(graph.replay, outputs, compute)


def _near(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Equal up to rounding; nothing is said of integers, which one rounding more may turn."""
    if not found.is_floating_point():
        return True
    difference = (found.float() - expected.float()).norm()
    return bool(difference <= 0.02 * expected.float().norm() + 1e-6)
