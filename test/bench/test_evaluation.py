# SPDX-License-Identifier: Apache-2.0
"""What `rt2 bench eval` makes of its repeats; the runner itself is in test/evaluation."""

import pytest

from rt2_ros.bench import evaluation


class Clock:
    now = 0.0

    def perf_counter(self):
        return self.now


def test_the_median_of_two_repeats_lies_between_them(monkeypatch):
    clock, alone = Clock(), iter((0.0, 10.0, 30.0))  # warming up, then two repeats

    def loop(wanted, player, table):
        clock.now += next(alone)
        return 1

    def run(wanted, player):
        clock.now += 5.0
        return 1

    monkeypatch.setattr(evaluation, "time", clock)
    monkeypatch.setattr(evaluation, "loop", loop)
    monkeypatch.setattr(evaluation, "run", run)
    figures = evaluation.measure("hold", count=1, repeats=2, seed=0)
    assert figures["loop_per_minute"] == pytest.approx((6 + 2) / 2)
    assert figures["speedup_vs_loop"] == pytest.approx((2 + 6) / 2)
    assert figures["speedup_vs_loop_range"] == pytest.approx([2, 6])
    assert figures["loop_successes"] == figures["runner_successes"] == 2
