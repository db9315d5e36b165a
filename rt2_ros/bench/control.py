# SPDX-License-Identifier: Apache-2.0
"""`rt2 bench control`: what gets past the safety filter, and how well the arm follows a policy.

    rt2 bench control --cases 100000 --json out/control.json

    violations      limits that any trajectory broke, in random states under hostile deltas
    period jitter   of the controller at its rate on this machine, deltas and joint states included
    lag, tracking   tip against the ideal pose sequence, for a policy that sees it noisily, decides
                    at an irregular 3 to 6 Hz, takes 50 to 200 ms and aims 0.3 s ahead of its
                    picture; the lag that is left is taken out for tracking
    jerk            mean square of the tip's, with each option of execution on and off

The arm in it follows exactly; the drives' share is for a benchmark on the robot.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from rt2_ros.bench import hostile
from rt2_ros.bench.rig import PERIOD, Rig
from rt2_ros.control.arm import ArmController
from rt2_ros.control.pose import Array, Pose
from rt2_ros.control.profile import RobotProfile
from rt2_ros.paths import config_path

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {"smoothing_time": 0.0, "ensemble_horizon": 1},
    "filter": {"smoothing_time": 0.1, "ensemble_horizon": 1},
    "ensemble": {"smoothing_time": 0.0, "ensemble_horizon": 3},
    "both": {"smoothing_time": 0.1, "ensemble_horizon": 3},
}
SETTLE_S = 2.0  # of following that do not count
NOISE_M, NOISE_RAD = 0.004, 0.02  # of the policy's idea of where the ideal tip is
AHEAD_S = 0.3  # a policy aims so far ahead of its picture
LARGEST_LAG_S = 0.8
CENTRE = Pose(np.array([0.5, 0.0, 0.25]), np.diag([1.0, -1.0, -1.0]))


def ideal(seconds: float) -> Pose:
    """Return the ideal pose at a time: a slow figure of 12 x 16 x 8 cm, the hand turning."""
    x, y, z = 0.06 * np.sin(0.9 * seconds), 0.08 * np.sin(0.6 * seconds), 0.04 * np.sin(seconds)
    return CENTRE.compose_delta([x, y, z], [0.0, 0.0, 0.3 * np.sin(0.5 * seconds)])


def follow(rig: Rig, seed: int, seconds: float) -> dict[str, float]:
    """Let a noisy, late, irregular policy lead the rig's arm along the ideal; return how it went.

    lag_ms; tracking_mm, root of the mean square with that lag taken out; jerk, mean square of the
    tip's in m²/s⁶; decisions and commands.
    """
    rng = np.random.default_rng(seed)
    rig.instruct()
    begin, sent = rig.time, len(rig.commands)
    waiting: list[tuple[float, Any]] = []  # when a decision is ready, and the delta
    look_time, decisions, tips = begin, 0, []
    while rig.time - begin < seconds:
        rig.run(PERIOD)
        tips.append(rig.tip.position)
        if rig.time >= look_time:
            wanted = ideal(rig.time - begin + AHEAD_S).compose_delta(
                rng.normal(size=3) * NOISE_M, rng.normal(size=3) * NOISE_RAD
            )
            step, turn = rig.tip.delta_to(wanted)
            delta = rig.delta(tuple(step), rotation=tuple(turn))
            waiting.append((rig.time + rng.uniform(0.05, 0.2), delta))
            look_time = rig.time + 1 / rng.uniform(3.0, 6.0)
        while waiting and waiting[0][0] <= rig.time:
            rig.send(waiting.pop(0)[1])
            decisions += 1
    path = np.array(tips)
    lag, error = _lag_and_error(path)
    settled = path[round(SETTLE_S / PERIOD) :]
    jerk = np.diff(settled, n=3, axis=0) / PERIOD**3
    return {
        "lag_ms": lag * 1e3,
        "tracking_mm": error * 1e3,
        "jerk": float((jerk**2).sum(axis=1).mean()),
        "decisions": decisions,
        "commands": len(rig.commands) - sent,
    }


def _lag_and_error(path: Array) -> tuple[float, float]:
    """Return the lag in s with which a path (m, 3) fits the ideal best, and the error in m then."""
    skip, most = round(SETTLE_S / PERIOD), round(LARGEST_LAG_S / PERIOD)
    steps = range(skip + 1 - most, len(path) + 1)  # path[i] is of the end of period i
    wanted = np.array([ideal(step * PERIOD).position for step in steps])
    settled = path[skip:]
    errors = []
    for lag in range(most):
        late = wanted[most - lag : most - lag + len(settled)]
        errors.append(float(np.sqrt(((settled - late) ** 2).sum(axis=1).mean())))
    best = int(np.argmin(errors))
    return best * PERIOD, errors[best]


def execution(
    profile: RobotProfile, urdf: str, seconds: float, seed: int
) -> dict[str, dict[str, float]]:
    """Follow the ideal with each of the OPTIONS."""
    kinematics, collisions = profile.kinematics(urdf), profile.collisions(urdf)
    start = kinematics.inverse(ideal(0.0), profile.home)
    profile, result = _patient(profile, seconds), {}
    for name, options in OPTIONS.items():
        rig = Rig(dataclasses.replace(profile, **options), kinematics, collisions, q=start)
        result[name] = {key: round(value, 2) for key, value in follow(rig, seed, seconds).items()}
    return result


def jitter(profile: RobotProfile, urdf: str, seconds: float) -> dict[str, Any]:
    """Run a controller in real time at its rate; return how punctual it is and what it costs.

    The arm follows. planned: of the decisions; the others were refused, why is in refusals.
    """
    kinematics, profile = profile.kinematics(urdf), _patient(profile, seconds)
    arm = ArmController(profile, kinematics, profile.collisions(urdf), armed=True)
    q = kinematics.inverse(ideal(0.0), profile.home)
    names = [*profile.arm_joints, profile.gripper_joint]
    rig = Rig(profile, kinematics, None)  # for its deltas
    arm.on_policy_status(0, "")
    arm.on_policy_status(1, "follow")
    period, starts, costs = 1.0 / profile.control_rate, [], []
    chunk, chunk_time = None, 0.0
    deadline = time.monotonic()
    for tick in range(round(seconds * profile.control_rate)):
        deadline += period
        time.sleep(max(0.0, deadline - time.monotonic()))
        starts.append(time.monotonic())
        if chunk is not None:
            q, _ = chunk.sample(starts[-1] - chunk_time)
        positions, now_ns = [*q.tolist(), profile.gripper_open], time.time_ns()
        decided = tick % round(profile.control_rate / 5) == 0
        if decided:
            step, turn = kinematics.forward(q).delta_to(ideal(tick * period))
            delta = rig.delta(tuple(step), rotation=tuple(turn), stamp_ns=now_ns, instruction_id=1)
        begun = time.monotonic()
        commands = [
            arm.on_joint_state(now_ns, names, positions, now_ns),
            arm.tick(time.time_ns()),
        ]
        if decided:
            commands.append(arm.on_delta(delta, time.time_ns()))
        costs.append(time.monotonic() - begun)
        for command in commands:
            if command is not None and command.chunk is not None:
                chunk, chunk_time = command.chunk, time.monotonic()
    late = np.abs(np.diff(starts) - period) * 1e3
    work = np.array(costs) * 1e3
    return {
        "period_jitter_ms": _percentiles(late),
        "work_ms": _percentiles(work),
        "decisions": arm.accepted + arm.refused,
        "planned": arm.accepted,
        "refusals": dict(arm.refusals),
    }


def _patient(profile: RobotProfile, seconds: float) -> RobotProfile:
    """The robot, asking for no help for so long: the ideal returns to where the tip has been."""
    return dataclasses.replace(profile, no_progress_time=seconds + 1.0)


def _percentiles(values: Array) -> dict[str, float]:
    p50, p99 = np.percentile(values, [50, 99])
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3)}


def run(cases: int, seconds: float, seed: int = 0) -> dict[str, Any]:
    """Measure everything; the keys of `--json`."""
    robot = RobotProfile.load(config_path("robots", "panda.yaml"))
    urdf = config_path("robots", "panda.urdf").read_text(encoding="utf-8")
    report = hostile.run(cases, seed)
    return {
        "violations": len(report.violations),
        "cases": report.cases,
        "accepted": report.accepted,
        "trajectories": report.trajectories,
        "longest_braking_s": round(report.rest, 3),
        "examples": report.violations[:10],
        **jitter(robot, urdf, seconds),
        "execution": execution(robot, urdf, seconds, seed),
    }


def show(result: dict[str, Any]) -> None:
    """Print the figures as tables."""
    console = Console(highlight=False)
    table = Table("measured", "", title="rt2 bench control")
    table.add_row("hostile cases", f"{result['cases']} ({result['accepted']} deltas accepted)")
    table.add_row("violations", f"{result['violations']} in {result['trajectories']} trajectories")
    table.add_row("longest braking", f"{result['longest_braking_s']} s")
    table.add_row("decisions planned", f"{result['planned']} of {result['decisions']}")
    for name, key in (("period jitter", "period_jitter_ms"), ("work per period", "work_ms")):
        table.add_row(f"{name}, median / p99", f"{result[key]['p50']} / {result[key]['p99']} ms")
    console.print(table)
    for example in result["examples"]:
        console.print(f"  {example}")
    ways = Table("execution", "lag", "tracking", "mean square jerk", "commands")
    for name, figures in result["execution"].items():
        ways.add_row(
            name,
            f"{figures['lag_ms']:.0f} ms",
            f"{figures['tracking_mm']:.1f} mm",
            f"{figures['jerk']:.0f} m²/s⁶",
            f"{figures['commands']}",
        )
    console.print(ways)


def main(argv: list[str]) -> int:
    """Measure, print; exit status 1 if a limit was broken."""
    parser = argparse.ArgumentParser("rt2 bench control", description="Measure the controller.")
    parser.add_argument("--cases", type=int, default=10_000, help="hostile deltas (default: 10000)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=12.0,
        help="of each test of jitter or tracking (default: 12)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the cases (default: 0)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    arguments = parser.parse_args(argv)
    for name, least in (("cases", 0), ("seconds", SETTLE_S)):
        value = getattr(arguments, name)
        if value <= least:
            raise ValueError(f"--{name} is {value}; expected more than {least:g}")
    result = run(arguments.cases, arguments.seconds, arguments.seed)
    show(result)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 1 if result["violations"] else 0
