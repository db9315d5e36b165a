# SPDX-License-Identifier: Apache-2.0
"""The scripted expert: what to do next, as a function of where hand and blocks are now.

It keeps no memory, so any state can be labelled, also one that no expert would have come to:

>>> expert_action(state=[0.5, 0, 0.2, 0.0], target=[0.6, 0.1, 0.025]).translation  # over, and down
array([ 0.1 ,  0.1 , -0.07])

Open hand: towards the block through a funnel, at hover height while far and low only above the
block; a hand that is too low for its distance goes up first. Above the block and low: close.
Block in hand: up, and terminate at the top. Another block in hand: put it down, open. Closed on
nothing: open, up, again.
"""

from __future__ import annotations

import numpy as np
import pinocchio as pin
from numpy.typing import ArrayLike, NDArray

from rt2_ros.actions import Action
from rt2_ros.sim.scene import rest_height
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
_CENTRE_ABOVE_TIP = rest_height("block") - GRASP_HEIGHT
_IN_HAND = 0.03  # m between a held block's centre and where it should be in the hand
_TOO_LOW = 0.03  # m below the funnel, from which on the hand only rises


def expert_action(
    state: ArrayLike,
    target: ArrayLike,
    others: ArrayLike = (),
    rotation: ArrayLike = HAND_DOWN,
) -> Action:
    """Return the expert's action, in the base frame.

    state: (4,) fingertips x, y, z in m and closedness 0..1.
    target: (3,) centre of the block that is wanted, m.
    others: (n, 3) centres of the other blocks, m; only whether one is in the hand matters.
    rotation: (3, 3) of the hand, columns are its axes.
    """
    x, y, z, closedness = np.asarray(state, dtype=np.float64)
    tip = np.array([x, y, z])
    target = np.asarray(target, dtype=np.float64)
    turn = pin.log3(HAND_DOWN @ np.asarray(rotation, dtype=np.float64).T)
    turn = np.clip(turn, -MAX_TURN, MAX_TURN)

    def move(delta: ArrayLike, gripper: float, terminate: bool = False) -> Action:
        return Action(terminate, np.clip(delta, -MAX_STEP, MAX_STEP), turn, gripper)

    if closedness < HOLDING[0]:
        return move(*_approach(tip, target))
    if closedness <= HOLDING[1]:
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
    return expert_action(state.vector, target, others, state.tcp.rotation)


def _in_hand(tip: Array, centre: Array) -> bool:
    return bool(np.linalg.norm(centre - tip - [0.0, 0.0, _CENTRE_ABOVE_TIP]) < _IN_HAND)


def _approach(tip: Array, target: Array) -> tuple[Array, float]:
    """Step (3,) and gripper of an open hand."""
    across = target[:2] - tip[:2]
    distance = float(np.linalg.norm(across))
    if distance < CLOSE_RADIUS and tip[2] < CLOSE_HEIGHT:
        return np.zeros(3), 1.0
    wall = np.clip((distance - FUNNEL[0]) / FUNNEL[1], 0.0, 1.0)
    height = GRASP_HEIGHT + wall * (HOVER_HEIGHT - GRASP_HEIGHT)
    clear = np.clip(1.0 - (height - tip[2]) / _TOO_LOW, 0.0, 1.0)
    return np.array([*(clear * across), height - tip[2]]), 0.0
