# SPDX-License-Identifier: Apache-2.0
"""The arm's joint states as they come in: which of them count, and whether they still come.

>>> joints = JointStates(profile, clock=time.monotonic)
>>> joints.take(stamp_ns, msg.name, msg.position, now_ns)
True
>>> joints.silence()  # s since the last that counted
0.004
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rt2_ros.control.history import JointHistory, NotInHistory
from rt2_ros.control.profile import RobotProfile

NO_JOINT_STATES = "no joint states"  # in a controller's reason while nobody tells where the arm is
_HISTORY = 2.0  # s of joint states that are kept at least,
_MARGIN = 0.5  # and s beyond the oldest image that a decision may be on
_CLOCK_JUMP_NS = 1_000_000_000  # joint states further back than that mean a new clock, not disorder
_AHEAD_NS = 200_000_000  # joint states further ahead are of another clock, of whatever moment


class ClockWentBack(ValueError):
    """Joint states are of a new clock: what was known of the time before counts no more."""


class JointStates:
    """history: of those that count. time: when the newest did, s of `clock`, -inf before the first.
    refused: how many were no use; problem: why the newest was not, "" if it was.
    """

    def __init__(self, profile: RobotProfile, clock: Callable[[], float]) -> None:
        self.history = JointHistory(
            profile.arm_joints,
            horizon=max(_HISTORY, profile.time_to_live + _MARGIN),
            fastest=profile.limits().velocity,
        )
        self.time = -np.inf
        self.refused = 0
        self.problem = ""
        self._clock, self._timeout = clock, profile.joint_state_timeout

    def take(
        self, stamp_ns: int, names: Sequence[str], positions: Sequence[float], now_ns: int
    ) -> bool:
        """Take the joints' positions, in any order, other joints among them; whether they count.

        Without any joint of the arm, as drivers of grippers and wheels send them, they are passed
        over. now_ns: the time on the stamp's clock, 0 if not known; a joint state may have waited
        while this process stood still, but is never of a time to come.
        """
        if set(self.history.joint_names).isdisjoint(names):
            return False
        try:
            if 0 < stamp_ns < self.history.newest()[0] - _CLOCK_JUMP_NS:
                self.history.clear()
                self.time = -np.inf
                raise ClockWentBack("the clock of the joint states went back")
        except NotInHistory:
            pass
        try:
            if 0 < now_ns < stamp_ns - _AHEAD_NS:
                ahead = (stamp_ns - now_ns) * 1e-9
                raise ValueError(f"joint state: stamped {ahead:.2f} s ahead of the clock")
            self.history.add(stamp_ns, names, positions)
        except ValueError as error:
            self.refused += 1
            self.problem = str(error)
            return False
        self.problem, self.time = "", self._clock()
        return True

    def silence(self) -> float:
        """Seconds since the newest that counts, inf before the first."""
        return self._clock() - self.time

    def missing(self, since: str = "") -> str:
        """Say that there are none, and what is wrong with those that come."""
        return f"{NO_JOINT_STATES}{since}" + (self.problem and f" ({self.problem})")

    @property
    def ended(self) -> str:
        """Say so where nobody knows where the arm is now, though it was known; else ""."""
        if self._timeout < self.silence() < np.inf:
            return self.missing(f" for more than {self._timeout:g} s")
        return ""
