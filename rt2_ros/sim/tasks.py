# SPDX-License-Identifier: Apache-2.0
"""What an instruction asks of the world, and whether the world says it was done.

>>> parse_task("pick up the apple", {"apple": "red apple"}.__getitem__)
Task(kind='pick', object='red apple')
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rt2_ros.sim.tabletop import TabletopState

LIFT_HEIGHT = 0.10  # m above the table that a picked object must be lifted
WRONG_HEIGHT = 0.05  # m, an object that nobody asked for counts as taken from here on
_LIFTED = 0.02  # m, an object has left the table
_MOVED = 0.02  # m, fingertips have left their start
_LOW = 0.07  # m, fingertips closed below this tried to take something

_ENGLISH = re.compile(
    r"(?:please\s+)?(?:can you\s+|could you\s+)?"
    r"(?:pick\s+up|pick|grab|grasp|lift(?:\s+up)?|take|get|fetch|raise|hold)\s+"
    r"(?:up\s+)?(?:the\s+|a\s+|an\s+|that\s+)?(?P<name>.+?)(?:\s+up)?(?:,?\s+please)?[.!?]*$",
    re.IGNORECASE,
)
_CHINESE = (
    re.compile(r"请?(?:拿起来?|拿|抓住|抓起|抓|举起|拾起|捡起|取|夹起)(?P<name>.+?)[。!！]?$"),
    re.compile(r"请?把(?P<name>.+?)(?:拿起来?|抓起来?|举起来?|抓住|捡起来?|夹起来?)[。!！]?$"),
)


class UnknownTask(ValueError):
    """The instruction is none that this world can judge."""


@dataclass(frozen=True)
class Task:
    """Kind 'pick': lift the object of that name between the fingers."""

    kind: str
    object: str

    def __post_init__(self) -> None:
        if self.kind != "pick":
            raise ValueError(f"kind: {self.kind!r}, expected 'pick'")

    def success(self, state: TabletopState) -> bool:
        """Whether the object is held by both fingers, more than 10 cm above where it lay."""
        target = state.find(self.object)
        return target.grasped and target.height > LIFT_HEIGHT


def parse_task(instruction: str, object_name: Callable[[str], str]) -> Task:
    """Understand "pick up the X", "grab X", "拿起X" and the like.

    object_name: turns what a person calls an object into its name; raises KeyError if it cannot.

    Raises:
        UnknownTask: naming the instruction and what was expected.
    """
    text = " ".join(instruction.split())
    for pattern in (_ENGLISH, *_CHINESE):
        match = pattern.fullmatch(text)
        if match is None:
            continue
        try:
            return Task("pick", object_name(match["name"]))
        except KeyError as error:
            reason = error.args[0] if error.args else "unknown object"
            raise UnknownTask(f"instruction {text[:80]!r}: {reason}") from None
    raise UnknownTask(f"instruction {text[:80]!r}: expected one like 'pick up the apple'")


@dataclass(frozen=True)
class Verdict:
    """How an episode ended: reason is '' or one of Judge.FAILURES."""

    success: bool
    reason: str
    steps: int


class Judge:
    """Watches an episode's true states and says how it ended; never asks the policy."""

    FAILURES = ("wrong object", "dropped", "missed grasp", "never moved", "timeout")

    def __init__(self, task: Task, state: TabletopState) -> None:
        self.task = task
        state.find(task.object)  # KeyError if it is not there
        self._start = state.tcp.position
        self._state = state
        self._steps = 0
        self._moved = self._lifted = self._wrong = self._closed = False

    def watch(self, state: TabletopState) -> bool:
        """Take the state after a step; whether the task is fulfilled in it."""
        self._state = state
        self._steps += 1
        tip = state.tcp.position
        self._moved |= bool(np.linalg.norm(tip - self._start) > _MOVED)
        self._closed |= bool(state.closedness > 0.2 and tip[2] < _LOW)
        target = state.find(self.task.object)
        self._lifted |= target.grasped and target.height > _LIFTED
        self._wrong |= any(
            o.grasped and o.height > WRONG_HEIGHT for o in state.objects if o is not target
        )
        return self.task.success(state)

    def verdict(self) -> Verdict:
        """How it ended, by the last state watched and what went before."""
        if self.task.success(self._state):
            return Verdict(True, "", self._steps)
        held = self._state.find(self.task.object).grasped
        failures = (self._wrong, self._lifted and not held, self._closed, not self._moved, True)
        reason = next(name for name, true in zip(self.FAILURES, failures, strict=True) if true)
        return Verdict(False, reason, self._steps)
