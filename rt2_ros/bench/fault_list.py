# SPDX-License-Identifier: Apache-2.0
"""The faults that `rt2 bench faults` and the tests inject: what breaks, and what the arm then owes.

    Fault("policy killed", strike=lambda b: b.kill("policy_node"), ...)     # b: the Bench

All of them strike while the arm moves at the policy's word.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rt2_ros.stamps import stamp_ns

if TYPE_CHECKING:
    from rt2_ros.bench.faults import Bench

HOLDS = "holds"  # at rest within the bound, and stays so until the fault is lifted
GOES_ON = "goes on"  # the fault is harmless: the arm still moves, within every limit
LIMITS = "limits"  # moves or not, within every limit

PAUSE_S = 2.4  # longer than what the controller takes for a hiccup: a person must say go on
FLOOD_HZ, FLOOD_S = 1000, 1.5
HUGE = 1e9  # m
ERA_S = 2e9  # more than since 1970: what is stamped so much earlier has a negative stamp


@dataclass(frozen=True)
class Fault:
    """One thing that breaks.

    strike: makes it so; returns the steady time at which it struck where that is not when it was
    called. lift: makes it whole again. expect: HOLDS, GOES_ON or LIMITS. stays: once lifted, the
    arm may not move before a person says so. lasts: s until it is lifted, at least.
    """

    name: str
    strike: Callable[[Bench], float | None]
    lift: Callable[[Bench], None] = lambda bench: None
    expect: str = HOLDS
    stays: bool = False
    lasts: float = 0.0

    def __post_init__(self) -> None:
        if self.expect not in (HOLDS, GOES_ON, LIMITS):
            raise ValueError(f"{self.name}: expect is {self.expect!r}")
        if self.stays and self.expect != HOLDS:
            raise ValueError(f"{self.name}: only an arm that holds can stay")


def tampered(name: str, tamper: Callable[[Any], Iterable[Any]]) -> Callable[[Bench], None]:
    """Spoil what passes on this way: "joint_states", "pictures", "deltas" or "clock"."""
    return lambda bench: bench.rig.tamper.__setitem__(name, tamper)


def later(seconds: float) -> Callable[[Any], Iterable[Any]]:
    """Stamp messages so much later, or earlier for a negative number; a clock shows so much more.

    A stamp may become negative, as its type allows; a clock may not: rclpy itself ends at that.
    """

    def tamper(msg: Any) -> list[Any]:
        changed = copy.copy(msg)
        if hasattr(msg, "header"):
            changed.header = copy.deepcopy(msg.header)
            stamp = changed.header.stamp
        else:
            changed.clock = stamp = copy.deepcopy(msg.clock)
        total = stamp_ns(stamp) + round(seconds * 1e9)
        if not hasattr(msg, "header"):
            total = max(total, 0)
        stamp.sec, stamp.nanosec = divmod(total, 10**9)
        return [changed]

    return tamper


def joints(change: Callable[[dict[str, float]], dict[str, float]]) -> Callable[[Any], list[Any]]:
    """Change positions by name; the order of what comes back is the order of the message."""

    def tamper(msg: Any) -> list[Any]:
        changed = copy.deepcopy(msg)
        positions = change(dict(zip(msg.name, msg.position, strict=True)))
        changed.name, changed.position = list(positions), list(positions.values())
        changed.velocity = []
        return [changed]

    return tamper


def delta(change: Callable[[Any], None]) -> Callable[[Any], list[Any]]:
    """Change the policy's deltas."""

    def tamper(msg: Any) -> list[Any]:
        changed = copy.deepcopy(msg)
        change(changed)
        return [changed]

    return tamper


def put(**values: float) -> Callable[[Any], None]:
    """Set the x, y, z of a delta's translation."""

    def change(msg: Any) -> None:
        for axis, value in values.items():
            setattr(msg.translation, axis, value)

    return change


def unstamp(msg: Any) -> None:
    """A stamp of zero: the sender does not say when."""
    msg.header.stamp.sec = msg.header.stamp.nanosec = 0


