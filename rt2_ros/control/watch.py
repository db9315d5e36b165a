# SPDX-License-Identifier: Apache-2.0
"""What the controller keeps an eye on while nothing else happens: its clocks, and whether the
policy gets anywhere.

>>> watch = ClockWatch()
>>> watch.look(now_ns=5_000_000_000, steady=100.0), watch.look(9_000_000_000, 100.01)
('', 'the clock went forward by 4.0 s')
"""

from __future__ import annotations

import numpy as np

from rt2_ros.control.pose import Array, Pose

_BACK = 0.05  # s by which the clock of stamps may go back: it is being adjusted
_FORWARD = 0.5  # s by which it may get ahead of twice the steady clock
_STILL = 1.0  # s for which it may stand still
_GAP = 0.1  # s of one look that count for that: who did not look knows nothing
_NEW_PLACE = 0.02  # m from every place where the tip has been: there it has not been
_NEW_TURN = 0.15  # rad, likewise
_PLACES = 1000
_ACTS = 3  # of the gripper at one place that count: to open and close it for ever is no progress


class ClockWatch:
    """Compares the clock that stamps images with the controller's own steady one."""

    def __init__(self) -> None:
        self._changed: tuple[int, float] | None = None  # what it showed last, and since when
        self._steady = 0.0
        self._still = 0.0

    def look(self, now_ns: int, steady: float) -> str:
        """Return what is wrong with the clock, "" if nothing is; to be asked at the control rate.

        now_ns: 0 while there is no simulated time yet. steady: s. A simulated clock is heard of
        late where the machine is busy: how far it may go on is counted from when it last did.
        """
        since, self._steady = self._steady, steady
        if self._changed is None or self._changed[0] <= 0:
            self._changed = now_ns, steady
            return ""
        passed, gap = (now_ns - self._changed[0]) * 1e-9, steady - self._changed[1]
        if passed == 0:
            self._still += min(steady - since, _GAP)
            if self._still > _STILL:
                return f"the clock stands still for more than {_STILL:g} s"
            return ""
        self._still = 0.0
        self._changed = now_ns, steady
        if passed < -_BACK:
            return f"the clock went back by {-passed:.1f} s"
        if passed > _FORWARD + 2 * gap:
            return f"the clock went forward by {passed - gap:.1f} s"
        return ""


class ProgressWatch:
    """Whether the tip gets to where it has not been within `patience` s.

    Somewhere new is more than 2 cm or 0.15 rad from every place where it was since the watch began:
    so neither trembling nor going to and fro is progress. A person's word to go on is told by
    `begin`; by `act`, that the gripper moves, which counts a few times at one place.
    """

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self._since: float | None = None
        self._acts = 0
        self._places: Array = np.empty((0, 3))
        self._turns: Array = np.empty((0, 3, 3))

    @property
    def running(self) -> bool:
        """Whether it watches."""
        return self._since is not None

    def begin(self, now: float) -> None:
        """Start anew at `now` (s), and forget where the tip has been."""
        self.end()
        self._since = now

    def act(self, now: float) -> None:
        """Start anew where something else than the tip moves, unless it did so for nothing."""
        if self._acts < _ACTS:
            acts = self._acts + 1
            self.begin(now)
            self._acts = acts

    def end(self) -> None:
        """Watch no more."""
        self._since, self._acts = None, 0
        self._places, self._turns = np.empty((0, 3)), np.empty((0, 3, 3))

    def look(self, now: float, tip: Pose) -> bool:
        """Return False if nothing new was reached for longer than the patience."""
        if self._since is None:
            return True
        near = np.linalg.norm(self._places - tip.position, axis=1) <= _NEW_PLACE
        cosine = (np.einsum("kij,ij->k", self._turns, tip.rotation) - 1) / 2
        if not (near & (cosine >= np.cos(_NEW_TURN))).any():
            self._acts = 0 if len(self._places) else self._acts
            self._places = np.vstack((self._places, tip.position))[-_PLACES:]
            self._turns = np.concatenate((self._turns, tip.rotation[None]))[-_PLACES:]
            self._since = now
        return now - self._since <= self.patience
