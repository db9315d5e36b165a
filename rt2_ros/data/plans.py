# SPDX-License-Identifier: Apache-2.0
"""What the plans of demonstrations say, in words.

A plan first says what is seen: what the task is about, where its top is (u, v in 0..255 over the
picture), and of where it is to be put whether that is flat or high. Then where these are on the
table (x, y in the state's own bins), and how far off the fingertips its object is (x, y in an
action's bins). Then what comes next, as the expert does (`rt2_ros.sim.expert.Subgoal`): for "near"
at which sides of the target there is room and to which of them it goes, the verb, where the
fingertips go if that is not where the thing is, how far off that is, and the step. So each word and
number follows from few that the model has before it: what is in the hand from what is nearly
127 127 off, and most of the action is told already:

    "Plan: key 38 109 cake 120 80 flat at 161 75 150 99 off 124 129 left yes right no forward no
    back yes to left put 151 131 off 104 255 over."

Some prompts remind of what the last plan said of where things are, as a policy's do from its
second decision on: the arm may hide now what was seen then. Now and then that is wrong, as
policies are.

    "Q: what ... ? State: 150 99 80 95. Plan: key 80 97 cake 120 80 flat at 140 88 150 99. A:"
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rt2_ros.actions import Action, ActionSpace, PlanForm
from rt2_ros.data import split

if TYPE_CHECKING:  # the simulator is imported when it is first used
    from rt2_ros.data.samples import Thing
    from rt2_ros.sim.expert import Subgoal
    from rt2_ros.sim.tabletop import TabletopState
    from rt2_ros.sim.tasks import Task

RECALLED = 0.5  # share of prompts that remind of a plan
MISREAD = 0.08  # share of things that a reminder takes for another one
STRAY = 20  # bins that something in the hand may have moved since, standard deviation
BLURRED = 0.3, 12  # share of other things that were seen badly, and by how many bins
AT = " at"  # what stands before a plan's x and y
OFF = "off"  # what stands before how far off that is
TO = "to"  # what stands before the side of a target to which a thing goes
HAS = "no", "yes"  # whether there is room at a side
FLAT, HIGH = "flat", "high"  # a card, a block
# The words of plans beside names, as `rt2_ros.sim.expert` has them: verbs, then steps.
PLAN_WORDS = (
    "take", "lift", "put", "stack", "leave", "drop", "push left", "push right", "push forward",
    "push back", "open", "close", FLAT, HIGH, "at", "over", "down", "up", "grip", "release",
    "push", "done", TO, *HAS, OFF,
)  # fmt: skip


def plan_text(
    goal: Subgoal, task: Task, truth: TabletopState, places: dict[str, tuple[int, int]],
    space: ActionSpace,
) -> str:  # fmt: skip
    """What a task is about and what comes next, in words: "key 38 109 at 161 75 off 0 210 take up".

    places: u, v of things by name.
    """
    from rt2_ros.sim.expert import side_for
    from rt2_ros.sim.tasks import PUSHES

    things = [truth.find(name) for name in task.things]
    seen = [
        _Seen(o.name, places[o.name], across_bins(o.position[:2], space), o.kind == "card")
        for o in things
    ]
    tip, what = truth.tcp.position[:2], list[Any]()
    if things:
        what += [*_seen_words(seen), OFF, *off_bins(things[0].position[:2] - tip, space)]
    if task.kind == "near":
        room = room_around(truth, task.target, task.object)
        what += [word for side, has in room.items() for word in (side, HAS[has])]
        what += [TO, side_for(truth, task)]
    what.append(goal.verb)
    if goal.verb in ("put", "stack", *PUSHES):
        what += [*across_bins(goal.place, space), OFF, *off_bins(goal.place - tip, space)]
    return " ".join(map(str, [*what, goal.step]))


def recall(
    random: np.random.Generator, task: Task, truth: TabletopState,
    places: dict[str, tuple[int, int]], space: ActionSpace,
) -> str:  # fmt: skip
    """What the plan before may have said of where things are: mostly right."""
    from rt2_ros.sim.tasks import PUSHES

    seen = []
    for name in task.things:
        misread = random.random() < MISREAD
        there = truth.objects[int(random.integers(len(truth.objects)))]
        thing = there if misread else truth.find(name)
        moves = name == task.object and (truth.held == name or task.kind in PUSHES)
        share, blur = (0.8, STRAY) if moves else BLURRED
        where = [*places[thing.name], *across_bins(thing.position[:2], space)]
        where = _told(random, where, share, blur)
        seen.append(_Seen(thing.name, where[:2], where[2:], thing.kind == "card"))
    return " ".join(map(str, _seen_words(seen)))


def recall_picture(
    random: np.random.Generator, things: Sequence[Thing], present: Sequence[Thing]
) -> str:
    """The same of things in any picture, as if it were the robot's: without this reminders would
    name the demonstrations' things alone.

    things: what the plan was about. present: all that the picture shows.
    """
    seen = []
    for meant in things:
        misread = random.random() < MISREAD
        thing = present[int(random.integers(len(present)))] if misread else meant
        place = [thing.u, thing.v, *_across(thing.u, thing.v)]
        where = _told(random, place, *BLURRED)
        seen.append(_Seen(thing.name, where[:2], where[2:], random.random() < 0.5))
    return " ".join(map(str, _seen_words(seen)))


def _told(
    random: np.random.Generator, where: Sequence[float], share: float, blur: float
) -> list[int]:
    """What a plan says of where something is; share of those that are off by `blur` bins."""
    spread = blur if random.random() < share else 1.5
    wrong = where + random.normal(0, spread, len(where))
    return list(wrong.round().clip(0, 255).astype(int).tolist())


def _across(u: int, v: int) -> list[float]:
    """What is seen at u, v by the robot's camera lies there on the table: x, y in bins."""
    x, y, scale = _homography() @ [u, v, 1.0]
    return [float(np.clip(value / scale, 0, 255)) for value in (x, y)]


