# SPDX-License-Identifier: Apache-2.0
"""The scripted expert: what to do next, as a function of where hand and blocks are now.

It keeps no memory, so any state can be labelled, also one that no expert would have come to:

>>> expert_action(state=[0.5, 0, 0.2, 0.0], target=[0.6, 0.1, 0.025]).translation  # over, and down
array([ 0.1 ,  0.1 , -0.07])

Open hand: towards the block through a funnel, at hover height while far and low only above the
block; a hand that is too low for its distance goes up first. Above the block and low: close.
Block in hand: up, and terminate at the top; or, where it is to be put somewhere, there at hover
height, down through the same funnel, open, up, terminate. Another block in hand: put it down, open.
Closed on nothing: open, up, again.
"""

from __future__ import annotations

import numpy as np
import pinocchio as pin
from numpy.typing import ArrayLike, NDArray

from rt2_ros.actions import Action
from rt2_ros.sim.scene import AREA_HIGH, AREA_LOW, rest_height
from rt2_ros.sim.tabletop import GRASP_HEIGHT, HAND_DOWN, TabletopState
from rt2_ros.sim.tasks import Task

Array = NDArray[np.float64]

MAX_STEP = 0.10  # m along each axis
MAX_TURN = 0.25  # rad about each axis
HOVER_HEIGHT = 0.13  # m, fingertips while they travel
FUNNEL = 0.03, 0.05  # m: radius within which the hand may be lowest, and width of the funnel's wall
CLOSE_RADIUS, CLOSE_HEIGHT = 0.022, GRASP_HEIGHT + 0.015  # m: from here the fingers close
LIFT_TARGET, DONE_HEIGHT = 0.25, 0.20  # m: where a held block goes, and where that is enough
HOLDING = 0.25, 0.60  # closedness of fingers that have a 5 cm block between them
RELEASE_RADIUS, RELEASE_HEIGHT = 0.015, 0.012  # m from where a block goes: the fingers open
RETREAT_HEIGHT = 0.11  # m, fingertips above what they have put down
BESIDE = 0.09  # m between centres of things that are put near each other
CLEARANCE = 0.095  # m between what is put down and everything else
_CENTRE_ABOVE_TIP = rest_height("block") - GRASP_HEIGHT
_IN_HAND = 0.03  # m between a held block's centre and where it should be in the hand
_TOO_LOW = 0.03  # m below the funnel, from which on the hand only rises


def expert_action(
    state: ArrayLike,
    target: ArrayLike,
    others: ArrayLike = (),
    rotation: ArrayLike = HAND_DOWN,
    goal: ArrayLike | None = None,
    placed: bool = False,
) -> Action:
    """Return the expert's action, in the base frame.

    state: (4,) fingertips x, y, z in m and closedness 0..1.
    target: (3,) centre of the block that is wanted, m.
    others: (n, 3) centres of the other blocks, m; only whether one is in the hand matters.
    rotation: (3, 3) of the hand, columns are its axes.
    goal: (3,) where the block's centre shall come to rest, m; None: it shall be lifted.
    placed: whether it lies where it shall, let go of.
    """
    x, y, z, closedness = np.asarray(state, dtype=np.float64)
    tip = np.array([x, y, z])
    target = np.asarray(target, dtype=np.float64)
    turn = pin.log3(HAND_DOWN @ np.asarray(rotation, dtype=np.float64).T)
    turn = np.clip(turn, -MAX_TURN, MAX_TURN)

    def move(delta: ArrayLike, gripper: float, terminate: bool = False) -> Action:
        return Action(terminate, np.clip(delta, -MAX_STEP, MAX_STEP), turn, gripper)

    if placed:
        done = z > RETREAT_HEIGHT - 0.01
        return move([0.0, 0.0, 0.0 if done else HOVER_HEIGHT - z], 0.0, terminate=done)
    if closedness < HOLDING[0]:
        return move(*_approach(tip, target))
    if closedness <= HOLDING[1]:
        if _in_hand(tip, target) and goal is not None:
            return move(*_place(tip, target, np.asarray(goal, dtype=np.float64)))
        if _in_hand(tip, target):
            if z > DONE_HEIGHT:
                return move(np.zeros(3), 1.0, terminate=True)
            return move([0.0, 0.0, LIFT_TARGET - z], 1.0)
        if any(_in_hand(tip, other) for other in np.reshape(others, (-1, 3))):
            if z < CLOSE_HEIGHT:
                return move(np.zeros(3), 0.0)
            return move([0.0, 0.0, GRASP_HEIGHT - z], 1.0)
    return move([0.0, 0.0, HOVER_HEIGHT - z], 0.0)


