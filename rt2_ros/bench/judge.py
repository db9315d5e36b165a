# SPDX-License-Identifier: Apache-2.0
"""What the arm was told and what it did, held against the robot profile. No ROS.

    judge = Judge(profile, urdf)
    judge.commands(sent)             # ["panda_joint2 at 2.31 rad/s, at most 1.7", ...]; [] if safe
    judge.motion(states, since)      # the same of what the simulator's joints did
    time_to_rest(states, since)      # s until the arm was at rest for good

Commands are held against the profile's limits as they are: what leaves the controller must be
within them whatever went wrong. The measured motion is that of servos, which trail and overshoot a
little: it is held against the URDF's own limits, and the workspace with a margin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rt2_ros.control.history import STILL
from rt2_ros.control.kinematics import Kinematics
from rt2_ros.control.pose import Array
from rt2_ros.control.profile import PATH_TOLERANCE, RobotProfile

ROUNDING = 1.001  # of limits, for numbers that went through messages
EXTREMES = 1.02  # of tip speed and joint acceleration, between the points at which the plan looked
SERVO_SPEED = 1.15  # of the URDF's speeds, that a servo catching up may reach
SERVO_WAY = 0.015  # m that the tip may be beyond the workspace while servos trail
BETWEEN = 4  # places looked at between two points of a trajectory


@dataclass(frozen=True, eq=False)
class Sent:
    """A trajectory as it was sent at `time` (s, any steady clock), joints in the profile's order.

    times (m,): s from start; positions, velocities (m, n): rad, rad/s.
    """

    time: float
    times: Array
    positions: Array
    velocities: Array


@dataclass(frozen=True, eq=False)
class Sample:
    """The joints at `time` (s, the same clock): position (n,) rad, velocity (n,) rad/s."""

    time: float
    position: Array
    velocity: Array


class Judge:
    """Holds commands and motion against a profile and a URDF (XML text)."""

    def __init__(self, profile: RobotProfile, urdf: str) -> None:
        self._profile = profile
        self._kinematics = profile.kinematics(urdf)
        self._own = Kinematics(urdf, profile.arm_joints, profile.base_frame, profile.tip_frame)
        self._low, self._high = np.array(profile.workspace_min), np.array(profile.workspace_max)
        self._limits = profile.limits()

    def commands(self, sent: Sequence[Sent]) -> list[str]:
        """Return what is wrong with trajectories, each fault once."""
        found: dict[str, str] = {}
        for trajectory in sent:
            for key, words in self._trajectory(trajectory):
                found.setdefault(key, words)
        return list(found.values())

    def motion(self, states: Sequence[Sample], since: float = 0.0) -> list[str]:
        """Return what the joints did that they must never do, each fault once: when it was first
        seen, in s from `since`, and how bad.
        """
        found: dict[str, str] = {}
        lower, upper, speed = self._own.lower, self._own.upper, self._own.velocity
        for state in states:
            when = f"{state.time - since:+.2f} s"
            beyond = np.maximum(lower - state.position, state.position - upper)
            fast = np.abs(state.velocity) - SERVO_SPEED * speed
            for joint, way, excess, q, v in zip(
                self._profile.arm_joints,
                beyond,
                fast,
                state.position,
                state.velocity,
                strict=True,
            ):
                if way > 0:
                    found.setdefault(f"{joint} position", f"{when}: {joint} was at {q:.3f} rad")
                if excess > 0:
                    words = f"{when}: {joint} moved at {v:.2f} rad/s"
                    found.setdefault(f"{joint} speed", words)
            tip = self.tip(state.position)
            outside = float(np.maximum(self._low - tip, tip - self._high).max())
            if outside > PATH_TOLERANCE + SERVO_WAY:
                words = f"{when}: the tip was {1e3 * outside:.0f} mm outside the workspace"
                found.setdefault("tip", words)
        return list(found.values())

    def tip(self, position: Array) -> Array:
        """Where the tip is with the joints at `position` (n,) rad: (3,) m in the base frame."""
        return self._own.forward(position).position

    def _trajectory(self, sent: Sent) -> list[tuple[str, str]]:
        """Faults of one trajectory as (kind, words)."""
        found: list[tuple[str, str]] = []
        if np.any(sent.velocities[-1] != 0):
            found.append(("end", f"a trajectory ends at {np.abs(sent.velocities[-1]).max()} rad/s"))
        numbers = (sent.times, sent.positions, sent.velocities)
        if not all(np.isfinite(part).all() for part in numbers):
            return [*found, ("finite", "a trajectory is not finite")]
        position, velocity, acceleration = between(sent)
        limits = self._limits
        for joint, q, low, high in zip(
            self._profile.arm_joints, position.T, limits.lower, limits.upper, strict=True
        ):
            if q.min() < low - 1e-6 or q.max() > high + 1e-6:
                worst = q.min() if low - q.min() > q.max() - high else q.max()
                words = f"{joint} at {worst:.4f} rad, allowed {low} to {high}"
                found.append((f"{joint} position", words))
        for what, unit, values, allowed, margin in (
            ("speed", "rad/s", velocity, limits.velocity, ROUNDING),
            ("acceleration", "rad/s²", acceleration, limits.acceleration, EXTREMES),
        ):
            for joint, most, limit in zip(
                self._profile.arm_joints, np.abs(values).max(axis=0), allowed, strict=True
            ):
                if most > margin * limit:
                    words = f"{joint} at {most:.3f} {unit}, at most {limit}"
                    found.append((f"{joint} {what}", words))
        return found + self._tip(position, velocity)

    def _tip(self, position: Array, velocity: Array) -> list[tuple[str, str]]:
        found = []
        boxes = np.array(self._profile.keep_out, dtype=float).reshape(-1, 2, 3)
        for q, v in zip(position, velocity, strict=True):
            tip, twist = self._kinematics.motion(q, v)
            outside = float(np.maximum(self._low - tip, tip - self._high).max())
            if outside > PATH_TOLERANCE + 1e-6:
                found.append(("workspace", f"the tip {1e3 * outside:.1f} mm outside the workspace"))
            if ((boxes[:, 0] < tip) & (tip < boxes[:, 1])).all(axis=1).any():
                found.append(
                    ("keep out", f"the tip at {tip.round(3).tolist()} m, in a keep-out box")
                )
            for what, speed, most in (
                ("linear", np.linalg.norm(twist[:3]), self._profile.max_linear_speed),
                ("angular", np.linalg.norm(twist[3:]), self._profile.max_angular_speed),
            ):
                if speed > EXTREMES * most:
                    found.append((f"{what} speed", f"{what} speed {speed:.3f}, at most {most}"))
        return found


def between(sent: Sent) -> tuple[Array, Array, Array]:
    """Return positions, velocities, accelerations (k, n) along the cubics that join the points.

    From the first point on: how the arm gets there from where it was depends on where it was.
    """
    positions, velocities, accelerations = [sent.positions[:1]], [sent.velocities[:1]], []
    share = np.linspace(0.0, 1.0, BETWEEN + 2)[:, None]
    for i in range(len(sent.times) - 1):
        span = sent.times[i + 1] - sent.times[i]
        start, end = sent.positions[i], sent.positions[i + 1]
        leave, arrive = sent.velocities[i] * span, sent.velocities[i + 1] * span
        square, cube = 3 * (end - start) - 2 * leave - arrive, 2 * (start - end) + leave + arrive
        positions.append(start + share * (leave + share * (square + share * cube)))
        velocities.append((leave + share * (2 * square + 3 * share * cube)) / span)
        accelerations.append((2 * square + 6 * share * cube) / span**2)
    if not accelerations:
        accelerations = [np.zeros_like(sent.positions)]
    return (
        np.concatenate(positions),
        np.concatenate(velocities),
        np.concatenate(accelerations),
    )


def time_to_rest(states: Sequence[Sample], since: float) -> float:
    """Return the s from `since` until the last moment at which a joint moved; 0 if none did."""
    moving = [s.time for s in states if s.time > since and np.abs(s.velocity).max() > STILL]
    return moving[-1] - since if moving else 0.0


def way(states: Sequence[Sample]) -> float:
    """Return by how much (rad) the joint that moved most has moved in all."""
    if not states:
        return 0.0
    return float(np.ptp([state.position for state in states], axis=0).max())
