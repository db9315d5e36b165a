# SPDX-License-Identifier: Apache-2.0
"""`rt2 demo`: the arm is told three things on three tables; the simulator, not the policy, judges.

    rt2 demo
    rt2 demo --instruction "pick up the banana" --seed 7

Starts the graph of bringup.py as processes of its own, shows what happens, and leaves a film and a
contact sheet. One try for each instruction; exit status 0 only if every one succeeded.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rt2_ros.screen import Attempt, Screen, View
from rt2_ros.stamps import stamp_ns
from rt2_ros.up import Processes, add_graph_arguments, graph_from, stop_requested

if TYPE_CHECKING:
    from rt2_ros.bringup import Graph
    from rt2_ros.film import Film
    from rt2_ros.nodes.operator import Operator
    from rt2_ros.sim.tabletop import TabletopState
    from rt2_ros.sim.tasks import Judge, Task

INSTRUCTIONS = ("pick up the banana", "grab the apple", "lift the guitar")
CAMERA = "scene"
BLIND_S = 1.0  # without the simulator's state, after which nobody knows what happened
HELD_S = 0.5  # for which the object must stay lifted
SETTLE_S = 1.5  # after the policy's terminate, for the arm to come to rest
FILM_MS = 80  # at least between two pictures of the film
TILES = 6  # per instruction on the contact sheet


class Demo:
    """Wires a person's view of the graph to screen, film and judge."""

    def __init__(
        self,
        person: Operator,
        film: Film,
        check: Callable[[], None],
        show: Callable[[View], None],
    ) -> None:
        from rt2_ros.nodes import topics

        self._person, self._film, self._check, self._show = person, film, check, show
        self.view = View()
        self._judge: Any = None
        self._lifted_since: float | None = None
        self._seen_ns = self._first_ns = self._filmed_ms = 0
        self._id = -1
        person.on(topics.OBSERVATION, self._note_observation)
        person.on(topics.camera_image(CAMERA), self._film_image)
        person.on(topics.END_EFFECTOR_DELTA, self._note_delta)
        person.on(topics.SCENE_STATE, self._note_scene)

    def attempt(self, instruction: str, task: Task, seed: int, limit_s: float) -> Attempt:
        """Lay the table, say the instruction, watch until the verdict."""
        from rt2_ros.msg import PolicyStatus
        from rt2_ros.sim.tasks import Judge

        person = self._person
        self.view = View(instruction=instruction)
        scene = person.reset_table(seed, list(task.things), check=self._check)
        laid_ns = stamp_ns(scene.header.stamp)
        person.until(
            lambda: min(self._seen_ns, stamp_ns(person.controller.header.stamp)) > laid_ns,
            10.0,
            "camera and controller to see the new table",
            self._check,
        )
        state = tabletop_state(person.scene, person.controller)
        self._judge, self._lifted_since = Judge(task, state), None
        self._id = person.instruct(instruction, self._check)
        started, done_at, status, relaid = time.monotonic(), None, person.policy, ""
        while (now := time.monotonic()) - started < limit_s:
            self.view.seconds = now - started
            if self._lifted_since is not None and now - self._lifted_since > HELD_S:
                break
            status, relaid = person.policy, person.relaid()
            if relaid or status.instruction_id != self._id or status.state == PolicyStatus.FAULT:
                break
            if status.state == PolicyStatus.DONE:
                done_at = done_at or now
                if now - done_at > SETTLE_S and self._lifted_since is None:
                    break
            self._check()
            person.spin(0.05)
            self._refresh()
            self._show(self.view)
        verdict = self._judge.verdict(done_at is not None)
        blind = unseen(self._judge, person.controller)
        state, height = tabletop_state(person.scene, person.controller), 0.0
        if task.object:
            height = state.find(task.object).height
        seconds = time.monotonic() - started
        person.instruct("", self._check)
        reason = relaid or blind or verdict.reason
        if reason and status.reason:
            reason += f" (policy: {status.reason})"
        self._judge = None
        return Attempt(instruction, seed, not reason, reason, seconds, status.decisions, height)

    def _refresh(self) -> None:
        from rt2_ros.control.arm import State as ArmState
        from rt2_ros.policies.runner import State as PolicyState

        policy, arm = self._person.policy, self._person.controller
        reason = policy.reason or arm.reason
        names = f"policy {PolicyState(policy.state).name}, arm {ArmState(arm.state).name}"
        self.view.state = f"{names}: {reason}" if reason else names
        self.view.rate = policy.rate

    def _note_delta(self, msg: Any) -> None:
        if msg.instruction_id == self._id:
            self.view.plan = msg.plan
            self.view.integers = " ".join(map(str, msg.bins.tolist()))

    def _note_scene(self, msg: Any) -> None:
        if self._judge is None:
            return
        state = tabletop_state(msg, self._person.controller)
        if name := self._judge.task.object:
            away = state.find(name).position - state.tcp.position
            self.view.distance = float(np.linalg.norm(away))
        if not self._judge.watch(state):
            self._lifted_since = None
        elif self._lifted_since is None:
            self._lifted_since = time.monotonic()

    def _note_observation(self, msg: Any) -> None:
        self._seen_ns = stamp_ns(msg.header.stamp)

    def _film_image(self, msg: Any) -> None:
        import cv2

        from rt2_ros.film import captioned

        taken_ns = stamp_ns(msg.header.stamp)
        self._first_ns = self._first_ns or taken_ns
        now_ms = (taken_ns - self._first_ns) // 1_000_000
        if self._judge is None or now_ms - self._filmed_ms < FILM_MS:
            return
        self._filmed_ms = now_ms
        image = np.frombuffer(msg.data, np.uint8).reshape(msg.height, msg.width, 3)
        words = self.view.integers or "waiting for the first decision"
        plan = f"   {self.view.plan}" if self.view.plan else ""
        picture = captioned(image, f'"{self.view.instruction}"', words + plan)
        self._film.add(picture, now_ms)
        half = (msg.width // 2, msg.height // 2)
        small = np.asarray(cv2.resize(image, half, interpolation=cv2.INTER_AREA), np.uint8)
        caption = f"{self.view.instruction}  {self.view.seconds:.1f} s"
        self.view.tiles.append(captioned(small, caption, words))


def unseen(judge: Judge, controller: Any) -> str:
    """Say so if the judge did not see all, by the controller's newest message; else ""."""
    seconds = judge.blind_for(stamp_ns(controller.header.stamp) / 1e9)
    return f"not seen: no scene_state came for {seconds:.1f} s" if seconds > BLIND_S else ""


def tabletop_state(scene: Any, controller: Any) -> TabletopState:
    """The simulator's SceneState as the judge knows it; the hand's pose is the measured one."""
    from rt2_ros.control.pose import Pose
    from rt2_ros.sim.tabletop import MAX_OPENING, ObjectState, TabletopState

    objects = tuple(
        ObjectState(o.name, o.kind, *_arrays(o.pose), grasped=o.grasped) for o in scene.objects
    )
    hand = Pose.from_quaternion(*_arrays(controller.end_effector_pose))
    opening = MAX_OPENING * (1.0 - controller.gripper_closedness)
    seconds = stamp_ns(scene.header.stamp) / 1e9
    return TabletopState(seconds, scene.seed, objects, hand, opening, np.zeros(9))


def _arrays(pose: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    p, q = pose.position, pose.orientation
    return np.array([p.x, p.y, p.z]), np.array([q.x, q.y, q.z, q.w])


def run(
    graph: Graph,
    tasks: Sequence[tuple[str, Task]],
    *,
    seed: int = 0,
    limit_s: float = 20.0,
    out: Path = Path("out/demo"),
    namespace: str = "",
) -> list[Attempt]:
    """Start the graph, try each (instruction, task) once on its own table; leave film and sheet."""
    from rt2_ros.film import Film, contact_sheet, evenly
    from rt2_ros.nodes.operator import Operator

    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    attempts, rows = [], []
    with stop_requested() as stopped, Operator(namespace) as person, Screen() as screen:
        person.refuse_second(graph)
        screen.say(f"starting {', '.join(node.name for node in graph.nodes)}")
        with (
            open(out / "nodes.log", "w", encoding="utf-8") as log,
            Processes(graph, lambda name, line: print(name, line, file=log)) as processes,
            Film(out / "demo.mp4") as film,
        ):

            def check() -> None:
                processes.check()
                if stopped():
                    raise KeyboardInterrupt

            person.until_ready(graph, check)
            screen.say(f"ready after {time.monotonic() - started:.1f} s")
            demo = Demo(person, film, check, screen.show)
            for index, (text, task) in enumerate(tasks):
                attempts.append(demo.attempt(text, task, seed + index, limit_s))
                rows.append(evenly(demo.view.tiles, TILES))
                screen.verdict(attempts[-1])
            screen.table(attempts)  # before anything can go wrong with what is left to look at
    contact_sheet(out / "contact_sheet.png", rows)
    return attempts


def main(argv: list[str]) -> int:
    """Run the demonstration."""
    parser = argparse.ArgumentParser("rt2 demo", description="The arm is told things, and judged.")
    add_graph_arguments(parser, fixed=("sim",))
    parser.add_argument(
        "--instruction", action="append", help="instead of the three; can be given several times"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the first table (default: 0)")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="(default: out/demo)")
    parser.add_argument("--limit", type=float, default=20.0, help="s per instruction (default: 20)")
    arguments = parser.parse_args(argv)
    if arguments.seed < 0:
        raise ValueError(f"--seed is {arguments.seed}; expected 0 or more")
    if arguments.limit <= 0:
        raise ValueError(f"--limit is {arguments.limit}; expected more than 0")

    from rt2_ros.data.split import object_name
    from rt2_ros.sim.tasks import parse_task

    said = arguments.instruction or INSTRUCTIONS
    tasks = [(text, parse_task(text, object_name)) for text in said]
    started = time.monotonic()
    attempts = run(
        graph_from(arguments),
        tasks,
        seed=arguments.seed,
        limit_s=arguments.limit,
        out=arguments.out,
        namespace=arguments.namespace,
    )
    done = sum(attempt.success for attempt in attempts)
    film, sheet = arguments.out / "demo.mp4", arguments.out / "contact_sheet.png"
    see = (
        f"see {film} and {sheet}" if sheet.exists() else f"there was no picture of camera {CAMERA}"
    )
    print(f"{done} of {len(attempts)} done in {time.monotonic() - started:.0f} s; {see}")
    return 0 if done == len(attempts) else 1
