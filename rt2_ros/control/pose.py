# SPDX-License-Identifier: Apache-2.0
"""Poses and small motions of the end effector, all in the robot's base frame.

>>> pose = Pose(np.array([0.45, 0.0, 0.2]), np.diag([1.0, -1.0, -1.0]))  # hand down
>>> pose.compose_delta(np.array([0.05, 0.0, 0.0]), np.zeros(3)).position
array([0.5, 0. , 0.2])
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pinocchio as pin
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

_ROTATION_TOLERANCE = 1e-6


def vector(name: str, value: ArrayLike, size: int) -> Array:
    """Return a read-only float array (size,); ValueError naming `name` if it is not finite."""
    array = np.array(value, dtype=np.float64)
    if array.shape != (size,):
        raise ValueError(f"{name}: shape {array.shape}, expected ({size},)")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: {array.tolist()}, expected finite numbers")
    array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False)
class Pose:
    """In the base frame: `position` (3,) in m, `rotation` (3, 3), columns are the tool's axes."""

    position: Array
    rotation: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "position", vector("position", self.position, 3))
        rotation = np.array(self.rotation, dtype=np.float64)
        if rotation.shape != (3, 3):
            raise ValueError(f"rotation: shape {rotation.shape}, expected (3, 3)")
        error = np.abs(rotation @ rotation.T - np.eye(3)).max()
        if not error < _ROTATION_TOLERANCE or np.linalg.det(rotation) < 0:
            raise ValueError(f"rotation: {rotation.tolist()}, expected a rotation matrix")
        rotation.flags.writeable = False
        object.__setattr__(self, "rotation", rotation)

    @classmethod
    def from_quaternion(cls, position: ArrayLike, xyzw: ArrayLike) -> Pose:
        """Build from a position (3,) in m and a unit quaternion (4,) in ROS order x, y, z, w."""
        quaternion = vector("quaternion", xyzw, 4)
        norm = float(np.linalg.norm(quaternion))
        if abs(norm - 1.0) > 1e-3:
            raise ValueError(f"quaternion: norm {norm:.4f}, expected 1")
        return cls(np.asarray(position), pin.Quaternion(quaternion / norm).toRotationMatrix())

    def quaternion(self) -> Array:
        """Return the unit quaternion (4,) in ROS order x, y, z, w."""
        return pin.Quaternion(np.array(self.rotation)).coeffs()

    def compose_delta(self, translation: ArrayLike, rotation: ArrayLike) -> Pose:
        """Move by `translation` (3,) m and turn by the rotation vector `rotation` (3,) rad.

        Both are expressed in the base frame, the turn about the tool point: p + t, Exp(r) R.
        """
        turn = pin.exp3(vector("rotation", rotation, 3))
        return Pose(self.position + vector("translation", translation, 3), turn @ self.rotation)

    def delta_to(self, target: Pose) -> tuple[Array, Array]:
        """Return (translation (3,) m, rotation vector (3,) rad) that compose_delta to target."""
        return target.position - self.position, pin.log3(target.rotation @ self.rotation.T)
