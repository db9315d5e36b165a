# SPDX-License-Identifier: Apache-2.0
"""Real node processes, and a probe that talks to them over real DDS.

Waits are for events, with a deadline.
"""

import gc
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.time import Time

from rt2_ros import demo
from rt2_ros.bringup import NodeSpec, describe
from rt2_ros.control.profile import RobotProfile
from rt2_ros.msg import EndEffectorDelta, PolicyStatus
from rt2_ros.nodes import topics
from rt2_ros.paths import config_path

PROFILE = RobotProfile.load(config_path("robots", "panda.yaml"))
URDF = config_path("robots", "panda.urdf").read_text(encoding="utf-8")
KINEMATICS = PROFILE.kinematics(URDF)
DEADLINE = 30.0  # s for anything that a probe waits for


class Process:
    """One node in a process of its own; `text` is what it has said."""

    def __init__(self, folder, node, namespace, env=None, remappings=None, **parameters):
        self.node = node
        self._log = folder / f"{node}-{time.monotonic_ns()}.log"
        command = [sys.executable, "-m", f"rt2_ros.nodes.{node}", "--ros-args"]
        for old, new in {"__ns": f"/{namespace}", **(remappings or {})}.items():
            command += ["-r", f"{old}:={new}"]
        for name, value in parameters.items():
            command += ["-p", f"{name}:={str(value).lower() if value in (True, False) else value}"]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=env, text=True
            )

    @property
    def text(self):
        return self._log.read_text()

    @property
    def running(self):
        return self._process.poll() is None

    def problems(self):
        """Lines of severity warning and above, without the severity, time and name before them."""
        found = [line for line in self.text.splitlines() if re.match(r"\[(WARN|ERROR|FATAL)", line)]
        return [re.sub(r"^(\[[^\]]*\]:? ?)+", "", line) for line in found]

    def wait(self, timeout=DEADLINE):
        """Wait for the process to end by itself; return its exit status."""
        return self._process.wait(timeout)

    def end(self, number=signal.SIGINT):
        """Send a signal and return the exit status."""
        if self.running:
            self._process.send_signal(number)
            try:
                return self._process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(DEADLINE)
        return self._process.returncode


