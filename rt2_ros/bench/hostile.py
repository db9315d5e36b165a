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
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rt2_ros.bench.rig import Rig
from rt2_ros.control.arm import Command, State
from rt2_ros.control.collision import Collisions
from rt2_ros.control.history import JointHistory
from rt2_ros.control.kinematics import Unreachable
from rt2_ros.control.path import PATH_TOLERANCE
from rt2_ros.control.pose import Array, Pose
from rt2_ros.control.profile import RobotProfile
from rt2_ros.control.safety import Delta, SafetyFilter, Situation
from rt2_ros.control.trajectory import Chunk
from rt2_ros.paths import config_path

KEEP_OUT = (((0.42, 0.14, 0.0), (0.52, 0.24, 0.15)),)  # a box on the table that the arm must avoid
SPOILT = (
    *("number", "huge", "gripper", "unsure", "no confidence", "stale", "future", "unstamped"),
    *("foreign", "frame", "replayed"),
)
LOOP_SHARE = 0.06  # of the cases
LOOP_EVENTS = 50
NOW_NS = 50_000_000_000

_SAMPLES = 10  # of each trajectory, at random, and both its ends
_ROUNDING = 2e-4  # rad, of braking times
_BRAKING = 1.3  # times the tip's acceleration: joints come first while braking
_BETWEEN, _TURNING = 5e-4, 2e-3  # m, between the filter's samples, and before it turns back


@dataclass
class Report:
    """What was tried, and what went wrong.

    cases: deltas judged. accepted: those that the filter let pass. trajectories: judged.
    violations: each in words, with what it takes to see it again. rest: the longest braking in s.
    """

    cases: int = 0
    accepted: int = 0
    trajectories: int = 0
    violations: list[str] = field(default_factory=list)
    rest: float = 0.0

    def add(self, other: Report) -> None:
        """Take in another's figures."""
        self.cases += other.cases
        self.accepted += other.accepted
        self.trajectories += other.trajectories
        self.violations += other.violations
        self.rest = max(self.rest, other.rest)


class Judge:
    """Looks at trajectories with nothing but the profile and geometry in hand."""

    def __init__(self, profile: RobotProfile, urdf: str, rng: np.random.Generator) -> None:
        self.profile, self.kinematics = profile, profile.kinematics(urdf)
        self.collisions = Collisions(urdf, profile, margins=False)
        self.report = Report()
        self._rng, self._limits = rng, profile.limits()
        self._low, self._high = np.array(profile.workspace_min), np.array(profile.workspace_max)
        self._boxes = np.array(profile.keep_out).reshape(-1, 2, 3)

    def look(
        self, chunk: Chunk, q: Array, velocity: Array, where: str, braking: bool = False
    ) -> None:
        """Note everything that a trajectory breaks, which begins at q, velocity (n,)."""
        self.report.trajectories += 1
        for fault in self.faults(chunk, q, velocity, braking):
            self.report.violations.append(f"{where}: {fault}")

    def faults(self, chunk: Chunk, q: Array, velocity: Array, braking: bool = False) -> list[str]:
        """Return what is wrong with it, in words."""
        first = np.abs(chunk.positions[0] - q).max(), np.abs(chunk.velocities[0] - velocity).max()
        faults = [] if max(first) < 1e-6 else [f"begins {max(first):.3g} off the arm's motion"]
        if np.any(chunk.velocities[-1]):
            faults.append("does not end at rest")
        times = np.sort(self._rng.uniform(0.0, chunk.duration, _SAMPLES))
        rows, speeds, pushes = chunk.at(np.concatenate(([0.0], times, [chunk.duration])))
        faults += self._joint_faults(chunk, rows, speeds)
        position, twist, change = self.kinematics.along(rows, speeds, pushes)
        faults += self._place_faults(position, braking) + self._speed_faults(twist, change, braking)
        conditions = self.kinematics.conditions(rows)
        if conditions.max() > max(self.profile.singularity_stop * 1.02, conditions[0] * 1.001):
            faults.append(f"condition number {conditions.max():.1f}")
        return faults + self._contact_faults(rows)

    def _joint_faults(self, chunk: Chunk, q: Array, velocity: Array) -> list[str]:
        limits, faults = self._limits, []
        beyond = np.maximum(limits.lower - q, q - limits.upper)
        if (beyond > np.maximum(beyond[0], 0.0) + _ROUNDING).any():
            faults.append(f"a joint {beyond.max():.3g} rad beyond its limit")
        if (np.abs(velocity) > limits.velocity + 1e-6).any():
            faults.append(f"joint speed {np.abs(velocity).max():.3g} rad/s")
        if (np.abs(chunk.accelerations()) > limits.acceleration + 1e-4).any():
            faults.append(f"joint acceleration {np.abs(chunk.accelerations()).max():.4g} rad/s²")
        return faults

    def _place_faults(self, position: Array, braking: bool) -> list[str]:
        outside = np.maximum(self._low - position, position - self._high).max(axis=1)
        faults = []
        # A way back from outside may have begun further out than where braking does.
        back = 0.02 if braking else _TURNING
        if outside.max() > max(PATH_TOLERANCE + _BETWEEN, outside[0] + back * (outside[0] > 0)):
            faults.append(f"tip {outside.max():.4f} m outside the workspace")
        place = position[:, None]
        depth = np.minimum(place - self._boxes[:, 0], self._boxes[:, 1] - place).min(axis=2)
        if (depth > np.maximum(depth[0], 0.0) + _BETWEEN).any():
            faults.append(f"tip {depth.max():.4f} m inside a keep-out box")
        return faults

    def _speed_faults(self, twist: Array, change: Array, braking: bool) -> list[str]:
        profile, faults = self.profile, []
        speed = np.linalg.norm(twist.reshape(-1, 2, 3), axis=2)
        fastest = np.maximum([profile.max_linear_speed, profile.max_angular_speed], speed[0])
        if (speed > fastest + 1e-6).any():
            faults.append(f"tip speed {speed[:, 0].max():.3f} m/s, {speed[:, 1].max():.3f} rad/s")
        push = np.linalg.norm(change.reshape(-1, 2, 3), axis=2)
        hardest = np.array([profile.max_linear_acceleration, profile.max_angular_acceleration])
        if (push > hardest * (_BRAKING if braking else 1.0)).any():
            faults.append(f"tip acceleration {push[:, 0].max():.1f} m/s², {push[:, 1].max():.1f}")
        return faults

    def _contact_faults(self, q: Array) -> list[str]:
        contact = self.collisions.check(np.vstack((q[:1], q[1::3], q[-1:])))
        return [f"{contact} touch"] if contact else []


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


def random_states(judge: Judge, rng: np.random.Generator, count: int) -> list[Array]:
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
    judge = Judge(profile, urdf, rng)
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
    judge = Judge(profile, urdf, rng)
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

    def __init__(self, rig: Rig, judge: Judge, rng: np.random.Generator) -> None:
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
        """Braking must have begun at once, if the arm moved; note how long it takes."""
        rig, report = self._rig, self._judge.report
        left = 0.0 if rig.chunk is None else rig.chunk.duration - (rig.time - rig.chunk_time)
        if command is None and left > 1e-6:
            report.violations.append(f"{where}: no braking")
        if command is not None and command.chunk is not None:
            report.rest = max(report.rest, command.chunk.duration)

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
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        for part in pool.map(_part, counts, [seed * parts + i for i in range(parts)]):
            report.add(part)
    return report
