# SPDX-License-Identifier: Apache-2.0
"""Pictures, taken with whatever OpenGL this machine has; without any, the error names it."""

import numpy as np
import pytest

from rt2_ros.sim.camera import scene_camera
from rt2_ros.sim.scene import AREA_HIGH, AREA_LOW, Appearance, Placement

RED, GREEN, BLUE, YELLOW = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)
BRIGHT = Appearance(ambient=1.0, lamp=0.0)


def colour_at(picture, pixel):
    u, v = pixel
    return picture[int(v), int(u)].tolist()


def look_bright(tabletop, objects, tip=(0.33, 0, 0.45)):
    """Pose without shading; the hand is out of the scene camera's sight by default."""
    tabletop.pose(tip, 0.08, objects, appearance=BRIGHT)


@pytest.mark.parametrize("camera", ["scene", "wrist"])
def test_faces_are_upright_and_not_mirrored(tabletop, camera):
    x, y = 0.56, 0.02
    look_bright(tabletop, [("thing 1", (x, y, 0.025), 0.0)], tip=(0.45, 0, 0.3))
    picture = tabletop.render(camera)
    corners = np.array(
        [(x + dx, y + dy, 0.051) for dx in (-0.012, 0.012) for dy in (-0.012, 0.012)]
    )
    pixels = tabletop.project(corners, camera)
    assert pixels[0, 0] < pixels[1, 0]  # +y is to the right
    assert pixels[0, 1] < pixels[2, 1]  # +x is downwards
    seen = [colour_at(picture, pixel) for pixel in pixels]
    for colour, expected in zip(seen, (RED, GREEN, BLUE, YELLOW), strict=True):
        np.testing.assert_allclose(np.array(colour) > 100, np.array(expected) > 100)


@pytest.mark.parametrize("x", [AREA_LOW[0], AREA_HIGH[0]])
@pytest.mark.parametrize("y", [AREA_LOW[1], AREA_HIGH[1]])
def test_projection_finds_the_face_in_the_picture(tabletop, x, y):
    look_bright(tabletop, [("thing 1", (x, y, 0.025), 0.2)])
    picture = tabletop.render("scene").astype(int)
    saturated = picture.max(axis=2) - picture.min(axis=2) > 150
    rows, columns = np.nonzero(saturated)
    blob = np.array([columns.mean() + 0.5, rows.mean() + 0.5])
    expected = tabletop.project([x, y, 0.051], "scene")
    np.testing.assert_allclose(blob, expected, atol=1.0)


def test_the_central_square_frames_the_area_tightly():
    camera = scene_camera()
    for x in (AREA_LOW[0], AREA_HIGH[0]):
        across = camera.project([[x, -0.025, 0.05], [x, 0.025, 0.05]], 480, 480)
        assert across[1, 0] - across[0, 0] >= 48
    corners = [
        (x, y, z)
        for x in (AREA_LOW[0] - 0.03, AREA_HIGH[0] + 0.03)
        for y in (AREA_LOW[1] - 0.03, AREA_HIGH[1] + 0.03)
        for z in (0.0, 0.05)
    ]
    pixels = camera.project(corners, 480, 480)
    assert pixels.min() >= 0 and pixels.max() <= 480
    hand = camera.project([[x, 0.0, 0.25] for x in (AREA_LOW[0], AREA_HIGH[0])], 480, 480)
    assert hand.min() >= 0


def test_a_square_picture_is_the_middle_of_the_wide_one(tabletop):
    tabletop.reset(5)
    wide, square = tabletop.render("scene", 640, 480), tabletop.render("scene", 480, 480)
    assert wide.shape == (480, 640, 3) and wide.dtype == np.uint8
    difference = np.abs(wide[:, 80:560].astype(int) - square)
    assert (difference > 8).mean() < 0.001


def test_a_new_face_shows_without_a_new_model(tabletop):
    pictures = {"a": RED, "b": BLUE}
    tabletop = type(tabletop)(
        pictures=lambda name: np.full((64, 64, 4), (*pictures[name], 255), np.uint8)
    )
    compiled = tabletop.world.model
    for name, expected in pictures.items():
        look_bright(tabletop, [Placement(name, (0.55, 0, 0.025))])
        colour = colour_at(tabletop.render(), tabletop.project([0.55, 0, 0.051]))
        np.testing.assert_allclose(np.array(colour) > 100, np.array(expected) > 100)
    assert tabletop.world.model is compiled
    tabletop.close()


def test_unused_objects_are_out_of_sight(tabletop):
    look_bright(tabletop, [])
    empty = tabletop.render("scene").astype(int)
    assert (empty.max(axis=2) - empty.min(axis=2)).max() < 60  # no strong colour but the table's


def test_jitter_moves_camera_light_and_table(tabletop):
    tabletop.reset(1, jitter=0.0)
    plain, still = tabletop.render(), tabletop.world.camera_pose("scene")
    tabletop.reset(1, jitter=1.0)
    moved = tabletop.world.camera_pose("scene")
    assert not np.allclose(plain[470, 10], tabletop.render()[470, 10], atol=4)
    assert 0 < np.linalg.norm(moved.position - still.position) < 0.08
    np.testing.assert_allclose(moved.rotation.T @ moved.rotation, np.eye(3), atol=1e-6)


def test_a_picture_larger_than_the_buffer_is_refused(tabletop):
    with pytest.raises(ValueError, match="picture size: 1280x960, expected at most 640x480"):
        tabletop.render("scene", 1280, 960)
