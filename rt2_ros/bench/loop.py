# SPDX-License-Identifier: Apache-2.0
"""`rt2 bench loop`: latency, rates and load of the real graph, from the stamps in its messages.

    rt2 bench loop --seconds 20 --json out/loop.json

The graph runs as separate processes, the simulator included. The arm is told to pick things up,
again and again:

    image to delta      stamp of the picture -> publishing of the decision on it
    outside inference   the same without the policy's own time: camera node, transport, waiting
    image to motion     stamp of the first picture of an instruction -> first joint that moves
    CPU                 of each process while an instruction is carried out, as rates are
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from rt2_ros.bench import rounded
from rt2_ros.demo import INSTRUCTIONS
from rt2_ros.stamps import stamp_ns
from rt2_ros.up import Processes, add_graph_arguments, graph_from, stop_requested

if TYPE_CHECKING:
    import psutil

    from rt2_ros.bringup import Graph
    from rt2_ros.nodes.operator import Operator

WARM_UP_S = 2.0
ROUND_S = 6.0  # at most, for one instruction
MOVED_RAD = 0.002  # a joint that is so far from where it rested has moved
SLOW_NS = 1_500_000_000  # a motion that comes later is no answer to the first picture
REST_S = 0.3  # without motion, before an instruction is given
STILL_RAD = 0.0005


@dataclass
class Samples:
    """What the messages tell, in seconds."""

    latency: list[float] = field(default_factory=list)
    inference: list[float] = field(default_factory=list)
    intervals: list[float] = field(default_factory=list)
    motion: list[float] = field(default_factory=list)
    control_rate: list[float] = field(default_factory=list)


class Load:
    """CPU time of processes, from each `begin` to the `look`s after it; nothing between counts."""

    def __init__(self, watched: Mapping[str, psutil.Process]) -> None:
        self._watched = watched
        self._used, self._seconds = dict.fromkeys(watched, 0.0), 0.0
        self.begin()

    def begin(self) -> None:
        """What was used until now does not count."""
        self._last = self._now()

    def look(self) -> None:
        """Add what was used since the last look."""
        (then, before), self._last = self._last, self._now()
        now, used = self._last
        self._seconds += now - then
        for name in self._used:
            self._used[name] += used[name] - before[name]

    def percent(self, name: str) -> float:
        """Of one core, on average."""
        return 100 * self._used[name] / self._seconds if self._seconds else 0.0

    def _now(self) -> tuple[float, dict[str, float]]:
        times = {name: process.cpu_times() for name, process in self._watched.items()}
        return time.monotonic(), {name: t.user + t.system for name, t in times.items()}


class Stopwatch:
    """Takes times from what an Operator hears, and the load while an instruction is carried out."""

    def __init__(self, person: Operator) -> None:
        from rt2_ros.nodes import topics

        self.samples = Samples()
        self.load = Load({})
        self._person = person
        self._id = -1
        self._joints: list[tuple[int, np.ndarray]] = []  # stamp ns, positions; newest last
        self._first_image: int | None = None
        self._rest: np.ndarray | None = None
        self._last_delta: float | None = None
        person.on(topics.END_EFFECTOR_DELTA, self._note_delta)
        person.on(topics.JOINT_STATES_IN, self._note_joints)
        person.on(topics.CONTROLLER_STATUS, self._note_controller)

    def round(self, instruction: str, seed: int, seconds: float, check: Callable[[], None]) -> None:
        """One instruction on a fresh table, until it is done or its time is over.

        check: called now and then; may raise.
        """
        from rt2_ros.data.split import object_name
        from rt2_ros.msg import PolicyStatus
        from rt2_ros.sim.tasks import parse_task

        person = self._person
        things = list(parse_task(instruction, object_name).things)
        person.reset_table(seed, things, check=check)
        self._joints.clear()
        person.until(self._still, 10.0, "the arm to rest", check)
        self._rest = self._joints[-1][1]
        self._first_image = self._last_delta = None
        self._id = person.instruct(instruction, check)
        end = time.monotonic() + seconds
        self.load.begin()
        while time.monotonic() < end and person.policy.state != PolicyStatus.DONE:
            check()
            self.load.look()
            person.spin(0.1)
        person.instruct("", check)
        self._id = -1

    def _still(self) -> bool:
        if not self._joints:
            return False
        newest, q = self._joints[-1]
        window = [p for stamp, p in self._joints if newest - stamp <= REST_S * 1e9]
        covered = newest - self._joints[0][0] >= REST_S * 1e9
        return covered and float(np.ptp(window, axis=0).max()) < STILL_RAD

    def _note_delta(self, msg: Any) -> None:
        if msg.instruction_id != self._id:
            return
        now = time.monotonic()
        self.samples.latency.append(msg.latency)
        self.samples.inference.append(msg.inference)
        if self._last_delta is not None:
            self.samples.intervals.append(now - self._last_delta)
        self._last_delta = now
        if self._first_image is None:
            self._first_image = stamp_ns(msg.header.stamp)
            for stamp, q in self._joints:
                self._look_for_motion(stamp, q)

    def _note_joints(self, msg: Any) -> None:
        stamp, q = stamp_ns(msg.header.stamp), np.array(msg.position)
        self._joints = [*self._joints[-199:], (stamp, q)]
        self._look_for_motion(stamp, q)

    def _look_for_motion(self, stamp: int, q: np.ndarray) -> None:
        if self._first_image is None or self._rest is None or stamp <= self._first_image:
            return
        if stamp - self._first_image > SLOW_NS:
            self._rest = None  # a policy that does not move
        elif float(np.abs(q - self._rest).max()) > MOVED_RAD:
            self.samples.motion.append((stamp - self._first_image) / 1e9)
            self._rest = None  # once per round

    def _note_controller(self, msg: Any) -> None:
        if self._id >= 0 and msg.state == msg.MOVING and msg.rate > 0:
            self.samples.control_rate.append(msg.rate)


def figures(samples: Samples, load: dict[str, dict[str, float]]) -> dict[str, Any]:
    """The keys of `--json`; None where nothing was measured, as with a policy that never moves."""
    latency, inference = np.array(samples.latency), np.array(samples.inference)
    motion = _percentiles(samples.motion)
    return {
        "rate_hz": rounded(1.0 / np.mean(samples.intervals)) if samples.intervals else None,
        "image_to_delta_ms": _percentiles(latency),
        "outside_inference_ms": _percentiles(latency - inference),
        "inference_ms": _percentiles(inference),
        "image_to_motion_ms": motion["p50"],
        "image_to_motion_p99_ms": motion["p99"],
        "control_rate_hz": rounded(np.median(samples.control_rate))
        if samples.control_rate
        else None,
        "decisions": len(latency),
        "instructions": len(samples.motion),
        "nodes": load,
    }


def _percentiles(seconds: Any) -> dict[str, float | None]:
    """Median and p99 in ms."""
    if len(seconds) == 0:
        return {"p50": None, "p99": None}
    p50, p99 = np.percentile(seconds, [50, 99])
    return {"p50": rounded(1e3 * p50), "p99": rounded(1e3 * p99)}


def show(result: dict[str, Any]) -> None:
    """Print the figures as a table."""

    def ms(name: str) -> str:
        value = result[name]
        return f"{value['p50']} / {value['p99']} ms"

    table = Table("measured", "median / p99", title="rt2 bench loop")
    table.add_row("image to delta", ms("image_to_delta_ms"))
    table.add_row("  of it inference", ms("inference_ms"))
    table.add_row("  of it outside inference", ms("outside_inference_ms"))
    motion = f"{result['image_to_motion_ms']} / {result['image_to_motion_p99_ms']} ms"
    table.add_row("image to motion", f"{motion} ({result['instructions']} times)")
    table.add_row("decisions", f"{result['rate_hz']} Hz ({result['decisions']})")
    table.add_row("commands to the arm", f"{result['control_rate_hz']} Hz")
    for name, load in result["nodes"].items():
        table.add_row(name, f"{load['cpu']} % CPU, {load['rss_mb']} MB")
    Console(highlight=False).print(table)


def run(graph: Graph, seconds: float, seed: int = 0, namespace: str = "") -> dict[str, Any]:
    """Run the graph, give it instructions for `seconds`, return the figures."""
    import psutil

    from rt2_ros.nodes.operator import Operator

    with stop_requested() as stopped, Operator(namespace) as person:
        person.refuse_second(graph)
        with Processes(graph) as processes:

            def check() -> None:
                processes.check()
                if stopped():
                    raise KeyboardInterrupt

            person.until_ready(graph, check)
            stopwatch = Stopwatch(person)
            stopwatch.round(INSTRUCTIONS[0], seed, WARM_UP_S, check)
            stopwatch.samples = Samples()  # the first decisions load code and caches
            watched = {
                name: psutil.Process(child.process.pid)
                for name, child in processes.children.items()
            }
            stopwatch.load = Load(watched)
            end, index = time.monotonic() + seconds, 0
            while (left := end - time.monotonic()) > 0.5 or index == 0:
                check()
                index += 1
                instruction = INSTRUCTIONS[index % len(INSTRUCTIONS)]
                stopwatch.round(instruction, seed + index, min(ROUND_S, left), check)
            load = {
                name: {
                    "cpu": rounded(stopwatch.load.percent(name)),
                    "rss_mb": rounded(process.memory_info().rss / 2**20),
                }
                for name, process in watched.items()
            }
    return figures(stopwatch.samples, load)


def main(argv: list[str]) -> int:
    """Run the graph, measure, print."""
    parser = argparse.ArgumentParser("rt2 bench loop", description="Measure the running loop.")
    add_graph_arguments(parser, fixed=("sim",))
    parser.add_argument("--seconds", type=float, default=20.0, help="to measure (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of the first table (default: 0)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    arguments = parser.parse_args(argv)
    if arguments.seconds <= 0:
        raise ValueError(f"--seconds is {arguments.seconds}; expected more than 0")
    graph = graph_from(arguments)
    result = run(graph, arguments.seconds, arguments.seed, arguments.namespace)
    show(result)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0
