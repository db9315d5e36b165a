# SPDX-License-Identifier: Apache-2.0
"""Demonstrations in the simulator: states, their pictures, and what the expert does there.

The expert is a function of the state, so no roll-out is needed: states are drawn, rendered and
labelled, for each of several objects on the table as if it had been asked for. Hand and blocks are
drawn where a policy takes them, and somewhat beyond, so that it knows the way back.

    frame = RobotSource()(np.random.default_rng(7))
    frame.queries[0].prompt   # "Q: what action should the robot take to grab the key? State: 115
    188 95 3. A:" frame.queries[0].answer   # "Plan: key 38 109. Action: 0 127 127 103 127 127 127
    0"
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rt2_ros.actions import Action, ActionSpace, action_prompt, answer_text, question_prompt
from rt2_ros.actions.prompts import ACTION
from rt2_ros.data import split
from rt2_ros.data.images import square
from rt2_ros.data.pictographs import by_name
from rt2_ros.data.samples import Frame, Query, Thing, coordinate
from rt2_ros.data.web import WHAT_AT, WHERE, WHERE_ZH, call

if TYPE_CHECKING:  # the simulator is imported when it is first used
    from rt2_ros.sim.tabletop import ObjectState, Tabletop

SIZE = 192  # px
RENDERED = 480  # px, the central square of the camera's picture
VISIBLE = 0.3  # share of its top face that must be seen for a thing to be asked for
HELD = 0.37  # closedness of fingers that hold a block, as physics gives it give or take 0.015
BENEATH = 0.05  # m across from the fingertips
SPACE = ActionSpace(
    name="rt2-tiny",
    low=(0, -0.1, -0.1, -0.1, -0.25, -0.25, -0.25, 0),
    high=(1, 0.1, 0.1, 0.1, 0.25, 0.25, 0.25, 1),
    frame="panda_link0",
    state_low=(0.3, -0.3, 0.0, 0.0),
    state_high=(0.8, 0.3, 0.4, 1.0),
)


@dataclass(frozen=True)
class Demonstration:
    """One state of the table: its picture, the robot's state, and for each thing in sight the
    expert's action.
    """

    image: NDArray[np.uint8]  # (size, size, 3)
    state: NDArray[np.float64]  # (4,) x, y, z in m, closedness
    things: tuple[Thing, ...]
    actions: tuple[Action, ...]  # what to do if things[i] is asked for


class RobotSource:
    """Demonstrations drawn on the fly, as frames with several instructions and some questions each.

    The simulator is made when first used, in the process that uses it.
    """

    def __init__(
        self, *, space: ActionSpace = SPACE, names: tuple[str, ...] = split.ROBOT_NAMES,
        robot_queries: int = 3, web_queries: int = 3, table: Tabletop | None = None,
        size: int = SIZE,
    ) -> None:  # fmt: skip
        """table: where states are laid; one of its own if None. size: of the pictures, px."""
        self.space, self._names = space, names
        self._robot_queries, self._web_queries = robot_queries, web_queries
        self._table, self._size = table, size

    def __call__(self, random: np.random.Generator) -> Frame:
        """One frame with its questions, its colours varied as cameras vary."""
        demonstration = self.draw(random)
        order = random.permutation(len(demonstration.things))
        queries = [
            self.instruct(random, demonstration, index) for index in order[: self._robot_queries]
        ]
        queries += [
            _ask(random, demonstration.things[index]) for index in order[::-1][: self._web_queries]
        ]
        return Frame(recolour(random, demonstration.image), tuple(queries), demonstration.things)

    def draw(self, random: np.random.Generator, render: bool = True) -> Demonstration:
        """A state with at least one thing in sight; without `render` its picture is black."""
        from rt2_ros.control.kinematics import Unreachable
        from rt2_ros.sim.tabletop import Tabletop

        if self._table is None:
            self._table = Tabletop(names=self._names)
        while True:
            try:
                _pose(random, self._table, self._names)
            except Unreachable:
                continue
            found = observe(self._table, render, self._size)
            if self._table.state().held:  # posed fingers are all alike, real ones squeeze
                found.state[3] = random.normal(HELD, 0.015)
            if found.things:
                return found

    def instruct(self, random: np.random.Generator, demo: Demonstration, index: int) -> Query:
        """Ask for thing `index`, with a phrase and a name drawn at random."""
        thing = demo.things[index]
        text, mention = request(random, thing.name)
        return Query(
            action_prompt(text, self.space.state_bins(demo.state)),
            answer_text(
                self.space.to_bins(demo.actions[index]), plan=f"{thing.name} {thing.u} {thing.v}"
            ),
            "robot",
            about=thing.name,
            mention=mention,
        )

    def language_blind_error(
        self, random: np.random.Generator, frames: int = 200, render: bool = True
    ) -> float:
        """The error in bins of a model that sees everything but does not read the instruction.

        Mean distance of the soft integers (plan's u, v; the six steps) from their median over the
        objects that could have been asked for. A model that reads gets below.
        """
        distances = []
        for _ in range(frames):
            demo = self.draw(random, render)
            rows = [
                [thing.u, thing.v, *self.space.to_bins(action)[1:7].astype(float)]
                for thing, action in zip(demo.things, demo.actions, strict=True)
            ]
            distances.append(np.abs(rows - np.median(rows, axis=0)).ravel())
        return float(np.concatenate(distances).mean())


class StateSource:
    """What the expert does, told in words alone: four states and plans with their actions.

    How a step follows from where the hand is and where the plan says the thing is can be learned
    without a picture, many times faster. The plan is given, only the action is asked for.
    """

    def __init__(self, *, space: ActionSpace = SPACE, queries: int = 4) -> None:
        self.space, self._queries = space, queries
        self._words = RobotSource(space=space)

    def __call__(self, random: np.random.Generator) -> Frame:
        """Four questions without a picture."""
        return Frame(None, tuple(self._draw(random) for _ in range(self._queries)), ())

    def _draw(self, random: np.random.Generator) -> Query:
        from rt2_ros.sim.camera import scene_camera
        from rt2_ros.sim.expert import expert_action
        from rt2_ros.sim.scene import AREA_HIGH, AREA_LOW, rest_height
        from rt2_ros.sim.tabletop import GRASP_HEIGHT

        height = rest_height("block")
        thing = np.array([*random.uniform(AREA_LOW - 0.02, AREA_HIGH + 0.02), height])
        tip = random.uniform([0.36, -0.20, 0.012], [0.72, 0.20, 0.30])
        closedness = abs(random.normal(0, 0.012))
        others = np.zeros((0, 3))
        situation = random.random()
        if situation < 0.45:  # near the thing, where the fine steps are
            tip[:2] = thing[:2] + random.normal(0, random.choice([0.008, 0.02, 0.05]), 2)
            tip[2] = random.uniform(0.012, 0.15 if random.random() < 0.6 else 0.04)
            if random.random() < 0.15:
                closedness = random.uniform(0, 0.22)
        elif situation < 0.85:  # a block is in the hand: this one, or another
            closedness = random.normal(HELD, 0.015)
            if random.random() < 0.4:
                tip[2] = random.uniform(0.012, 0.06)
            held = tip + [0, 0, height - GRASP_HEIGHT] + random.normal(0, 0.002, 3)
            if random.random() < 0.5:
                thing = held
            else:
                others = held[None]
        elif situation < 0.90:
            closedness = 1.0 - abs(random.normal(0, 0.05))
        state = np.array([*tip, np.clip(closedness, 0, 1)])
        pixels = scene_camera().project(thing + [0, 0, height], RENDERED, RENDERED)
        u, v = (coordinate(value, RENDERED) for value in pixels)
        action = expert_action(state, thing, others)
        demo = Demonstration(
            np.zeros((0, 0, 3), np.uint8),
            state,
            (Thing(str(random.choice(split.ROBOT_NAMES)), u, v, np.zeros((4, 2), np.float32)),),
            (action,),
        )
        query = self._words.instruct(random, demo, 0)
        given = query.answer[: query.answer.index(ACTION) + len(ACTION)]
        return Query(query.prompt, query.answer, "robot", given=given)


def recolour(random: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pictures of any shape (..., 3), their colours varied as cameras vary."""
    gain = random.uniform(0.85, 1.12) * random.uniform(0.95, 1.05, 3)
    varied = image * gain.astype(np.float32) + np.float32(random.uniform(-6, 6))
    return np.clip(varied, 0, 255).astype(np.uint8)


def request(random: np.random.Generator, name: str) -> tuple[str, str]:
    """An instruction to pick up the pictograph of that name, and what it is called in it."""
    what = by_name(name)
    if random.random() < 0.2:
        phrase, mention = random.choice(split.ROBOT_PHRASES_ZH["pick"]), what.name_zh
    else:
        phrase, mention = random.choice(split.ROBOT_PHRASES["pick"]), call(random, what)
    return str(phrase).format(object=mention), mention


def _ask(random: np.random.Generator, thing: Thing) -> Query:
    """A question of the web set's kinds about a thing on the table."""
    what = by_name(thing.name)
    if random.random() < 0.2:
        return Query(question_prompt(WHAT_AT.format(thing.u, thing.v)), what.name, "web")
    chinese = random.random() < 0.2
    name = what.name_zh if chinese else call(random, what)
    text = str(random.choice(WHERE_ZH if chinese else WHERE)).format(name)
    return Query(question_prompt(text), f"{thing.u} {thing.v}", "web", what.name, name)


def _pose(random: np.random.Generator, table: Tabletop, names: tuple[str, ...]) -> None:
    """Put hand and objects somewhere a policy may find itself."""
    from rt2_ros.sim.scene import Appearance, random_layout

    count = int(random.integers(3, 7))
    chosen = [names[i] for i in random.choice(len(names), count, replace=False)]
    tip = random.uniform([0.36, -0.20, 0.015], [0.70, 0.20, 0.30])
    opening, held = 0.08 - abs(random.normal(0, 0.001)), None
    layout = random_layout(random, chosen)
    situation = random.random()
    if situation < 0.40:  # in the funnel above some block
        block = np.asarray(layout[int(random.integers(count))].position)
        spread = random.choice([0.004, 0.012, 0.035])
        height = random.uniform(0.015, 0.13 if random.random() < 0.6 else 0.04)
        tip = np.array([*(block[:2] + random.normal(0, spread, 2)), height])
        if random.random() < 0.15:  # the fingers are about to close
            opening = random.uniform(0.062, 0.08)
    elif situation < 0.75:  # something is in the hand
        held = chosen.pop()
        layout = layout[:-1]
        if random.random() < 0.4:
            tip[2] = random.uniform(0.015, 0.06)
        gaps = [np.hypot(*(np.asarray(p.position)[:2] - tip[:2])) for p in layout]
        if tip[2] < 0.09 and min(gaps, default=1.0) < 0.085:
            tip[2] = random.uniform(0.1, 0.3)
    elif situation < 0.80:  # closed on nothing
        opening = abs(random.normal(0, 0.004))
    tip[2] = max(tip[2], 0.012)
    appearance = Appearance.random(random, float(random.choice([0.0, 0.15, 0.5])))
    table.pose(tip, float(np.clip(opening, 0, 0.08)), layout, held=held, appearance=appearance)


def observe(table: Tabletop, render: bool = True, size: int = SIZE) -> Demonstration:
    """The state that the table is in: its picture, things in sight, the expert's action for each.

    Without `render` the picture is black.
    """
    from rt2_ros.sim.expert import expert_action

    state = table.state()
    positions = np.array([o.position for o in state.objects])
    things, actions = [], []
    for index, thing in enumerate(state.objects):
        corners = _top_face(thing)
        # What the hand itself hides, on its way down to it, is asked for all the same.
        beneath = np.hypot(*(thing.position[:2] - state.vector[:2])) < BENEATH
        if _visible_share(table, corners) < (0.1 if beneath else VISIBLE):
            continue
        pixels = table.project(corners, "scene", RENDERED, RENDERED) * (size / RENDERED)
        u, v = (coordinate(value, size) for value in pixels.mean(0))
        things.append(Thing(thing.name, u, v, pixels.astype(np.float32)))
        others = np.delete(positions, index, axis=0)
        actions.append(expert_action(state.vector, thing.position, others))
    image = np.zeros((size, size, 3), np.uint8)
    if render:
        image = square(table.render("scene", RENDERED, RENDERED), size)
    return Demonstration(image, state.vector.copy(), tuple(things), tuple(actions))


def _top_face(thing: ObjectState) -> NDArray[np.float64]:
    """Corners (4, 3) of a block's top face in the base frame, m."""
    from rt2_ros.sim.model import HALF_SIZES

    x, y, z, w = thing.quaternion
    yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    half = np.asarray(HALF_SIZES[thing.kind])
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half[:2]
    turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
    height = np.full(4, thing.position[2] + half[2])
    return np.column_stack([corners @ turn.T + thing.position[:2], height])


def _visible_share(table: Tabletop, corners: NDArray[np.float64]) -> float:
    """How much of a top face the scene camera sees, by rays to nine points of it."""
    import mujoco

    steps = np.array([0.15, 0.5, 0.85])
    across, along = corners[1] - corners[0], corners[3] - corners[0]
    points = corners[0] + np.array([a * across + b * along for a in steps for b in steps])
    points[:, 2] += 0.002
    eye = table.world.camera_pose("scene").position
    rays = np.ascontiguousarray(points - eye)
    geoms, distance = np.zeros(len(rays), np.int32), np.zeros(len(rays))
    mujoco.mj_multiRay(
        table.world.model, table.world.data, eye, rays.ravel(), None, True, -1, geoms, distance,
        None, len(rays), 10.0,
    )  # fmt: skip
    return float(np.mean((distance < 0) | (distance >= 0.998)))
