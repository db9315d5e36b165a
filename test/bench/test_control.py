# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
import math

import numpy as np
import pytest

from rt2_ros.bench import control
from rt2_ros.bench.rig import Rig
from rt2_ros.control.profile import RobotProfile
from rt2_ros.paths import config_path


@pytest.fixture(scope="module")
def panda():
    urdf = config_path("robots", "panda.urdf").read_text()
    return RobotProfile.load(config_path("robots", "panda.yaml")), urdf


def test_the_ideal_stays_where_the_arm_may_go(panda):
    profile, _ = panda
    places = np.array([control.ideal(t).position for t in np.arange(0, 60, 0.1)])
    assert (places > profile.workspace_min).all()
    assert (places < profile.workspace_max).all()
    speeds = np.linalg.norm(np.diff(places, axis=0), axis=1) / 0.1
    assert 0.05 < speeds.max() < profile.max_linear_speed


def test_lag_and_error_are_found_in_a_path_that_has_them():
    times = (np.arange(800) + 1) * 0.01
    late = np.array([control.ideal(t - 0.15).position for t in times])
    lag, error = control._lag_and_error(late)
    assert lag == pytest.approx(0.15)
    assert error < 1e-9
    off = late + [0.003, 0.0, 0.004]
    assert control._lag_and_error(off)[1] == pytest.approx(0.005, rel=0.05)


def test_the_arm_follows_and_the_filter_trades_lag_for_smoothness(panda):
    profile, urdf = panda
    figures = control.execution(profile, urdf, 4.0, seed=0)
    plain, filtered = figures["plain"], figures["filter"]
    assert plain["commands"] == plain["decisions"] > 10
    assert plain["tracking_mm"] < 15
    assert filtered["jerk"] < 0.2 * plain["jerk"]
    assert filtered["lag_ms"] > plain["lag_ms"]
    assert figures["ensemble"]["jerk"] < plain["jerk"]
    assert figures["both"]["jerk"] < filtered["jerk"]


def test_nobody_is_asked_for_help_while_it_measures(panda):
    """Planning is what costs, and the arm that is timed is one that moves."""
    profile, urdf = panda
    hasty = dataclasses.replace(profile, no_progress_time=0.3)
    figures = control.jitter(hasty, urdf, 2.0)
    assert figures["decisions"] == 10
    assert "help" not in figures["refusals"]
    assert figures["planned"] + figures["refusals"].get("late", 0) >= 8  # of a busy machine
    followed = control.execution(hasty, urdf, 4.0, seed=0)["plain"]
    assert followed["commands"] == followed["decisions"]


def test_what_it_writes_is_what_others_read(tmp_path, capsys):
    file = tmp_path / "out" / "control.json"
    arguments = ["--cases", "60", "--seconds", "2.1", "--seed", "3", "--json", str(file)]
    assert control.main(arguments) == 0
    figures = json.loads(file.read_text())
    assert (figures["cases"], figures["violations"], figures["examples"]) == (60, 0, [])
    assert set(figures["execution"]) == {"plain", "filter", "ensemble", "both"}
    for key in ("period_jitter_ms", "work_ms"):
        assert 0 < figures[key]["p50"] <= figures[key]["p99"] < math.inf
    shown = capsys.readouterr().out
    assert "60 (" in shown
    assert "rt2 bench control" in shown


@pytest.mark.parametrize("arguments", [["--cases", "0"], ["--seconds", "2"]])
def test_numbers_that_make_no_sense_are_refused(arguments):
    with pytest.raises(ValueError, match=f"{arguments[0]} is {arguments[1]}.*expected more than"):
        control.main(arguments)


def test_a_rig_is_an_arm_that_does_what_it_is_told(panda):
    profile, urdf = panda
    rig = Rig(profile, profile.kinematics(urdf), None)
    rig.instruct()
    before = rig.tip.position
    rig.move(0.02, 0.0, -0.05)
    rig.run(0.6)
    np.testing.assert_allclose(rig.tip.position - before, [0.02, 0.0, -0.05], atol=1e-3)
    assert not rig.moving
