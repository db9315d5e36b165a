# SPDX-License-Identifier: Apache-2.0
"""What an instruction asks of the world, and whether the world says it was done.

>>> parse_task("move the apple near the cup", {"apple": "red apple", "cup": "cup"}.__getitem__)
Task(kind='near', object='red apple', target='cup')
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rt2_ros.sim.tabletop import ObjectState, TabletopState

LIFT_HEIGHT = 0.10  # m above the table that a picked object must be lifted
NEAR = 0.11  # m between centres, across, of what is near each other
ON = 0.035  # m between centres, across, of what lies on each other
WRONG_HEIGHT = 0.05  # m, an object that nobody asked for counts as taken from here on
_LIFTED = 0.02  # m, an object has left the table
_MOVED = 0.02  # m, fingertips have left their start
_LOW = 0.07  # m, fingertips closed below this tried to take something
_LYING = 0.015  # m above where it would rest, below which an object lies

_POLITE = r"(?:please\s+)?(?:can you\s+|could you\s+)?"
_THE = r"(?:the\s+|a\s+|an\s+|that\s+)?"
_END = r"(?:,?\s+please)?[.!?]*$"
# One way of asking: the kind of task, and the names of object and target in it. Placing comes
# first, because "take the apple to the cup" would be a picking as well.
_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        ("on", rf"{_POLITE}(?:put|place|set|lay|move|drop)\s+{_THE}(?P<name>.+?)\s+"
               rf"(?:onto|on\s+top\s+of|on)\s+{_THE}(?P<target>.+?){_END}"),
        ("near", rf"{_POLITE}(?:put|place|set|move|bring|take)\s+{_THE}(?P<name>.+?)\s+"
                 rf"(?:near|next\s+to|beside|close\s+to|to|by)\s+{_THE}(?P<target>.+?){_END}"),
        ("on", r"请?[把将](?P<name>.+?)(?:放到|放在|移到|移动到)(?P<target>.+?)"
               r"(?:上面|上)[。!！]?$"),
        ("near", r"请?[把将](?P<name>.+?)(?:放到|放在|移到|移动到|拿到)(?P<target>.+?)"
                 r"(?:旁边|附近|旁)?[。!！]?$"),
        ("pick", rf"{_POLITE}(?:pick\s+up|pick|grab|grasp|lift(?:\s+up)?|take|get|fetch|raise|hold)"
                 rf"\s+(?:up\s+)?{_THE}(?P<name>.+?)(?:\s+up)?{_END}"),
        ("pick", r"请?(?:拿起来?|拿|抓住|抓起|抓|举起|拾起|捡起|取|夹起)(?P<name>.+?)[。!！]?$"),
        ("pick", r"请?把(?P<name>.+?)(?:拿起来?|抓起来?|举起来?|抓住|捡起来?|夹起来?)[。!！]?$"),
    )
)  # fmt: skip


class UnknownTask(ValueError):
    """The instruction is none that this world can judge."""


@dataclass(frozen=True)
class Task:
    """What is to be done with an object.

    pick: it is held by both fingers, more than 10 cm above where it lay. near: it lies, let go of,
    within 11 cm of the target (centres), which is the thing nearest to it. on: it lies, let go
    of, on the target.
    """

    kind: str
    object: str
    target: str = ""

    KINDS = ("pick", "near", "on")

    def __post_init__(self) -> None:
        if self.kind not in self.KINDS:
            raise ValueError(f"kind: {self.kind!r}, expected one of {', '.join(self.KINDS)}")
        if (self.kind == "pick") != (self.target == ""):
            expected = "none" if self.kind == "pick" else "a name"
            raise ValueError(f"target: {self.target!r}, expected {expected} for {self.kind!r}")
        if self.target == self.object:
            raise ValueError(f"target: {self.target!r}, expected another thing than the object")

    def success(self, state: TabletopState) -> bool:
        """Whether the world is as the task asks."""
        thing = state.find(self.object)
        if self.kind == "pick":
            return thing.grasped and thing.height > LIFT_HEIGHT
        if thing.grasped:
            return False
        target = state.find(self.target)
        distance = across(thing, target)
        if self.kind == "on":
            lift = float(thing.position[2] - target.position[2])
            bottom = thing.half_height + target.half_height
            return distance < ON and abs(lift - bottom) < _LYING
        others = [o for o in state.objects if o.name not in (self.object, self.target)]
        nearest = all(across(thing, other) >= distance for other in others)
        return distance < NEAR and nearest and thing.height < _LYING


def across(a: ObjectState, b: ObjectState) -> float:
    """Distance between two objects' centres along the table, m."""
    return float(np.linalg.norm(a.position[:2] - b.position[:2]))


