# SPDX-License-Identifier: Apache-2.0
"""What `rt2 bench loop` counts, and that a node's death ends it; test/system has the real graph."""

import itertools
import time
from types import SimpleNamespace

import psutil
import pytest

pytest.importorskip("rclpy")

from rt2_ros.bench.loop import INSTRUCTIONS, Load, Stopwatch  # noqa: E402
from rt2_ros.msg import PolicyStatus  # noqa: E402
from rt2_ros.up import Ended  # noqa: E402


def work(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


class Person:
    """An Operator for whom all goes well, but no policy is ever done.

    tables: s of this process's work to lay a table and to leave it; spin: called to wait.
    """

    policy = PolicyStatus(state=PolicyStatus.RUNNING)

    def __init__(self, tables=0.0, spin=lambda seconds: None):
        self._tables, self.spin = tables, spin

    def on(self, topic, callback):
        if topic.name == "joint_states":
            self._joints = callback

    def reset_table(self, seed, objects, check):
        check()
        work(self._tables)

    def until(self, condition, timeout, what, check):
        check()
        for sec in range(3):
            stamp = SimpleNamespace(sec=sec, nanosec=0)
            self._joints(SimpleNamespace(header=SimpleNamespace(stamp=stamp), position=[0.0] * 7))
        assert condition()

    def instruct(self, text, check):
        check()
        if not text:
            work(self._tables)
        return 1


def test_a_node_that_dies_in_a_round_ends_it():
    calls = itertools.count()

    def check():
        if next(calls) == 20:  # long after the instruction
            raise Ended("policy_node ended (killed by SIGKILL)")

    with pytest.raises(Ended):
        Stopwatch(Person()).round("pick up the banana", 0, 600.0, check)


def test_the_load_is_that_of_carrying_out_an_instruction():
    percent = []
    for spin in (time.sleep, work):
        stopwatch = Stopwatch(Person(0.3, spin))
        stopwatch.load = Load({"me": psutil.Process()})
        for _ in range(2):
            stopwatch.round(INSTRUCTIONS[0], 0, 0.5, lambda: None)
        percent.append(stopwatch.load.percent("me"))
    idle, busy = percent
    assert 0 <= idle < 20
    assert busy > idle + 20  # of a core that others may want as well
