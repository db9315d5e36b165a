# SPDX-License-Identifier: Apache-2.0
"""The scripted expert: what comes next, as a function of where hand and blocks are now.

It keeps no memory, so any state can be labelled, also one that no expert would have come to. First
it says what it is about (`subgoal`), then what to do for that (`act`); a plan in words is the same:

>>> goal = subgoal(table.state(), Task("pick", "key"))
>>> goal.verb, goal.place, goal.step
('take', array([0.6, 0.1]), 'over')
>>> act(table.state(), goal).translation  # across, and down to the height at which it travels
array([ 0.1 ,  0.1 , -0.07])

A hand travels `over` things at hover height, goes `down` where it is above its place and `up` where
it is too low for its distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pinocchio as pin
from numpy.typing import ArrayLike, NDArray

from rt2_ros.actions import Action
from rt2_ros.sim.scene import AREA_HIGH, AREA_LOW, Placement, rest_height
from rt2_ros.sim.tabletop import GRASP_HEIGHT, HAND_DOWN, ObjectState, TabletopState
from rt2_ros.sim.tasks import ABOVE, BEHIND, CLOSED, PUSHES, Task

Array = NDArray[np.float64]

MAX_STEP = 0.10  # m along each axis
MAX_TURN = 0.25  # rad about each axis
HOVER_HEIGHT = 0.13  # m, fingertips while they travel
CLEAR_HEIGHT = 0.09  # m, fingertips that may travel
CLOSE_RADIUS, CLOSE_HEIGHT = 0.022, GRASP_HEIGHT + 0.015  # m: from here the fingers close
LIFT_TARGET, DONE_HEIGHT = 0.25, 0.20  # m: where a held block goes, and where that is enough
HOLDING = 0.25, 0.60  # closedness of fingers that have a 5 cm block between them
RELEASE_RADIUS, RELEASE_HEIGHT = 0.015, 0.012  # m from where a block goes: the fingers open
PUT_HEIGHT = GRASP_HEIGHT + 2 * rest_height("card")  # m, fingertips: on a card, or just above bare
STACK_HEIGHT = GRASP_HEIGHT + 2 * rest_height("block")  # m, fingertips, on a block
RETREAT_HEIGHT = 0.11  # m, fingertips above what they have put down
PUSH_HEIGHT = 0.025  # m, fingertips while they push
LANE = 0.015  # m aside that a fist may be and still push
BESIDE = 0.09  # m between centres, where room is looked for beside a thing
PUT_BESIDE = 0.075  # m between centres of what is put near each other: nothing else is nearer
CLEARANCE = 0.115  # m at least between what is put down and everything else
_CENTRE_ABOVE_TIP = rest_height("block") - GRASP_HEIGHT
_IN_HAND = 0.03  # m between a held block's centre and where it should be in the hand

# Where a thing is put that shall be near another: unit vectors (x, y) as seen from the robot.
SIDES = {kind.removeprefix("push "): way for kind, way in PUSHES.items()}
VERBS = ("take", "lift", "put", "stack", "leave", "drop", *PUSHES, "open", "close")
STEPS = ("over", "down", "up", "grip", "release", "push", "done")
# Fingertips at the bottom of "down", m; verbs that keep the hand closed; how high "up" goes, m.
_LOW = {"put": PUT_HEIGHT, "stack": STACK_HEIGHT, **dict.fromkeys(PUSHES, PUSH_HEIGHT)}
_CLOSED = ("lift", "put", "stack", "drop", *PUSHES, "close")
_HIGH = {"lift": LIFT_TARGET}


@dataclass(frozen=True, eq=False)
class Subgoal:
    """What comes next.

    verb: one of VERBS. place: (2,) where the fingertips go across the table, m, or from where they
    push. step: one of STEPS.
    """

    verb: str
    place: Array
    step: str


def expert(state: TabletopState, task: Task) -> Action:
    """Return the expert's action for a task on the true state of the table, in the base frame."""
    return act(state, subgoal(state, task))


