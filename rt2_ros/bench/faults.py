# SPDX-License-Identifier: Apache-2.0
"""`rt2 bench faults`: everything breaks, one thing at a time, while the arm moves.

    rt2 bench faults --json out/faults.json --report docs/faults.md
    rt2 bench faults --only "controller killed" --repeats 20

The real graph runs, and the simulator is the judge. Each fault strikes the moving arm; then the arm
must be at rest within a bound and stay so, or go on within every limit, as the fault's `expect`
says. The fault is lifted, and where `stays` is set the arm may not move again by itself. An arm
that is not seen does not hold: without joint states a fault fails. The same list is run by
test/system/test_faults.py.
"""

from __future__ import annotations

import argparse
import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rt2_ros.bench.fault_list import CLOCK_FAULTS, FAULTS, GOES_ON, HOLDS, Fault
from rt2_ros.bench.fault_report import Outcome, figures, keep, report, show
from rt2_ros.bench.judge import Judge, time_to_rest, way
from rt2_ros.control.history import STILL
from rt2_ros.control.profile import RobotProfile
from rt2_ros.paths import config_path

if TYPE_CHECKING:
    from rt2_ros.msg import ControllerStatus
    from rt2_ros.nodes.fault_rig import FaultRig
    from rt2_ros.up import Processes

BOUND_S = 3.0  # to rest, on a machine that does other things as well
QUIET_S = 0.8  # without motion, for the arm to be at rest
SEEN = 20  # joint states in that time, of some 80; with fewer nothing is known
STAY_S = 1.2  # after a fault is lifted, in which nothing may move by itself
IN_MOTION = 4  # commands, after which the arm is under way
MOVING = 0.15  # rad/s of the fastest joint: the arm is in full motion
HERE = 0.002  # m between where two say that the tip of an arm at rest is
MOVED = 0.005  # rad; less is the servos' own
READY_S = 60.0  # for the graph to start
FORGOTTEN_S = 40.0  # for a killed node no longer to be seen, which takes Fast DDS 20 s


