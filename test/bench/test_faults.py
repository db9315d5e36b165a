# SPDX-License-Identifier: Apache-2.0
"""What the fault bench makes of its outcomes; the faults themselves are in test/system."""

import json

import pytest

from rt2_ros.bench.fault_list import FAULTS, HOLDS, LIMITS, Fault, later
from rt2_ros.bench.fault_report import Outcome, figures, report, show, summary
from rt2_ros.bench.faults import main

ONE = next(fault for fault in FAULTS if fault.expect == HOLDS)


def outcomes():
    return [
        Outcome(ONE, time_to_hold=0.2, commands=5),
        Outcome(ONE, time_to_hold=0.3, commands=5),
        Outcome(Fault("odd", lambda b: None, expect=LIMITS), ["too fast"], ["slept"], commands=7),
    ]


def test_names_are_different_and_every_part_breaks():
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names)
    for part in (
        "policy",
        "camera",
        "simulator",
        "joint states",
        "controller",
        "deltas",
        "network",
    ):
        assert any(part in name for name in names), part


def test_a_fault_without_sense_is_refused():
    with pytest.raises(ValueError, match="odd: expect is 'hope'"):
        Fault("odd", lambda b: None, expect="hope")
    with pytest.raises(ValueError, match="only an arm that holds can stay"):
        Fault("odd", lambda b: None, expect=LIMITS, stays=True)


def test_figures_count_faults_that_were_unsafe_not_words():
    result = figures(outcomes())
    assert (result["faults"], result["kinds"], result["commands"]) == (3, 2, 17)
    assert (result["unsafe"], result["failed"]) == (1, 1)
    assert result["time_to_hold_ms"] == {"p50": 250, "p99": 299}
    assert json.loads(json.dumps(result)) == result
    nothing = figures([outcomes()[2]])
    assert nothing["time_to_hold_ms"] == {"p50": None, "p99": None}


def test_the_table_shows_the_worst_of_each_kind(capsys):
    result = figures(outcomes())
    text = report(result)
    assert f"| {ONE.name} | holds | as expected | 300 ms |" in text
    assert "| odd | limits | slept; too fast |  |" in text
    assert summary(result) in text and "unsafe: 1" in text
    show(result)
    assert "slept; too fast" in capsys.readouterr().out


def test_a_fault_that_there_is_not_is_refused_before_anything_starts():
    with pytest.raises(ValueError, match="--only must match"):
        main(["--only", "meteor"])


def test_a_stamp_may_become_negative_but_no_clock():
    pytest.importorskip("rclpy")
    from rosgraph_msgs.msg import Clock
    from sensor_msgs.msg import JointState

    msg = JointState()
    msg.header.stamp.sec, msg.header.stamp.nanosec = 1, 500_000_000
    (changed,) = later(-2.25)(msg)
    assert (changed.header.stamp.sec, changed.header.stamp.nanosec) == (-1, 250_000_000)
    assert msg.header.stamp.sec == 1
    (changed,) = later(-2.25)(Clock(clock=msg.header.stamp))
    assert (changed.clock.sec, changed.clock.nanosec) == (0, 0)
