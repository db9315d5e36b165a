# SPDX-License-Identifier: Apache-2.0
"""Where the arm goes, from the targets of the last decisions: the newest alone, an average of
several, or either one filtered.

>>> targets = Targets(smoothing_time=0.1, horizon=3, decay=0.7)
>>> targets.add(pose, expiry=2.8)
>>> targets.goal(now=2.01, tip=where_the_tip_is)  # asked for at the control rate

Averaging is the temporal ensembling of ACT (arXiv 2304.13705) for a policy that gives one step at a
time: each decision's target is a guess of where the tip should be, and those that still live are
averaged. Unlike there the newest weighs most, for it has seen most. The exponential filter follows
that average with a time constant. Both cost delay, and are off by default.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import pinocchio as pin

from rt2_ros.control.pose import Pose


@dataclass(frozen=True, eq=False)
class _Guess:
    pose: Pose
    expiry: float


class Targets:
    """The targets of the last `horizon` decisions, weighted exp(-decay * k) from the newest back,
    and an exponential filter of time constant `smoothing_time` s behind them.
    """

    def __init__(self, smoothing_time: float, horizon: int, decay: float) -> None:
        self.active = horizon > 1 or smoothing_time > 0
        self._smoothing_time, self._decay = smoothing_time, decay
        self._guesses: deque[_Guess] = deque(maxlen=horizon)  # newest first
        self._filtered: tuple[float, Pose] | None = None  # when, and where

    def clear(self) -> None:
        """Forget everything: the arm stops, or has a new instruction."""
        self._guesses.clear()
        self._filtered = None

    def add(self, target: Pose, expiry: float) -> None:
        """Take a decision's target; it counts until `expiry` (s), or a newer one has come."""
        self._guesses.appendleft(_Guess(target, expiry))

    def goal(self, now: float, tip: Pose) -> Pose | None:
        """Return where to go at time `now` (s), None without a target.

        tip: where the filter begins.
        """
        if not self._guesses:
            return None
        mean = self._mean(now)
        if self._smoothing_time == 0:
            return mean
        since, last = self._filtered or (now, tip)
        share = 1 - np.exp(-(now - since) / self._smoothing_time)
        step, turn = last.delta_to(mean)
        goal = last.compose_delta(share * step, share * turn)
        self._filtered = now, goal
        return goal

    def _mean(self, now: float) -> Pose:
        """Average in the tangent space of the newest; it counts even if it has expired."""
        newest = self._guesses[0].pose
        weights, translation, rotation = 1.0, np.zeros(3), np.zeros(3)
        for k, guess in enumerate(self._guesses):
            if k == 0 or guess.expiry <= now:
                continue
            weight = float(np.exp(-self._decay * k))
            weights += weight
            translation += weight * (guess.pose.position - newest.position)
            rotation += weight * pin.log3(guess.pose.rotation @ newest.rotation.T)
        return newest.compose_delta(translation / weights, rotation / weights)
