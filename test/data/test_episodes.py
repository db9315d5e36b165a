# SPDX-License-Identifier: Apache-2.0
"""Windows: consecutive states of real physics, labelled as single pictures are."""

import itertools

import numpy as np
import pytest

from rt2_ros.control.pose import Pose
from rt2_ros.data import split
from rt2_ros.data.episodes import Batch, EpisodeSource, Window, Windows
from rt2_ros.data.pictographs import by_name
from rt2_ros.data.robot import Demonstration, RobotSource
from rt2_ros.data.samples import NOTHING, Thing
from rt2_ros.sim.expert import expert
from rt2_ros.sim.tabletop import HAND_DOWN, ObjectState, TabletopState
from rt2_ros.sim.tasks import Task

PICKS = RobotSource(tasks=("pick",))
BANANA, KEY = Task("pick", "banana"), Task("pick", "key")


def test_windows_are_drawn_from_training_seeds(monkeypatch):
    drawn = []

    def draw(source, random, length):
        drawn.append(random.bit_generator.seed_seq.entropy[0])
        return Window((frame(["banana", "key"]),), BANANA)

    monkeypatch.setattr(EpisodeSource, "draw", draw)
    next(iter(Windows(EpisodeSource(), 2, length=1, batch_size=2, readings=1, seed=7)))
    assert drawn and all(seed in split.TRAIN_SEEDS for seed in drawn)


def test_it_is_asked_as_the_default_model_is_with_words_around_and_things_not_meant():
    window, random = Window((frame(["banana", "key"]),), BANANA), np.random.default_rng(0)
    told = [window.read(random, PICKS, grid=2, task=KEY).text for _ in range(300)]
    known = {p.format(object=n) for of in (split.ROBOT_PHRASES, split.OTHER_PHRASES) for n in
             split.names(by_name("key")) for p in of["pick"]}  # fmt: skip
    english = [text for text in told if text.isascii()]
    assert 0.15 < sum(text not in known for text in english) / len(english) < 0.5
    assert any("banana" in text for text in english)


@pytest.fixture(scope="module")
def source():
    return EpisodeSource(size=48)


def square(left, top):
    return np.array([[left, top], [left + 4, top], [left + 4, top + 4], [left, top + 4]], "f4")


def frame(names):
    """8x8 pixels: things in their own quarter each, the key far ahead, the banana far back."""
    places = {"banana": (0, 0, 0.3), "key": (4, 4, 0.7)}
    things = tuple(Thing(n, 32 + 32 * places[n][0], 7, square(*places[n][:2])) for n in names)
    upright = np.array([0.0, 0, 0, 1])
    objects = tuple(
        ObjectState(n, "block", np.array([places[n][2], 0.0, 0.025]), upright, False)
        for n in places
    )
    hand = Pose(np.array([0.5, 0.0, 0.13]), HAND_DOWN)
    truth = TabletopState(0.0, 0, objects, hand, 0.08, np.zeros(9))
    uv = {thing.name: (thing.u, thing.v) for thing in things}
    image = np.full((8, 8, 3), 100, np.uint8)
    return Demonstration(image, truth.vector, things, truth, uv)


def test_a_window_is_read_for_one_task_and_told_where_its_object_is():
    window = Window((frame(["banana", "key"]), frame(["banana"])), BANANA)
    sample = window.read(np.random.default_rng(0), PICKS, grid=2, task=KEY)
    banana, key = (split.ROBOT_NAMES.index(name) for name in ("banana", "key"))
    none = len(split.ROBOT_NAMES)
    assert sample.images.shape == (2, 8, 8, 3)
    assert sample.shown.tolist() == [[banana, none, none, key], [banana, none, none, none]]
    assert sample.named.tolist() == [[False, False, False, True], 4 * [False]]
    assert sample.centres[0].tolist() == [[32, 7], 2 * [NOTHING], 2 * [NOTHING], [160, 7]]
    # The second picture does not show the key, but the first did.
    assert sample.bins[:, [0, 1, 7]].tolist() == 2 * [[0, 255, 0]]
    np.testing.assert_allclose(sample.states[:, 2], [0.13, 0.13])
    assert "key" in sample.text or "钥匙" in sample.text


def test_a_window_is_read_for_what_was_done_and_for_other_tasks():
    window = Window(2 * (frame(["banana", "key"]),), BANANA)
    random = np.random.default_rng(0)
    asked = [window.read(random, PICKS, grid=2).bins[0, 1] for _ in range(200)]
    assert set(asked) == {0, 255}
    assert asked.count(0) / 200 == pytest.approx(0.75, abs=0.1)  # done, or drawn of two


def test_shorter_windows_are_filled_up_without_labels():
    random = np.random.default_rng(0)
    short = Window((frame(["banana"]),), BANANA).read(random, PICKS, grid=2)
    long = Window(2 * (frame(["banana"]),), BANANA).read(random, PICKS, grid=2)
    batch = Batch.of([short, long])
    assert batch.images.shape == (2, 2, 8, 8, 3) and batch.states.shape == (2, 2, 4)
    assert (batch.bins[0, 1] == NOTHING).all() and (batch.shown[0, 1] == NOTHING).all()
    assert not batch.named[0, 1].any() and (batch.bins[1] != NOTHING).all()
    assert (batch.images[0, 1] == batch.images[0, 0]).all()


def test_the_expert_acts_in_real_physics_between_the_pictures(source):
    from rt2_ros.sim.expert import MAX_STEP

    seen, kinds = 0, set()
    for seed in range(6):
        window = source.draw(np.random.default_rng(seed), length=3)
        kinds.add(window.acted.kind)
        assert 1 <= len(window.frames) <= 3
        for before, after in itertools.pairwise(window.frames):
            moved = after.state[:3] - before.state[:3]
            assert np.abs(moved).max() <= MAX_STEP + 0.02
            asked = expert(before.truth, window.acted).translation
            if np.linalg.norm(moved) > 0.03:  # the first action may only move the fingers
                assert moved @ asked > 0
                assert not np.array_equal(before.image, after.image)
                seen += 1
    assert seen > 0 and len(kinds) > 1


def test_what_is_in_the_hand_stays_there_unless_it_is_to_be_let_go_of(source):
    kept = []
    for seed in range(120):
        window = source.draw(np.random.default_rng(seed), 2)
        first, *later = window.frames
        closed = expert(first.truth, window.acted).gripper > 0.5
        if first.truth.held and closed and later:
            kept.append(later[0].truth.held == first.truth.held)
    assert len(kept) > 10 and sum(kept) > 0.9 * len(kept)


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
            return Window(length * (frame(["banana", "key"]),), BANANA)

    source = Counting(tasks=("pick",))
    windows = Windows(source, 2, length=2, batch_size=10, readings=4, seed=0)
    batches = list(itertools.islice(windows, 40))
    assert all(batch.images.shape == (10, 2, 8, 8, 3) for batch in batches)
    assert source.drawn == pytest.approx(100, abs=30)
    # Never the same colours twice in a row: each reading varies them.
    assert len({int(batch.images[0, 0, 0, 0].sum()) for batch in batches}) > 10
