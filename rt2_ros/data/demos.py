# SPDX-License-Identifier: Apache-2.0
"""`rt2 demos --episodes 200`: record the expert on simulated tables, as a LeRobot dataset.

Each episode lays a table from a training seed, asks for something with the demonstrations' words
and lets the expert act through the same controller as on the ROS graph. What physics calls a
success is kept. The same command goes on where it was stopped; the dataset on disk is whole at any
time.

A row is what was seen and what was done then:

    observation.state            x, y, z of the fingertips in m, closedness 0..1
    observation.joint_positions  of the arm in rad, of the fingers in m
    observation.images.scene     mp4, one picture each 0.25 s
    action                       dx dy dz in m, rotation vector drx dry drz in rad, both in the base
                                 frame, from where the hand was in the picture; gripper 1 = closed
    next.done                    whether the action was to terminate
    plan                         what comes next, as single pictures' plans say it (see data.robot)
"""

from __future__ import annotations

import argparse
import fcntl
import json
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from rt2_ros.actions.space import ACTION_NAMES, FILE_NAME, STATE_NAMES
from rt2_ros.data import split
from rt2_ros.data.images import square
from rt2_ros.data.lerobot import layout
from rt2_ros.data.lerobot.reader import Episodes
from rt2_ros.data.lerobot.source import PLAN
from rt2_ros.data.lerobot.writer import Episode, EpisodeWriter
from rt2_ros.data.plans import plan_text
from rt2_ros.data.robot import SIZE, SPACE, STRENGTHS, observe, request
from rt2_ros.up import end_with_parent

if TYPE_CHECKING:  # the simulator is imported in the processes that use it
    from rt2_ros.sim.env import Scenario, TabletopEnv

CAMERA = layout.camera_key("scene")
STEP_PERIOD = 0.25  # s
TASKS = tuple(split.ROBOT_PHRASES)
RECORDED = "recording.json"  # what a folder's episodes are of
SEED = "seed"  # column of the episodes' table
TABLES = 100_000  # seeds of one recording, each a table; the next recording's begin behind them
RECORDINGS = len(split.TRAIN_SEEDS) // TABLES


@dataclass(frozen=True)
class Recording:
    """What is recorded. size: of the pictures, px; seed: recordings of two share no episode."""

    size: int = SIZE
    seed: int = 0
    tasks: tuple[str, ...] = TASKS
    validation: int = 0  # episodes

    def __post_init__(self) -> None:
        if self.size < 32 or self.size % 2:
            raise ValueError(f"size is {self.size}; expected an even number of at least 32 px")
        if not 0 <= self.seed < RECORDINGS:
            raise ValueError(f"seed is {self.seed}; expected 0..{RECORDINGS - 1}")
        unknown = sorted(set(self.tasks) - set(TASKS))
        if unknown or not self.tasks:
            raise ValueError(f"tasks are {self.tasks}; expected some of {', '.join(TASKS)}")

    @property
    def seeds(self) -> range:
        """The training seeds that its tables are laid from."""
        return split.TRAIN_SEEDS[self.seed * TABLES : (self.seed + 1) * TABLES]


def features(size: int) -> dict[str, dict[str, Any]]:
    """The columns that are recorded, as info.json describes them."""
    from rt2_ros.sim.model import ARM_JOINTS, FINGER_JOINTS

    joints = [*ARM_JOINTS, *FINGER_JOINTS]
    return {
        layout.STATE: {"dtype": "float32", "shape": [4], "names": list(STATE_NAMES)},
        layout.JOINTS: {"dtype": "float32", "shape": [len(joints)], "names": joints},
        CAMERA: {
            "dtype": "video", "shape": [size, size, 3], "names": ["height", "width", "channels"],
        },
        layout.ACTION: {"dtype": "float32", "shape": [7], "names": list(ACTION_NAMES[1:])},
        layout.DONE: {"dtype": "bool", "shape": [1], "names": None},
        PLAN: {"dtype": "string", "shape": [1], "names": None},
    }  # fmt: skip