def slow_policy(bench: Bench) -> None:
    """Three decisions' worth of time in as many seconds, in bursts."""
    for _ in range(3):
        bench.freeze("policy_node")
        time.sleep(1.0)
        bench.thaw("policy_node")
        time.sleep(0.15)


def paused_simulator(bench: Bench) -> float:
    """The world stands still and goes on; it strikes when it does."""
    bench.freeze("simulator_node")
    time.sleep(PAUSE_S)
    bench.thaw("simulator_node")
    return time.monotonic()


def replayed(bench: Bench) -> None:
    """The last delta again and again."""
    saved = copy.deepcopy(bench.rig.last_delta)
    bench.rig.tamper["deltas"] = lambda msg: [saved]


def repeated_picture(bench: Bench) -> None:
    """A camera that hangs: the same picture with the same stamp."""
    seen: list[Any] = []

    def tamper(msg: Any) -> list[Any]:
        seen.append(msg)
        return seen[:1]

    bench.rig.tamper["pictures"] = tamper


def alternating(bench: Bench) -> None:
    """As far as it goes to one side, then to the other, at every step."""

    def change(msg: Any) -> None:
        sign = 1 if msg.step % 2 else -1
        msg.translation.x, msg.translation.y = 0.1 * sign, -0.1 * sign
        msg.rotation.z = 0.25 * sign

    bench.rig.tamper["deltas"] = delta(change)


def old_instruction(bench: Bench) -> None:
    """A new instruction is given, and the deltas still answer the one before."""
    old = bench.rig.policy.instruction_id
    bench.rig.tamper["deltas"] = delta(lambda msg: setattr(msg, "instruction_id", old))
    bench.rig.instruct(bench.words())


def second_publisher(bench: Bench) -> None:
    """Somebody else publishes deltas that are right in every field, but up instead of sideways."""
    stranger = bench.rig.intrude()

    def tamper(msg: Any) -> list[Any]:
        (other,) = delta(put(x=0.0, y=0.0, z=0.05))(msg)
        other.step = msg.step + 1
        stranger.publish(other)
        return [msg]

    bench.rig.tamper["deltas"] = tamper


def flood(bench: Bench) -> None:
    """A thousand deltas a second, each newer than the one before."""
    end, count = time.monotonic() + FLOOD_S, 0
    began = time.monotonic()
    while (now := time.monotonic()) < end:
        while count < (now - began) * FLOOD_HZ:
            count += 1
            (msg,) = delta(put(y=0.1 if count % 2 else -0.1))(bench.rig.last_delta)
            msg.step += count
            bench.rig.say("deltas", msg)
        time.sleep(0.001)
    bench.note(f"{count} deltas in {FLOOD_S:g} s")


def parameters(bench: Bench) -> None:
    """Another robot and another bridge while the arm moves: both must be refused."""
    for name, value in (("robot", "fr3"), ("bridge", "dry_run"), ("start_armed", False)):
        if not bench.rig.set_parameter("controller_node", name, value):
            bench.unsafe(f"parameter {name} was taken while the arm moved")


def cut(bench: Bench) -> None:
    """Nothing reaches the arm any more: every process but the simulator is out of reach."""
    for name in ("joint_states", "pictures", "deltas"):
        bench.rig.tamper[name] = lambda msg: []
    bench.freeze("controller_node", "policy_node", "camera_node")


def killed(node: str) -> Callable[[Bench], None]:
    """SIGKILL."""
    return lambda bench: bench.kill(node)


def frozen(*nodes: str) -> Callable[[Bench], None]:
    """SIGSTOP."""
    return lambda bench: bench.freeze(*nodes)


def restarted(node: str) -> Callable[[Bench], None]:
    """A new process in its place."""
    return lambda bench: bench.restart(node)


def thawed(*nodes: str) -> Callable[[Bench], None]:
    """SIGCONT."""
    return lambda bench: bench.thaw(*nodes)


def nothing(msg: Any) -> list[Any]:
    """What comes is lost."""
    return []


