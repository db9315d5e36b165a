# SPDX-License-Identifier: Apache-2.0
"""Which pictures are put together, and which are refused."""

import pytest

from rt2_ros.nodes.frames import FrameSets, Limits

MS = 1_000_000
START = 10_000 * MS
LIMITS = Limits(max_age_ns=500 * MS, tolerance_ns=50 * MS)


def sets(*cameras):
    return FrameSets(cameras, LIMITS)


def add(frames, camera, ms, now_ms=None):
    """Add a frame named by its time; return the set as {camera: ms}."""
    stamp = START + ms * MS
    now = START + (ms if now_ms is None else now_ms) * MS
    given = frames.add(camera, stamp, now, f"{camera}{ms}")
    if given is None:
        return None
    assert all(frame == f"{c}{(s - START) // MS}" for c, (s, frame) in given.items())
    return {c: (s - START) // MS for c, (s, _) in given.items()}


def test_one_camera_gives_every_frame_once():
    frames = sets("scene")
    assert add(frames, "scene", 0) == {"scene": 0}
    assert add(frames, "scene", 100) == {"scene": 100}
    assert frames.accounts["scene"].received == 2 and not frames.accounts["scene"].refused


def test_two_cameras_wait_for_frames_in_step():
    frames = sets("scene", "wrist")
    assert add(frames, "scene", 0) is None
    assert add(frames, "wrist", 30) == {"scene": 0, "wrist": 30}
    assert add(frames, "scene", 100) is None
    assert add(frames, "scene", 200) is None
    assert add(frames, "wrist", 130, now_ms=210) == {"scene": 100, "wrist": 130}


def test_frames_too_far_apart_never_go_together_and_it_says_so():
    frames = sets("scene", "wrist")
    for ms in range(0, 1000, 200):
        assert add(frames, "scene", ms) is None
        assert add(frames, "wrist", ms + 60) is None
        assert (
            "'scene' and 'wrist' are 60 ms apart, at most 50 ms belong together" in frames.problem
        )
    assert add(frames, "scene", 1070) is None
    assert add(frames, "wrist", 1080) == {"scene": 1070, "wrist": 1080}
    assert frames.problem == "" and frames.given == 1


def test_a_fast_camera_waits_for_one_whose_pictures_come_late():
    frames = sets("scene", "wrist")
    given = []
    for ms in range(0, 2000, 16):  # 60 Hz, and 5 Hz that take 200 ms
        assert add(frames, "scene", ms) is None
        if ms >= 200 and ms % 208 == 0:
            given.append(add(frames, "wrist", ms - 200, now_ms=ms))
    assert len(given) == 9 and all(abs(g["scene"] - g["wrist"]) <= 8 for g in given)


def test_pictures_in_step_that_are_too_old_are_told():
    frames = sets("scene", "wrist")
    assert add(frames, "scene", 0) is None
    assert add(frames, "scene", 400) is None
    assert add(frames, "wrist", 30, now_ms=520) is None
    assert "of 'scene' and the others, are 520 ms old, at most 500 ms" in frames.problem


def test_the_newest_frames_in_step_are_taken():
    frames = sets("scene", "wrist")
    for ms in (0, 40, 80):
        assert add(frames, "scene", ms) is None
    assert add(frames, "wrist", 85) == {"scene": 80, "wrist": 85}


@pytest.mark.parametrize(
    ("ms", "now_ms", "kind", "reason"),
    [
        (0, 501, "late", "501 ms old, at most 500 ms"),
        (200, 0, "future", "200 ms ahead; check clocks and use_sim_time"),
        (-10_000, 0, "unstamped", "header.stamp is zero"),
        (-11_000, 0, "unstamped", "or negative"),
    ],
)
def test_bad_stamps_are_refused_and_counted(ms, now_ms, kind, reason):
    frames = sets("scene")
    assert add(frames, "scene", ms, now_ms) is None
    assert frames.accounts["scene"].refused == {kind: 1}
    assert reason in frames.accounts["scene"].last_reason


def test_a_frame_older_than_the_one_before_is_refused():
    frames = sets("scene", "wrist")
    add(frames, "scene", 100)
    assert add(frames, "scene", 90, now_ms=100) is None
    assert frames.accounts["scene"].refused == {"out of order": 1}


def test_a_set_is_never_older_than_the_one_before():
    frames = sets("scene")
    assert add(frames, "scene", 100) == {"scene": 100}
    assert add(frames, "scene", 90, now_ms=100) is None
    assert add(frames, "scene", 100) is None
    assert frames.accounts["scene"].refused == {"out of order": 2}


def test_frames_count_again_when_the_clock_was_set_back():
    frames = sets("scene", "wrist")
    add(frames, "scene", 5000)
    add(frames, "wrist", 4000)
    assert add(frames, "scene", 0) is None
    assert add(frames, "wrist", 0) == {"scene": 0, "wrist": 0}


def test_cameras_must_be_named_once_each():
    with pytest.raises(ValueError, match="cameras: expected one or more different names"):
        sets("scene", "scene")
    with pytest.raises(ValueError, match="cameras"):
        sets()


def test_limits_must_be_positive():
    with pytest.raises(ValueError, match="tolerance_ns: expected a positive time in ns, got 0"):
        Limits(max_age_ns=1, tolerance_ns=0)
