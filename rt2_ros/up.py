# SPDX-License-Identifier: Apache-2.0
"""`rt2 up`: starts the graph of bringup.py as processes and watches them, without `ros2 launch`.

    with Processes(describe(policy="hold"), echo=print) as processes:
        processes.watch(until=stop_requested)     # raises Ended when a process ends by itself

When one node ends all are stopped: an arm is not left with half of its graph.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType

from rt2_ros.bringup import ARGUMENTS, MODULE, Graph, NodeSpec, describe, environment

# [ERROR] [1730000000.123456789] [policy_node]: text, or, from one that could not start,
# [ERROR] policy_node: text
ROS_LOG = re.compile(r"\[(?P<level>[A-Z]+)\] (\[[\d.]+\] \[[^\]]*\]|\S+): (?P<text>.*)")
# From asked to stop until killed; a policy may be in the middle of a decision.
GRACE_S = 8.0
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1  # prctl(2)


class Ended(RuntimeError):
    """A process of the graph ended by itself; the message names it and its last words."""


@dataclass
class Child:
    """One running node and what it said last."""

    spec: NodeSpec
    process: subprocess.Popen[str]
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=50))
    reader: threading.Thread | None = None

    def last_words(self) -> str:
        """The last error line, else the last line."""
        lines = [line for line in self.lines if line.strip()]
        errors = [line for line in lines if line.startswith(("ERROR", "FATAL"))]
        return (errors or lines or ["it said nothing"])[-1]

    def close(self) -> None:
        """Read what it said to the end; a process that it has left may hold that open longer."""
        if self.reader is not None:
            self.reader.join(1.0)
            if self.reader.is_alive():
                return  # to close what is being read would wait for it
        if self.process.stdout is not None:
            self.process.stdout.close()


class Processes:
    """The running processes of a graph; a context manager that leaves none behind.

    echo(node name, line) is called, from threads, with each line that a node writes. Its OSError
    (a pipe that nobody reads any longer, a full disk) loses the line and nothing else.
    """

    def __init__(self, graph: Graph, echo: Callable[[str, str], None] | None = None) -> None:
        self._graph = graph
        self._echo = echo or (lambda name, line: None)
        self.children: dict[str, Child] = {}

    def __enter__(self) -> Processes:
        try:
            for spec in self._graph.nodes:
                self._start(spec)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def _start(self, spec: NodeSpec) -> None:
        process = subprocess.Popen(
            spec.command(),
            env={**os.environ, **spec.environment, **MODULE, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # ctrl-C reaches this process only, which stops them in order
            preexec_fn=end_with_parent,
        )
        child = self.children[spec.name] = Child(spec, process)
        child.reader = threading.Thread(target=self._read, args=(child,), daemon=True)
        child.reader.start()

    def _read(self, child: Child) -> None:
        assert child.process.stdout is not None
        for raw in child.process.stdout:
            found = ROS_LOG.fullmatch(raw.rstrip())
            line = f"{found['level']} {found['text']}" if found else raw.rstrip()
            child.lines.append(line)
            self._say(child.spec.name, line)

    def _say(self, name: str, line: str) -> None:
        """Echo a line if it can be: a node whose output nobody takes would stand still."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: a file that is closed
            self._echo(name, line)

    def check(self) -> None:
        """Raise Ended if a process has ended by itself."""
        for child in self.children.values():
            code = child.process.poll()
            if code is not None:
                if child.reader is not None:
                    child.reader.join(1.0)
                how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"status {code}"
                raise Ended(f"{child.spec.full_name} ended ({how}): {child.last_words()}")

    def watch(self, until: Callable[[], bool], period: float = 0.1) -> None:
        """Return when `until` says so; raise Ended when a process ends before."""
        while not until():
            self.check()
            time.sleep(period)

    def restart(self, name: str) -> None:
        """Start a node anew that has ended, or end it at once and do so."""
        child = self.children[name]
        _signal(child.process, signal.SIGKILL)
        child.process.wait()
        child.close()
        self._start(child.spec)

    def stop(self) -> None:
        """Ask all to end, wait, kill what is left."""
        for child in self.children.values():
            # Not SIGINT: a node that still imports its modules would print tracebacks.
            _signal(child.process, signal.SIGTERM)
        end = time.monotonic() + GRACE_S
        for child in self.children.values():
            try:
                child.process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._say(child.spec.name, f"ERROR did not end within {GRACE_S:g} s: killed")
                _signal(child.process, signal.SIGKILL)
                child.process.wait()
            child.close()


