# SPDX-License-Identifier: Apache-2.0
"""What the gripper was told, where its fingers are, and what of a decision is new to it.

>>> gripper = Gripper(profile)
>>> gripper.measure(["finger_joint"], [0.04])
>>> gripper.before(1.0)     # what a decision's closedness is compared with
0.0
>>> gripper.tell(1.0, now=5.0)
True
>>> gripper.settles(now=5.1)
True
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from rt2_ros.control.history import by_name
from rt2_ros.control.profile import RobotProfile

_AJAR = 0.02  # closedness beyond which a hand that is to be open is told so


class Gripper:
    """Closedness is 0 (fully open) to 1. measured: None before the first joint state of it.

    settled_time: when the fingers are where they were told, s of the steady clock; the arm holds
    still until then.
    """

    def __init__(self, profile: RobotProfile) -> None:
        self._profile = profile
        self.measured: float | None = None
        self.settled_time = -np.inf
        self._told: float | None = None  # commanded last, unless that was refused
        self._wanted: float | None = None  # commanded last in any case

    def measure(self, names: Sequence[str], positions: Sequence[float]) -> None:
        """Take a joint state, which need not tell of it: a gripper may report elsewhere."""
        with suppress(ValueError):
            finger = by_name(names, positions, [self._profile.gripper_joint])[0]
            self.measured = self._profile.gripper_closedness(float(finger))

    def settles(self, now: float) -> bool:
        """Whether the fingers still move, as far as they are known to."""
        return now < self.settled_time

    def forget(self) -> None:
        """What it was told counts no more: somebody may have moved the fingers since."""
        self._told = None

    def refused(self) -> None:
        """It did not take its command: the next decision repeats it."""
        self._told, self.settled_time = None, -np.inf

    def tell(self, closedness: float, now: float) -> bool:
        """Note a command; return whether it is another than the last, refused or not."""
        self._told = closedness
        self.settled_time = now + self._profile.gripper_settle
        before, self._wanted = self._wanted, closedness
        return before is None or abs(closedness - before) > self._profile.gripper_deadband

    def before(self, wanted: float) -> float | None:
        """The closedness that a decision's is compared with: what was commanded last, or where the
        fingers are, if nobody knows that; None where it is to be commanded in any case.

        Told to close further, fingers are stopped by what they hold: a decision that says where
        they are leaves them on it. But open is open, however wide that is.
        """
        told, measured = self._told, self.measured
        deadband = self._profile.gripper_deadband
        opens = wanted <= deadband
        if told is None:
            return None if opens and measured is not None and measured > _AJAR else measured
        held = measured is not None and told > wanted and abs(wanted - measured) <= deadband
        return measured if held and not opens else told
