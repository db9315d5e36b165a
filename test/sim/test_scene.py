# SPDX-License-Identifier: Apache-2.0
import itertools

import numpy as np
import pytest

from rt2_ros.sim.scene import (
    AREA_HIGH,
    AREA_LOW,
    MIN_DISTANCE,
    Appearance,
    draw_face,
    random_layout,
    random_start,
    rest_height,
)


@pytest.mark.parametrize("seed", range(20))
def test_objects_lie_in_the_area_and_apart(seed):
    names = [str(i) for i in range(6)]
    layout = random_layout(np.random.default_rng(seed), names)
    assert [p.name for p in layout] == names
    centres = np.array([p.position for p in layout])
    assert (centres[:, :2] >= AREA_LOW).all() and (centres[:, :2] <= AREA_HIGH).all()
    assert (centres[:, 2] == 0.025).all()
    for a, b in itertools.combinations(centres, 2):
        assert np.linalg.norm(a - b) >= MIN_DISTANCE
    assert max(abs(p.yaw) for p in layout) <= 0.3


def test_cards_lie_flat():
    layout = random_layout(np.random.default_rng(0), ["a", "b"], ["card", "block"])
    assert [p.kind for p in layout] == ["card", "block"]
    assert layout[0].position[2] == rest_height("card") == 0.004


@pytest.mark.parametrize("several", [1, 3])
def test_the_first_lies_apart_from_as_many_as_asked(several):
    near = []
    for seed in range(30):
        layout = random_layout(np.random.default_rng(seed), list("abcdef"), None, 0.16, several)
        first, *others = (p.position[:2] for p in layout)
        distances = [np.linalg.norm(other - first) for other in others]
        assert min(distances[:several]) >= 0.16
        near.append(min(distances[several:]) < 0.16)
    assert any(near)


def test_the_hand_starts_above_the_blocks():
    starts = np.array([random_start(np.random.default_rng(i)) for i in range(200)])
    assert starts.min(axis=0) == pytest.approx([0.37, -0.15, 0.14], abs=0.01)
    assert starts.max(axis=0) == pytest.approx([0.53, 0.15, 0.26], abs=0.01)


def test_a_face_has_a_margin_and_blends():
    picture = np.zeros((90, 90, 4), np.uint8)
    picture[..., 0], picture[..., 3] = 255, 128
    face = draw_face(picture, [0, 0, 1], 100)
    assert face[0, 0].tolist() == [0, 0, 255]
    assert face[50, 50].tolist() == [128, 0, 127]
    assert face[5, 5].tolist() == [128, 0, 127]
    assert face[4, 50].tolist() == [0, 0, 255]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rest_height("ball"), "kind: 'ball', expected one of block, card"),
        (lambda: Appearance(table=np.array([2.0, 0, 0])), "table: .* expected shape"),
        (lambda: Appearance(blocks=np.zeros((2, 3))), "blocks: .* expected shape"),
        (lambda: Appearance.random(np.random.default_rng(0), 2.0), "strength: 2.0, expected 0..1"),
        (lambda: random_layout(np.random.default_rng(0), list("abcdefghi")), "objects: 9"),
        (lambda: random_layout(np.random.default_rng(0), ["a"], []), "kinds: 0, expected 1"),
        (lambda: draw_face(np.zeros((4, 4, 3), np.uint8), [1, 1, 1], 8), "picture: uint8"),
    ],
)
def test_bad_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
