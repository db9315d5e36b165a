# SPDX-License-Identifier: Apache-2.0
"""One way from camera picture to model picture."""

import numpy as np
import pytest

from rt2_ros.data.images import square


def test_the_centre_is_kept_and_the_sides_are_cut():
    image = np.zeros((480, 640, 3), np.uint8)
    image[:, 80:560] = 200
    np.testing.assert_array_equal(square(image, 192), np.full((192, 192, 3), 200, np.uint8))


def test_scaling_down_averages():
    image = np.zeros((4, 4, 3), np.uint8)
    image[:, ::2] = 100
    np.testing.assert_array_equal(square(image, 2), np.full((2, 2, 3), 50, np.uint8))


def test_the_right_size_is_left_alone():
    image = np.random.default_rng(0).integers(0, 256, (192, 192, 3), dtype=np.uint8)
    np.testing.assert_array_equal(square(image, 192), image)


@pytest.mark.parametrize(
    "shape, dtype", [((4, 4), np.uint8), ((4, 4, 4), np.uint8), ((4, 4, 3), float)]
)
def test_other_pictures_are_refused_by_name(shape, dtype):
    with pytest.raises(ValueError, match="image: expected uint8"):
        square(np.zeros(shape, dtype), 2)
