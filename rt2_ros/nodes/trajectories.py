# SPDX-License-Identifier: Apache-2.0
"""Reading a trajectory_msgs/JointTrajectory as joint_trajectory_controller does. No ROS.

Example: a message for (finger2, finger1) with one point, positions (0.01, 0.04) at 0.3 s and no
velocities, read for (finger1,) alone, is refused: it names a joint that this controller does not
have.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """One point of a message: time from start in s, positions (n,), velocities (n,) or empty."""

    time: float
    positions: Sequence[float]
    velocities: Sequence[float] = ()


def read(
    joints: Sequence[str], points: Sequence[Point], wanted: Sequence[str], delay: float = 0.0
) -> list[tuple[float, Array, Array]]:
    """Return (time from now in s, positions, velocities) in the order of `wanted`, checked.

    Velocities that the message leaves out are those of the line through the neighbouring points,
    and 0 at the first and the last (a joint_trajectory_controller goes straight from each to the
    next).

    Args:
        joints: as the message names them, in any order.
        points: of the message.
        wanted: the controller's joints; the message must name exactly these.
        delay: s from now to the message's stamp, below 0 if that has passed; 0 for a zero stamp.

    Raises:
        ValueError: what is wrong, in one line.
    """
    if sorted(joints) != sorted(wanted):
        raise ValueError(f"joints are {', '.join(joints) or 'none'}; expected {', '.join(wanted)}")
    if not points:
        raise ValueError("no points")
    order = [list(joints).index(name) for name in wanted]
    times = np.array([point.time for point in points], np.float64)
    if times[0] < 0 or (np.diff(times) <= 0).any():
        raise ValueError(f"times are {times.tolist()} s; expected increasing ones")
    if times[-1] + delay <= 0:
        raise ValueError(f"it ended {-delay - times[-1]:.3f} s ago")
    positions = _rows("positions", [point.positions for point in points], order)
    given = [len(point.velocities) > 0 for point in points]
    if all(given):
        velocities = _rows("velocities", [point.velocities for point in points], order)
    elif any(given):
        raise ValueError("some points have velocities and others none")
    else:
        velocities = np.zeros_like(positions)
        spans = (times[2:] - times[:-2])[:, None]
        velocities[1:-1] = (positions[2:] - positions[:-2]) / spans
    if np.any(velocities[-1] != 0):
        raise ValueError(f"velocity at the end is {velocities[-1].tolist()}; expected 0")
    return [
        (float(time), position, velocity)
        for time, position, velocity in zip(times + delay, positions, velocities, strict=True)
        if time > 0
    ]


def _rows(what: str, rows: Sequence[Sequence[float]], order: list[int]) -> Array:
    if any(len(row) != len(order) for row in rows):
        raise ValueError(f"{what}: expected {len(order)} in each point")
    array = np.array(rows, np.float64)[:, order]
    if not np.isfinite(array).all():
        raise ValueError(f"{what}: expected finite numbers")
    return array
