# SPDX-License-Identifier: Apache-2.0
"""Where a policy may find itself: tasks, and tables with a hand in the middle of them.

    situation = draw_situation(random, split.ROBOT_NAMES)
    situation.task                   # Task("on", "key", "birthday cake")
    situation.lay(table, look)       # hand and objects as drawn, for a picture
    situation.imagined(random)       # the same as a state of the table, without a simulator

Hand and blocks are drawn where the expert takes them, and somewhat beyond, so that a policy knows
the way back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rt2_ros.control.pose import Pose
from rt2_ros.sim.expert import (
    BEHIND,
    PUSH_HEIGHT,
    PUT_BESIDE,
    PUT_HEIGHT,
    STACK_HEIGHT,
    beside,
    free_side,
    has_room,
)
from rt2_ros.sim.scene import (
    APART,
    AREA_HIGH,
    AREA_LOW,
    Appearance,
    Placement,
    random_layout,
    rest_height,
)
from rt2_ros.sim.tabletop import GRASP_HEIGHT, HAND_DOWN, ObjectState, TabletopState
from rt2_ros.sim.tasks import PUSHES, Task
from rt2_ros.sim.world import MAX_OPENING

if TYPE_CHECKING:
    from rt2_ros.sim.tabletop import Tabletop

Array = NDArray[np.float64]

HELD = 0.26, 0.40  # closedness of fingers that hold a block: they squeeze it for some seconds
# How often each kind of task is asked for.
KINDS: dict[str, float] = {
    "pick": 0.14, "near": 0.34, "on": 0.26, **dict.fromkeys(PUSHES, 0.055), "open": 0.02,
    "close": 0.02,
}  # fmt: skip
_TIP_LOW, _TIP_HIGH = np.array([0.36, -0.20, 0.015]), np.array([0.72, 0.20, 0.30])
_LOWEST = 0.012  # m, fingertips
_SPREADS = 0.001, 0.004, 0.012, 0.035  # m off where the hand should be: there, and the way there


@dataclass(frozen=True, eq=False)
class Situation:
    """A task in progress. tip: (3,) fingertips in m; opening: m between them; held: the name of
    what is in the hand, "" for nothing, which is then not in the layout.
    """

    task: Task
    tip: Array
    opening: float
    layout: tuple[Placement, ...]
    held: str = ""

    def lay(self, table: Tabletop, appearance: Appearance) -> None:
        """Put it on a table. Raises Unreachable where the arm does not get there."""
        table.pose(
            self.tip, self.opening, self.layout, held=self.held or None, appearance=appearance
        )

    def imagined(self, random: np.random.Generator) -> TabletopState:
        """The state of such a table, a held block a little off as in real fingers."""
        placed = list(self.layout)
        if self.held:
            centre = self.tip + [0.0, 0.0, rest_height("block") - GRASP_HEIGHT]
            placed.append(Placement(self.held, centre + random.normal(0, 0.002, 3)))
        upright = np.array([0.0, 0.0, 0.0, 1.0])
        objects = tuple(
            ObjectState(p.name, p.kind, np.asarray(p.position), upright, p.name == self.held)
            for p in placed
        )
        opening = MAX_OPENING * (1 - random.uniform(*HELD)) if self.held else self.opening
        return TabletopState(0.0, 0, objects, Pose(self.tip, HAND_DOWN), opening, np.zeros(9))


def draw_kind(random: np.random.Generator, tasks: Sequence[str]) -> str:
    """One of these kinds of task, as often as KINDS says among them."""
    weights = np.array([KINDS[kind] for kind in tasks])
    return str(random.choice(list(tasks), p=weights / weights.sum()))


def draw_layout(
    random: np.random.Generator, kind: str, names: Sequence[str], most: int = 6
) -> tuple[Task, tuple[Placement, ...]]:
    """A task of this kind and a table on which it can be done, its object first, then its target.

    Three to `most` things; a target is a card or a block, and other cards may lie there.
    """
    count = int(random.integers(3, most + 1))
    placing = kind in Task.PLACING
    while True:
        chosen = [str(name) for name in random.permutation(list(names))[:count]]
        card = random.random(count) < (0.35 if placing else 0.1)
        card[:2] = False, placing and random.random() < 0.6
        kinds = ["card" if flat else "block" for flat in card]
        layout = random_layout(random, chosen, kinds, APART if placing else 0.0)
        named = chosen[: 0 if kind in Task.GRIPPER else 2 if placing else 1]
        task = Task(kind, *named)
        if has_room(task, layout):
            return task, layout


def draw_situation(
    random: np.random.Generator, names: Sequence[str], tasks: Sequence[str] = tuple(KINDS),
    most: int = 6,
) -> Situation:  # fmt: skip
    """A task of one of these kinds somewhere on the expert's way, or off it."""
    kind = draw_kind(random, tasks)
    task, layout = draw_layout(random, kind, names, most)
    tip = random.uniform(_TIP_LOW, _TIP_HIGH)
    opening = MAX_OPENING - _slack(random, 0.001)
    found = Situation(task, tip, opening, layout)
    stray = random.random()
    if kind in Task.GRIPPER:
        share = float(random.choice([0.0, 1.0, random.random()]))
        found = replace(found, opening=MAX_OPENING * share)
    elif stray < 0.04:
        found = replace(found, opening=_slack(random, 0.004))  # closed on nothing
    elif stray < 0.09 and layout[-1].kind == "block" and len(layout) > 2:
        found = replace(found, held=layout[-1].name, layout=layout[:-1])  # something else in hand
        if random.random() < 0.5:
            found.tip[2] = random.uniform(0.015, 0.06)
    elif kind in PUSHES:
        found = _pushing(random, found)
    elif kind == "pick" and random.random() < 0.4:
        found = replace(found, held=task.object, layout=layout[1:])
        if random.random() < 0.4:
            found.tip[2] = random.uniform(0.015, 0.06)
    elif kind in Task.PLACING and random.random() < 0.8:
        found = _placing(random, found)
    elif random.random() < 0.75:
        found = _above(random, found, np.asarray(layout[0].position), 0.015)
    return _apart(random, found)


