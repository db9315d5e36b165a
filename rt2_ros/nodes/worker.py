# SPDX-License-Identifier: Apache-2.0
"""A thread that works on the newest item only; items overtaken meanwhile are dropped.

Example: 30 pictures a second are put, a policy takes 0.2 s for each; it sees every sixth, always
the newest, and the callback that puts never waits. Plain Python, no ROS.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class NewestWorker(Generic[T]):
    """One slot, one thread: `put` overwrites the slot, the thread empties it.

    Args:
        work: called in the thread with the newest item.
        failed: called in the thread with an exception that `work` raised; the thread goes on.
        name: of the thread, as debuggers and `top -H` show it.
    """

    def __init__(
        self, work: Callable[[T], None], failed: Callable[[Exception], None], name: str = "worker"
    ) -> None:
        self._work = work
        self._failed = failed
        self._wake = threading.Condition()
        self._slot: list[T] = []  # empty or one item, so that None is an item too
        self._open = True
        self.dropped = 0
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Make `item` the next to be worked on, in place of one that still waits. Never blocks."""
        with self._wake:
            self.dropped += len(self._slot)
            self._slot = [item]
            self._wake.notify()

    def close(self, timeout: float = 10.0) -> bool:
        """Stop after the item in work; True if the thread ended within `timeout` seconds."""
        with self._wake:
            self._open = False
            self._slot = []
            self._wake.notify()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _loop(self) -> None:
        while True:
            with self._wake:
                while self._open and not self._slot:
                    self._wake.wait()
                if not self._open:
                    return
                item = self._slot.pop()
            try:
                self._work(item)
            except Exception as error:  # told, and the next item gets its turn
                self._failed(error)
            del item