@cache
def _homography() -> NDArray[np.float64]:
    """(3, 3) from u, v to x, y in bins, for the tops of blocks."""
    import cv2

    from rt2_ros.data.robot import RENDERED, SPACE
    from rt2_ros.data.samples import COORDINATES
    from rt2_ros.sim.camera import scene_camera
    from rt2_ros.sim.model import HALF_SIZES
    from rt2_ros.sim.scene import AREA_HIGH, AREA_LOW

    (x0, y0), (x1, y1) = AREA_LOW, AREA_HIGH
    corners = np.array([(x0, y0), (x0, y1), (x1, y0), (x1, y1)])
    height = np.full((4, 1), 2 * HALF_SIZES["block"][2])
    pixels = scene_camera().project(np.hstack([corners, height]), RENDERED, RENDERED)
    bins = [across_bins(corner, SPACE) for corner in corners]
    seen = (pixels * (COORDINATES / RENDERED)).astype(np.float32)
    return np.asarray(cv2.getPerspectiveTransform(seen, np.array(bins, np.float32)))


def room_around(truth: TabletopState, target: str, *moved: str) -> dict[str, bool]:
    """Whether a thing can be put there, for each side of a target.

    moved: what is in nobody's way.
    """
    from rt2_ros.sim.expert import SIDES, open_sides, others

    rest = others(truth, (target, *moved))
    sides = open_sides(truth.find(target).position[:2], rest)
    return {side: side in sides for side in SIDES}


class _Seen(NamedTuple):
    """What a plan says of a thing. place: u, v; across: x, y in the state's bins."""

    name: str
    place: Sequence[int]
    across: Sequence[int]
    flat: bool


def _seen_words(seen: Sequence[_Seen]) -> list[Any]:
    """The first half of a plan: what it is about, then where that is on the table."""
    words: list[Any] = [seen[0].name, *seen[0].place] if seen else []
    for target in seen[1:]:
        words += [target.name, *target.place, FLAT if target.flat else HIGH]
    across = [value for one in seen for value in one.across]
    return [*words, AT.strip(), *across] if seen else []


def across_bins(place: ArrayLike, space: ActionSpace) -> list[int]:
    """A place (2,) on the table, m, as x and y in a space's bins of the state."""
    return space.state_bins([*np.asarray(place), 0.0, 0.0])[:2].tolist()


def off_bins(away: ArrayLike, space: ActionSpace) -> list[int]:
    """How far something is off (2,) across the table, m: x and y in a space's bins of the action,
    which end where its range does.
    """
    action = Action(False, np.array([*np.asarray(away), 0.0]), np.zeros(3), 0.0)
    return space.to_bins(action)[1:3].tolist()


def plan_form() -> PlanForm:
    """What `plan_text` writes of anything that web pictures show.

    In an attempt it lasts which things are meant, where the target is, at which sides of it there
    is room, and to which of them the object goes.
    """
    from rt2_ros.sim.expert import SIDES, STEPS, VERBS

    room = " ".join(f"{side}! <has>!" for side in SIDES)
    return PlanForm(
        "[<thing>! # # [<thing>! #! #! <kind>!] at! # # [#! #!]] | "
        f"[{OFF} # # [{room} {TO} <side>!]] <verb> [# # {OFF} # #] <step>",
        {
            "thing": tuple(what.name for what in split.web_pictographs()),
            "kind": (FLAT, HIGH), "has": HAS, "verb": VERBS, "side": tuple(SIDES), "step": STEPS,
        },
    )  # fmt: skip
