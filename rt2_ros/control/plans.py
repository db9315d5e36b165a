# SPDX-License-Identifier: Apache-2.0
"""Judging a trajectory that somebody else has planned, MoveIt say, before it is executed.

>>> plan_problem(chunk, limits, path, joint_names, measured)
'panda_joint2 at 2.10 rad/s, at most 1.70'
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rt2_ros.control.path import PathCheck
from rt2_ros.control.pose import Array
from rt2_ros.control.trajectory import Chunk, JointLimits, NoTrajectory

START_TOLERANCE = 0.05  # rad between where the plan begins and where the arm is
_SLACK = 1e-3  # of positions (rad), and share of speeds and accelerations: another's rounding
_PERIOD = 0.02  # s between samples


def plan_problem(
    chunk: Chunk,
    limits: JointLimits,
    path: PathCheck,
    joints: Sequence[str],
    measured: Array,
    share: float = 1.0,
) -> str:
    """Say in words why a plan must not be executed; empty if it may.

    It is held against the same limits as our own trajectories: joint positions, speeds and
    accelerations, and all that `path` checks of tip and links. measured (n,): where the arm is,
    rad. share: of every speed and acceleration that may be used.
    """
    away = np.abs(chunk.positions[0] - measured)
    if away.max() > START_TOLERANCE:
        worst = int(away.argmax())
        return f"it begins {away[worst]:.2f} rad off where {joints[worst]} is"
    _, q, velocity, acceleration = chunk.samples(int(np.ceil(chunk.duration / _PERIOD)) + 2)
    over = np.maximum(limits.lower - q, q - limits.upper).max(axis=0)
    over = over - np.maximum(0.0, np.maximum(limits.lower - q[0], q[0] - limits.upper))
    if over.max() > _SLACK:
        worst = int(over.argmax())
        return f"{joints[worst]} goes {over[worst]:.3f} rad beyond its limit"
    for values, most, unit in (
        (velocity, share * limits.velocity, "rad/s"),
        (acceleration, share * limits.acceleration, "rad/s\u00b2"),
    ):
        peak = np.abs(values).max(axis=0)
        if (peak > most * (1 + _SLACK)).any():
            worst = int((peak / most).argmax())
            return f"{joints[worst]} at {peak[worst]:.2f} {unit}, at most {most[worst]:.2f}"
    try:
        excess = path.excess(chunk) / share
    except NoTrajectory as error:
        return str(error)
    return f"the tip is {excess:.1f} times too fast" if excess > 1 else ""
