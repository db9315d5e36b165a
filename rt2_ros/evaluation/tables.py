# SPDX-License-Identifier: Apache-2.0
"""Tables in processes of their own: physics, pictures and judgement of several episodes at once.

    table = TableProcess(slots=6, image_size=192)
    table.send([(0, Begin(cell, seed=7)), (1, Begin(cell, seed=8))])
    for slot, reply in table.receive():  # Seen: decide, and send Act; Ended or Crashed: it is over
        ...

The policy stays in the caller's process, and decides on the pictures of many tables in one batch.
"""

from __future__ import annotations

import math
import multiprocessing
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rt2_ros.actions import Action
from rt2_ros.evaluation.records import LOST
from rt2_ros.evaluation.strips import STRIP_FRAMES
from rt2_ros.evaluation.suites import Cell
from rt2_ros.film import Film, captioned, evenly
from rt2_ros.sim.env import Scenario
from rt2_ros.sim.scene import APART
from rt2_ros.sim.tasks import Task


@dataclass(frozen=True)
class Begin:
    """Play an episode; film: a path to write it to, '' for none."""

    cell: Cell
    seed: int
    film: str = ""


@dataclass(frozen=True)
class Act:
    """Take a step, or hold (None); note: a line that goes with the picture."""

    action: Action | None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Seen:
    """What a policy may know; and what the scripted expert would do, and would if it did not know
    which thing is meant, for these baselines alone.
    """

    image: NDArray[np.uint8]  # (image_size, image_size, 3) RGB
    state: NDArray[np.float64]  # (4,) fingertips x, y, z in m, closedness
    instruction: str
    stamp_ns: int
    expert: Action
    guess: Action


@dataclass(frozen=True, eq=False)
class Ended:
    """How an episode went, by the world's true state.

    path_length: of the fingertips, m, from decision to decision. held: steps in which nothing was
    done. frames, notes: a few pictures of a failure with a line for each.
    """

    instruction: str
    skill: str
    object: str
    target: str
    success: bool
    failure: str
    steps: int
    path_length: float
    sim_seconds: float
    held: int
    reached: bool | None
    frames: tuple[NDArray[np.uint8], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Crashed:
    """The episode could not be played to its end; error: one line."""

    error: str


Command = Begin | Act
Reply = Seen | Ended | Crashed


class TableProcess:
    """A process with `slots` tables. What is sent in one list is answered in one list."""

    def __init__(self, slots: int, image_size: int) -> None:
        context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, slots, image_size), name="tables", daemon=True
        )
        self._process.start()
        theirs.close()

    def send(self, commands: Sequence[tuple[int, Command]]) -> None:
        """Give commands for slots; where the process is gone, `receive` will say so."""
        with suppress(ConnectionError):
            self._connection.send(commands)

    def receive(self) -> list[tuple[int, Reply]]:
        """Wait for the replies; raises EOFError if the process is gone."""
        try:
            return self._connection.recv()
        except OSError as error:  # plain where it died while it sent
            raise EOFError(str(error)) from error

    def exit_reason(self) -> str:
        """How the process ended, in words."""
        self._process.join(5.0)
        code = self._process.exitcode or 0
        return f"{LOST} {'signal' if code < 0 else 'status'} {abs(code)}"

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.terminate()
        self._process.join(5.0)


def guess(scenario: Scenario, random: np.random.Generator) -> Task:
    """A task of the same kind by chance: any thing of the target's sort in its place that is as far
    from the object as targets are, or of the object's sort where there is no target.
    """
    task = scenario.task
    meant = task.target or task.object
    sort = next((p.kind for p in scenario.layout if p.name == meant), "")
    like = [p.name for p in scenario.layout if p.kind == sort]
    if task.kind in Task.GRIPPER:
        return task
    if task.target:
        places = {p.name: p.position[:2] for p in scenario.layout}
        start = places[task.object]
        far = [name for name in like if math.dist(places[name], start) >= APART]
        return Task(task.kind, task.object, str(random.choice(far)))
    return Task(task.kind, str(random.choice(like)))