def parse_task(instruction: str, object_name: Callable[[str], str]) -> Task:
    """Understand "pick up the X", "move X near Y", "put X on Y", "拿起X" and the like.

    object_name: turns what a person calls an object into its name; raises KeyError if it cannot.

    Raises:
        UnknownTask: naming the instruction and what was expected.
    """
    text = " ".join(instruction.split())
    reason = ""
    for kind, pattern in _PATTERNS:
        match = pattern.fullmatch(text)
        if match is None:
            continue
        try:
            target = "" if kind == "pick" else object_name(match["target"])
            return Task(kind, object_name(match["name"]), target)
        except KeyError as error:  # another reading may fit: "take the piece of cake on a plate"
            reason = reason or str(error.args[0] if error.args else "unknown object")
    if reason:
        raise UnknownTask(f"instruction {text[:80]!r}: {reason}")
    raise UnknownTask(f"instruction {text[:80]!r}: expected one like 'pick up the apple'")


@dataclass(frozen=True)
class Verdict:
    """How an episode ended: reason is '' or one of Judge.FAILURES."""

    success: bool
    reason: str
    steps: int


class Judge:
    """Watches an episode's true states and says how it ended; never asks the policy.

    wrong object: another one was taken. dropped: it was taken, and is neither held nor where it
    should be. misplaced: it was let go of, lying, at the wrong place. missed grasp: the fingers
    closed, low, on nothing. limit hit: most steps ran into a limit of the controller's.
    """

    FAILURES = (
        "wrong object", "misplaced", "dropped", "missed grasp", "limit hit", "never moved",
        "timeout",
    )  # fmt: skip

    def __init__(self, task: Task, state: TabletopState) -> None:
        self.task = task
        for name in (task.object, task.target):
            if name:
                state.find(name)  # KeyError if it is not there
        self._start = state.tcp.position
        self._state = state
        self._steps = self._limited = 0
        self._moved = self._lifted = self._wrong = self._closed = False

    def watch(self, state: TabletopState, limited: bool = False) -> bool:
        """Take the state after a step; whether the task is fulfilled in it.

        limited: the step ran into a limit (workspace, joints, collision, time-to-live).
        """
        self._state = state
        self._steps += 1
        self._limited += limited
        tip = state.tcp.position
        self._moved |= bool(np.linalg.norm(tip - self._start) > _MOVED)
        self._closed |= bool(state.closedness > 0.2 and tip[2] < _LOW)
        thing = state.find(self.task.object)
        self._lifted |= thing.grasped and thing.height > _LIFTED
        self._wrong |= any(
            o.grasped and o.height > WRONG_HEIGHT for o in state.objects if o is not thing
        )
        return self.task.success(state)

    def verdict(self) -> Verdict:
        """How it ended, by the last state watched and what went before."""
        if self.task.success(self._state):
            return Verdict(True, "", self._steps)
        thing = self._state.find(self.task.object)
        let_go = self._lifted and not thing.grasped
        placing = self.task.kind != "pick"
        failures = (
            self._wrong,
            placing and let_go and thing.height < _LYING,
            let_go,
            self._closed and not self._lifted,
            self._limited > self._steps / 2,
            not self._moved,
            True,
        )
        reason = next(name for name, true in zip(self.FAILURES, failures, strict=True) if true)
        return Verdict(False, reason, self._steps)
