# SPDX-License-Identifier: Apache-2.0
"""Plays episodes through the real node graph: `rt2 eval --ros`.

The simulator lays the very scenes that the in-process runner plays; camera node, policy node and
controller are processes of their own and time is real. So this measures the system, not only the
policy, and takes some ten seconds an episode.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from rt2_ros.bringup import Graph
from rt2_ros.evaluation.disturb import Disturbance
from rt2_ros.evaluation.records import EpisodeRecord
from rt2_ros.evaluation.runner import Episode, PolicyFailed
from rt2_ros.evaluation.runs import RunFolder
from rt2_ros.policies.runner import RAISED
from rt2_ros.sim.env import MAX_STEPS, STEP_PERIOD, Scenario, TabletopEnv
from rt2_ros.stamps import stamp_ns

LIMIT_S = MAX_STEPS * STEP_PERIOD  # of an episode, as in process; the graph may decide more often
SETTLE_S = 1.0  # after the policy says that it is done
SEEN_S = 10.0  # within which camera and controller see a new table
MAX_CRASHES = 3  # episodes in a row, after which something is wrong with the graph


def play_on_graph(
    wanted: Iterable[Episode],
    graph: Graph,
    name: str,
    run: RunFolder,
    *,
    log: Path,
    namespace: str = "",
    on_record: Callable[[EpisodeRecord], None] = lambda record: None,
) -> None:
    """Start the graph and play, one after another, what the run does not have yet.

    name: the policy's. log: where the nodes' output goes.

    Raises:
        ValueError: an episode has disturbances, which only the in-process runner makes; or the
            policy's actions are in another frame than the simulated arm's.
        PolicyFailed: the policy raised.
        RuntimeError, TimeoutError: a node died, or several episodes in a row could not be played;
            finished episodes are kept.
    """
    from rt2_ros.nodes.operator import NotLaid, Operator
    from rt2_ros.up import Processes

    left, again = run.left(wanted), run.crashed()
    for episode in left:
        if episode.cell.disturb != Disturbance():
            raise ValueError(
                f"--ros: {episode.cell.title} disturbs pictures or actions, which only the "
                "in-process runner does; leave that suite out"
            )
    if not left:
        return
    with open(log, "a", encoding="utf-8") as file, Operator(namespace) as person:
        person.refuse_second(graph)
        with Processes(graph, lambda node, line: print(node, line, file=file)) as processes:
            person.until_ready(graph, processes.check)
            watcher = _Watcher(person)
            crashes = 0
            for episode in left:
                problem = None
                try:
                    record = watcher.play(episode, name, processes.check)
                except (TimeoutError, NotLaid, Disturbed) as error:  # the next has another table
                    problem, what = error, f"{type(error).__name__}: {error}"
                    record = EpisodeRecord.crashed(name, episode.key, what)
                run.append(record)
                on_record(record)
                if problem is None:
                    crashes = 0
                    continue
                crashes += episode.key not in again
                if crashes >= MAX_CRASHES:
                    raise problem
                with suppress(TimeoutError):  # then the next one cannot begin either
                    watcher.leave(processes.check)


class Disturbed(RuntimeError):
    """Someone else told the graph what to do."""


class _Watcher:
    """Sees what the graph says while an episode is played."""

    def __init__(self, person: Any) -> None:
        from rt2_ros.nodes import topics

        self._person = person
        self._judge: Any = None
        self._id = -1
        self._seen_ns = 0
        self._latency_ms: list[float] = []
        self._confidence: list[float] = []
        self._tips: list[np.ndarray] = []
        self._frame = TabletopEnv.frame  # of the newest delta
        person.on(topics.OBSERVATION, self._note_observation)
        person.on(topics.END_EFFECTOR_DELTA, self._note_delta)
        person.on(topics.SCENE_STATE, self._note_scene)

    def play(self, episode: Episode, name: str, check: Callable[[], None]) -> EpisodeRecord:
        """One episode to its end."""
        from rt2_ros.demo import tabletop_state, unseen
        from rt2_ros.msg import PolicyStatus
        from rt2_ros.nodes.operator import NotLaid
        from rt2_ros.sim.tasks import Judge

        person, cell = self._person, episode.cell
        scenario: Scenario = cell.scenario(episode.seed)
        names = [placement.name for placement in scenario.layout]
        scene = person.reset_table(episode.seed, names, f"{cell.source}:{cell.name}", check)
        laid_ns = stamp_ns(scene.header.stamp)
        person.until(
            lambda: min(self._seen_ns, stamp_ns(person.controller.header.stamp)) > laid_ns,
            SEEN_S,
            "camera and controller to see the new table",
            check,
        )
        self._latency_ms, self._confidence, self._tips = [], [], []
        self._judge = Judge(scenario.task, tabletop_state(person.scene, person.controller))
        started = time.monotonic()
        self._id = person.instruct(scenario.instruction, check)
        done_at = None
        while (now := time.monotonic()) - started < LIMIT_S:
            check()
            if relaid := person.relaid():
                raise NotLaid(relaid)
            status = person.policy
            if status.instruction_id != self._id:
                raise Disturbed("another instruction came while the episode was played")
            if status.state == PolicyStatus.FAULT:
                if not status.reason.startswith(RAISED):
                    raise TimeoutError(status.reason)  # it saw nothing
                raise PolicyFailed(f"policy {name}: {status.reason}")
            if self._frame != TabletopEnv.frame:
                raise ValueError(
                    f"policy {name}: its actions are in frame {self._frame!r}; expected "
                    f"{TabletopEnv.frame!r}, the base frame of the simulated arm"
                )
            if status.state == PolicyStatus.DONE:
                done_at = done_at or now
                if now - done_at > SETTLE_S:
                    break
            person.spin(0.05)
        status, controller = person.policy, person.controller
        steps = max(status.decisions + status.invalid, len(self._latency_ms))
        limited = controller.limited if controller.instruction_id == self._id else 0
        verdict = self._judge.verdict(done_at is not None, limited > steps / 2)
        reached = self._judge.reached
        blind = unseen(self._judge, controller)
        self._judge = None
        person.instruct("", check)
        if blind:
            raise TimeoutError(blind)
        # The graph does not say how long a decision took that was invalid.
        typical = float(np.median(self._latency_ms)) if self._latency_ms else 0.0
        way = np.diff(np.array(self._tips).reshape(-1, 3), axis=0)
        task = scenario.task
        return EpisodeRecord(
            policy=name, suite=cell.suite, cell=cell.name, seed=episode.seed,
            instruction=scenario.instruction, skill=task.kind, object=task.object,
            target=task.target, success=verdict.success, failure=verdict.reason, steps=steps,
            path_length=float(np.linalg.norm(way, axis=1).sum()),
            sim_seconds=time.monotonic() - started,
            held=min(steps, status.invalid + controller.refused), invalid=status.invalid,
            latency_ms=(*self._latency_ms, *[typical] * (steps - len(self._latency_ms))),
            confidence=tuple(self._confidence), reached=reached,
        )  # fmt: skip

    def leave(self, check: Callable[[], None]) -> None:
        """Give the episode up; the arm stops."""
        self._judge = None
        self._person.instruct("", check)

    def _note_delta(self, msg: Any) -> None:
        if msg.instruction_id == self._id:
            self._frame = msg.header.frame_id
            self._latency_ms.append(max(msg.inference, 0.0) * 1000)
            self._confidence.append(min(max(msg.confidence, 0.0), 1.0))

    def _note_observation(self, msg: Any) -> None:
        self._seen_ns = stamp_ns(msg.header.stamp)

    def _note_scene(self, msg: Any) -> None:
        from rt2_ros.demo import tabletop_state

        if self._judge is None:
            return
        state = tabletop_state(msg, self._person.controller)
        self._tips.append(state.tcp.position)
        self._judge.watch(state)
