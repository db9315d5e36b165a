# SPDX-License-Identifier: Apache-2.0
"""Demonstrations without pictures: what the expert does, told in words alone.

    query = StateSource()(np.random.default_rng(7)).queries[0]
    query.prompt   # "Q: what action should the robot take to 拿起钥匙? State: 115 188 95 3. A:"
    query.given    # "Plan: key 38 109 at", and the rest of the answer is asked for

The text alone says all that matters, so there is nothing to render and nothing to look at.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rt2_ros.actions import ActionSpace
from rt2_ros.data import split
from rt2_ros.data.plans import AT, HAS
from rt2_ros.data.robot import RENDERED, SPACE, Demonstration, RobotSource, place, top
from rt2_ros.data.samples import Frame, Query

if TYPE_CHECKING:
    from rt2_ros.sim.camera import CameraPose

NEARBY = 0.7  # share of hands that are within a step's reach of where they go, or little more
HEIGHTS, LOW = (0.015, 0.28), (0.012, 0.06)  # m, fingertips: anywhere, and where they act
_ROOM = rf"(?:.* (?:{'|'.join(HAS)})\b)?"  # as far as what only a picture tells
SEEN = re.compile(rf".*?{AT}\b{_ROOM}")  # what a plan begins with
GOING = re.compile(rf".*?{AT}(?: \d+)+{_ROOM}")  # and where that is on the table


class StateSource:
    """What the expert does, told in words alone: states and the beginnings of plans.

    How a step follows from where the hand is and where the plan says that it goes can be learned
    without a picture, many times faster. What is seen is given; where that is on the table, verb,
    step and action are asked for, and to which side of a target a thing goes.

    On the expert's way most steps are either of full length or hardly any, and tell no more than
    the direction. So many hands are drawn near where they go, and what is on the table where is
    given as well.
    """

    def __init__(self, *, space: ActionSpace = SPACE, queries: int = 3) -> None:
        self.space, self._queries = space, queries
        self._words = RobotSource(space=space)

    def __call__(self, random: np.random.Generator) -> Frame:
        """Some questions without a picture."""
        return Frame(None, tuple(self._draw(random) for _ in range(self._queries)), ())

    def _draw(self, random: np.random.Generator) -> Query:
        from rt2_ros.data.poses import draw_situation
        from rt2_ros.sim.expert import ABOVE, subgoal
        from rt2_ros.sim.tasks import Task

        nearby = random.random() < NEARBY
        while True:
            situation = draw_situation(random, split.ROBOT_NAMES, most=6)
            if situation.task.kind in Task.GRIPPER and (nearby or random.random() < 0.5):
                continue
            if situation.task.kind != "near":
                # What else lies there is not told, so it must not matter.
                told = [p for p in situation.layout if p.name in situation.task.things]
                situation = replace(situation, layout=tuple(told))
            truth = situation.imagined(random)
            if nearby:
                goal = subgoal(truth, situation.task).place
                away = _away(random)
                low = float(np.linalg.norm(away)) < ABOVE and random.random() < 0.5
                tip = np.array([*goal + away, random.uniform(*(LOW if low else HEIGHTS))])
                tip = tip.clip(self.space.state_low[:3], self.space.state_high[:3])
                truth = replace(situation, tip=tip).imagined(random)
            camera = _camera()
            places = {
                o.name: place(camera.project(top(o), RENDERED, RENDERED)) for o in truth.objects
            }
            image = np.zeros((0, 0, 3), np.uint8)
            demo = Demonstration(image, truth.vector.clip(None, 1.0), (), truth, places)
            query = self._words.instruct(random, demo, situation.task)
            given = (GOING if nearby else SEEN).match(query.answer)
            return Query(query.prompt, query.answer, "robot", given=given[0] if given else "")


def _away(random: np.random.Generator) -> NDArray[np.float64]:
    """How far (2,) a hand is from where it goes, m: anything, or clearly close enough to go down
    there, or clearly not.
    """
    from rt2_ros.sim.expert import ABOVE, MAX_STEP

    sort = int(random.integers(3))
    if sort == 0:
        return 1.1 * MAX_STEP * random.uniform(-1, 1, 2)
    angle = random.uniform(-np.pi, np.pi)
    there = random.random() < 0.5
    distance = ABOVE * random.uniform(*((0.0, 0.1 if there else 0.8) if sort == 1 else (1.3, 3.0)))
    return distance * np.array([np.cos(angle), np.sin(angle)])


@cache
def _camera() -> CameraPose:
    """The scene camera where it should be."""
    from rt2_ros.sim.camera import scene_camera

    return scene_camera()