def expert(state: TabletopState, task: Task) -> Action:
    """Return the expert's action for a task on the true state of the table."""
    others = [o.position for o in state.objects if o.name != task.object]
    target = state.find(task.object).position
    goal, placed = None, False
    if task.kind != "pick":
        goal, placed = place_for(state, task), task.success(state)
    return expert_action(state.vector, target, others, state.tcp.rotation, goal, placed)


def place_for(state: TabletopState, task: Task) -> Array:
    """Where the object's centre (3,) should come to rest: on the target, or free beside it."""
    thing, target = state.find(task.object), state.find(task.target)
    if task.kind == "on":
        return target.position + [0.0, 0.0, target.half_height + thing.half_height]
    names = (task.object, task.target)
    others = [o.position[:2] for o in state.objects if o.name not in names]
    place, _ = free_place(thing.position[:2], target.position[:2], others)
    return np.array([*place, thing.half_height])


def free_place(thing: ArrayLike, target: ArrayLike, others: ArrayLike) -> tuple[Array, float]:
    """The place (2,) beside a target that is nearest to a thing, and its clearance in m.

    thing, target (2,), others (n, 2): where they lie, m. Of the places within the object area that
    have CLEARANCE from the others; where none has, of those that have most.
    """
    angles = np.arange(16) * (np.pi / 8)
    circle = np.column_stack([np.cos(angles), np.sin(angles)])
    around = np.asarray(target, dtype=np.float64) + BESIDE * circle
    others = np.reshape(np.asarray(others, dtype=np.float64), (-1, 2))
    gaps = np.linalg.norm(around[:, None] - others, axis=2).min(axis=1, initial=1.0)
    gaps[((around < AREA_LOW - 0.01) | (around > AREA_HIGH + 0.01)).any(1)] = 0.0
    distance = np.linalg.norm(around - np.asarray(thing), axis=1)
    free = gaps >= min(CLEARANCE, gaps.max())
    best = int(np.where(free, distance, np.inf).argmin())
    return around[best], float(gaps[best])


def _in_hand(tip: Array, centre: Array) -> bool:
    return bool(np.linalg.norm(centre - tip - [0.0, 0.0, _CENTRE_ABOVE_TIP]) < _IN_HAND)


def _approach(tip: Array, target: Array) -> tuple[Array, float]:
    """Step (3,) and gripper of an open hand."""
    across = target[:2] - tip[:2]
    distance = float(np.linalg.norm(across))
    if distance < CLOSE_RADIUS and tip[2] < CLOSE_HEIGHT:
        return np.zeros(3), 1.0
    return _funnel(tip, across, GRASP_HEIGHT), 0.0


def _funnel(tip: Array, across: Array, low: float) -> Array:
    """Step (3,) towards a place that is `across` (2,) away: low only above it, else at hover height
    over it; a hand that is too low for its distance goes up first.
    """
    wall = np.clip((np.linalg.norm(across) - FUNNEL[0]) / FUNNEL[1], 0.0, 1.0)
    height = low + wall * (HOVER_HEIGHT - GRASP_HEIGHT)
    clear = np.clip(1.0 - (height - tip[2]) / _TOO_LOW, 0.0, 1.0)
    return np.array([*(clear * across), height - tip[2]])


def _place(tip: Array, block: Array, goal: Array) -> tuple[Array, float]:
    """Step (3,) and gripper of a hand that holds the block and puts it at its goal."""
    across = goal[:2] - block[:2]
    distance = float(np.linalg.norm(across))
    low = goal[2] - _CENTRE_ABOVE_TIP
    if distance < RELEASE_RADIUS and tip[2] < low + RELEASE_HEIGHT:
        return np.zeros(3), 0.0
    return _funnel(tip, across, low), 1.0