NAN = float("nan")
FAULTS = (
    Fault("policy killed", killed("policy_node"), restarted("policy_node"), stays=True),
    Fault("policy frozen", frozen("policy_node"), thawed("policy_node")),
    Fault("policy slow", slow_policy, expect=LIMITS),
    Fault("camera killed", killed("camera_node"), restarted("camera_node")),
    Fault("camera frozen", frozen("camera_node"), thawed("camera_node")),
    Fault("pictures stop", tampered("pictures", nothing)),
    Fault("the same picture again", repeated_picture),
    # Told from a fast machine only while picture and decision take less than that.
    Fault(
        "camera's clock 0.08 s ahead",
        tampered("pictures", later(0.08)),
        expect=LIMITS,
        lasts=1.0,
    ),
    Fault("camera's clock 0.5 s ahead", tampered("pictures", later(0.5))),
    Fault(
        "camera's clock 0.3 s behind",
        tampered("pictures", later(-0.3)),
        expect=LIMITS,
        lasts=1.0,
    ),
    Fault("camera's clock 2 s behind", tampered("pictures", later(-2.0))),
    Fault("camera's clock below zero", tampered("pictures", later(-ERA_S))),
    Fault("simulator paused", paused_simulator, stays=True),
    Fault("joint states stop", tampered("joint_states", nothing), stays=True, lasts=PAUSE_S),
    Fault(
        "joint states lack a joint",
        tampered("joint_states", joints(lambda q: {k: q[k] for k in list(q) if k[-1] != "4"})),
    ),
    Fault(
        "joint states in another order",
        tampered("joint_states", joints(lambda q: dict(reversed(q.items())))),
        expect=GOES_ON,
    ),
    Fault(
        "joint states under other names",
        tampered("joint_states", joints(lambda q: {f"left_{k}": v for k, v in q.items()})),
    ),
    Fault(
        "joint states with NaN",
        tampered("joint_states", joints(lambda q: q | {"panda_joint4": NAN})),
    ),
    Fault("joint states' clock goes back", tampered("joint_states", later(-5.0)), stays=True),
    Fault("joint states' clock below zero", tampered("joint_states", later(-ERA_S))),
    Fault("controller killed", killed("controller_node"), restarted("controller_node"), stays=True),
    Fault(
        "controller frozen",
        frozen("controller_node"),
        thawed("controller_node"),
        stays=True,
        lasts=PAUSE_S,
    ),
    Fault("deltas NaN", tampered("deltas", delta(put(y=NAN)))),
    Fault("deltas infinite", tampered("deltas", delta(put(x=math.inf)))),
    Fault("deltas huge", tampered("deltas", delta(put(x=HUGE, z=-HUGE))), expect=LIMITS, lasts=1.5),
    Fault("deltas alternating", alternating, expect=LIMITS, lasts=1.5),
    Fault("deltas replayed", replayed),
    Fault("deltas without a stamp", tampered("deltas", delta(unstamp))),
    Fault("deltas with a stamp below zero", tampered("deltas", later(-ERA_S))),
    Fault("deltas from the future", tampered("deltas", later(1.0))),
    Fault("deltas of an old instruction", old_instruction),
    Fault("deltas of a second publisher", second_publisher, lambda b: b.rig.retreat()),
    Fault("1,000 deltas a second", flood, expect=LIMITS),
    Fault("parameters changed in flight", parameters, expect=GOES_ON),
    Fault(
        "simulated time switched on in flight",
        lambda b: b.switch_time(True),
        lambda b: b.switch_time(False),
        stays=True,
    ),
    Fault(
        "the network is cut",
        cut,
        thawed("controller_node", "policy_node", "camera_node"),
        stays=True,
        lasts=PAUSE_S,
    ),
)

# The same graph on simulated time, whose clock the simulator gives.
CLOCK_FAULTS = (
    Fault("simulated clock stands still", tampered("clock", nothing), stays=True, lasts=PAUSE_S),
    Fault("simulated clock goes forward by 3 s", tampered("clock", later(3.0)), stays=True),
    Fault("simulated clock goes back by 1 s", tampered("clock", later(-1.0)), stays=True),
    Fault("simulator paused, simulated time", paused_simulator, stays=True),
)
