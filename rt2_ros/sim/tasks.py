# SPDX-License-Identifier: Apache-2.0
"""What an instruction asks of the world, and whether the world says it was done.

>>> parse_task("move the apple near the cup", {"apple": "red apple", "cup": "cup"}.__getitem__)
Task(kind='near', object='red apple', target='cup', spared='')
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rt2_ros.sim.tabletop import ObjectState, TabletopState

LIFT_HEIGHT = 0.10  # m above the table that a picked object must be lifted
NEAR = 0.11  # m between centres, across, of what is near each other
ON = 0.035  # m between centres, across, of what lies on each other
STAYED = 0.05  # m that the target of a placing may be moved, less than
BEHIND = 0.075  # m from a thing's centre to where a push of it begins
ABOVE = 0.03  # m across from where a task begins, within which the hand is there
RESTED = 0.2  # s that it stays there, of a hand that does not only pass by
PUSHED = 0.05  # m that a pushed object must have gone its way, and at least twice as far as aside
CLOSED = 0.9  # closedness of a gripper that is told to close, at least; to open: 0.1 at most
# Where a push goes: unit vectors (x, y) in the base frame, as seen from the robot (REP 103).
PUSHES: dict[str, tuple[float, float]] = {
    "push left": (0.0, 1.0), "push right": (0.0, -1.0),
    "push forward": (1.0, 0.0), "push back": (-1.0, 0.0),
}  # fmt: skip
WRONG_HEIGHT = 0.05  # m, an object that nobody asked for counts as taken from here on
_LIFTED = 0.02  # m, an object has left the table
_MOVED = 0.02  # m, fingertips have left their start, or what is spared its place
_LOW = 0.07  # m, fingertips closed below this tried to take something
_BETWEEN = 0.03  # m, an opening of fingers that have something between them
_LYING = 0.015  # m above where it would rest, below which an object lies

_POLITE = r"(?:please\s+)?(?:can you\s+|could you\s+)?"
_THE = r"(?:the\s+|a\s+|an\s+|that\s+)?"
_END = r"(?:,?\s+please)?[.!?]*$"
_WAYS = {
    "left": ("left", "左"), "right": ("right", "右"), "forward": (r"forwards?|away", "前"),
    "back": (r"back(?:wards?)?", "后"),
}  # fmt: skip
# One way of asking: the kind of task, and the names of object and target in it. Placing comes
# first, because "take the apple to the cup" would be a picking as well.
_PATTERNS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        ("open", rf"{_POLITE}open\s+(?:the|your)\s+(?:gripper|hand|fingers){_END}"),
        ("open", r"请?(?:张开|打开)(?:夹爪|手|手爪)[。!！]?$"),
        ("close", rf"{_POLITE}close\s+(?:the|your)\s+(?:gripper|hand|fingers){_END}"),
        ("close", r"请?(?:合上|闭合|关闭)(?:夹爪|手|手爪)[。!！]?$"),
        *((f"push {way}", rf"{_POLITE}(?:push|slide|shove)\s+{_THE}(?P<name>.+?)\s+"
                          rf"(?:to\s+(?:the|your)\s+)?(?:{english}){_END}")
          for way, (english, _) in _WAYS.items()),
        *((f"push {way}", rf"请?[把将](?P<name>.+?)"
                          rf"(?:[向往朝]{chinese}[边面]?推|推[向到]{chinese}[边面])[。!！]?$")
          for way, (_, chinese) in _WAYS.items()),
        *((f"push {way}", rf"请?[向往朝]{chinese}[边面]?推(?P<name>.+?)[。!！]?$")
          for way, (_, chinese) in _WAYS.items()),
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
    """What is to be done, mostly with an object.

    pick: it is held by both fingers, more than 10 cm above where it lay. near: it lies, let go of,
    within 11 cm of the target (centres), which is the thing nearest to it. on: it lies, let go
    of, on the target. For both, the target is not held, and less than 5 cm from where it was. push
    left, right, forward, back: it lies, not held, 5 cm or more that way from where it was, seen
    from the robot. open, close: the gripper is, with nothing in it.

    spared: what must not be touched meanwhile, if anything.
    """

    kind: str
    object: str = ""
    target: str = ""
    spared: str = ""

    KINDS = ("pick", "near", "on", *PUSHES, "open", "close")
    GRIPPER = ("open", "close")  # about no object
    PLACING = ("near", "on")  # an object to a target

    def __post_init__(self) -> None:
        if self.kind not in self.KINDS:
            raise ValueError(f"kind: {self.kind!r}, expected one of {', '.join(self.KINDS)}")
        for field, given, needed in (
            ("object", self.object, self.kind not in self.GRIPPER),
            ("target", self.target, self.kind in self.PLACING),
        ):
            if bool(given) != needed:
                expected = "a name" if needed else "none"
                raise ValueError(f"{field}: {given!r}, expected {expected} for {self.kind!r}")
        if self.object and self.target == self.object:
            raise ValueError(f"target: {self.target!r}, expected another thing than the object")
        if self.spared and self.spared in self.things:
            raise ValueError(f"spared: {self.spared!r}, expected none of {', '.join(self.things)}")

    @property
    def things(self) -> tuple[str, ...]:
        """What has to be on the table for it."""
        return tuple(filter(None, (self.object, self.target)))

    def begins(self, start: TabletopState) -> NDArray[np.float64] | None:
        """Where the hand goes first, (2,) across the table in m: over the thing, or to where a push
        of it begins. None for a task of the gripper alone.
        """
        if self.kind in self.GRIPPER:
            return None
        way = np.array(PUSHES.get(self.kind, (0.0, 0.0)))
        return start.find(self.object).position[:2] - BEHIND * way

    def success(self, state: TabletopState, start: TabletopState) -> bool:
        """Whether the world is as the task asks; start: as it was when the task was given."""
        if self.kind in self.GRIPPER:
            closed = state.closedness
            return closed > CLOSED if self.kind == "close" else closed < 1 - CLOSED
        thing = state.find(self.object)
        if self.kind == "pick":
            return thing.grasped and thing.height > LIFT_HEIGHT
        if self.kind in PUSHES:
            if _between(thing, state):
                return False
            gone = (thing.position - start.find(self.object).position)[:2]
            way = np.array(PUSHES[self.kind])
            along = float(gone @ way)
            aside = float(np.linalg.norm(gone - along * way))
            return along > PUSHED and along > 2 * aside and thing.height < _LYING
        stayed = moved(self.target, state, start) < STAYED
        return self.placed(state) and stayed and not state.find(self.target).grasped

    def placed(self, state: TabletopState) -> bool:
        """Whether a placing's object lies, let go of, at its target, wherever that is by now: what
        the expert goes by, and with it all demonstrations.
        """
        thing = state.find(self.object)
        if thing.grasped:
            return False
        target = state.find(self.target)
        if self.kind == "on":
            return lies_on(thing, target)
        distance = across(thing, target)
        others = [o for o in state.objects if o.name not in (self.object, self.target)]
        nearest = all(across(thing, other) >= distance for other in others)
        return distance < NEAR and nearest and thing.height < _LYING


def moved(name: str, state: TabletopState, start: TabletopState) -> float:
    """How far an object is from where it was, m."""
    return float(np.linalg.norm(state.find(name).position - start.find(name).position))


def across(a: ObjectState, b: ObjectState) -> float:
    """Distance between two objects' centres along the table, m."""
    return float(np.linalg.norm(a.position[:2] - b.position[:2]))


