# SPDX-License-Identifier: Apache-2.0
"""On whose word the arm acts: the current instruction, and whether its deltas are taken.

>>> mandate = Mandate(patience=8.0)
>>> mandate.follow(0, "", armed=True, now=0.0)   # the policy is seen idle first
'same'
>>> mandate.follow(1, "pick up the apple", armed=True, now=1.0), mandate.live
('new', True)
>>> mandate.follow(1, "pick up the apple", armed=True, now=2.0)
'same'
"""

from __future__ import annotations

import numpy as np

from rt2_ros.control.safety import Delta
from rt2_ros.control.watch import ProgressWatch

_TAKEN_UP = 10.0  # s within which a policy takes up what was said; later nobody expects it any more


class Mandate:
    """Follows the instruction from its beginning to its end.

    number: of the current instruction, 0 if there is none. live: its deltas are taken, unless
    `asking`: a person must say something first. step, stamp_ns: of the delta taken last. progress:
    the watch on it. patience: s that may pass without progress, and for which a person's "go on"
    holds.
    """

    def __init__(self, patience: float) -> None:
        self.live = self.asking = False
        self.step, self.stamp_ns = -1, 0
        self.progress = ProgressWatch(patience)
        self._heard = ""  # the instruction that somebody gave last, until a policy takes it up
        self._heard_time = -np.inf
        self._void: set[str] = set()  # what was said and no policy took up before it was void
        self._seen: set[tuple[int, str]] = set()  # what policies' statuses have said
        self._old = False  # the current instruction was given before
        self._last: int | None = None  # number that the policy's status had
        self._instruction: tuple[int, str] | None = None  # as the policy's status says
        self._trusted_time = -np.inf

    @property
    def number(self) -> int:
        """The current instruction's number, 0 if there is none."""
        return self._instruction[0] if self._instruction else 0

    @property
    def begun(self) -> bool:
        """Whether a delta of this instruction has been accepted."""
        return self.step >= 0

    def hear(self, text: str, now: float) -> None:
        """Note that somebody gives an instruction at `now` (s); an empty text takes it back."""
        text = text.strip()
        if self._heard and self._heard != text:
            self._void.add(self._heard)
        self._void.discard(text)
        self._heard, self._heard_time = text, now

    def follow(self, number: int, text: str, armed: bool, now: float) -> str:
        """Take the policy's word on what it works on; return how that stands to what was.

        "same"; "none", it is idle, or was told so again: then it counts on without an instruction;
        "old", it began before this controller did, or was taken up before, as where two policies
        speak by turns, or only after it was taken back or given long ago, and nobody has given it
        again since; "new". Only a new one that is given while the arm is armed is live.
        """
        if now - self._heard_time > _TAKEN_UP:
            self.hear("", now)
        instruction = (number, text) if number and text.strip() else None
        heard = instruction is not None and text.strip() == self._heard
        known = self._last is None or instruction in self._seen or text.strip() in self._void
        again = number != 0 and self._last not in (None, number)  # 0: a policy that has started
        self._last = number
        if instruction == self._instruction and not again and not (self._old and heard):
            return "same"
        self._instruction = instruction
        self.end()
        if instruction is None:
            return "none"
        self._seen.add(instruction)
        self._old = known and not heard
        if heard:
            self._heard = ""
        self.live = armed and not self._old
        self.step, self.stamp_ns = -1, 0
        return "old" if self._old else "new"

    def take(self, delta: Delta) -> None:
        """Note a delta that was accepted: only later ones may follow."""
        self.step, self.stamp_ns = delta.step, delta.stamp_ns

    def end(self) -> None:
        """Take no more deltas of this instruction."""
        self.live = self.asking = False
        self._trusted_time = -np.inf
        self.progress.end()

    def resume(self, now: float) -> None:
        """A person says: go on."""
        self.asking = False
        if self.progress.running:  # or else with the first decision
            self.progress.begin(now)
        self._trusted_time = now + self.progress.patience

    def is_trusted(self, now: float) -> bool:
        """Whether a person has said so lately that confidence is not asked for."""
        return now < self._trusted_time
