# SPDX-License-Identifier: Apache-2.0
"""The stopwatch of `rt2 bench loop` where a node dies; test/system has it on the real graph."""

import itertools
from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy")

from rt2_ros.bench.loop import Stopwatch  # noqa: E402
from rt2_ros.msg import PolicyStatus  # noqa: E402
from rt2_ros.up import Ended  # noqa: E402


class Person:
    """Everything goes well at once, but no policy is ever done."""

    policy = PolicyStatus(state=PolicyStatus.RUNNING)

    def on(self, topic, callback):
        if topic.name == "joint_states":
            self.joints = callback

    def reset_table(self, seed, objects, check):
        check()

    def until(self, condition, timeout, what, check):
        check()
        for sec in range(3):
            stamp = SimpleNamespace(sec=sec, nanosec=0)
            self.joints(SimpleNamespace(header=SimpleNamespace(stamp=stamp), position=[0.0] * 7))
        assert condition()

    def instruct(self, text, check):
        check()
        return 1

    def spin(self, seconds):
        pass


def test_a_node_that_dies_in_a_round_ends_it():
    calls = itertools.count()

    def check():
        if next(calls) == 20:  # long after the instruction
            raise Ended("policy_node ended (killed by SIGKILL)")

    with pytest.raises(Ended):
        Stopwatch(Person()).round("pick up the banana", 0, 600.0, check)