def scenario(seed: int, tasks: Sequence[str]) -> Scenario:
    """The table of a seed: robot objects only, in the demonstrations' words."""
    from rt2_ros.data.poses import draw_kind, draw_layout
    from rt2_ros.sim.env import Scenario
    from rt2_ros.sim.scene import Appearance, random_start
    from rt2_ros.sim.world import MAX_OPENING

    random = np.random.default_rng([seed, 1])
    task, layout = draw_layout(random, draw_kind(random, tasks), split.ROBOT_NAMES)
    text, _ = request(random, task)
    appearance = Appearance.random(random, float(random.choice(STRENGTHS)))
    opening = 0.0 if task.kind == "open" else MAX_OPENING
    return Scenario(seed, task, text, layout, random_start(random), appearance, opening)


@cache
def _env() -> TabletopEnv:
    """The table of this process."""
    from rt2_ros.sim.env import TabletopEnv
    from rt2_ros.sim.tabletop import Tabletop

    return TabletopEnv(Tabletop(), step_period=STEP_PERIOD)


def record_episode(seed: int, recording: Recording) -> Episode | None:
    """Play a seed's episode; None where the expert did not succeed, or physics became unstable."""
    from rt2_ros.sim.world import Unstable

    try:
        return _played(seed, recording)
    except Unstable:
        return None


def _played(seed: int, recording: Recording) -> Episode | None:
    from rt2_ros.sim.expert import act, subgoal

    env = _env()
    observation, done = env.begin(scenario(seed, recording.tasks)), False
    rows: dict[str, list[Any]] = {name: [] for name in features(recording.size)}
    while not done:
        assert observation.image is not None  # the environment renders
        goal = subgoal(observation.truth, env.task)
        action = act(observation.truth, goal)
        vector = action.vector()
        places = observe(env.tabletop, render=False).places
        plan = plan_text(goal, env.task, observation.truth, places, SPACE)
        for name, value in (
            (layout.STATE, observation.state), (layout.JOINTS, observation.truth.joints),
            (CAMERA, square(observation.image, recording.size)),
            (layout.ACTION, vector[1:]), (layout.DONE, [action.terminate]),
            (PLAN, [plan]),
        ):  # fmt: skip
            rows[name].append(value)
        observation, done = env.step(action)
    if not (env.success() and rows[layout.DONE][-1][0]):
        return None
    types: dict[str, type] = {CAMERA: np.uint8, layout.DONE: np.bool_, PLAN: object}
    columns: dict[str, NDArray[Any]] = {
        name: np.asarray(values, types.get(name, np.float32)) for name, values in rows.items()
    }
    return Episode(env.instruction, columns, {SEED: seed})


def _episodes(
    seeds: Iterator[int], recording: Recording, processes: int
) -> Generator[tuple[int, Episode | None], None, None]:
    """Seeds in order with their episodes, played ahead by several processes; by this one if 1."""
    if processes == 1:
        for seed in seeds:
            yield seed, record_episode(seed, recording)
        return
    context = multiprocessing.get_context("spawn")  # OpenGL does not survive a fork
    with ProcessPoolExecutor(processes, mp_context=context, initializer=end_with_parent) as pool:
        waiting: deque[tuple[int, Future[Episode | None]]] = deque()
        try:
            while True:
                for seed in islice(seeds, 3 * processes - len(waiting)):
                    waiting.append((seed, pool.submit(record_episode, seed, recording)))
                if not waiting:
                    return
                seed, future = waiting.popleft()
                yield seed, future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def record(
    folder: Path, episodes: int, recording: Recording, processes: int, *, per_file: int = 50,
    console: Console | None = None,
) -> int:  # fmt: skip
    """Record until the folder holds `episodes`; returns how many seeds the expert failed.

    Raises:
        ValueError: no episode would be left to train on, the folder was recorded otherwise, another
            is recording into it, or the recording has no more tables.
    """
    if processes < 1:
        raise ValueError(f"processes is {processes}; expected at least 1")
    if not 0 <= recording.validation < episodes:
        raise ValueError(
            f"validation is {recording.validation}; expected at least 0 and fewer than the "
            f"episodes, {episodes}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        return _record(folder, episodes, recording, processes, per_file, console)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """ValueError where another process has the folder."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{folder}: another `rt2 demos` is recording into it") from None
        yield


