# SPDX-License-Identifier: Apache-2.0
"""Where the joints were at a moment of the last seconds, for deltas that refer to the pose in a
picture.

>>> history = JointHistory(("joint1", "joint2"))
>>> history.add(1_000_000_000, ["finger", "joint2", "joint1"], [0.04, 0.2, 0.1])
>>> history.add(1_010_000_000, ["joint1", "joint2", "finger"], [0.3, 0.2, 0.04])
>>> history.at(1_005_000_000)
array([0.2, 0.2])
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice, takewhile
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rt2_ros.control.pose import Array

STILL = 0.02  # rad/s; slower joints are at rest
_STILL_TIME_NS = 100_000_000  # in which it shows: between two samples, noise is faster
_SPEED_TIME_NS = 50_000_000  # of which the velocity is
_LARGEST_GAP_NS = 200_000_000  # samples further apart are not interpolated
_LARGEST_JUMP = np.pi  # rad, nor are those: a joint without end was reported a turn further on
JUMP = 2.0  # times the limits of speed; positions further apart are a jump, not a motion
_NOISE = 0.02  # rad, of encoders and of stamps; less is no jump
_JUMP_TIME_NS = 200_000_000  # for which a jump leaves in doubt where the joints are

GRIPPER_AGE = 1.0  # s; a gripper that was heard of longer ago may be anywhere


class NotInHistory(LookupError):
    """The history says nothing about the time asked for."""


class Jump(NamedTuple):
    """One reading of a joint that cannot be a motion: rad, within s."""

    stamp_ns: int
    joint: str
    way: float
    time: float


def by_name(names: Sequence[str], values: Sequence[float], wanted: Sequence[str]) -> Array:
    """Return the values (n,) of the joints `wanted`, in that order, from a joint state in any
    order.

    ValueError naming what is missing, double or not finite; joints that nobody wants are passed
    over.
    """
    if len(names) != len(values):
        raise ValueError(f"joint state: {len(names)} names for {len(values)} values")
    found = dict(zip(names, values, strict=True))
    missing = [name for name in wanted if name not in found]
    if missing:
        raise ValueError(f"joint state: lacks {', '.join(missing)}")
    if len(found) != len(names):
        raise ValueError("joint state: a joint is named twice")
    picked = np.array([found[name] for name in wanted], dtype=np.float64)
    for name, value in zip(wanted, picked, strict=True):
        if not np.isfinite(value):
            raise ValueError(f"joint state: {name} is {value}")
    return picked


class JointHistory:
    """The last `horizon` seconds of the positions of `joint_names` (n of them), by time stamp.

    fastest: what they can do, (n,) rad/s; readings further apart are `jumps`.
    """

    def __init__(
        self,
        joint_names: Sequence[str],
        horizon: float = 2.0,
        fastest: float | Array = np.inf,
    ) -> None:
        self.joint_names = tuple(joint_names)
        self._horizon_ns = round(horizon * 1e9)
        self._fastest = fastest
        self._samples: deque[tuple[int, Array]] = deque()
        self._jumps: deque[Jump] = deque(maxlen=2)

    def add(self, stamp_ns: int, names: Sequence[str], positions: Sequence[float]) -> None:
        """Take a joint state (rad); ValueError if it is no use, with the history left as it was."""
        q = by_name(names, positions, self.joint_names)
        if stamp_ns <= 0:
            raise ValueError(f"joint state: stamp {stamp_ns} ns, expected a time")
        if self._samples and stamp_ns <= self._samples[-1][0]:
            raise ValueError("joint state: not newer than the one before")
        if self._samples:
            time = (stamp_ns - self._samples[-1][0]) * 1e-9
            ways = np.abs(q - self._samples[-1][1])
            beyond = ways - JUMP * self._fastest * time
            worst = int(beyond.argmax())
            if beyond[worst] > _NOISE:
                jump = Jump(stamp_ns, self.joint_names[worst], float(ways[worst]), time)
                self._jumps.append(jump)
        self._samples.append((stamp_ns, q))
        while self._samples[0][0] < stamp_ns - self._horizon_ns:
            self._samples.popleft()

    def clear(self) -> None:
        """Forget everything."""
        self._samples.clear()
        self._jumps.clear()

    def jumps(self) -> list[Jump]:
        """Return the newest jumps of the last 0.2 s: none; one, where the joints were put elsewhere
        or a second node has begun to publish them; two, where that tells on.
        """
        if not self._samples:
            return []
        since = self._samples[-1][0] - _JUMP_TIME_NS
        return list(takewhile(lambda jump: jump.stamp_ns > since, reversed(self._jumps)))

    def doubt(self) -> str:
        """Say so where joint states are further apart than the arm can have moved."""
        if not (jumps := self.jumps()):
            return ""
        what = f"{jumps[0].joint} by {jumps[0].way:.2f} rad in {jumps[0].time:.3f} s"
        return f"the joint states jump: {what}; do two nodes publish?"

    def newest(self) -> tuple[int, Array]:
        """Return (stamp in ns, positions (n,)) of the newest; NotInHistory if there is none."""
        if not self._samples:
            raise NotInHistory("no joint state yet")
        return self._samples[-1]

    def velocity(self) -> Array:
        """Return the velocity (n,) in rad/s of the last 50 ms; 0 where they do not tell.

        Not between the two newest: a driver may publish each measurement twice, under two stamps.
        """
        velocity = np.zeros(len(self.joint_names))
        if not self._samples:
            return velocity
        after_ns, after = self._samples[-1]
        since = self._jumps[-1].stamp_ns if self._jumps else 0
        for before_ns, before in islice(reversed(self._samples), 1, None):
            time_ns = after_ns - before_ns
            if time_ns > _LARGEST_GAP_NS or before_ns < since or _jumped(before, after).any():
                break
            velocity = (after - before) / (time_ns * 1e-9)
            if time_ns >= _SPEED_TIME_NS:
                break
        return velocity

    def is_still(self) -> bool:
        """Whether the joints are at rest, but for the noise of their encoders."""
        after_ns, after = self.newest()
        older = (s for s in reversed(self._samples) if after_ns - s[0] >= _STILL_TIME_NS)
        before_ns, before = next(older, self._samples[0])
        return bool((np.abs(after - before) <= STILL * (after_ns - before_ns) * 1e-9).all())

    def at(self, stamp_ns: int) -> Array:
        """Return the positions (n,) at a time, interpolated; NotInHistory outside the samples, and
        before a jump: there the joints never were, or are no more.
        """
        after_ns, after = self.newest()
        if self._jumps and stamp_ns < self._jumps[-1].stamp_ns:
            raise NotInHistory(f"the reading of {self._jumps[-1].joint} has jumped since")
        if stamp_ns > after_ns:
            raise NotInHistory(
                f"no joint state as new as that: {(stamp_ns - after_ns) / 1e9:.3f} s newer"
            )
        for before_ns, before in reversed(self._samples):
            if before_ns <= stamp_ns:
                break
            after_ns, after = before_ns, before
        else:
            raise NotInHistory(
                f"no joint state as old as that: {(after_ns - stamp_ns) / 1e9:.3f} s older"
            )
        gap = after_ns - before_ns
        if gap > _LARGEST_GAP_NS and stamp_ns != before_ns:
            raise NotInHistory(f"no joint states for {gap / 1e9:.3f} s at that time")
        if stamp_ns != before_ns and (jumped := _jumped(before, after)).any():
            names = [name for name, is_so in zip(self.joint_names, jumped, strict=True) if is_so]
            raise NotInHistory(f"the reading of {', '.join(names)} jumped at that time")
        return before if gap <= 0 else before + (after - before) * ((stamp_ns - before_ns) / gap)

    def near(self, stamp_ns: int, within: float) -> Array:
        """Return the same, or the newest within some s of that time, of joints told seldom."""
        try:
            return self.at(stamp_ns)
        except NotInHistory:
            newest_ns, newest = self.newest()
            if abs(newest_ns - stamp_ns) > within * 1e9:
                raise
            return newest


def _jumped(before: Array, after: Array) -> NDArray[np.bool_]:
    return np.abs(after - before) > _LARGEST_JUMP
