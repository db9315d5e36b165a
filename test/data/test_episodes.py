# SPDX-License-Identifier: Apache-2.0
"""Windows: consecutive states of real physics, labelled as single pictures are."""

import itertools

import numpy as np
import pytest

from rt2_ros.actions import Action
from rt2_ros.data import split
from rt2_ros.data.episodes import Batch, EpisodeSource, Window, Windows
from rt2_ros.data.robot import SPACE, Demonstration
from rt2_ros.data.samples import NOTHING, Thing


@pytest.fixture(scope="module")
def source():
    return EpisodeSource(size=48)


def square(left, top):
    return np.array([[left, top], [left + 4, top], [left + 4, top + 4], [left, top + 4]], "f4")


def frame(names, closedness=0.0):
    """8x8 pixels: things in their own quarter each; each asks for another dx."""
    places = {"banana": (0, 0), "key": (4, 4)}
    things = tuple(Thing(n, 32 + 32 * places[n][0], 7, square(*places[n])) for n in names)
    actions = tuple(
        Action(False, [0.1 if n == "key" else -0.1, 0, 0], np.zeros(3), 1.0) for n in names
    )
    state = np.array([0.5, 0.0, 0.2, closedness])
    return Demonstration(np.full((8, 8, 3), 100, np.uint8), state, things, actions)


def test_a_window_is_read_for_one_thing_and_told_where_it_is():
    window = Window((frame(["banana", "key"]), frame(["banana"], 0.4)), "banana")
    sample = window.read(np.random.default_rng(0), SPACE, grid=2, name="key")
    banana, key, none = (split.ROBOT_NAMES.index("banana"), split.ROBOT_NAMES.index("key"), 48)
    assert sample.images.shape == (2, 8, 8, 3)
    assert sample.shown.tolist() == [[banana, none, none, key], [banana, none, none, none]]
    assert sample.named.tolist() == [[False, False, False, True], 4 * [False]]
    assert sample.centres[0].tolist() == [[32, 7], 2 * [NOTHING], 2 * [NOTHING], [160, 7]]
    # The second picture does not show the key, so nothing says what to do there.
    assert sample.bins.tolist() == [[0, 255, 127, 127, 127, 127, 127, 255], 8 * [NOTHING]]
    np.testing.assert_allclose(sample.states[:, 3], [0.0, 0.4])
    assert "key" in sample.text or "钥匙" in sample.text


def test_a_window_is_read_for_what_was_done_and_for_other_things():
    window = Window(2 * (frame(["banana", "key"]),), "banana")
    random = np.random.default_rng(0)
    asked = [window.read(random, SPACE, grid=2).bins[0, 1] for _ in range(200)]
    assert set(asked) == {0, 255}
    assert asked.count(0) / 200 == pytest.approx(0.75, abs=0.1)  # done, or drawn of two


def test_shorter_windows_are_filled_up_without_labels():
    random = np.random.default_rng(0)
    short = Window((frame(["banana"]),), "banana").read(random, SPACE, grid=2)
    long = Window(2 * (frame(["banana"]),), "banana").read(random, SPACE, grid=2)
    batch = Batch.of([short, long])
    assert batch.images.shape == (2, 2, 8, 8, 3) and batch.states.shape == (2, 2, 4)
    assert (batch.bins[0, 1] == NOTHING).all() and (batch.shown[0, 1] == NOTHING).all()
    assert not batch.named[0, 1].any() and (batch.bins[1] != NOTHING).all()
    assert (batch.images[0, 1] == batch.images[0, 0]).all()


def test_the_expert_acts_in_real_physics_between_the_pictures(source):
    from rt2_ros.sim.expert import MAX_STEP

    seen = 0
    for seed in range(3):
        window = source.draw(np.random.default_rng(seed), length=3)
        assert 1 <= len(window.frames) <= 3
        for before, after in itertools.pairwise(window.frames):
            names = [thing.name for thing in before.things]
            moved = after.state[:3] - before.state[:3]
            assert np.abs(moved).max() <= MAX_STEP + 0.02
            assert not np.array_equal(before.image, after.image)
            if window.acted in names:
                asked = before.actions[names.index(window.acted)].translation
                if np.linalg.norm(moved) > 0.03:  # the first action may only close the fingers
                    assert moved @ asked > 0
                    seen += 1
    assert seen > 0


def test_the_same_seed_draws_the_same_window(source):
    one, other = (source.draw(np.random.default_rng(5), length=2) for _ in range(2))
    assert one.acted == other.acted
    for a, b in zip(one.frames, other.frames, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_allclose(a.state, b.state, atol=1e-6)  # the solver starts warm


def test_windows_are_drawn_once_and_read_several_times():
    class Counting(EpisodeSource):
        drawn = 0

        def draw(self, random, length=6):
            self.drawn += 1
            return Window(length * (frame(["banana", "key"]),), "banana")

    source = Counting()
    windows = Windows(source, SPACE, 2, length=2, batch_size=10, readings=4, seed=0)
    batches = list(itertools.islice(windows, 40))
    assert all(batch.images.shape == (10, 2, 8, 8, 3) for batch in batches)
    assert source.drawn == pytest.approx(100, abs=30)
    # Never the same colours twice in a row: each reading varies them.
    assert len({int(batch.images[0, 0, 0, 0].sum()) for batch in batches}) > 10
