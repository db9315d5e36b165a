# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from rt2_ros.control.pose import Pose
from rt2_ros.control.watch import ClockWatch, ProgressWatch

S = 1_000_000_000


def at(x, yaw=0.0):
    return Pose(np.array([x, 0.0, 0.2]), np.eye(3)).compose_delta([0, 0, 0], [0, 0, yaw])


def looks(*steps):
    """Return what a watch says to each of (clock of stamps in s, steady clock in s)."""
    watch = ClockWatch()
    return [watch.look(round(now * S), steady) for now, steady in steps]


def test_clocks_that_go_together_are_fine():
    assert looks((10, 1), (10.01, 1.01), (10.5, 1.5), (70.5, 61.5)) == [""] * 4


def test_a_simulated_clock_may_be_slow_or_fast():
    assert looks(*((10 + 0.3 * t, t) for t in np.arange(1, 4, 0.01))) == [""] * 300
    assert looks(*((10 + 2.0 * t, t) for t in np.arange(1, 4, 0.01))) == [""] * 300


def test_an_adjusted_clock_is_no_jump():
    assert looks((10, 1), (9.96, 1.01), (10.4, 1.02)) == [""] * 3


@pytest.mark.parametrize(
    ("to", "said"),
    [
        (9.0, "the clock went back by 1.0 s"),
        (9.94, "the clock went back by 0.1 s"),
        (10.6, "the clock went forward by 0.6 s"),
        (4000.0, "the clock went forward by 3990.0 s"),
    ],
)
def test_a_jump_is_told_once(to, said):
    assert looks((10, 1), (to, 1.01), (to + 0.01, 1.02)) == ["", said, ""]


def test_a_clock_that_stands_still_is_told_after_a_second():
    said = looks(*((10.0, t) for t in np.arange(0, 1.2, 0.01)))
    assert said[:100] == [""] * 100
    assert said[-1] == "the clock stands still for more than 1 s"


def test_who_did_not_look_for_long_does_not_know_whether_it_stood_still():
    assert looks((10, 1), (10, 6), (15, 6.01)) == [""] * 3
    assert looks((10, 1), (15, 6), (15.01, 6.01)) == [""] * 3


def test_a_clock_that_is_heard_of_late_has_not_jumped():
    assert looks((10, 1), (10, 1.8), (10.8, 1.81), (10.82, 1.82)) == [""] * 4
    assert looks((10, 1), (10, 1.1), (10.9, 1.11))[2] == "the clock went forward by 0.8 s"


def test_without_simulated_time_nothing_is_wrong_yet():
    assert looks((0, 1), (0, 3), (0, 9), (1.0, 9.1)) == [""] * 4


def progress(places, patience=1.0):
    """Return what a watch says to (time, pose)."""
    watch = ProgressWatch(patience)
    watch.begin(0.0)
    return [watch.look(time, pose) for time, pose in places]


def test_going_somewhere_is_progress():
    assert all(progress((t, at(0.03 * t)) for t in range(10)))
    assert all(progress((t, at(0.0, yaw=0.2 * t)) for t in range(10)))


def test_trembling_is_none():
    said = progress((t, at(0.3 + 0.008 * (-1) ** round(10 * t))) for t in np.arange(0, 2, 0.1))
    assert said == [True] * 11 + [False] * 9


def test_going_to_and_fro_is_none_however_far():
    said = progress((t, at(0.3 + 0.1 * (round(10 * t) % 2))) for t in np.arange(0, 2, 0.1))
    assert said == [True] * 12 + [False] * 8


def test_a_new_beginning_forgets_where_it_has_been():
    watch = ProgressWatch(1.0)
    assert watch.look(50.0, at(0.3))  # it does not watch yet
    watch.begin(50.0)
    assert watch.look(50.0, at(0.3))
    assert not watch.look(51.1, at(0.3))
    watch.begin(51.1)
    assert watch.look(52.0, at(0.3))
    watch.end()
    assert not watch.running
    assert watch.look(99.0, at(0.3))