class Bench:
    """The running graph, with the means to break it; one fault after another."""

    def __init__(
        self, rig: FaultRig, processes: Processes, judge: Judge, seed: int,
        records: Path | None = None,
    ) -> None:  # fmt: skip
        """records: folder for what was seen where it was not as expected."""
        self.rig: FaultRig = rig
        self._processes, self._judge = processes, judge
        self._rng = np.random.default_rng(seed)
        self._said, self._records = 0, records
        self._outcome = Outcome(FAULTS[0])

    # What faults are made of

    def kill(self, node: str) -> None:
        """SIGKILL a node."""
        self._processes.children[node].process.kill()

    def freeze(self, *nodes: str) -> None:
        """SIGSTOP nodes."""
        for node in nodes:
            self._processes.children[node].process.send_signal(signal.SIGSTOP)

    def thaw(self, *nodes: str) -> None:
        """SIGCONT nodes."""
        for node in nodes:
            self._processes.children[node].process.send_signal(signal.SIGCONT)

    def restart(self, node: str) -> None:
        """Start a killed node anew and wait until it is ready."""
        before = time.monotonic()
        killed = self._writers() if node == "camera_node" else set()
        self._processes.restart(node)
        child = self._processes.children[node]
        self.rig.until(
            lambda: any(line == "INFO active" for line in list(child.lines)),
            f"{node} to be active again",
            READY_S,
        )
        self.rig.until(  # of two that publish pictures or observations none are taken
            lambda: not killed & self._writers(),
            f"the killed {node} to be forgotten",
            FORGOTTEN_S,
        )
        if node == "controller_node":
            self.rig.until(
                lambda: self.rig.statuses[-1][0] > before and knows_the_arm(self.rig.status),
                "the controller to know where the arm is",
            )

    def _writers(self) -> set[bytes]:
        """Who publishes observations, or has until he was killed."""
        name = self.rig.node.resolve_topic_name("observation")
        found = self.rig.node.get_publishers_info_by_topic(name)
        return {bytes(each.endpoint_gid) for each in found}

    def switch_time(self, simulated: bool) -> None:
        """Set use_sim_time of the controller, where no clock is published."""
        self.rig.set_parameter("controller_node", "use_sim_time", simulated)

    def words(self) -> str:
        """Return an instruction that was not given yet."""
        self._said += 1
        return f"go to and fro, {self._said}"

    def unsafe(self, what: str) -> None:
        """Note what must not have happened."""
        self._outcome.unsafe.append(what)

    def note(self, what: str) -> None:
        """Note a figure."""
        self._outcome.notes.append(what)

    # A fault from beginning to end

    def run(self, fault: Fault) -> Outcome:
        """Set the arm in motion, let the fault strike, judge, lift it, judge again."""
        outcome = self._outcome = Outcome(fault)
        rig = self.rig
        self._set_in_motion()
        struck = time.monotonic()
        struck = fault.strike(self) or struck
        if fault.expect == HOLDS:
            rested = self._wait_for_rest(struck)
            outcome.time_to_hold = time_to_rest(rig.states, struck)
            if outcome.time_to_hold > BOUND_S:
                outcome.unsafe.append(f"still moving {outcome.time_to_hold:.2f} s after the fault")
            elif not rested:
                outcome.failed.append("not seen at rest")
            if outcome.time_to_hold == 0:
                outcome.failed.append("not seen moving when it struck")
        left = struck + fault.lasts - time.monotonic()
        time.sleep(max(left, QUIET_S if fault.expect == GOES_ON else 0.0))
        if fault.expect == HOLDS:
            at_rest = struck + (outcome.time_to_hold or 0.0)
            rest = [s for s in rig.states if s.time > at_rest]
            if way(rest) > MOVED:
                outcome.unsafe.append(f"crept by {way(rest):.3f} rad while it held")
        elif fault.expect == GOES_ON:
            lately = [s for s in rig.states if s.time > time.monotonic() - QUIET_S]
            if way(lately) < 10 * MOVED:
                outcome.failed.append(f"stopped without need: {rig.status.reason}")
        self._must_see(struck, "after the fault")
        lifted = time.monotonic()
        rig.tamper.clear()
        fault.lift(self)
        if fault.stays:
            time.sleep(STAY_S)
            self._must_see(lifted, "after it was lifted")
            by_itself = way([s for s in rig.states if s.time > lifted])
            if by_itself > MOVED:
                outcome.unsafe.append(f"moved by {by_itself:.3f} rad, and nobody had said so")
        sent, states = list(rig.sent), list(rig.states)
        outcome.commands = len(sent)
        outcome.unsafe += self._judge.commands(sent) + self._judge.motion(states, struck)
        if self._records and (outcome.unsafe or outcome.failed):
            keep(self._records, fault.name, struck, sent, states)
        return outcome

    def _set_in_motion(self) -> None:
        """Arm at rest, table laid anew, a new instruction, full motion; then the records begin."""
        rig = self.rig
        rig.tamper.clear()
        rig.instruct("")
        rig.arm()
        rig.until(lambda: rig.speed() < STILL, "the arm to rest")
        rig.reset()
        # Put elsewhere as no arm ever is: were the controller to go by where it was, it would tear.
        rig.until(self._controller_sees_the_arm, "the controller to see the arm at the new table")
        rig.forget()
        rig.instruct(self.words())
        rig.until(lambda: len(rig.sent) >= IN_MOTION, "the arm to be moving")
        time.sleep(self._rng.uniform(0.0, 0.2))  # so that faults strike at any phase of a step
        rig.until(lambda: rig.speed() > MOVING, "the arm to be in full motion")

    def _controller_sees_the_arm(self) -> bool:
        """Whether the tip is for the controller where the joints say that it is."""
        tip = self.rig.status.end_effector_pose.position
        there = self._judge.tip(self.rig.states[-1].position)
        return float(np.linalg.norm(there - [tip.x, tip.y, tip.z])) < HERE

    def _must_see(self, since: float, when: str) -> None:
        """Note a failure where too little was seen of the arm to say what it did."""
        seen = sum(state.time > since for state in self.rig.states)
        if seen < SEEN or self.rig.silence > QUIET_S:
            self._outcome.failed.append(
                f"{seen} joint states {when}, the last {self.rig.silence:.1f} s ago"
            )

    def _wait_for_rest(self, struck: float) -> bool:
        """Return True once the joints are seen not to have moved for a while, False where that
        should long be so.
        """
        while time.monotonic() < struck + BOUND_S + QUIET_S:
            since = max(struck, time.monotonic() - QUIET_S)
            lately = [s for s in self.rig.states[-200:] if s.time > since]
            moving = any(np.abs(s.velocity).max() > STILL for s in lately)
            # A simulator that is silent, on a busy machine, may be in the middle of a motion.
            if len(lately) > SEEN and not moving and time.monotonic() - struck > QUIET_S:
                return True
            time.sleep(0.02)
        return False