def _slack(random: np.random.Generator, spread: float) -> float:
    """How far fingers are from where they stop, m: half of the time not at all."""
    return abs(random.normal(0, spread)) if random.random() < 0.5 else 0.0


def _above(random: np.random.Generator, found: Situation, place: Array, low: float) -> Situation:
    """An open hand above a thing, or on it."""
    spread = random.choice(_SPREADS)
    height = low + random.uniform(0.0, 0.12 if random.random() < 0.6 else 0.025)
    tip = np.array([*(place[:2] + random.normal(0, spread, 2)), height])
    closing = random.uniform(0.062, 0.08) if random.random() < 0.15 else found.opening
    return replace(found, tip=tip, opening=closing)


def _placing(random: np.random.Generator, found: Situation) -> Situation:
    """A thing in the hand, on its way to where it shall be, or just let go of there."""
    task, layout = found.task, found.layout
    thing, target = (np.asarray(placement.position) for placement in layout[:2])
    stacked = task.kind == "on" and layout[1].kind == "block"
    goal = target[:2]
    if task.kind == "near":
        others = [np.asarray(p.position)[:2] for p in layout[2:]]
        toward = goal + random.normal(0, 0.2, 2)  # from wherever it is brought
        goal = beside(goal, free_side(toward, goal, others)[0], PUT_BESIDE)
    low = (STACK_HEIGHT if stacked else PUT_HEIGHT) - 0.002  # as it sinks in the hand
    if random.random() < 0.2:  # there, and let go of
        height = thing[2] + (2 * rest_height(layout[1].kind) if task.kind == "on" else 0.0)
        spread = random.choice([0.006, 0.02])  # the larger one fails now and then
        put = Placement(layout[0].name, np.array([*(goal + random.normal(0, spread, 2)), height]))
        opening = found.opening if random.random() < 0.7 else random.uniform(0.054, 0.08)
        tip = np.asarray(put.position) + [*random.normal(0, 0.006, 2), GRASP_HEIGHT - thing[2]]
        tip[2] += random.uniform(0, 0.12) if random.random() < 0.7 else 0.0
        return replace(found, tip=tip, opening=opening, layout=(put, *layout[1:]))
    tip = found.tip
    if random.random() < 0.7:  # where the hand hides what it comes to
        spread = random.choice(_SPREADS)
        height = low + random.uniform(0.0, 0.12 if random.random() < 0.5 else 0.025)
        tip = np.array([*(goal + random.normal(0, spread, 2)), height])
    elif random.random() < 0.3:
        tip[2] = random.uniform(0.015, 0.06)
    return replace(found, tip=tip, held=task.object, layout=layout[1:])


def _pushing(random: np.random.Generator, found: Situation) -> Situation:
    """A fist behind a block, or on its way there."""
    way = np.array(PUSHES[found.task.kind])
    block, *others = found.layout
    place = np.asarray(block.position).copy()
    if random.random() < 0.12:  # at its end: the block is at the edge
        edge = np.where(way > 0, AREA_HIGH, AREA_LOW)
        place[:2] += way * (float((edge - place[:2]) @ way) + random.uniform(0.002, 0.03))
    opening, sort = _slack(random, 0.002), random.random()
    if sort > 0.85:  # open, or closing
        opening = found.opening if sort < 0.95 else random.uniform(0.1, 0.3) * MAX_OPENING
    tip = found.tip
    if random.random() < 0.75:
        behind = random.uniform(0.035, 0.12) if random.random() < 0.6 else BEHIND
        aside = random.normal(0, random.choice(_SPREADS))
        if random.random() < 0.2:  # it has come to another side
            angle, distance = random.uniform(-np.pi, np.pi), random.uniform(0.037, 0.12)
            behind, aside = distance * np.cos(angle), distance * np.sin(angle)
        low = random.random() < 0.7
        height = PUSH_HEIGHT + random.normal(0, 0.005) if low else random.uniform(0.02, 0.16)
        across = place[:2] - behind * way + aside * np.array([way[1], way[0]])
        tip = np.array([*across, height])
    return replace(
        found, tip=tip, opening=opening, layout=(block._replace(position=place), *others)
    )


def _apart(random: np.random.Generator, found: Situation) -> Situation:
    """The same, with a hand that is in nothing: raised where it would be."""
    tip = found.tip
    tip[2] = max(tip[2], _LOWEST)
    fist = found.opening < 0.02 and not found.held
    for name, position, _, kind in found.layout:
        away = np.abs(np.asarray(position)[:2] - tip[:2])
        if found.held and away.max() < 0.055:
            if kind == "card":
                tip[2] = max(tip[2], PUT_HEIGHT)
            elif name == found.task.target and away.max() < 0.04:
                tip[2] = max(tip[2], STACK_HEIGHT)
            elif tip[2] < STACK_HEIGHT + 0.005:
                tip[2] = random.uniform(0.09, 0.25)
        elif fist and away.max() < 0.033 and tip[2] < 2 * position[2]:
            tip[2] = random.uniform(0.07, 0.25)
    return found