def _record(
    folder: Path, episodes: int, recording: Recording, processes: int, per_file: int,
    console: Console | None,
) -> int:  # fmt: skip
    seeds = _seeds_left(folder, recording)
    _check_tasks(folder, recording.tasks)
    writer = EpisodeWriter(
        folder, fps=round(1 / STEP_PERIOD), features=features(recording.size),
        robot_type=SPACE.frame.removesuffix("_link0"), validation=recording.validation,
        per_file=per_file,
    )  # fmt: skip
    SPACE.save(folder / FILE_NAME)
    failed = 0
    if writer.episodes >= episodes:
        return failed
    played = _episodes(iter(seeds), recording, processes)
    with _bar(console, episodes, writer.episodes) as progress, closing(played), writer:
        for _, episode in played:
            if episode is None:
                failed += 1
                continue
            writer.add(episode)
            shown = f"{failed} of the expert's failed" if failed else ""
            progress.update(TaskID(0), completed=writer.episodes, description=shown)
            if writer.episodes >= episodes:
                return failed
    raise ValueError(
        f"{folder}: {writer.episodes} episodes and no more tables of seed {recording.seed}, "
        f"expected {episodes}; record the others with another seed into another folder"
    )


def _seeds_left(folder: Path, recording: Recording) -> range:
    """A recording's seeds behind the last episode of a folder, all where there is none."""
    seeds = recording.seeds
    if not (folder / layout.INFO).exists():
        return seeds
    known = Episodes(folder, cameras=(), extra=(SEED,)).extra[SEED]
    if known and not (known[0] in seeds and known[-1] in seeds):
        raise ValueError(
            f"{folder}: recorded from seeds {known[0]} to {known[-1]}, expected {seeds[0]} to "
            f"{seeds[-1]}; choose another folder"
        )
    return range(known[-1] + 1, seeds.stop) if known else seeds


def _check_tasks(folder: Path, tasks: Sequence[str]) -> None:
    """Note what a folder is recorded of; ValueError where it was begun with other tasks."""
    path = folder / RECORDED
    told = {"tasks": sorted(tasks)}
    if path.is_file() and (before := json.loads(path.read_text())) != told:
        raise ValueError(
            f"{path}: tasks were {', '.join(before['tasks'])}, and are {', '.join(told['tasks'])}; "
            "choose another folder"
        )
    path.write_text(json.dumps(told) + "\n")


def _bar(console: Console | None, total: int, completed: int) -> Progress:
    progress = Progress(
        TextColumn("recording"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(elapsed_when_finished=True), TextColumn("{task.description}"),
        console=console or Console(),
    )  # fmt: skip
    progress.add_task("", total=total, completed=completed)
    return progress


def main(arguments: list[str]) -> int:
    """Returns 0 when the folder holds the episodes asked for."""
    parser = argparse.ArgumentParser(
        prog="rt2 demos",
        description="Record the expert on simulated tables, as a LeRobot dataset v3. The same "
        "command goes on where it was stopped.",
    )
    parser.add_argument("--out", type=Path, default=Path("out/demos"), help="(out/demos)")
    parser.add_argument("--episodes", type=int, default=200, help="in all (200)")
    parser.add_argument(
        "--validation", type=int, default=20, help="of them, for validation: the first ones (20)"
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS, help="(all)")
    parser.add_argument("--size", type=int, default=SIZE, help=f"of the pictures, px ({SIZE})")
    parser.add_argument(
        "--seed", type=int, default=0, help="two different seeds share no episode (0)"
    )
    parser.add_argument(
        "--processes", type=int, default=len(os.sched_getaffinity(0)), help="(one each core)"
    )
    args = parser.parse_args(arguments)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # ended so, what is finished is kept as well
            signal.signal(number, signal.default_int_handler)
    recording = Recording(args.size, args.seed, tuple(args.tasks), args.validation)
    console = Console()
    failed = record(args.out, args.episodes, recording, args.processes, console=console)
    lines = f"{args.episodes} episodes in {args.out}; the expert failed {failed} seeds"
    console.print(lines, soft_wrap=True, markup=False)
    return 0
