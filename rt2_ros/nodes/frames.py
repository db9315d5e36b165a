# SPDX-License-Identifier: Apache-2.0
"""Which pictures of several cameras belong together: the newest ones taken in step. No ROS.

Example, tolerance 50 ms, stamps in ms: `scene` at 0, 100, 200 and `wrist` at 30, 130. When scene's
200 has come, the newest pair in step is (100, 130); (200, 130) is 70 ms apart.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

KEPT = 64  # frames at most of each camera that wait for the others, and none that is too old
FUTURE_NS = 100_000_000  # clocks of two machines may differ by this much; more is a broken clock


@dataclass(frozen=True)
class Limits:
    """When a picture counts. All in nanoseconds."""

    max_age_ns: int
    tolerance_ns: int

    def __post_init__(self) -> None:
        for name in ("max_age_ns", "tolerance_ns"):
            if getattr(self, name) <= 0:
                raise ValueError(
                    f"{name}: expected a positive time in ns, got {getattr(self, name)}"
                )


@dataclass
class Account:
    """What became of one camera's pictures."""

    received: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    last_reason: str = ""

    def refuse(self, kind: str, reason: str) -> None:
        """Count a refusal under a short `kind` (late, future, broken, ...) and keep its reason."""
        self.refused[kind] += 1
        self.last_reason = reason


class FrameSets(Generic[T]):
    """Collects frames and gives out the newest set in step; each set is newer than the one before.

    Args:
        cameras: their names; a set has one frame of each, in this order.
        limits: when a picture counts.
    """

    def __init__(self, cameras: tuple[str, ...], limits: Limits) -> None:
        if not cameras or len(set(cameras)) != len(cameras):
            raise ValueError(f"cameras: expected one or more different names, got {list(cameras)}")
        self.limits = limits
        self.accounts = {camera: Account() for camera in cameras}
        self._frames: dict[str, deque[tuple[int, T]]] = {c: deque(maxlen=KEPT) for c in cameras}
        self._newest = dict.fromkeys(cameras, 0)  # stamp of the newest frame accepted
        self.given = 0  # sets so far
        self.problem = ""  # why the newest frames of all made no set

    def add(
        self, camera: str, stamp_ns: int, now_ns: int, frame: T
    ) -> dict[str, tuple[int, T]] | None:
        """Take a frame; return the newest set in step that it completes, or None.

        Args:
            camera: who took it.
            stamp_ns: when it was taken, node clock.
            now_ns: node clock now.
            frame: anything; it is handed back in the set, which is {camera: (stamp_ns, frame)}.
        """
        account = self.accounts[camera]
        account.received += 1
        age_ms = (now_ns - stamp_ns) / 1e6
        if stamp_ns <= 0:
            account.refuse(
                "unstamped", "header.stamp is zero or negative; the driver must stamp its images"
            )
        elif now_ns - stamp_ns > self.limits.max_age_ns:
            account.refuse(
                "late",
                f"{age_ms:.0f} ms old, at most {self.limits.max_age_ns / 1e6:.0f} ms is accepted",
            )
        elif stamp_ns - now_ns > FUTURE_NS:
            account.refuse(
                "future", f"stamped {-age_ms:.0f} ms ahead; check clocks and use_sim_time"
            )
        else:
            if self._newest[camera] - now_ns > FUTURE_NS:
                self._forget()  # the clock was set back: a simulation was started again
            if stamp_ns <= self._newest[camera]:
                account.refuse("out of order", "stamped no later than the picture before it")
            else:
                self._newest[camera] = stamp_ns
                frames = self._frames[camera]
                frames.append((stamp_ns, frame))
                while stamp_ns - frames[0][0] > self.limits.max_age_ns:
                    frames.popleft()
                return self._take(now_ns)
        return None

    def _take(self, now_ns: int) -> dict[str, tuple[int, T]] | None:
        if not all(self._frames.values()):
            return None
        pivot = min(frames[-1][0] for frames in self._frames.values())
        chosen = {
            camera: min(frames, key=lambda item: abs(item[0] - pivot))
            for camera, frames in self._frames.items()
        }
        first, last = (order(chosen, key=lambda camera: chosen[camera][0]) for order in (min, max))
        apart, age = chosen[last][0] - chosen[first][0], now_ns - chosen[first][0]
        if apart > self.limits.tolerance_ns:
            most = self.limits.tolerance_ns
            self.problem = (
                f"the nearest pictures of {first!r} and {last!r} are {apart / 1e6:.0f} ms apart, "
                f"at most {most / 1e6:.0f} ms belong together: see rates, clocks, sync_tolerance"
            )
            return None
        if age > self.limits.max_age_ns:
            self.problem = (
                f"the newest pictures in step, of {first!r} and the others, are {age / 1e6:.0f} ms "
                f"old, at most {self.limits.max_age_ns / 1e6:.0f} ms is accepted"
            )
            return None
        self.given, self.problem = self.given + 1, ""
        for camera, frames in self._frames.items():  # given once
            while frames and frames[0][0] <= chosen[camera][0]:
                frames.popleft()
        return chosen

    def _forget(self) -> None:
        for frames in self._frames.values():
            frames.clear()
        self._newest = dict.fromkeys(self._frames, 0)
