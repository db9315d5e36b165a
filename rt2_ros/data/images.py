# SPDX-License-Identifier: Apache-2.0
"""The one way a camera picture becomes a model picture.

A 640x480 frame loses 80 columns on each side and is scaled to 192x192; training frames and live
frames both pass through here, so that the model never sees the difference.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def square(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Cut the central square out of an RGB picture and scale it.

    Args:
        image: uint8, shape (height, width, 3).
        size: side of the result in pixels.

    Returns:
        uint8, shape (size, size, 3), C-contiguous.

    Raises:
        ValueError: the picture is not uint8 (height, width, 3), or the size is not positive.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f"image: expected uint8 of shape (height, width, 3), got {image.dtype} {image.shape}"
        )
    if size < 1:
        raise ValueError(f"size: expected a positive number of pixels, got {size}")
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    cut = image[top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(cut)
    method = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return np.ascontiguousarray(cv2.resize(cut, (size, size), interpolation=method))