def act(state: TabletopState, goal: Subgoal) -> Action:
    """Return what to do for a subgoal; nothing but the hand's own state matters.

    A step is at most MAX_STEP along each axis and MAX_TURN about each, back to a hand that points
    down.
    """
    tip = state.tcp.position
    turn = pin.log3(HAND_DOWN @ state.tcp.rotation.T)
    delta = np.zeros(3)
    if goal.step in ("over", "down", "push"):
        delta[:2] = goal.place - tip[:2]
    if goal.step == "push":
        way = np.array(PUSHES[goal.verb])
        delta[:2] += (MAX_STEP - float(delta[:2] @ way)) * way
    if goal.step == "over":
        delta[2] = HOVER_HEIGHT - tip[2]
    elif goal.step in ("down", "push"):
        delta[2] = _LOW.get(goal.verb, GRASP_HEIGHT) - tip[2]
    elif goal.step == "up":
        delta[2] = _HIGH.get(goal.verb, HOVER_HEIGHT) - tip[2]
    closed = (goal.verb in _CLOSED or goal.step == "grip") and goal.step != "release"
    return Action(
        goal.step == "done",
        np.clip(delta, -MAX_STEP, MAX_STEP),
        np.clip(turn, -MAX_TURN, MAX_TURN),
        float(closed),
    )


def subgoal(state: TabletopState, task: Task) -> Subgoal:
    """What comes next in a task.

    Raises:
        KeyError: what it is about is not on the table.
    """
    tip, closed = state.tcp.position, state.closedness
    across = tip[:2].copy()
    if task.kind in Task.GRIPPER:
        there = closed > CLOSED if task.kind == "close" else closed < 1 - CLOSED
        step = "done" if there else {"open": "release", "close": "grip"}[task.kind]
        return Subgoal(task.kind, across, step)
    thing = state.find(task.object)
    held = _held(state)
    if task.kind in PUSHES and held is None:
        return _push(tip, closed, thing, task.kind)
    if task.kind in Task.PLACING and task.placed(state):
        step = "done" if tip[2] > RETREAT_HEIGHT - 0.01 else "up"
        return Subgoal("leave", across, step)
    if held is None:
        return _take(tip, closed, thing)
    if held is not thing or task.kind in PUSHES:
        return Subgoal("drop", across, "release" if tip[2] < CLOSE_HEIGHT else "down")
    if task.kind == "pick":
        return Subgoal("lift", across, "done" if tip[2] > DONE_HEIGHT else "up")
    target = state.find(task.target)
    verb = "stack" if task.kind == "on" and target.kind == "block" else "put"
    place = place_for(state, task)[:2] - (thing.position - tip)[:2]
    if np.linalg.norm(place - tip[:2]) < RELEASE_RADIUS and tip[2] < _LOW[verb] + RELEASE_HEIGHT:
        return Subgoal(verb, place, "release")
    return Subgoal(verb, place, _reach(tip, place))


def _take(tip: Array, closed: float, thing: ObjectState) -> Subgoal:
    place = thing.position[:2]
    if closed >= HOLDING[0]:  # on nothing
        step = "over" if tip[2] > CLEAR_HEIGHT else "up"
    elif np.linalg.norm(place - tip[:2]) < CLOSE_RADIUS and tip[2] < CLOSE_HEIGHT:
        step = "grip"
    else:
        step = _reach(tip, place)
    return Subgoal("take", place, step)


def _push(tip: Array, closed: float, thing: ObjectState, kind: str) -> Subgoal:
    """From behind the block, along the table, until it is at the edge of the area."""
    way, place = np.array(PUSHES[kind]), thing.position[:2]
    away = tip[:2] - place
    along = float(away @ way)
    aside = float(np.linalg.norm(away - along * way))
    start = place - BEHIND * way
    low = tip[2] < CLEAR_HEIGHT / 2
    edge = np.where(way > 0, AREA_HIGH, AREA_LOW)
    if float((place - edge) @ way) > 0:
        return Subgoal(kind, tip[:2].copy(), "done")
    if closed > CLOSED and low and -2 * BEHIND < along < 0 and aside < LANE:
        return Subgoal(kind, start, "push")
    if closed <= CLOSED and not low:
        return Subgoal(kind, start, "grip")
    return Subgoal(kind, start, _reach(tip, start))


def _reach(tip: Array, place: Array) -> str:
    if np.linalg.norm(place - tip[:2]) < ABOVE:
        return "down"
    return "over" if tip[2] > CLEAR_HEIGHT else "up"


