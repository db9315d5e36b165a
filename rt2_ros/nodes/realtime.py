# SPDX-License-Identifier: Apache-2.0
"""A thread that owns what must live in one thread, and steps it at a steady pace. No ROS.

The simulator's physics and OpenGL context live in such a thread; callbacks of other threads hand it
work:

    loop = RealTimeLoop(setup, step, teardown, period=0.01, failed=print)  # setup has run
    loop.run(True)                                # step() every 10 ms from now on
    message = loop.call(lambda: table.reset(7))   # in the thread, between two steps
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TypeVar

T = TypeVar("T")

MAX_LAG = 0.05  # s; what is missed beyond that is not made up for


class RealTimeLoop:
    """Steps `step` every `period` seconds of the steady clock while it runs.

    Args:
        setup: called first, in the thread; what it raises is raised here, and there is no thread
            then.
        step: one period. True says that its world stood still meanwhile: the next step is due one
            period from now and nothing is made up for. Otherwise late steps follow at once.
        teardown: called last, in the thread.
        period: s.
        failed: called in the thread with an exception of `step` or of posted work.
    """

    def __init__(
        self,
        setup: Callable[[], None],
        step: Callable[[], bool],
        teardown: Callable[[], None],
        *,
        period: float,
        failed: Callable[[Exception], None],
    ) -> None:
        self._setup, self._step, self._teardown = setup, step, teardown
        self._period, self._failed = period, failed
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._running = False
        self._due = 0.0
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._loop, args=(ready,), name="world", daemon=True)
        self._thread.start()
        ready.result()

    def run(self, running: bool) -> None:
        """Go or pause; returns when it is so."""

        def switch() -> None:
            self._running, self._due = running, time.monotonic() + self._period

        self.call(switch)

    def post(self, work: Callable[[], None]) -> None:
        """Have `work` done in the thread as soon as the step under way is over."""
        self._jobs.put(work)

    def call(self, work: Callable[[], T], timeout: float = 30.0) -> T:
        """Have `work` done in the thread; return or raise what it does, or TimeoutError."""
        future: Future[T] = Future()

        def job() -> None:
            try:
                future.set_result(work())
            except Exception as error:  # raised where the result is asked for
                future.set_exception(error)

        self._jobs.put(job)
        if not wait([future], timeout).done:
            raise TimeoutError(f"waited {timeout:g} s for the thread {self._thread.name!r}")
        return future.result()

    def close(self, timeout: float = 10.0) -> None:
        """Tear down and end the thread; once is enough."""
        self._jobs.put(None)
        self._thread.join(timeout)

    def _loop(self, ready: Future[None]) -> None:
        try:
            self._setup()
        except Exception as error:  # raised by the constructor
            ready.set_exception(error)
            return
        ready.set_result(None)
        try:
            while True:
                wait = max(0.0, self._due - time.monotonic()) if self._running else None
                try:
                    job = self._jobs.get(timeout=wait)
                except queue.Empty:
                    job = self._tick
                if job is None:
                    return
                try:
                    job()
                except Exception as error:  # told; the world goes on
                    self._failed(error)
        finally:
            self._teardown()

    def _tick(self) -> None:
        self._due += self._period
        stood_still = self._step()
        now = time.monotonic()
        if stood_still or now - self._due > MAX_LAG:
            self._due = now + self._period
