# SPDX-License-Identifier: Apache-2.0
"""Who judges the trajectories that come out of the controller, with a robot profile and geometry
alone.

>>> judge = ChunkJudge(profile, urdf, np.random.default_rng(0))
>>> judge.look(chunk, q, velocity, "state 0/7")
>>> judge.report.violations
[]
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from rt2_ros.control.collision import Collisions
from rt2_ros.control.path import PATH_TOLERANCE
from rt2_ros.control.pose import Array
from rt2_ros.control.profile import RobotProfile
from rt2_ros.control.trajectory import Chunk

_SAMPLES = 10  # of each trajectory, at random, and both its ends
_ROUNDING = 2e-4  # rad, of braking times
_BRAKING = 1.3  # times the tip's acceleration: joints come first while braking
_BETWEEN, _TURNING = 5e-4, 2e-3  # m, between the filter's samples, and before it turns back


@dataclass
class Report:
    """What was tried, and what went wrong.

    cases: deltas judged. accepted: those that the filter let pass. trajectories: judged.
    violations: each in words, with what it takes to see it again. rest: the longest braking in s.
    """

    cases: int = 0
    accepted: int = 0
    trajectories: int = 0
    violations: list[str] = field(default_factory=list)
    rest: float = 0.0

    def add(self, other: Report) -> None:
        """Take in another's figures."""
        self.cases += other.cases
        self.accepted += other.accepted
        self.trajectories += other.trajectories
        self.violations += other.violations
        self.rest = max(self.rest, other.rest)


class ChunkJudge:
    """Looks at trajectories with nothing but the profile and geometry in hand."""

    def __init__(self, profile: RobotProfile, urdf: str, rng: np.random.Generator) -> None:
        self.profile, self.kinematics = profile, profile.kinematics(urdf)
        self.collisions = Collisions(urdf, profile, margins=False)
        self.report = Report()
        self._rng, self._limits = rng, profile.limits()
        self._low, self._high = np.array(profile.workspace_min), np.array(profile.workspace_max)
        self._boxes = np.array(profile.keep_out).reshape(-1, 2, 3)

    def look(
        self, chunk: Chunk, q: Array, velocity: Array, where: str, braking: bool = False
    ) -> None:
        """Note everything that a trajectory breaks, which begins at q, velocity (n,)."""
        self.report.trajectories += 1
        for fault in self.faults(chunk, q, velocity, braking):
            self.report.violations.append(f"{where}: {fault}")

    def faults(self, chunk: Chunk, q: Array, velocity: Array, braking: bool = False) -> list[str]:
        """Return what is wrong with it, in words."""
        first = np.abs(chunk.positions[0] - q).max(), np.abs(chunk.velocities[0] - velocity).max()
        faults = [] if max(first) < 1e-6 else [f"begins {max(first):.3g} off the arm's motion"]
        if np.any(chunk.velocities[-1]):
            faults.append("does not end at rest")
        times = np.sort(self._rng.uniform(0.0, chunk.duration, _SAMPLES))
        rows, speeds, pushes = chunk.at(np.concatenate(([0.0], times, [chunk.duration])))
        faults += self._joint_faults(chunk, rows, speeds)
        position, twist, change = self.kinematics.along(rows, speeds, pushes)
        faults += self._place_faults(position, braking) + self._speed_faults(twist, change, braking)
        conditions = self.kinematics.conditions(rows)
        if conditions.max() > max(self.profile.singularity_stop * 1.02, conditions[0] * 1.001):
            faults.append(f"condition number {conditions.max():.1f}")
        return faults + self._contact_faults(rows)

    def _joint_faults(self, chunk: Chunk, q: Array, velocity: Array) -> list[str]:
        limits, faults = self._limits, []
        beyond = np.maximum(limits.lower - q, q - limits.upper)
        if (beyond > np.maximum(beyond[0], 0.0) + _ROUNDING).any():
            faults.append(f"a joint {beyond.max():.3g} rad beyond its limit")
        if (np.abs(velocity) > limits.velocity + 1e-6).any():
            faults.append(f"joint speed {np.abs(velocity).max():.3g} rad/s")
        if (np.abs(chunk.accelerations()) > limits.acceleration + 1e-4).any():
            faults.append(f"joint acceleration {np.abs(chunk.accelerations()).max():.4g} rad/s²")
        return faults

    def _place_faults(self, position: Array, braking: bool) -> list[str]:
        outside = np.maximum(self._low - position, position - self._high).max(axis=1)
        faults = []
        # A way back from outside may have begun further out than where braking does.
        back = 0.02 if braking else _TURNING
        if outside.max() > max(PATH_TOLERANCE + _BETWEEN, outside[0] + back * (outside[0] > 0)):
            faults.append(f"tip {outside.max():.4f} m outside the workspace")
        place = position[:, None]
        depth = np.minimum(place - self._boxes[:, 0], self._boxes[:, 1] - place).min(axis=2)
        if (depth > np.maximum(depth[0], 0.0) + _BETWEEN).any():
            faults.append(f"tip {depth.max():.4f} m inside a keep-out box")
        return faults

    def _speed_faults(self, twist: Array, change: Array, braking: bool) -> list[str]:
        profile, faults = self.profile, []
        speed = np.linalg.norm(twist.reshape(-1, 2, 3), axis=2)
        fastest = np.maximum([profile.max_linear_speed, profile.max_angular_speed], speed[0])
        if (speed > fastest + 1e-6).any():
            faults.append(f"tip speed {speed[:, 0].max():.3f} m/s, {speed[:, 1].max():.3f} rad/s")
        push = np.linalg.norm(change.reshape(-1, 2, 3), axis=2)
        hardest = np.array([profile.max_linear_acceleration, profile.max_angular_acceleration])
        if (push > hardest * (_BRAKING if braking else 1.0)).any():
            faults.append(f"tip acceleration {push[:, 0].max():.1f} m/s², {push[:, 1].max():.1f}")
        return faults

    def _contact_faults(self, q: Array) -> list[str]:
        contact = self.collisions.check(np.vstack((q[:1], q[1::3], q[-1:])))
        return [f"{contact} touch"] if contact else []
