# SPDX-License-Identifier: Apache-2.0
"""What `rt2 bench loop` counts; the graph itself is in test/system."""

import time
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

pytest.importorskip("rclpy")

from rt2_ros.bench import loop  # noqa: E402


def work(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


class Person:
    """An Operator whose tables take this process's work to lay and to leave."""

    policy = SimpleNamespace(state=0)

    def __init__(self, working):
        self._working = working

    def on(self, topic, take):
        if topic.name.endswith("joint_states"):
            self._take = take

    def reset_table(self, *_, **__):
        work(0.3)

    def until(self, *_, **__):
        stamp = SimpleNamespace(sec=0, nanosec=0)
        self._take(SimpleNamespace(header=SimpleNamespace(stamp=stamp), position=np.zeros(7)))

    def instruct(self, text, *_, **__):
        if not text:
            work(0.3)
        return 1

    def spin(self, seconds):
        (work if self._working else time.sleep)(seconds)


def test_the_load_is_that_of_carrying_out_an_instruction():
    percent = []
    for working in (False, True):
        stopwatch = loop.Stopwatch(Person(working))
        stopwatch.load = loop.Load({"me": psutil.Process()})
        for _ in range(2):
            stopwatch.round(loop.INSTRUCTIONS[0], 0, 0.5)
        percent.append(stopwatch.load.percent("me"))
    idle, busy = percent
    assert 0 <= idle < 20
    assert busy > idle + 20  # of a core that others may want as well
