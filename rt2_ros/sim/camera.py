# SPDX-License-Identifier: Apache-2.0
"""The scene camera: in front of the table, looking back at the robot from 55 degrees above.

The central 480x480 square of its 640x480 picture frames the whole object area: picture right is the
base frame's +y, picture down is +x, and a block's top is 49 to 56 pixels wide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

LOOK_AT = (0.53, 0.0, 0.07)  # m, base frame
DISTANCE = 1.2  # m
ELEVATION = np.radians(55.0)
FOVY = 21.5  # degrees, vertical


@dataclass(frozen=True, eq=False)
class CameraPose:
    """Where a camera is: position (3,) in m, and rotation (3, 3), its columns the optical axes.

    Optical axes as in ROS: right, down, forward.
    """

    position: Array
    rotation: Array
    fovy: float  # degrees, vertical field of view

    def project(self, points: ArrayLike, width: int, height: int) -> Array:
        """Pixels (..., 2) as (u, v) of points (..., 3) in m, base frame.

        (0, 0) is the picture's top left corner, so a pixel's centre is at half integers.
        """
        seen = (np.asarray(points, dtype=np.float64) - self.position) @ self.rotation
        focal = self.focal_length(height)
        return focal * seen[..., :2] / seen[..., 2:] + np.array([width / 2, height / 2])

    def focal_length(self, height: int) -> float:
        """Focal length in pixels of a picture that is `height` pixels high; pixels are square."""
        return height / 2 / float(np.tan(np.radians(self.fovy) / 2))


def scene_camera(
    look_at: ArrayLike = LOOK_AT,
    distance: float = DISTANCE,
    elevation: float = float(ELEVATION),
    azimuth: float = 0.0,
    roll: float = 0.0,
) -> CameraPose:
    """A camera at `distance` (m) from `look_at`, turned by azimuth, elevation and roll (rad)."""
    centre = np.asarray(look_at, dtype=np.float64)
    outward = np.array(
        [
            np.cos(elevation) * np.cos(azimuth),
            np.cos(elevation) * np.sin(azimuth),
            np.sin(elevation),
        ]
    )
    forward = -outward
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    right, down = (
        np.cos(roll) * right + np.sin(roll) * down,
        np.cos(roll) * down - np.sin(roll) * right,
    )
    return CameraPose(centre + distance * outward, np.column_stack((right, down, forward)), FOVY)
