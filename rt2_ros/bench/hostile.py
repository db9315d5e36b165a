# SPDX-License-Identifier: Apache-2.0
"""Random states, hostile deltas, and a judge of what comes out of the controller.

>>> report = run(cases=100_000, seed=0)
>>> report.cases, report.violations
(100000, [])

Two kinds of cases. *States*: the arm anywhere, moving anyhow, and one delta at the safety filter.
*Loops*: the whole controller in a row of deltas, instructions, stops, pauses and clock jumps. Each
trajectory that comes out is sampled by the judge at moments of its own, between those that the
filter looked at.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from rt2_ros.bench.chunk_judge import ChunkJudge, Report
from rt2_ros.bench.rig import Rig
from rt2_ros.control.command import Command, State
from rt2_ros.control.history import JointHistory
from rt2_ros.control.kinematics import Unreachable
from rt2_ros.control.pose import Array, Pose
from rt2_ros.control.profile import RobotProfile
from rt2_ros.control.safety import Delta, SafetyFilter, Situation
from rt2_ros.control.trajectory import stop_chunk
from rt2_ros.paths import config_path
from rt2_ros.up import end_with_parent

KEEP_OUT = (((0.42, 0.14, 0.0), (0.52, 0.24, 0.15)),)  # a box on the table that the arm must avoid
SPOILT = (
    *("number", "huge", "gripper", "unsure", "no confidence", "stale", "future", "unstamped"),
    *("foreign", "frame", "replayed"),
)
LOOP_SHARE = 0.06  # of the cases
LOOP_EVENTS = 50
NOW_NS = 50_000_000_000


def hostile(rng: np.random.Generator, good: Delta) -> tuple[Delta, bool]:
    """Return what becomes of a good delta, and whether it may be accepted at all.

    Six of ten ask for motion: half of them calm, others far too large or back where the arm came
    from, some with the gripper. The rest are spoilt: old, of the future, of somebody else, unsure,
    or no numbers.
    """
    values = rng.normal(size=6)
    kind, turns, fingers = rng.random(3)
    if kind < 0.3:
        values *= 0.05
    elif kind < 0.5:  # all the way, in a corner's direction
        values = np.sign(values) * 0.3
    delta = dataclasses.replace(
        good,
        translation=tuple(values[:3]),
        rotation=tuple(values[3:] if turns < 0.5 else np.zeros(3)),
        gripper=0.0 if fingers < 0.95 else 1.0 if fingers < 0.97 else -7.0,
        stamp_ns=good.stamp_ns - int(rng.integers(0, 350_000_000)),
        terminate=bool(rng.random() < 0.005),
    )
    if kind < 0.6:
        return delta, True
    spoil = SPOILT[rng.integers(len(SPOILT))]
    if spoil == "number":
        values[rng.integers(6)] = rng.choice([np.nan, np.inf, -np.inf])
        return dataclasses.replace(
            delta, translation=tuple(values[:3]), rotation=tuple(values[3:])
        ), False
    if spoil == "huge":
        values[rng.integers(6)] = rng.choice([1e308, -1e308, 1e9, 5e-324])
        return dataclasses.replace(
            delta, translation=tuple(values[:3]), rotation=tuple(values[3:])
        ), True
    changes: dict[str, Any] = {
        "gripper": {"gripper": np.nan},
        "unsure": {"confidence": 0.05},
        "no confidence": {"confidence": np.nan},
        "stale": {"stamp_ns": good.stamp_ns - 900_000_000},
        "future": {"stamp_ns": good.stamp_ns + 100_000_000},
        "unstamped": {"stamp_ns": 0},
        "foreign": {"instruction_id": good.instruction_id + 1},
        "frame": {"frame_id": "camera"},
        "replayed": {"step": -1},
    }
    return dataclasses.replace(delta, **changes[spoil]), False


def random_states(judge: ChunkJudge, rng: np.random.Generator, count: int) -> list[Array]:
    """Return joint positions (n,) that touch nothing: most with the tip in or near the workspace,
    tilted, the elbow anywhere; some anywhere within the joint limits.
    """
    profile, kinematics = judge.profile, judge.kinematics
    limits = profile.limits()
    states: list[Array] = []
    low, high = np.array(profile.workspace_min) - 0.02, np.array(profile.workspace_max) + 0.02
    down = np.diag([1.0, -1.0, -1.0])
    while len(states) < count:
        anywhere = rng.uniform(limits.lower, limits.upper)
        if rng.random() < 0.1:
            states += [anywhere] if judge.collisions.distances(anywhere).min() > 0 else []
            continue
        tilt = rng.normal(size=3) * rng.choice([0.02, 0.5])
        pose = Pose(rng.uniform(low, high), down).compose_delta(np.zeros(3), tilt)
        near = np.array(profile.home) + rng.normal(size=len(anywhere)) * 0.4
        seed = np.clip(near, limits.lower, limits.upper)
        try:
            q = kinematics.inverse(pose, seed)
        except Unreachable:
            continue
        states += [q] if judge.collisions.distances(q).min() > 0 else []
    return states


def judge_states(profile: RobotProfile, urdf: str, cases: int, seed: int) -> Report:
    """Put one delta each at the safety filter, in random states."""
    rng = np.random.default_rng([seed, 0])
    judge = ChunkJudge(profile, urdf, rng)
    kinematics = judge.kinematics
    safety = SafetyFilter(profile, kinematics, profile.collisions(urdf))
    pool = random_states(judge, rng, min(200, cases))
    speed = profile.limits().velocity
    for case in range(cases):
        q = pool[rng.integers(len(pool))]
        velocity = rng.uniform(-speed, speed) * rng.choice([0.0, 0.1, 0.4, 1.0])
        twist = np.linalg.norm(kinematics.motion(q, velocity)[1].reshape(2, 3), axis=1)
        fast = max(twist / [profile.max_linear_speed, profile.max_angular_speed])
        velocity = velocity / max(fast, 1.0)
        history = JointHistory(profile.arm_joints)
        history.add(NOW_NS - 1_500_000_000, profile.arm_joints, list(q))
        for ms in (400, 300, 200, 100, 0):
            history.add(NOW_NS - ms * 1_000_000, profile.arm_joints, list(q - velocity * ms / 1e4))
        still = (0.0, 0.0, 0.0)
        good = Delta(NOW_NS, profile.base_frame, 1, 8, still, still, 0.0)
        delta, sound = hostile(rng, good)
        verdict = safety.check(delta, Situation(NOW_NS, 1, 7, 0, q, velocity, 0.0), history)
        judge.report.cases += 1
        judge.report.accepted += verdict.accepted
        if verdict.accepted and not sound:
            judge.report.violations.append(f"state {seed}/{case}: accepted {delta}")
        if not verdict.accepted and (verdict.chunk or verdict.gripper is not None):
            judge.report.violations.append(f"state {seed}/{case}: refused, yet it would move")
        if verdict.chunk is not None:
            judge.look(verdict.chunk, q, velocity, f"state {seed}/{case}")
    return judge.report


def judge_loops(profile: RobotProfile, urdf: str, cases: int, seed: int) -> Report:
    """Play whole controllers, each in another row of events."""
    rng = np.random.default_rng([seed, 1])
    judge = ChunkJudge(profile, urdf, rng)
    collisions = profile.collisions(urdf)
    pool = random_states(judge, rng, 40)
    blended = dataclasses.replace(profile, smoothing_time=0.1, ensemble_horizon=3)
    number = 0
    while judge.report.cases < cases:
        chosen = blended if number % 10 == 9 else profile
        q = pool[number % len(pool)]
        loop = _Loop(Rig(chosen, judge.kinematics, collisions, True, q), judge, rng)
        loop.play(min(LOOP_EVENTS, cases - judge.report.cases), f"loop {seed}/{number}")
        number += 1
    return judge.report


class _Loop:
    """One controller among random events; every command is judged when it comes."""

    def __init__(self, rig: Rig, judge: ChunkJudge, rng: np.random.Generator) -> None:
        self._rig, self._judge, self._rng = rig, judge, rng
        self._instruction = 0
        self._looked = 0

    def play(self, deltas: int, where: str) -> None:
        rig, rng, report = self._rig, self._rng, self._judge.report
        periods, weights = [0.01, 0.03, 0.1, 0.2, 0.3, 0.9], [0.15, 0.3, 0.3, 0.15, 0.07, 0.03]
        for _ in range(deltas):
            idle = rig.arm.instruction_id == 0 or rig.arm.state not in (State.MOVING, State.HOLDING)
            if idle or rng.random() < (0.5 if rig.arm.needs_help else 0.03):
                self._start_over()
            delta, sound = hostile(rng, rig.delta())
            before = rig.arm.accepted
            rig.send(delta)
            report.cases += 1
            report.accepted += rig.arm.accepted - before
            if rig.arm.accepted > before and not sound:
                report.violations.append(f"{where}: accepted {delta}")
            self._look(where)
            rig.run(float(rng.choice(periods, p=weights)))
            self._look(where)
            if rng.random() < 0.1:
                self._disturb(where)

    def _start_over(self) -> None:
        self._instruction += 1
        self._rig.arm.arm()
        self._rig.instruct(instruction_id=self._instruction)

    def _disturb(self, where: str) -> None:
        rig, rng = self._rig, self._rng
        event = rng.choice(["stop", "disarm", "empty", "jump", "freeze", "pause", "silence", "new"])
        if event == "stop":
            self._must_rest(rig.apply(rig.arm.stop()), where)
        elif event == "disarm":
            self._must_rest(rig.apply(rig.arm.disarm()), where)
        elif event == "empty":
            self._must_rest(rig.apply(rig.arm.on_instruction(" ")), where)
        elif event == "jump":
            rig.clock_offset += float(rng.choice([-30.0, -0.7, 0.9, 30.0]))
            rig.run(0.02)
            self._must_be(State.DISARMED, f"{where}: clock jump")
            rig.run(2.5)  # until the joint states' clock is believed again
        elif event == "freeze":
            rig.frozen_ns = rig.now_ns
            rig.run(1.2)
            self._must_be(State.DISARMED, f"{where}: frozen clock")
            rig.frozen_ns = None
        elif event == "pause":
            rig.run(3.0, joint_states=False, ticks=False)
        elif event == "silence":
            rig.run(0.5, joint_states=False)
        else:
            self._start_over()
        self._look(where)
        sent = len(rig.commands)
        if rig.arm.state in (State.STOPPED, State.DISARMED):
            rig.move(0.05, 0.0, 0.0)
            rig.run(0.6)
            if len(rig.commands) != sent or rig.moving:
                self._judge.report.violations.append(f"{where}: moves while {rig.arm.state.name}")

    def _must_be(self, state: State, where: str) -> None:
        if self._rig.arm.state not in (state, State.STOPPED):
            self._judge.report.violations.append(f"{where}: {self._rig.arm.state.name}")

    def _must_rest(self, command: Command | None, where: str) -> None:
        """Braking must have begun at once, unless the arm rests as soon by itself, which it does
        where it was braking already; note how long it takes.
        """
        rig, report = self._rig, self._judge.report
        left = 0.0 if rig.chunk is None else rig.chunk.duration - (rig.time - rig.chunk_time)
        if command is not None and command.chunk is not None:
            left = command.chunk.duration
        elif left > stop_chunk(rig.q, rig.velocity, rig.profile.limits()).duration:
            report.violations.append(f"{where}: no braking")
        report.rest = max(report.rest, left)

    def _look(self, where: str) -> None:
        rig = self._rig
        for time, q, velocity, command in rig.commands[self._looked :]:
            if command.chunk is not None:
                when = f"{where} at {time:.2f} s"
                self._judge.look(command.chunk, q, velocity, when, command.brake)
        self._looked = len(rig.commands)


def load(robot: str = "panda") -> tuple[RobotProfile, str]:
    """Return a robot's profile, with a keep-out box and a threshold of confidence, and its URDF."""
    profile = RobotProfile.load(config_path("robots", f"{robot}.yaml"))
    urdf = config_path("robots", f"{robot}.urdf").read_text(encoding="utf-8")
    return dataclasses.replace(profile, keep_out=KEEP_OUT, min_confidence=0.1), urdf


def _part(cases: int, seed: int) -> Report:
    profile, urdf = load()
    loops = round(LOOP_SHARE * cases)
    report = judge_states(profile, urdf, cases - loops, seed)
    report.add(judge_loops(profile, urdf, loops, seed))
    return report


def run(cases: int, seed: int = 0, processes: int | None = None) -> Report:
    """Try that many cases on all cores; the same numbers give the same cases."""
    parts = 4  # whatever the machine: the cases do not depend on it
    counts = [cases // parts + (i < cases % parts) for i in range(parts)]
    workers = min(parts, processes or os.cpu_count() or 1)
    report = Report()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=end_with_parent) as pool:
        for part in pool.map(_part, counts, [seed * parts + i for i in range(parts)]):
            report.add(part)
    return report