class OneTable:
    """One table and the episode on it."""

    def __init__(self, image_size: int) -> None:
        from rt2_ros.sim.env import TabletopEnv
        from rt2_ros.sim.tabletop import Tabletop

        self._env = TabletopEnv(Tabletop())
        self._size = image_size

    def begin(self, command: Begin) -> Reply:
        """Lay the scene."""
        cell = command.cell
        self._disturb, self._random = cell.disturb, cell.random(command.seed, 1)
        self._scenario = cell.scenario(command.seed)
        self._guess = guess(self._scenario, cell.random(command.seed, 2))
        self._env.latency = cell.disturb.delay
        self._frames: list[NDArray[np.uint8]] = []
        self._notes: list[str] = []
        self._path, self._held, self._steps, self._note = 0.0, 0, 0, ""
        self._film = Film(command.film) if command.film else None
        self._observation = self._env.begin(self._scenario)
        return self._look(False)

    def act(self, command: Act) -> Reply:
        """Take one step."""
        action = command.action
        self._note = command.note
        if action is not None:
            action = self._disturb.hand(self._random, action)
        return self._look(self._step(action))

    def _step(self, action: Action | None) -> bool:
        before = self._observation.truth.tcp.position
        self._observation, done = self._env.step(action)
        self._path += float(np.linalg.norm(self._observation.truth.tcp.position - before))
        self._held += self._env.held
        self._steps += 1
        return done

    def _look(self, done: bool) -> Reply:
        """What the policy sees next; where pictures are lost, time passes until one is not."""
        from rt2_ros.data.images import square
        from rt2_ros.sim.expert import expert

        while True:
            observation = self._observation
            assert observation.image is not None  # the environment renders
            image = square(self._disturb.image(self._random, observation.image), self._size)
            self._keep(image)
            if done:
                return self._end()
            if self._disturb.arrives(self._random):
                tasks = self._env.task, self._guess
                return Seen(
                    image, observation.state, observation.instruction, observation.stamp_ns,
                    *(expert(observation.truth, task) for task in tasks),
                )  # fmt: skip
            self._note = "no picture came"
            done = self._step(None)

    def _keep(self, image: NDArray[np.uint8]) -> None:
        self._frames.append(image)
        self._notes.append(self._note)
        if self._film is not None:
            time_ms = round(self._observation.stamp_ns / 1e6)
            self._film.add(captioned(image, self._env.instruction, self._note), time_ms)

    def _end(self) -> Ended:
        if self._film is not None:
            self._film.close()
        verdict, task = self._env.verdict(), self._env.task
        shown = list(zip(self._frames, self._notes, strict=True))
        shown = [] if verdict.success else evenly(shown, STRIP_FRAMES)
        return Ended(
            self._env.instruction, task.kind, task.object, task.target, verdict.success,
            verdict.reason, self._steps, self._path, self._observation.stamp_ns / 1e9, self._held,
            self._env.reached, tuple(frame for frame, _ in shown), tuple(note for _, note in shown),
        )  # fmt: skip


def _serve(connection: Connection, slots: int, image_size: int) -> None:
    """The process: answers until the caller hangs up."""
    tables: list[OneTable | None] = [None] * slots
    while True:
        try:
            commands = connection.recv()
        except EOFError:
            return
        replies: list[tuple[int, Reply]] = []
        for slot, command in commands:
            try:
                table = tables[slot]
                if table is None:
                    table = tables[slot] = OneTable(image_size)
                begin = isinstance(command, Begin)
                replies.append((slot, table.begin(command) if begin else table.act(command)))
            except Exception as error:  # whatever it is, other episodes go on
                place = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{Path(place.filename).name}:{place.lineno}"
                line = " ".join(f"{type(error).__name__}: {error} ({where})".split())
                replies.append((slot, Crashed(line[:300])))
                tables[slot] = None
        with suppress(ConnectionError):  # the caller is gone, and recv will say so
            connection.send(replies)
