# SPDX-License-Identifier: Apache-2.0
"""Short joint trajectories that start from the arm's motion as it is and end at rest.

A delta becomes one cubic per joint from (position, velocity) to (target, 0), cut into four points
with velocities. A joint trajectory controller joins such points by cubic Hermite splines, so that
what it executes is this very cubic, whose largest speed and acceleration are known in closed form.

>>> chunk = plan_chunk(q, velocity, target, duration=0.3, limits=limits)
>>> [(round(t, 3), p, v) for t, p, v in chunk.points()]  # ends with velocity 0
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rt2_ros.control.pose import Array, vector

_POINTS = 4
_GRID = 1e-4  # s, braking times are rounded up to it, so that no two points fall together
_SHORTEST_BRAKE = 0.02  # s
_STRETCH = 1.1 ** np.arange(50)  # durations tried, as multiples of the one asked for
_SLACK = 1e-9
_ROUNDING = 2e-4  # rad, of braking times


class NoTrajectory(ValueError):
    """There is no trajectory to the target that keeps the limits.

    code: a short word for counters, such as "limits" or "collision".
    """

    def __init__(self, reason: str, code: str = "limits") -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, eq=False)
class JointLimits:
    """Per joint (n,): `lower`, `upper` in rad, `velocity` in rad/s, `acceleration` in rad/s²."""

    lower: Array
    upper: Array
    velocity: Array
    acceleration: Array

    def __post_init__(self) -> None:
        size = len(np.atleast_1d(self.lower))
        for name in ("lower", "upper", "velocity", "acceleration"):
            object.__setattr__(self, name, vector(name, getattr(self, name), size))
        if not (self.lower < self.upper).all():
            raise ValueError(f"lower: {self.lower.tolist()}, expected below {self.upper.tolist()}")
        for name in ("velocity", "acceleration"):
            if not (getattr(self, name) > 0).all():
                raise ValueError(f"{name}: {getattr(self, name).tolist()}, expected above 0")


@dataclass(frozen=True, eq=False)
class Chunk:
    """A trajectory: `times` (m,) in s from 0, `positions` (m, n) in rad, `velocities` (m, n) in
    rad/s.

    The first row is where the arm is when the chunk begins; the last is at rest.
    """

    times: Array
    positions: Array
    velocities: Array

    def __post_init__(self) -> None:
        if self.times.ndim != 1 or len(self.times) < 2 or self.times[0] != 0:
            raise ValueError(f"times: {self.times.tolist()}, expected at least two, the first 0")
        if not (np.diff(self.times) > 0).all():
            raise ValueError(f"times: {self.times.tolist()}, expected strictly increasing")
        for name in ("positions", "velocities"):
            rows = getattr(self, name)
            if rows.ndim != 2 or len(rows) != len(self.times) or not np.isfinite(rows).all():
                raise ValueError(
                    f"{name}: expected finite, one row for each of {len(self.times)} times"
                )
        if np.any(self.velocities[-1] != 0):
            raise ValueError(f"velocities: {self.velocities[-1].tolist()} at the end, expected 0")

    @property
    def duration(self) -> float:
        """Seconds from the first row to rest."""
        return float(self.times[-1])

    def points(self) -> list[tuple[float, Array, Array]]:
        """Return what a trajectory message holds: (time from start in s, position (n,), velocity
        (n,)).

        Without the first row: a trajectory controller begins at its own state.
        """
        rows = zip(self.times[1:], self.positions[1:], self.velocities[1:], strict=True)
        return [(float(t), position, velocity) for t, position, velocity in rows]

    def sample(self, time: float) -> tuple[Array, Array]:
        """Return position, velocity (n,) at `time` s by cubic Hermite splines; at the end, rest."""
        if time >= self.times[-1]:
            return self.positions[-1], self.velocities[-1]
        time = max(time, 0.0)
        i = int(np.searchsorted(self.times, time, side="right")) - 1
        span = self.times[i + 1] - self.times[i]
        s = (time - self.times[i]) / span
        start, end = self.positions[i], self.positions[i + 1]
        leave, arrive = self.velocities[i] * span, self.velocities[i + 1] * span
        square, cube = 3 * (end - start) - 2 * leave - arrive, 2 * (start - end) + leave + arrive
        position = start + s * (leave + s * (square + s * cube))
        return position, (leave + s * (2 * square + 3 * s * cube)) / span

    def samples(self, count: int) -> tuple[Array, Array, Array, Array]:
        """Return times (k,) and positions, velocities, accelerations (k, n): `count` of them evenly
        spread, both ends among them, and all the inner points.
        """
        times = np.sort([*np.linspace(0.0, self.duration, count), *self.times])
        times = times[np.diff(times, append=np.inf) > _GRID / 100]  # a point on the grid once
        return times, *self.at(times)

    def at(self, times: Array) -> tuple[Array, Array, Array]:
        """Return positions, velocities, accelerations (k, n) at times (k,) within the chunk."""
        i = np.minimum(np.searchsorted(self.times, times, side="right"), len(self.times) - 1) - 1
        span = (self.times[i + 1] - self.times[i])[:, None]
        s = (times - self.times[i])[:, None] / span
        start, end = self.positions[i], self.positions[i + 1]
        leave, arrive = self.velocities[i] * span, self.velocities[i + 1] * span
        square, cube = 3 * (end - start) - 2 * leave - arrive, 2 * (start - end) + leave + arrive
        position = start + s * (leave + s * (square + s * cube))
        velocity = (leave + s * (2 * square + 3 * s * cube)) / span
        return position, velocity, (2 * square + 6 * s * cube) / span**2

    def accelerations(self) -> Array:
        """Return the accelerations (m - 1, 2, n) at both ends of each cubic, linear in between."""
        span = np.diff(self.times)[:, None]
        way = np.diff(self.positions, axis=0) / span
        leave, arrive = self.velocities[:-1], self.velocities[1:]
        begin, end = 6 * way - 4 * leave - 2 * arrive, -6 * way + 2 * leave + 4 * arrive
        return np.stack((begin / span, end / span), axis=1)

    def part(self, time: float, length: float, limits: JointLimits, least: float = 0.0) -> Chunk:
        """Return the motion from `time` s on for `length` s, followed by `brake`; or the rest of
        this chunk, where that ends sooner.

        Of a chunk that is one cubic all along, as from rest to rest. It is not cut into points: an
        arm that begins a little late, or elsewhere, gets onto it gently.
        """
        (start, leave), end = self.sample(time), time + length
        if end > self.duration - _GRID:
            times = np.array([0.0, max(self.duration - time, _GRID)])
            goal, stop = self.positions[-1], self.velocities[-1]
            return Chunk(times, np.stack((start, goal)), np.stack((leave, stop)))
        brake = self.brake(end, limits, least)
        return Chunk(
            np.concatenate(([0.0], length + brake.times)),
            np.vstack((start, brake.positions)),
            np.vstack((leave, brake.velocities)),
        )

    def until(self, time: float, limits: JointLimits, least: float = 0.0) -> Chunk:
        """Return this motion, ended from `time` s on by `brake`; itself where it ends sooner."""
        if time > self.duration - _GRID:
            return self
        time = max(time, 2 * _GRID)
        brake, kept = self.brake(time, limits, least), self.times < time - _GRID
        return Chunk(
            np.concatenate((self.times[kept], time + brake.times)),
            np.vstack((self.positions[kept], brake.positions)),
            np.vstack((self.velocities[kept], brake.velocities)),
        )

    def spaced(self, first: float) -> Chunk:
        """Return this motion without the inner points of its first s: an arm that is some
        milliseconds from where it is thought to be would make up for that on its way to them.
        """
        kept = self.times >= first
        kept[[0, -1]] = True
        return Chunk(self.times[kept], self.positions[kept], self.velocities[kept])

    def brake(self, time: float, limits: JointLimits, least: float = 0.0) -> Chunk:
        """Return the fastest way to rest from `time` s on along this very path, in `least` s or
        more.

        What was found safe to travel is so for braking too. Where the limits do not let the arm
        stop before this chunk would have come to rest, it is the rest of this chunk.
        """
        time = max(time, 0.0)
        rests = (self.times > time + _GRID) & ~self.velocities.any(axis=1)
        stop = int(np.argmax(rests)) if rests.any() else len(self.times) - 1
        left = self.times[stop] - time
        _, velocity = self.sample(time)
        least = max(float((np.abs(velocity) / limits.acceleration).max()), least, _SHORTEST_BRAKE)
        allowed = np.maximum(limits.acceleration, np.abs(self.accelerations()).max(axis=(0, 1)))
        for duration in least * _STRETCH:
            if duration >= left:
                break
            times = np.linspace(0.0, duration, 2 * _POINTS + 1)
            rate = 1 - times / duration
            positions, velocities, _ = self.at(time + times * (1 + rate) / 2)
            chunk = Chunk(times, positions, velocities * rate[:, None])
            if (np.abs(chunk.accelerations()) <= allowed + _SLACK).all():
                return chunk
        later = self.times > time + _GRID
        later[-1] = True  # if that is over already
        later[stop + 1 :] = False
        q, _ = self.sample(time)
        times = np.concatenate(([0.0], np.maximum(self.times[later] - time, _GRID)))
        return Chunk(
            times,
            np.vstack((q, self.positions[later])),
            np.vstack((velocity, self.velocities[later])),
        )


def plan_chunk(
    q: ArrayLike,
    velocity: ArrayLike,
    target: ArrayLike,
    duration: float,
    limits: JointLimits,
    excess: Callable[[Chunk], float] = lambda chunk: 1.0,
) -> Chunk:
    """Plan from positions q (n,) moving at `velocity` (n,) to rest at `target` (n,): rad, s.

    Takes `duration` or, where the limits ask for it, longer. Where no single cubic keeps them (the
    arm moves fast the other way), the arm brakes first and then goes.

    `excess(chunk)` judges what joints cannot tell: up to 1 it may pass, above it must be that many
    times slower; it raises NoTrajectory for what must not be. Raises that, or its own
    NoTrajectory, if nothing passes.
    """
    size = len(limits.lower)
    q, velocity = vector("q", q, size), vector("velocity", velocity, size)
    target = vector("target", target, size)
    if not ((limits.lower - _SLACK <= target) & (target <= limits.upper + _SLACK)).all():
        raise ValueError(f"target: {target.tolist()}, expected within the joint limits")
    if not (np.isfinite(duration) and duration > 0):
        raise ValueError(f"duration: {duration}, expected above 0 s")
    try:
        return _shortest_cubic(q, velocity, target, duration, limits, excess)
    except NoTrajectory:
        if not np.any(velocity):
            raise
    brake = stop_chunk(q, velocity, limits)
    rest = brake.positions[-1]
    lowest, highest = np.minimum(limits.lower, q), np.maximum(limits.upper, q)
    if ((rest < lowest - _ROUNDING) | (rest > highest + _ROUNDING)).any():
        raise NoTrajectory("a joint moves too fast to stop before its limit")
    go = _shortest_cubic(rest, np.zeros(size), target, duration, limits, excess)
    both = Chunk(
        np.concatenate((brake.times, brake.duration + go.times[1:])),
        np.concatenate((brake.positions, go.positions[1:])),
        np.concatenate((brake.velocities, go.velocities[1:])),
    )
    if excess(both) > 1:
        raise NoTrajectory("it would have to brake too hard for the tip, to go the other way")
    return both


def stop_chunk(q: ArrayLike, velocity: ArrayLike, limits: JointLimits, least: float = 0.0) -> Chunk:
    """Bring the arm from `velocity` (n,) rad/s to rest as fast as its accelerations allow, in
    `least` s or more.

    All joints together, so that the tip goes straight on; only where that would carry a joint
    beyond its limits does each brake as hard as it can by itself, which from any point of a chunk
    is enough to stop before the place where that chunk would have brought it.
    """
    size = len(limits.lower)
    q, velocity = vector("q", q, size), vector("velocity", velocity, size)
    ends = np.abs(velocity) / limits.acceleration  # s, when each joint is at rest
    ends = np.maximum(np.ceil(ends / _GRID - _SLACK), 1) * _GRID
    longest = max(float(ends.max()), least, _SHORTEST_BRAKE)
    together = q + velocity * longest / 2
    if ((limits.lower <= together) & (together <= limits.upper)).all():
        ends = np.full(size, longest)
    ends[velocity == 0] = longest  # a joint at rest needs no point of its own
    times = np.unique([0.0, *ends, longest])
    left = np.clip(1 - times[:, None] / ends, 0.0, None)  # share of the speed that is left, (m, n)
    return Chunk(times, q + velocity * ends * (1 - left**2) / 2, velocity * left)


def _shortest_cubic(
    q: Array,
    velocity: Array,
    target: Array,
    duration: float,
    limits: JointLimits,
    excess: Callable[[Chunk], float],
) -> Chunk:
    """Return the shortest cubic of at least `duration` that passes; NoTrajectory if none does."""
    durations = np.asarray(duration * _STRETCH, dtype=np.float64)
    least = 0.0
    for time in durations[_within_limits(q, velocity, target, durations, limits)]:
        if time < least:
            continue
        chunk = _cubic(q, velocity, target, float(time))
        factor = excess(chunk)
        if factor <= 1:
            return chunk
        least = time * factor
    raise NoTrajectory("no trajectory to the target stays within the limits")


def _coefficients(q: Array, velocity: Array, target: Array, time: Array) -> tuple[Array, Array]:
    """Return b, c of q + v t + b t² + c t³, which is at rest at `target` at `time`."""
    way = target - q
    return (3 * way / time - 2 * velocity) / time, (-2 * way / time + velocity) / time**2


def _cubic(q: Array, velocity: Array, target: Array, duration: float) -> Chunk:
    b, c = _coefficients(q, velocity, target, np.asarray(duration))
    times = np.linspace(0.0, duration, _POINTS + 1)
    t = times[:, None]
    positions = q + t * (velocity + t * (b + t * c))
    velocities = velocity + t * (2 * b + 3 * t * c)
    positions[-1], velocities[-1] = target, 0.0
    return Chunk(times, positions, velocities)


def _within_limits(
    q: Array, velocity: Array, target: Array, durations: Array, limits: JointLimits
) -> NDArray[np.bool_]:
    """Return (k,) bool: for which of the durations (k,) the cubic keeps every joint limit.

    Where the arm already is beyond a limit (it was pushed, or the profile is narrow), it may not go
    further.
    """
    time = durations[:, None]
    b, c = _coefficients(q, velocity, target, time)
    safe_c = np.where(c == 0, 1.0, c)
    vertex = np.where(c == 0, -1.0, -b / (3 * safe_c))  # where the speed is extreme
    middle = (vertex > 0) & (vertex < time)
    peak = np.where(middle, np.abs(velocity + b * vertex), 0.0)
    speed = np.maximum(peak, np.abs(velocity))
    acceleration = np.maximum(np.abs(2 * b), np.abs(2 * b + 6 * c * time))
    turn = np.where(c == 0, -1.0, velocity / (3 * safe_c * time))  # where a joint turns back
    turn = np.where((turn > 0) & (turn < time), turn, 0.0)
    extreme = q + turn * (velocity + turn * (b + turn * c))
    lowest, highest = np.minimum(limits.lower, q), np.maximum(limits.upper, q)
    fits = (
        (speed <= limits.velocity + _SLACK)
        & (acceleration <= limits.acceleration + _SLACK)
        & (extreme >= lowest - _SLACK)
        & (extreme <= highest + _SLACK)
    )
    return np.asarray(fits.all(axis=1))
