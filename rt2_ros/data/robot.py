# SPDX-License-Identifier: Apache-2.0
"""Demonstrations in the simulator: states, their pictures, and what the expert does there.

The expert is a function of the state, so no roll-out is needed: states are drawn, rendered and
labelled, for several tasks each, as if it had been asked for them.

    frame = RobotSource()(np.random.default_rng(7))
    frame.queries[0].prompt
    # "Q: what action should the robot take to grab the key? State: 115 188 95 3. A:"
    frame.queries[0].answer
    # "Plan: key 38 109 at 161 75 off 255 0 take over. Action: 0 255 0 103 127 127 127 0"

What plans say is in `rt2_ros.data.plans`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rt2_ros.actions import ActionSpace, action_prompt, answer_text
from rt2_ros.data import split
from rt2_ros.data.images import square
from rt2_ros.data.pictographs import by_name
from rt2_ros.data.plans import RECALLED, plan_form, plan_text, recall, room_around
from rt2_ros.data.samples import Frame, Query, Thing, coordinate
from rt2_ros.data.web import call, where_query

if TYPE_CHECKING:  # the simulator is imported when it is first used
    from rt2_ros.sim.tabletop import ObjectState, Tabletop, TabletopState
    from rt2_ros.sim.tasks import Task

SIZE = 192  # px
RENDERED = 480  # px, the central square of the camera's picture
VISIBLE = 0.2  # share of its top face that is seen of a thing in sight
STRENGTHS = 0.0, 0.3, 0.6, 1.0  # of appearances, as often as each other
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
    """One state of the table and its picture.

    image: (size, size, 3). state: (4,) x, y, z in m, closedness. things: those in sight. truth:
    what the expert goes by. places: u, v of everything that lies there, hidden or not, by name.
    task: what the state was drawn for, None where it was found so.
    """

    image: NDArray[np.uint8]
    state: NDArray[np.float64]
    things: tuple[Thing, ...]
    truth: TabletopState
    places: dict[str, tuple[int, int]]
    task: Task | None = None


class RobotSource:
    """Demonstrations drawn on the fly, as frames with several instructions and some questions each.

    The simulator is made when first used, in the process that uses it.
    """

    plans = True  # answers begin with one

    def __init__(
        self, *, space: ActionSpace = SPACE, names: tuple[str, ...] = split.ROBOT_NAMES,
        tasks: Sequence[str] = (), robot_queries: int = 3, web_queries: int = 1,
        table: Tabletop | None = None, size: int = SIZE,
    ) -> None:  # fmt: skip
        """tasks: kinds that are asked for, all if none are given; ValueError where one is unknown.

        table: where states are laid; one of its own if None. size: of the pictures, px.
        """
        unknown = sorted(set(tasks) - set(split.ROBOT_PHRASES))
        if unknown:
            raise ValueError(f"tasks: {unknown[0]!r}; expected {', '.join(split.ROBOT_PHRASES)}")
        self.space, self._names, self.plan_form = space, names, plan_form()
        self._tasks = tuple(tasks) or tuple(split.ROBOT_PHRASES)
        self._robot_queries, self._web_queries = robot_queries, web_queries
        self.table, self.size = table, size

    def __call__(self, random: np.random.Generator) -> Frame:
        """One frame with its questions, its colours varied as cameras vary."""
        demo = self.draw(random)
        assert demo.task is not None
        tasks = [demo.task, *self.others(random, demo, self._robot_queries - 1)]
        queries = [self.instruct(random, demo, task, RECALLED) for task in tasks]
        present = [by_name(thing.name) for thing in demo.things]
        for index in random.permutation(len(demo.things))[: self._web_queries]:
            queries.append(where_query(random, demo.things[index], present))
        order = random.permutation(len(queries))
        image = recolour(random, demo.image)
        return Frame(image, tuple(queries[i] for i in order), demo.things)

    def draw(self, random: np.random.Generator, render: bool = True) -> Demonstration:
        """A state drawn for a task; without `render` its picture is black.

        What the task is about may be hidden by the arm, as in life: where it is then follows from
        where the arm is, roughly.
        """
        from rt2_ros.control.kinematics import Unreachable
        from rt2_ros.data.poses import HELD, draw_situation
        from rt2_ros.sim.scene import Appearance
        from rt2_ros.sim.tabletop import Tabletop

        if self.table is None:
            self.table = Tabletop()
        while True:
            situation = draw_situation(random, self._names, self._tasks)
            appearance = Appearance.random(random, float(random.choice(STRENGTHS)))
            try:
                situation.lay(self.table, appearance)
            except Unreachable:
                continue
            found = observe(self.table, render, self.size, situation.task)
            if situation.held:  # posed fingers are all alike, real ones squeeze
                found.state[3] = random.uniform(*HELD)
            if found.things:
                return found

    def others(
        self, random: np.random.Generator, demo: Demonstration, count: int
    ) -> tuple[Task, ...]:
        """Further tasks that could be asked for in this state; fewer where few can."""
        from rt2_ros.data.poses import draw_kind
        from rt2_ros.sim.expert import free_way
        from rt2_ros.sim.tasks import PUSHES, Task, lies_on

        blocks = [o for o in demo.truth.objects if o.kind == "block"]
        held = demo.truth.held
        found: list[Task] = []
        for _ in range(6 * count):
            if len(found) == count:
                break
            kind = draw_kind(random, self._tasks)
            if kind in Task.GRIPPER:
                continue
            block = blocks[int(random.integers(len(blocks)))]
            name = held if held and random.random() < 0.6 else block.name
            rest = [o for o in demo.truth.objects if o.name != name]
            laden = {
                below.name
                for below in demo.truth.objects
                if any(lies_on(o, below) for o in rest if o is not below)
            }
            if name in laden:
                continue
            if kind in PUSHES:
                places = [o.position[:2] for o in rest]
                if not free_way(demo.truth.find(name).position[:2], kind, places):
                    continue
            names = [name]
            if kind in Task.PLACING:
                # The expert would put it into what lies there.
                targets = [o for o in rest if kind != "on" or o.name not in laden]
                if not targets:
                    continue
                names.append(targets[int(random.integers(len(targets)))].name)
            task = Task(kind, *names)
            if task not in (demo.task, *found):
                found.append(task)
        return tuple(found)

    def instruct(
        self, random: np.random.Generator, demo: Demonstration, task: Task, reminded: float = 0.0
    ) -> Query:
        """Ask for a task, with a phrase and names drawn at random.

        reminded: how likely the prompt reminds of the plan before.
        """
        from rt2_ros.sim.expert import act, subgoal

        text, mentions = request(random, task, typos=True)
        goal = subgoal(demo.truth, task)
        bins = self.space.state_bins(demo.state)
        recalled = ""
        if random.random() < reminded:
            recalled = recall(random, task, demo.truth, demo.places, self.space)
        first, second = (*mentions, ("", ""), ("", ""))[:2]
        rest = [by_name(o.name) for o in demo.truth.objects if o.name not in task.things]
        return Query(
            action_prompt(split.words_around(random, text, rest), bins, recalled),
            answer_text(
                self.space.to_bins(act(demo.truth, goal)),
                plan_text(goal, task, demo.truth, demo.places, self.space),
            ),
            "robot",
            about=first[0],
            mention=first[1],
            second=second,
        )

    def language_blind_error(
        self, random: np.random.Generator, frames: int = 200, render: bool = True
    ) -> float:
        """The error in bins of a model that sees everything but does not read the instruction.

        Mean distance of the six steps from their median over tasks that could have been asked for.
        A model that reads gets below.
        """
        from rt2_ros.sim.expert import expert

        distances = []
        for _ in range(frames):
            demo = self.draw(random, render)
            assert demo.task is not None
            tasks = [demo.task, *self.others(random, demo, 4)]
            rows = [self.space.to_bins(expert(demo.truth, t))[1:7].astype(float) for t in tasks]
            distances.append(np.abs(rows - np.median(rows, axis=0)).ravel())
        return float(np.concatenate(distances).mean())


def recolour(random: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pictures of any shape (..., 3), their colours varied as cameras vary."""
    gain = random.uniform(0.85, 1.12) * random.uniform(0.95, 1.05, 3)
    varied = image * gain.astype(np.float32) + np.float32(random.uniform(-6, 6))
    return np.clip(varied, 0, 255).astype(np.uint8)


