# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from numpy.testing import assert_allclose

from rt2_ros.control.pose import Pose

HAND_DOWN = np.diag([1.0, -1.0, -1.0])


def test_delta_is_in_the_base_frame_and_turns_about_the_tip():
    pose = Pose([0.5, 0.0, 0.2], HAND_DOWN)
    moved = pose.compose_delta([0.0, 0.0, -0.1], [0.0, 0.0, np.pi / 2])
    assert_allclose(moved.position, [0.5, 0.0, 0.1])
    assert_allclose(moved.rotation, [[0, 1, 0], [1, 0, 0], [0, 0, -1]], atol=1e-12)


def test_delta_to_is_the_inverse_of_compose_delta():
    pose = Pose([0.5, 0.0, 0.2], HAND_DOWN)
    translation, rotation = pose.delta_to(pose.compose_delta([0.1, 0.2, 0.3], [0.4, -0.5, 0.6]))
    assert_allclose(translation, [0.1, 0.2, 0.3])
    assert_allclose(rotation, [0.4, -0.5, 0.6])


def test_quaternion_is_in_ros_order():
    assert_allclose(np.abs(Pose([0, 0, 0], HAND_DOWN).quaternion()), [1, 0, 0, 0], atol=1e-12)
    half = np.sqrt(0.5)
    turned = Pose.from_quaternion([0, 0, 0], [0, 0, half, half])
    assert_allclose(turned.rotation, [[0, -1, 0], [1, 0, 0], [0, 0, 1]], atol=1e-12)
    assert_allclose(turned.quaternion(), [0, 0, half, half])


@pytest.mark.parametrize(
    ("position", "rotation", "message"),
    [
        ([0, 0], HAND_DOWN, r"position: shape \(2,\), expected \(3,\)"),
        ([0, 0, np.nan], HAND_DOWN, "position: .*nan.*, expected finite"),
        ([0, 0, 0], np.diag([1.0, 1.0, -1.0]), "expected a rotation matrix"),
        ([0, 0, 0], 2 * HAND_DOWN, "expected a rotation matrix"),
        ([0, 0, 0], np.full((3, 3), np.nan), "expected a rotation matrix"),
    ],
)
def test_refuses_what_is_no_pose(position, rotation, message):
    with pytest.raises(ValueError, match=message):
        Pose(position, rotation)


def test_refuses_a_quaternion_that_is_not_a_unit():
    with pytest.raises(ValueError, match="quaternion: norm 0.0000, expected 1"):
        Pose.from_quaternion([0, 0, 0], [0, 0, 0, 0])


def test_is_read_only():
    pose = Pose([0, 0, 0], HAND_DOWN)
    with pytest.raises(ValueError, match="read-only"):
        pose.position[0] = 1.0
