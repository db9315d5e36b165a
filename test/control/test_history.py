# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from numpy.testing import assert_allclose

from rt2_ros.control.history import JointHistory, NotInHistory, by_name

MS = 1_000_000


@pytest.fixture
def history():
    history = JointHistory(["a", "b"], horizon=1.0)
    history.add(1000 * MS, ["b", "finger", "a"], [0.2, 0.04, 0.1])
    history.add(1010 * MS, ["a", "b", "finger"], [0.3, 0.2, 0.04])
    history.add(1020 * MS, ["finger", "a", "b"], [0.04, 0.3, 0.6])
    return history


def test_positions_are_mapped_by_name_and_interpolated(history):
    assert_allclose(history.at(1000 * MS), [0.1, 0.2])
    assert_allclose(history.at(1005 * MS), [0.2, 0.2])
    assert_allclose(history.at(1020 * MS), [0.3, 0.6])
    assert_allclose(history.at(1015 * MS), [0.3, 0.4])
    assert_allclose(history.velocity(), [10.0, 20.0])


def test_outside_the_history_there_is_no_answer(history):
    with pytest.raises(NotInHistory, match="as old as that: 0.001 s older"):
        history.at(999 * MS)
    with pytest.raises(NotInHistory, match="as new as that: 0.005 s newer"):
        history.at(1025 * MS)
    with pytest.raises(NotInHistory, match="no joint state yet"):
        JointHistory(["a"]).at(0)


def test_a_gap_is_not_bridged(history):
    history.add(1500 * MS, ["a", "b"], [0.0, 0.0])
    with pytest.raises(NotInHistory, match="no joint states for 0.480 s"):
        history.at(1300 * MS)
    assert_allclose(history.at(1500 * MS), [0.0, 0.0])
    assert_allclose(history.at(1020 * MS), [0.3, 0.6])
    assert_allclose(history.velocity(), [0.0, 0.0])


def test_noise_is_no_motion_and_a_slow_drift_is_one(history):
    still, drifting = JointHistory(["a"]), JointHistory(["a"])
    for ms in range(1, 501):
        still.add(ms * MS, ["a"], [1.0 + 5e-4 * (-1) ** ms])
        drifting.add(ms * MS, ["a"], [0.03e-3 * ms])
        assert abs(still.velocity()[0]) <= 0.0201 or ms < 52
    assert still.is_still()
    assert not drifting.is_still()
    assert not history.is_still()  # two joints jump
    history.add(2000 * MS, ["a", "b"], [0.3, 0.6])
    assert history.is_still()
    with pytest.raises(NotInHistory):
        JointHistory(["a"]).is_still()


def test_a_joint_that_is_reported_a_turn_further_on_was_nowhere_between():
    """Half-way from 3.1 to -3.1 is not 0: the arm is where it was, on the other side."""
    history = JointHistory(["a", "b"])
    history.add(1000 * MS, ["a", "b"], [0.5, 3.1])
    history.add(1010 * MS, ["a", "b"], [0.5, -3.1])
    with pytest.raises(NotInHistory, match="the reading of b jumped"):
        history.at(1005 * MS)
    assert_allclose(history.velocity(), [0.0, 0.0])
    assert_allclose(history.at(1000 * MS), [0.5, 3.1])
    assert_allclose(history.at(1010 * MS), [0.5, -3.1])


@pytest.mark.parametrize("feedback", [5, 10])  # ms
def test_the_velocity_is_that_of_the_last_50_ms(feedback):
    """Of a driver that says some measurements twice it was none, or twice as much."""
    history = JointHistory(["a"])
    for ms in range(1000, 1301, 5):
        history.add(ms * MS, ["a"], [0.8e-3 * (ms // feedback * feedback)])
        if ms >= 1050:
            assert_allclose(history.velocity(), [0.8])
    history.add(1505 * MS, ["a"], [0.0])  # after a gap
    assert history.velocity() == [0.0]
    history.add(1515 * MS, ["a"], [0.008])  # of which only what came since then tells
    assert_allclose(history.velocity(), [0.8])


def test_the_velocity_is_not_that_of_a_jump():
    history = JointHistory(["a"], fastest=1.5)
    for ms, q in ((1000, 0.0), (1010, 0.008), (1020, 0.108), (1030, 0.116), (1040, 0.124)):
        history.add(ms * MS, ["a"], [q])
        assert_allclose(history.velocity(), [0.0 if ms in (1000, 1020) else 0.8])


def test_joints_that_are_told_seldom_are_where_they_were_last(history):
    assert_allclose(history.near(1005 * MS, 1.0), [0.2, 0.2])
    assert_allclose(history.near(1900 * MS, 1.0), [0.3, 0.6])
    assert_allclose(history.near(900 * MS, 1.0), [0.3, 0.6])
    with pytest.raises(NotInHistory, match="1.080 s newer"):
        history.near(2100 * MS, 1.0)
    with pytest.raises(NotInHistory, match="no joint state yet"):
        JointHistory(["a"]).near(0, 1.0)


def test_what_is_older_than_the_horizon_is_forgotten(history):
    for ms in range(1030, 2021, 10):
        history.add(ms * MS, ["a", "b"], [0.3, 0.6])
    history.at(1020 * MS)
    with pytest.raises(NotInHistory):
        history.at(1019 * MS)


@pytest.mark.parametrize(
    ("stamp", "names", "positions", "message"),
    [
        (1030 * MS, ["a", "finger"], [0.1, 0.2], "lacks b"),
        (1030 * MS, ["a", "b"], [0.1, np.nan], "b is nan"),
        (1030 * MS, ["a", "b"], [np.inf, 0.1], "a is inf"),
        (1030 * MS, ["a", "b", "b"], [0.1, 0.2, 0.3], "named twice"),
        (1030 * MS, ["a", "b"], [0.1], "2 names for 1 values"),
        (1020 * MS, ["a", "b"], [0.1, 0.2], "not newer"),
        (0, ["a", "b"], [0.1, 0.2], "stamp 0 ns"),
    ],
)
def test_a_bad_joint_state_is_refused_and_changes_nothing(
    history, stamp, names, positions, message
):
    with pytest.raises(ValueError, match=message):
        history.add(stamp, names, positions)
    assert history.newest()[0] == 1020 * MS


def test_nan_of_a_joint_that_nobody_asks_for_does_no_harm():
    assert_allclose(by_name(["a", "x"], [0.1, np.nan], ["a"]), [0.1])
