# SPDX-License-Identifier: Apache-2.0
"""What the fault bench makes of its outcomes; the faults themselves are in test/system."""

import json
import math
from contextlib import contextmanager

import numpy as np
import pytest

from rt2_ros.bench import faults
from rt2_ros.bench.fault_list import FAULTS, HOLDS, LIMITS, Fault, later
from rt2_ros.bench.fault_report import Outcome, figures, keep, report, show, summary
from rt2_ros.bench.faults import Bench, main
from rt2_ros.bench.judge import Judge, Sample, Sent
from rt2_ros.control.profile import RobotProfile
from rt2_ros.paths import config_path

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


def test_what_was_seen_is_kept_each_time_in_a_file_of_its_own(tmp_path):
    told = Sent(11.5, np.array([0.1]), np.ones((1, 7)), np.zeros((1, 7)))
    for name in ("one", "other"):
        keep(tmp_path / "records", name, 10.0, [told], [Sample(9.0, np.ones(7), np.zeros(7))])
    files = sorted((tmp_path / "records").iterdir())
    kept = [json.loads(file.read_text()) for file in files]
    assert [each["fault"] for each in kept] == ["one", "other"]
    assert kept[0]["sent"][0]["time"] == 1.5 and kept[0]["states"][0]["time"] == -1.0
    assert kept[0]["states"][0]["position"] == [1.0] * 7


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


class Moments:
    """A clock that goes on by being waited for."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += max(seconds, 1e-4)


class Arm:
    """What a FaultRig hears of an arm that moves until `rest` s, heard every 10 ms until `lost`."""

    def __init__(self, clock, rest=0.3, lost=math.inf):
        self.profile = RobotProfile.load(config_path("robots", "panda.yaml"))
        self.tamper, self.sent = {}, []
        self._clock, self._rest, self._lost = clock, rest, lost

    @property
    def states(self):
        speed = np.array([0.2] + [0.0] * 6)
        times = np.arange(0.0, min(self._clock.now, self._lost), 0.01)
        return [
            Sample(t, self.profile.home + speed * min(t, self._rest), speed * (t < self._rest))
            for t in times
        ]

    @property
    def silence(self):
        return self._clock.now - min(self._clock.now, self._lost) if self.states else math.inf


@pytest.fixture
def play(monkeypatch):
    """Return a function that lets a fault strike an Arm; it returns the outcome."""
    urdf = config_path("robots", "panda.urdf").read_text()
    monkeypatch.setattr(Bench, "_set_in_motion", lambda bench: None)

    def run(expect, stays=False, **arm):
        clock = Moments()
        monkeypatch.setattr(faults, "time", clock)
        rig = Arm(clock, **arm)
        fault = Fault("odd", lambda b: None, expect=expect, stays=stays, lasts=1.0)
        return Bench(rig, None, Judge(rig.profile, urdf), 0).run(fault)

    return run


@pytest.mark.parametrize(("expect", "stays"), [(HOLDS, True), (HOLDS, False), (LIMITS, False)])
def test_an_arm_that_is_seen_is_as_expected(play, expect, stays):
    outcome = play(expect, stays)
    assert outcome.unsafe == outcome.failed == []


@pytest.mark.parametrize(
    ("expect", "stays", "arm", "words"),
    [
        (HOLDS, False, {"lost": 0.0}, "not seen at rest"),
        (HOLDS, False, {"lost": 0.25}, "not seen at rest"),  # in the middle of a motion
        (HOLDS, False, {"rest": 0.0}, "not seen moving when it struck"),
        (HOLDS, True, {"lost": 1.05}, "joint states after it was lifted"),
        (LIMITS, False, {"lost": 0.0}, "0 joint states after the fault, the last inf s ago"),
        (LIMITS, False, {"lost": 0.1}, "9 joint states after the fault, the last 0.9 s ago"),
    ],
)
def test_an_arm_that_is_not_seen_is_not_as_expected(play, expect, stays, arm, words):
    outcome = play(expect, stays, **arm)
    assert outcome.unsafe == []
    assert any(words in problem for problem in outcome.failed), outcome.failed


def test_what_was_played_is_written_when_the_bench_breaks_off(tmp_path, monkeypatch):
    class Running:
        def run(self, fault):
            if fault is chosen[1]:
                raise TimeoutError("waited 15 s for the arm to rest")
            return Outcome(fault, time_to_hold=0.2, commands=5)

    @contextmanager
    def started(*_, **__):
        yield Running()

    chosen = [fault for fault in FAULTS if "killed" in fault.name]
    monkeypatch.setattr(faults, "bench", started)
    monkeypatch.setattr("rt2_ros.up.use_transport", lambda: None)
    file, page = tmp_path / "faults.json", tmp_path / "faults.md"
    with pytest.raises(TimeoutError, match="the arm to rest"):
        main(["--only", "killed", "--json", str(file), "--report", str(page)])
    rows = json.loads(file.read_text())["outcomes"]
    assert [(row["fault"], row["failed"]) for row in rows] == [
        (chosen[0].name, []),
        (chosen[1].name, ["broken off"]),
    ]
    assert f"| {chosen[1].name} | holds | broken off |" in page.read_text()
