# SPDX-License-Identifier: Apache-2.0
"""`rt2 up` and `rt2 say` with real processes."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

pytest.importorskip("rclpy")

from rt2_ros import up as up_module  # noqa: E402
from rt2_ros.bringup import Graph, NodeSpec, describe  # noqa: E402
from rt2_ros.paths import config_path  # noqa: E402
from rt2_ros.up import Ended, Processes  # noqa: E402

WAIT = 60.0


class Command:
    """A running `rt2 ...`, its output line by line."""

    def __init__(self, *arguments, cwd=None):
        self.process = subprocess.Popen(
            [Path(sys.executable).with_name("rt2"), *arguments],
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines = []
        self.changed = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self.changed:
                self.lines.append(line.rstrip())
                self.changed.notify_all()

    def until(self, text):
        def said():
            return any(text in line for line in self.lines)

        with self.changed:
            assert self.changed.wait_for(said, WAIT), self.lines

    def nodes(self):
        children = psutil.Process(self.process.pid).children()
        return {child.cmdline()[2].split(".")[-1]: child for child in children}

    def end(self, number=None):
        if number is not None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(WAIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"still running: {self.lines}") from None
        self.reader.join(WAIT)
        return code


@pytest.fixture
def up(request, tmp_path):
    # As within a source checkout, whose package has no built messages.
    (tmp_path / "rt2_ros").mkdir()
    (tmp_path / "rt2_ros" / "__init__.py").write_text("raise RuntimeError('not the installed one')")
    # A namespace each: a node that was killed is seen for 20 s.
    command = Command(
        "up", "--policy", "hold", "--sim", "none", "--namespace", request.node.name, cwd=tmp_path
    )
    try:
        command.until("ready.")
        yield command
    finally:
        if command.process.poll() is None:
            command.end(signal.SIGTERM)


def rt2(*arguments, namespace):
    command = Command(*arguments, "--namespace", namespace)
    return command.end(), "\n".join(command.lines)


def test_a_graph_takes_instructions_refuses_a_second_one_and_ends_clean(up, request):
    name = request.node.name
    code, said = rt2("say", "pick up the banana", namespace=name)
    assert code == 1 and said.startswith("instruction 1: not obeyed: no URDF on ")  # nor armed
    code, said = rt2("say", "x" * 10_240, namespace=name)
    assert (code, said) == (1, "instruction 2: instruction refused: 10240 characters, at most 1000")
    code, said = rt2("ask", "what is this?", namespace=name)
    assert (code, said) == (1, "no answer: no observation yet: is the camera running?")
    code, said = rt2("say", "", namespace=name)
    assert code == 0 and said.endswith(": stopped")

    code, said = rt2("up", "--policy", "hold", "--sim", "none", namespace=name)
    assert code == 1
    assert f"rt2: busy: ROS domain {os.environ['ROS_DOMAIN_ID']} has /{name}/" in said

    nodes = up.nodes()
    assert set(nodes) == {"camera_node", "controller_node", "policy_node"}, up.lines
    assert up.end(signal.SIGINT) == 0
    assert not any(node.is_running() for node in nodes.values())
    assert not [line for line in up.lines if "Traceback" in line or "killed" in line]


def test_a_node_that_dies_is_named_and_takes_the_graph_with_it(up):
    nodes = up.nodes()
    nodes["camera_node"].kill()
    assert up.end() == 1
    assert "/camera_node ended (killed by SIGKILL): " in up.lines[-1]
    assert not any(node.is_running() for node in nodes.values())


def test_nodes_do_not_outlive_a_killed_parent(up):
    nodes = up.nodes()
    up.end(signal.SIGKILL)
    _, alive = psutil.wait_procs(list(nodes.values()), timeout=30)
    assert alive == []


def test_the_last_words_of_a_node_are_told():
    node = NodeSpec(
        "policy_node", "policy_node", "", (config_path("bringup.yaml"),), {"policy": "rt3"}
    )
    with pytest.raises(Ended) as ended, Processes(Graph((), (node,))) as processes:
        processes.watch(lambda: False)
    told = str(ended.value)
    assert told.startswith("/policy_node ended (status 1): ")
    assert "no policy 'rt3': not one of" in told


class Script(NodeSpec):
    """A process that does what its `executable` names below, no node."""

    def command(self):
        return [sys.executable, "-c", SCRIPTS[self.executable]]


SCRIPTS = {
    "talks": "for _ in range(4000): print(40 * 'x')\nprint('ERROR the end')",  # over 64 KiB
    "stays": "import signal, time\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('stays')\ntime.sleep(100)",
}


def nobody_listens(name, line):
    raise BrokenPipeError


def script(name):
    return Graph((), (Script(name, name, "", ()),))


def test_a_node_goes_on_when_its_words_can_no_longer_be_written():
    """Else the pipe fills, the node stands still in its next line, and nobody is told."""
    late = time.monotonic() + WAIT
    with pytest.raises(Ended) as ended, Processes(script("talks"), nobody_listens) as processes:
        processes.watch(lambda: time.monotonic() > late)
    assert str(ended.value) == "/talks ended (status 0): ERROR the end"


def test_what_does_not_end_is_killed_though_nobody_can_be_told(monkeypatch):
    monkeypatch.setattr(up_module, "GRACE_S", 0.2)
    late = time.monotonic() + WAIT
    with Processes(script("stays"), nobody_listens) as processes:
        (child,) = processes.children.values()
        processes.watch(lambda: "stays" in child.lines or time.monotonic() > late)
    assert child.process.returncode == -signal.SIGKILL


def test_parameters_of_a_person_reach_a_node_in_a_namespace(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("/**/policy_node:\n  ros__parameters:\n    max_rate: 1000.0\n")
    graph = describe(policy="hold", namespace="left", params_file=str(mine))
    node = next(node for node in graph.nodes if node.name == "policy_node")
    with pytest.raises(Ended) as ended, Processes(Graph((), (node,))) as processes:
        processes.watch(lambda: False)
    assert str(ended.value).startswith("/left/policy_node ended (status 1): ")
    assert "max_rate: got 1000.0, expected float from 0.1 to 100 Hz" in str(ended.value)


EVERYWHERE = "/**: {ros__parameters: {use_sim_time: false}}\n"


@pytest.mark.parametrize(
    ("text", "bridge"),
    [
        (EVERYWHERE, "none"),
        ("/controller_node: {ros__parameters: {moveit_params: a.yaml}}\n", "none"),
        (f"{EVERYWHERE}/controller_node: {{ros__parameters: {{bridge: none}}}}\n", ""),
    ],
)
def test_a_bridge_reaches_the_controller_by_argument_or_file(tmp_path, text, bridge):
    """One that it refuses, so as to be told of it."""
    mine = tmp_path / "mine.yaml"
    mine.write_text(text)
    graph = describe(policy="hold", sim="none", bridge=bridge, params_file=str(mine))
    node = next(node for node in graph.nodes if node.name == "controller_node")
    with pytest.raises(Ended) as ended, Processes(Graph((), (node,))) as processes:
        processes.watch(lambda: False)
    assert "parameter bridge: got 'none', expected one of " in str(ended.value)