def end_with_parent() -> None:
    """In the child: get SIGTERM when this process is gone, however it went (Linux)."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _signal(process: subprocess.Popen[str], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


@contextlib.contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Whether ctrl-C, SIGTERM or SIGHUP came; a second one ends this process the usual way."""
    event = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    if before[signal.SIGHUP] is signal.SIG_IGN:  # nohup: it is to outlive the terminal
        del before[signal.SIGHUP]

    def note(number: int, frame: FrameType | None) -> None:
        event.set()
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield event.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def add_graph_arguments(parser: argparse.ArgumentParser, fixed: tuple[str, ...] = ()) -> None:
    """Add bring-up's arguments but the fixed ones: params_file becomes --params-file, and so on."""
    for argument in ARGUMENTS:
        if argument.name in fixed:
            continue
        parser.add_argument(
            "--" + argument.name.replace("_", "-"),
            default=argument.default,
            choices=argument.choices or None,
            help=f"{argument.text} (default: {argument.default or 'none'})",
        )


def graph_from(arguments: argparse.Namespace) -> Graph:
    """Return the graph that parsed arguments ask for."""
    if getattr(arguments, "sim", "") == "gazebo":
        raise ValueError(
            "Gazebo is started by `ros2 launch rt2_ros bringup.launch.py sim:=gazebo`, from a ROS "
            "distribution that has it"
        )
    use_transport(network=getattr(arguments, "sim", "") == "none")
    return describe(**{a.name: getattr(arguments, a.name, a.default) for a in ARGUMENTS})


def use_transport(network: bool = False) -> None:
    """Let this process, too, talk by the transport of the graph; call it before ROS is used.

    network: for one that does not start the graph, which may be a real arm's on another machine.
    """
    os.environ.update(environment(network))


def main(argv: list[str]) -> int:
    """Start the graph and stay until ctrl-C."""
    parser = argparse.ArgumentParser("rt2 up", description="Start the graph and stay.")
    add_graph_arguments(parser)
    arguments = parser.parse_args(argv)
    graph = graph_from(arguments)

    from rt2_ros.msg import ControllerStatus
    from rt2_ros.nodes.operator import Operator

    width = max(len(node.name) for node in graph.nodes)

    def echo(name: str, line: str) -> None:
        print(f"{name:{width}} {line}", flush=True)

    with stop_requested() as stopped, Operator(arguments.namespace) as person:
        person.refuse_second(graph)
        with Processes(graph, echo) as processes:

            def check() -> None:
                processes.check()
                if stopped():
                    raise KeyboardInterrupt

            with contextlib.suppress(KeyboardInterrupt):
                person.until_ready(graph, check)
                table = ", ".join(o.name for o in person.scene.objects)
                print(f"ready. On the table: {table}" if table else "ready.")
                there = f" --namespace {arguments.namespace}" if arguments.namespace else ""
                if person.controller.state == ControllerStatus.DISARMED:
                    print(f"The arm is disarmed ({person.controller.reason}): rt2 arm{there}")
                print(f"Tell it what to do: rt2 say{there} 'pick up the banana' (ctrl-C ends)")
                sys.stdout.flush()
                person.refuse_late_second(graph, check)
                processes.watch(stopped)
    return 0
