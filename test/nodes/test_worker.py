# SPDX-License-Identifier: Apache-2.0
"""The newest item is worked on, others are dropped."""

import threading

from rt2_ros.nodes.worker import NewestWorker

WAIT = 30.0  # s


class Gate:
    """Work that waits until it is let go, so that a test decides what overtakes what."""

    def __init__(self):
        self.begun, self.go = threading.Semaphore(0), threading.Semaphore(0)
        self.done, self.errors = [], []

    def work(self, item):
        self.begun.release()
        assert self.go.acquire(timeout=WAIT)
        if item == "bad":
            raise ValueError("bad item")
        self.done.append(item)


def test_items_overtaken_while_the_worker_is_busy_are_dropped():
    gate = Gate()
    worker = NewestWorker(gate.work, gate.errors.append)
    worker.put(1)
    assert gate.begun.acquire(timeout=WAIT)
    for item in (2, 3, 4):
        worker.put(item)
    gate.go.release()
    assert gate.begun.acquire(timeout=WAIT)
    gate.go.release()
    assert worker.close()
    assert gate.done == [1, 4] and worker.dropped == 2


def test_an_exception_is_told_and_the_next_item_gets_its_turn():
    gate = Gate()
    worker = NewestWorker(gate.work, gate.errors.append)
    for item in ("bad", "good"):
        worker.put(item)
        assert gate.begun.acquire(timeout=WAIT)
        gate.go.release()
    assert worker.close()
    assert gate.done == ["good"] and [str(e) for e in gate.errors] == ["bad item"]


def test_close_drops_what_waits():
    gate = Gate()
    worker = NewestWorker(gate.work, gate.errors.append)
    worker.put(1)
    assert gate.begun.acquire(timeout=WAIT)
    worker.put(2)
    assert not worker.close(timeout=0)  # still busy
    gate.go.release()
    assert worker.close()
    assert gate.done == [1]