def request(
    random: np.random.Generator, task: Task, typos: bool = False
) -> tuple[str, tuple[tuple[str, str], ...]]:
    """An instruction for a task in the demonstrations' words, and what it calls each thing, as
    (name, words). typos: now and then some are in it.
    """
    chinese = random.random() < 0.2
    words = {}
    for key, name in (("object", task.object), ("target", task.target)):
        what = by_name(name) if name else None
        words[key] = "" if what is None else what.name_zh if chinese else call(random, what)
    phrase = split.phrase(random, task.kind, chinese)
    if typos:
        phrase, words = split.mistyped(random, phrase, words)
    names = (task.object, task.target)
    mentions = tuple((n, w) for n, w in zip(names, words.values(), strict=True) if n)
    return phrase.format(**words), mentions


def observe(
    table: Tabletop, render: bool = True, size: int = SIZE, task: Task | None = None
) -> Demonstration:
    """The state that the table is in: its picture, and the things in sight.

    Without `render` the picture is black.
    """
    state = table.state()
    things, places = [], {}
    for thing in state.objects:
        corners = _top_face(thing)
        pixels = table.project(corners, "scene", RENDERED, RENDERED)
        u, v = places[thing.name] = place(pixels.mean(0))
        if _visible_share(table, corners) >= VISIBLE:
            outline = (pixels * (size / RENDERED)).astype(np.float32)
            flat, room = thing.kind == "card", _room(state, thing)
            things.append(Thing(thing.name, u, v, outline, flat, room))
    image = np.zeros((size, size, 3), np.uint8)
    if render:
        image = square(table.render("scene", RENDERED, RENDERED), size)
    return Demonstration(image, state.vector.copy(), tuple(things), state, places, task)


def _room(truth: TabletopState, thing: ObjectState) -> tuple[bool, ...]:
    """At which sides of a thing there is room; none are told of what is in the hand."""
    held = truth.held
    if thing.name == held:
        return ()
    return tuple(room_around(truth, thing.name, *([held] if held else [])).values())


def place(pixels: ArrayLike) -> tuple[int, int]:
    """Pixels (2,) of a rendered picture as u, v."""
    u, v = (coordinate(float(value), RENDERED) for value in np.asarray(pixels))
    return u, v


def top(thing: ObjectState) -> NDArray[np.float64]:
    """The middle (3,) of its upper face in the base frame, m."""
    return thing.position + [0.0, 0.0, thing.half_height]


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