class Probe:
    """A node of the test's own, in a namespace; keeps every message that it was asked to keep."""

    def __init__(self, namespace):
        self.namespace = namespace
        self._context = Context()
        rclpy.init(context=self._context, args=[])
        self.node = Node("probe", namespace=namespace, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._publishers = {}
        self._clients = {}
        self.kept = {}

    def close(self):
        self._executor.shutdown(timeout_sec=1.0)
        self.node.destroy_node()
        self._context.try_shutdown()

    def keep(self, *wanted):
        """Keep all messages of these topics in `kept[name]`."""
        for topic in wanted:
            kept = self.kept.setdefault(topic.name, [])
            self.node.create_subscription(*topic.to(kept.append))

    def last(self, topic):
        return self.kept[topic.name][-1] if self.kept[topic.name] else None

    def until(self, condition, what, timeout=DEADLINE):
        """Spin until the condition holds, and return what it returned."""
        end = time.monotonic() + timeout
        while not (result := condition()):
            if time.monotonic() > end:
                statuses = self.kept.get(topics.CONTROLLER_STATUS.name, [])[-200:]
                said = "; ".join(dict.fromkeys(status.reason for status in statuses))
                raise AssertionError(
                    f"waited {timeout:g} s for {what}; the controller said: {said}"
                )
            self._executor.spin_once(0.05)
        return result

    def more(self, topic, count=1):
        """Spin until `count` more messages have come; return the last."""
        kept = self.kept[topic.name]
        goal = len(kept) + count
        self.until(lambda: len(kept) >= goal, f"{count} more messages on {topic.name}")
        return kept[-1]

    def publisher(self, topic, readers=1):
        """Return a publisher that has met its readers."""
        if topic.name not in self._publishers:
            self._publishers[topic.name] = self.node.create_publisher(*topic)
        publisher = self._publishers[topic.name]
        self.until(
            lambda: publisher.get_subscription_count() >= readers,
            f"{readers} readers of {topic.name}",
        )
        return publisher

    def publish(self, topic, msg, readers=1):
        self.publisher(topic, readers).publish(msg)

    def call(self, kind, name, request):
        """Call a service of a node and return its response."""
        future = self.client(kind, name).call_async(request)
        self.until(future.done, f"an answer of {name}")
        return future.result()

    def client(self, kind, name):
        """Return a client that has met its service."""
        if name not in self._clients:
            self._clients[name] = self.node.create_client(kind, name)
        client = self._clients[name]
        self.until(client.service_is_ready, f"service {name}")
        return client

    def now(self):
        return self.node.get_clock().now()

    # The arm, as the simulator tells it

    def arm_positions(self):
        """Return the seven joint positions of the newest joint state."""
        msg = self.last(topics.JOINT_STATES)
        named = dict(zip(msg.name, msg.position, strict=True))
        return np.array([named[joint] for joint in PROFILE.arm_joints])

    def tip(self):
        """Return the position (3,) of the fingertips, m, from the newest joint state."""
        return KINEMATICS.forward(self.arm_positions()).position

    def rest(self, still=10):
        """Wait until the joints have not moved over `still` joint states."""

        def at_rest():
            last = self.kept[topics.JOINT_STATES.name][-still:]
            if len(last) < still:
                return False
            return np.ptp([list(msg.position)[:7] for msg in last], axis=0).max() < 5e-4

        self.kept[topics.JOINT_STATES.name].clear()
        self.until(at_rest, "the arm to be at rest")

    # The policy's part, played by hand

    def instruct(self, instruction_id, text="pick up the apple"):
        """Say, as a policy does, which instruction is being worked on."""
        msg = PolicyStatus(
            state=PolicyStatus.RUNNING, instruction=text, instruction_id=instruction_id
        )
        self.publish(topics.POLICY_STATUS, msg)
        self.until(
            lambda: self.last(topics.CONTROLLER_STATUS).instruction_id == instruction_id,
            f"the controller to follow instruction {instruction_id}",
        )

    def delta(self, instruction_id, step, translation=(0, 0, 0), gripper=0.0, **changes):
        """Publish a delta that answers the newest observation; return that observation."""
        observation = changes.pop("observation", None) or self.more(topics.OBSERVATION)
        msg = EndEffectorDelta(
            instruction_id=instruction_id, step=step, gripper_closedness=float(gripper)
        )
        msg.header.stamp = observation.header.stamp
        msg.header.frame_id = PROFILE.base_frame
        msg.translation.x, msg.translation.y, msg.translation.z = map(float, translation)
        for name, value in changes.items():
            if name == "frame_id":
                msg.header.frame_id = value
            elif name == "age":
                stamp = Time.from_msg(observation.header.stamp).nanoseconds - round(value * 1e9)
                msg.header.stamp = Time(nanoseconds=stamp).to_msg()
            else:
                setattr(msg, name, value)
        self.publish(topics.END_EFFECTOR_DELTA, msg)
        return observation


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A busy machine may be silent for a second, and nothing has gone wrong."""
    monkeypatch.setattr(demo, "BLIND_S", 5.0)


@pytest.fixture(scope="module", autouse=True)
def no_older_nodes():
    """Nodes of earlier tests in this process that are garbage are still seen until it is collected:
    a graph would be refused as another's.
    """
    gc.collect()


@pytest.fixture(scope="module")
def namespace(request):
    """One namespace a test module, so that graphs do not meet."""
    return re.sub(r"\W", "_", request.module.__name__.split(".")[-1])


@pytest.fixture(scope="module")
def start(tmp_path_factory, namespace):
    """Start nodes; all still running at the end must end cleanly on SIGINT."""
    folder = tmp_path_factory.mktemp("logs")
    started = []

    def begin(node, **options):
        process = Process(folder, node, namespace, **options)
        started.append(process)
        return process

    yield begin
    running = [process for process in reversed(started) if process.running]
    statuses = {process.node: process.end() for process in running}
    for process in started:
        print(f"--- {process.node}\n{process.text}")
        assert "Traceback" not in process.text
    assert set(statuses.values()) <= {0}, statuses


@pytest.fixture(scope="module")
def probe(namespace):
    probe = Probe(namespace)
    yield probe
    probe.close()


class ExpertSpec(NodeSpec):
    """A policy node that runs expert_policy_node.py."""

    def command(self):
        script = Path(__file__).with_name("expert_policy_node.py")
        return [sys.executable, str(script), *self.ros_args()]


@pytest.fixture
def expert_graph():
    graph = describe(policy="hold")
    robot = [
        ExpertSpec(**vars(node)) if node.name == "policy_node" else node for node in graph.robot
    ]
    return replace(graph, robot=tuple(robot))