def lies_on(thing: ObjectState, other: ObjectState) -> bool:
    """Whether an object is on another's top, held there or not."""
    lift = float(thing.position[2] - other.position[2])
    bottom = thing.half_height + other.half_height
    return across(thing, other) < ON and abs(lift - bottom) < _LYING


def _between(thing: ObjectState, state: TabletopState) -> bool:
    """Whether an object is between the fingers; both touch it as well where a fist pushes it."""
    return thing.grasped and state.opening > _BETWEEN


def parse_task(instruction: str, object_name: Callable[[str], str]) -> Task:
    """Understand "pick up the X", "move X near Y", "push X left", "拿起X" and the like.

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
        names = match.groupdict()
        try:
            return Task(kind, *(object_name(names[n]) for n in ("name", "target") if n in names))
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

    wrong object: another one was taken, or what is spared was touched, by both fingers or so that
    it moved 2 cm; nothing that comes later makes up for that. dropped: it was taken, and is neither
    held nor where it should be. misplaced: it was let go of, lying, at the wrong place, be that
    another thing's top. missed grasp: the fingers closed, low, and never had anything between them.
    limit hit: most steps ran into a limit of the controller's. stopped early: whoever acted said
    that it was done.
    """

    FAILURES = (
        "wrong object", "misplaced", "dropped", "missed grasp", "limit hit", "never moved",
        "stopped early", "timeout",
    )  # fmt: skip

    def __init__(self, task: Task, state: TabletopState) -> None:
        self.task = task
        for name in filter(None, (*task.things, task.spared)):
            state.find(name)  # KeyError if it is not there
        self._start = self._state = state
        self._steps = self._limited = 0
        self._moved = self._closed = self._gripped = self._lifted = False
        self._wrong = self._touched = self._rested = False
        self._place, self._there_since = task.begins(state), math.inf
        self.gap = 0.0  # s, the longest time from one state watched to the next

    @property
    def reached(self) -> bool | None:
        """Whether the fingertips were where the task begins and stayed, not only passed: the right
        thing was found, whatever came of it. None for a task of the gripper alone.
        """
        return None if self._place is None else self._rested or self._done()

    def watch(self, state: TabletopState, limited: bool = False) -> bool:
        """Take the state after a step; whether the task is fulfilled in it.

        limited: the step ran into a limit of the controller's.
        """
        self.gap = max(self.gap, state.time - self._state.time)
        self._state = state
        self._steps += 1
        self._limited += limited
        tip = state.tcp.position
        self._moved |= bool(np.linalg.norm(tip - self._start.tcp.position) > _MOVED)
        self._closed |= bool(state.closedness > 0.2 and tip[2] < _LOW)
        if self._place is not None and np.linalg.norm(tip[:2] - self._place) < ABOVE:
            self._there_since = min(self._there_since, state.time)
            self._rested |= state.time - self._there_since > RESTED
        else:
            self._there_since = math.inf
        for thing in state.objects:
            asked = thing.name == self.task.object
            self._gripped |= _between(thing, state)
            self._lifted |= asked and thing.grasped and thing.height > _LIFTED
            self._wrong |= not asked and thing.grasped and thing.height > WRONG_HEIGHT
        if spared := self.task.spared:
            away = moved(spared, state, self._start)
            self._touched |= state.find(spared).grasped or away > _MOVED
        return self._done()

    def blind_for(self, seconds: float) -> float:
        """For how long it did not see the world at most, s, where now is `seconds` of its time."""
        return max(self.gap, seconds - self._state.time)

    def verdict(self, stopped: bool = False, limited: bool | None = None) -> Verdict:
        """How it ended, by the last state watched and what went before.

        stopped: whether whoever acted ended it. limited: whether most steps ran into a limit; None:
        as `watch` was told.
        """
        if self._done():
            return Verdict(True, "", self._steps)
        taking = self.task.kind in ("pick", *Task.PLACING)
        let_go = lying = False
        if taking:
            thing = self._state.find(self.task.object)
            let_go = self._lifted and not thing.grasped
            on_top = any(lies_on(thing, other) for other in self._state.objects)
            lying = thing.height < _LYING or on_top
        failures = (
            self._wrong or self._touched,
            self.task.kind in Task.PLACING and let_go and lying,
            let_go,
            taking and self._closed and not self._gripped,
            self._limited > self._steps / 2 if limited is None else limited,
            not self._moved,
            stopped,
            True,
        )
        reason = next(name for name, true in zip(self.FAILURES, failures, strict=True) if true)
        return Verdict(False, reason, self._steps)

    def _done(self) -> bool:
        spoilt = self._wrong or self._touched
        return self.task.success(self._state, self._start) and not spoilt