def knows_the_arm(status: ControllerStatus) -> bool:
    """Whether the controller has a URDF and joint states: the tip is somewhere."""
    tip = status.end_effector_pose.position
    return any((tip.x, tip.y, tip.z))


@contextmanager
def bench(
    namespace: str = "faults",
    seed: int = 0,
    sim_time: bool = False,
    echo: Callable[[str, str], None] | None = None,
    records: Path | None = None,
) -> Iterator[Bench]:
    """Start the graph, with what it says led through a FaultRig, until it is ready."""
    from rt2_ros.nodes.fault_rig import FaultRig, rig_graph
    from rt2_ros.up import Processes

    profile = RobotProfile.load(config_path("robots", "panda.yaml"))
    urdf = config_path("robots", "panda.urdf").read_text(encoding="utf-8")
    with (
        Processes(rig_graph(namespace, sim_time), echo) as processes,
        FaultRig(namespace, profile, sim_time) as rig,
    ):
        running = Bench(rig, processes, Judge(profile, urdf), seed, records)
        end = time.monotonic() + READY_S
        while not (rig.states and knows_the_arm(rig.status) and rig.policy.policy):
            processes.check()
            if time.monotonic() > end:
                raise TimeoutError(f"waited {READY_S:g} s for the graph: {rig.status.reason}")
            time.sleep(0.05)
        try:
            yield running
        finally:
            running.thaw(
                *(name for name, c in processes.children.items() if c.process.poll() is None)
            )


def tell(outcome: Outcome) -> None:
    """Print a line, as soon as it is known."""
    held = "" if outcome.time_to_hold is None else f"{1e3 * outcome.time_to_hold:.0f} ms"
    problems = "; ".join(outcome.unsafe + outcome.failed) or "as expected"
    print(f"{outcome.fault.name:40} {held:>8} {problems}", flush=True)


def main(argv: list[str]) -> int:
    """Inject faults, print what came of them; exit status 1 if anything was not as expected."""
    parser = argparse.ArgumentParser("rt2 bench faults", description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=1, help="of each fault (default: 1)")
    parser.add_argument("--only", help="faults whose name holds this text")
    parser.add_argument("--seed", type=int, default=0, help="of when they strike (default: 0)")
    parser.add_argument("--namespace", default="faults", help="of the graph (default: faults)")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument(
        "--records", type=Path, help="folder for what was seen where it was not as expected"
    )
    parser.add_argument("--report", type=Path, help="Markdown file to write the table to")
    arguments = parser.parse_args(argv)
    graphs = (FAULTS, CLOCK_FAULTS)
    chosen = [
        [fault for fault in faults if (arguments.only or "") in fault.name] for faults in graphs
    ]
    if not any(chosen) or arguments.repeats < 1:
        raise ValueError("nothing to inject: --only must match a fault, --repeats be 1 or more")

    from rt2_ros.up import use_transport

    use_transport()
    outcomes: list[Outcome] = []
    try:
        for faults, sim_time in zip(chosen, (False, True), strict=True):
            if not faults:
                continue
            with bench(
                arguments.namespace, arguments.seed, sim_time, records=arguments.records
            ) as running:
                for fault in faults * arguments.repeats:
                    outcomes.append(Outcome(fault, failed=["broken off"]))  # unless it ends
                    outcomes[-1] = running.run(fault)
                    tell(outcomes[-1])
    finally:
        result = figures(outcomes)
        if outcomes:
            show(result)
            for path, text in (
                (arguments.json, json.dumps(result, indent=1) + "\n"),
                (arguments.report, report(result)),
            ):
                if path:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(text, encoding="utf-8")
    return 1 if result["unsafe"] or result["failed"] else 0