def _held(state: TabletopState) -> ObjectState | None:
    """What is in the hand, by where it is and how far the fingers are closed."""
    if not HOLDING[0] <= state.closedness <= HOLDING[1]:
        return None
    hand = state.tcp.position + [0.0, 0.0, _CENTRE_ABOVE_TIP]
    gaps = [(float(np.linalg.norm(o.position - hand)), o) for o in state.objects]
    gap, nearest = min(gaps, key=lambda pair: pair[0], default=(np.inf, None))
    return nearest if gap < _IN_HAND else None


def place_for(state: TabletopState, task: Task) -> Array:
    """Where the object's centre (3,) should come to rest: on the target, or free beside it."""
    thing, target = state.find(task.object), state.find(task.target)
    if task.kind == "on":
        return target.position + [0.0, 0.0, target.half_height + thing.half_height]
    side = side_for(state, task)
    return np.array([*beside(target.position[:2], side, PUT_BESIDE), thing.half_height])


def side_for(state: TabletopState, task: Task) -> str:
    """The side, one of SIDES, of its target to which a task "near" brings its object."""
    thing, target = state.find(task.object), state.find(task.target)
    return free_side(thing.position[:2], target.position[:2], others(state, task.things))[0]


def others(state: TabletopState, things: Sequence[str]) -> list[Array]:
    """Where (2,) everything lies but these things, such as those that a task is about, m."""
    return [o.position[:2] for o in state.objects if o.name not in things]


def beside(target: ArrayLike, side: str, distance: float = BESIDE) -> Array:
    """The place (2,) at a side, one of SIDES, of what lies at `target` (2,), m."""
    return np.asarray(target, dtype=np.float64) + distance * np.array(SIDES[side])


def room(target: ArrayLike, others: ArrayLike) -> dict[str, float]:
    """How much room there is at each side of a target, m: 0 outside of the object area.

    target (2,), others (n, 2): where they lie, m.
    """
    around = np.array([beside(target, side) for side in SIDES])
    others = np.reshape(np.asarray(others, dtype=np.float64), (-1, 2))
    gaps = np.linalg.norm(around[:, None] - others, axis=2).min(axis=1, initial=1.0)
    gaps[((around < AREA_LOW - 0.01) | (around > AREA_HIGH + 0.01)).any(1)] = 0.0
    return dict(zip(SIDES, gaps.tolist(), strict=True))


def open_sides(target: ArrayLike, others: ArrayLike) -> tuple[str, ...]:
    """The sides of a target with CLEARANCE from all the others, in the order of SIDES."""
    return tuple(side for side, gap in room(target, others).items() if gap >= CLEARANCE)


def free_side(thing: ArrayLike, target: ArrayLike, others: ArrayLike) -> tuple[str, float]:
    """The side of a target that a thing should be brought to, and how much room is there, m: the
    nearest of the open ones; where none is open, the one with most room.

    thing, target (2,), others (n, 2): where they lie, m.
    """
    gaps, away = room(target, others), np.asarray(thing, dtype=np.float64)
    sides = open_sides(target, others)
    if sides:
        best = min(sides, key=lambda side: float(np.linalg.norm(beside(target, side) - away)))
    else:
        best = max(gaps, key=lambda side: gaps[side])
    return best, gaps[best]


def free_way(thing: ArrayLike, kind: str, others: ArrayLike) -> bool:
    """Whether a thing (2,) can be pushed: room behind it for a fist, and ahead for what is asked.

    others (n, 2): where the other things lie, m.
    """
    way, place = np.array(PUSHES[kind]), np.asarray(thing, dtype=np.float64)
    others = np.reshape(np.asarray(others, dtype=np.float64), (-1, 2))
    edge = np.where(way > 0, AREA_HIGH, AREA_LOW)
    if float((edge - place) @ way) < 0.08:
        return False
    away = others - place
    along = away @ way
    aside = np.linalg.norm(away - along[:, None] * way, axis=1)
    in_lane = (aside < 0.055) & (along > 0) & (along < 0.16)
    start = np.linalg.norm(others - (place - BEHIND * way), axis=1)
    return not bool(in_lane.any() or (start < 0.07).any())


def has_room(task: Task, layout: Sequence[Placement]) -> bool:
    """Whether a task can be done on a table where its object lies first, then its target."""
    centres = [np.asarray(placement.position)[:2] for placement in layout]
    if task.kind == "near":
        return free_side(centres[0], centres[1], centres[2:])[1] >= CLEARANCE
    return task.kind not in PUSHES or free_way(centres[0], task.kind, centres[1:])
