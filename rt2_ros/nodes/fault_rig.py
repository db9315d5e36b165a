# SPDX-License-Identifier: Apache-2.0
"""Sits between the nodes of a running graph, spoils what they say, and records what the arm does.

    processes = Processes(rig_graph("faults"))
    with processes, FaultRig("faults", profile) as rig:
        rig.tamper["deltas"] = lambda msg: [msg, msg]   # from now on each is heard twice
        rig.sent, rig.states                            # what the arm is told, and does

Joint states, pictures and deltas pass through here on their way (the nodes' topics are remapped in
`rig_graph`), so that each can be lost, spoilt or repeated as if its sender had done it. What is
recorded comes straight from the controller and from the simulator.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.publisher import Publisher
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory

from rt2_ros.bench.judge import Sample, Sent
from rt2_ros.bringup import Graph, NodeSpec, describe
from rt2_ros.control.history import by_name
from rt2_ros.control.profile import RobotProfile
from rt2_ros.msg import ControllerStatus, EndEffectorDelta, PolicyStatus, SceneState
from rt2_ros.nodes import topics
from rt2_ros.nodes.robot import is_idle
from rt2_ros.nodes.topics import Topic
from rt2_ros.stamps import stamp_ns

REPLY_S = 15.0  # for a service, or for a node to be there
Tamper = Callable[[Any], Iterable[Any]]
T = TypeVar("T")

# What passes through here: name -> the topic as the nodes downstream know it.
PICTURES = topics.camera_image("scene")
RELAYED = {
    "joint_states": (topics.JOINT_STATES_IN, topics.JOINT_STATES),
    "pictures": (PICTURES, PICTURES),
    "deltas": (topics.END_EFFECTOR_DELTA, topics.END_EFFECTOR_DELTA),
    "clock": (topics.CLOCK, topics.CLOCK),  # where time is simulated
}


def upstream(topic: Topic) -> Topic:
    """Return a relayed topic under the name that its sender is remapped to."""
    return topic._replace(name=f"upstream/{topic.name.lstrip('/')}")


def rig_graph(namespace: str, sim_time: bool = False, policy: str = "sweep") -> Graph:
    """Return the graph of bring-up with what it says led through a FaultRig."""
    senders = {
        "simulator_node": (topics.JOINT_STATES, PICTURES, topics.CLOCK),
        "policy_node": (topics.END_EFFECTOR_DELTA,),
    }

    def lead(node: NodeSpec) -> NodeSpec:
        ways = tuple((t.name, upstream(t).name) for t in senders.get(node.name, ()))
        return replace(node, remappings=ways)

    graph = describe(policy=policy, namespace=namespace, use_sim_time=sim_time)
    return Graph(tuple(map(lead, graph.simulation)), tuple(map(lead, graph.robot)))


class FaultRig:
    """A node that relays and records in a thread of its own; methods are for one other thread.

    tamper: for each of RELAYED, what is passed on for a message; absent: the message itself.
    sent, states, gripper, statuses: recorded since `forget`, by the steady clock.
    """

    def __init__(self, namespace: str, profile: RobotProfile, sim_time: bool = False) -> None:
        self.profile = profile
        relayed = {name: ends for name, ends in RELAYED.items() if sim_time or name != "clock"}
        self.tamper: dict[str, Tamper] = {}
        self.sent: list[Sent] = []
        self.states: list[Sample] = []
        self.gripper: list[float] = []
        self.statuses: list[tuple[float, ControllerStatus]] = []
        self.policy = PolicyStatus()
        self._scene = SceneState()
        self._seen_ns = 0  # stamp of the newest joint state
        self.last_delta: EndEffectorDelta | None = None  # as the policy sent it
        self._context = Context()
        self._context.init(args=[])
        self._clients: dict[str, Any] = {}
        self._intruder: Publisher | None = None
        self.node = Node(
            "fault_rig", namespace=namespace, context=self._context, use_global_arguments=False
        )
        self.stranger = Node(  # a second publisher, when there is to be one
            "stranger", namespace=namespace, context=self._context, use_global_arguments=False
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        for node in (self.node, self.stranger):
            self._executor.add_node(node)
        self._out = {name: self.node.create_publisher(*out) for name, (_, out) in relayed.items()}
        for name, (heard, _) in relayed.items():
            self.node.create_subscription(*upstream(heard).to(self._relay(name)))
        arm = topics.joint_trajectory(profile.arm_controller)
        gripper = topics.gripper_trajectory(profile.gripper_controller)
        for topic, take in (
            # Nothing that is sent may be missed here.
            (arm._replace(qos=topics.QUEUE), self._take_sent),
            (gripper._replace(qos=topics.QUEUE), lambda msg: self.gripper.append(time.monotonic())),
            (topics.CONTROLLER_STATUS, self._take_status),
            (topics.POLICY_STATUS, lambda msg: setattr(self, "policy", msg)),
            (topics.SCENE_STATE, lambda msg: setattr(self, "_scene", msg)),
        ):
            self.node.create_subscription(*topic.to(take))
        self._instruction = self.node.create_publisher(*topics.INSTRUCTION)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._spin, name="fault rig", daemon=True)
        self._thread.start()

    def __enter__(self) -> FaultRig:
        return self

    def __exit__(self, *exc: object) -> None:
        self._ending.set()
        self._thread.join(5.0)
        self._executor.shutdown(timeout_sec=1.0)
        for node in (self.node, self.stranger):
            node.destroy_node()  # or its publishers are seen for as long as this process lives
        self._context.try_shutdown()

    # In the rig's thread

    def _spin(self) -> None:
        while not self._ending.is_set():
            self._executor.spin_once(0.1)

    def _relay(self, name: str) -> Callable[[Any], None]:
        out = self._out[name]

        def pass_on(msg: Any) -> None:
            if name == "joint_states":
                self._take_state(msg)
            elif name == "deltas":
                self.last_delta = msg
            tamper = self.tamper.get(name)
            for each in [msg] if tamper is None else tamper(msg):
                out.publish(each)

        return pass_on

    def _take_state(self, msg: Any) -> None:
        self._seen_ns = stamp_ns(msg.header.stamp)
        q = by_name(msg.name, msg.position, self.profile.arm_joints)
        v = by_name(msg.name, msg.velocity, self.profile.arm_joints)
        self.states.append(Sample(time.monotonic(), q, v))

    def _take_sent(self, msg: JointTrajectory) -> None:
        order = [list(msg.joint_names).index(joint) for joint in self.profile.arm_joints]
        times = [Duration.from_msg(p.time_from_start).nanoseconds * 1e-9 for p in msg.points]
        positions = np.array([p.positions for p in msg.points])[:, order]
        velocities = np.array([p.velocities for p in msg.points])[:, order]
        self.sent.append(Sent(time.monotonic(), np.array(times), positions, velocities))

    def _take_status(self, msg: ControllerStatus) -> None:
        self.statuses.append((time.monotonic(), msg))

    # For the other thread

    @property
    def status(self) -> ControllerStatus:
        """What the controller said last."""
        return self.statuses[-1][1] if self.statuses else ControllerStatus()

    @property
    def silence(self) -> float:
        """For how many seconds the simulator has not been heard."""
        return time.monotonic() - self.states[-1].time if self.states else math.inf

    def forget(self) -> None:
        """Begin the records anew."""
        newest = self.statuses[-1:]
        self.sent, self.states, self.gripper, self.statuses = [], [], [], newest

    def until(self, condition: Callable[[], object], what: str, timeout: float = REPLY_S) -> None:
        """Wait for a condition; TimeoutError says what was waited for."""
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(
                    f"waited {timeout:g} s for {what}; the controller says: {self.status.reason}; "
                    f"the simulator was heard {self.silence:.1f} s ago"
                )
            time.sleep(0.005)

    def say(self, name: str, msg: Any) -> None:
        """Publish as if it had come from where `name` comes from."""
        self._out[name].publish(msg)

    def intrude(self, topic: Topic = topics.END_EFFECTOR_DELTA, readers: int = 1) -> Publisher:
        """Return a publisher that is somebody else's, met by so many readers."""
        publisher = self._in_its_thread(lambda: self.stranger.create_publisher(*topic))
        self._intruder = publisher
        self.until(
            lambda: publisher.get_subscription_count() >= readers, f"{topic.name} to be heard"
        )
        return publisher

    def retreat(self) -> None:
        """Take that publisher away again."""
        self.tamper.clear()
        intruder, self._intruder = self._intruder, None
        if intruder is not None:
            self._in_its_thread(lambda: self.stranger.destroy_publisher(intruder))

    def _in_its_thread(self, work: Callable[[], T]) -> T:
        """What `work` returns, done between two callbacks: what is destroyed while the executor
        waits for it ends its thread.
        """
        task = self._executor.create_task(work)
        self.until(task.done, "the rig's own thread")
        return task.result()

    def speed(self) -> float:
        """Return how fast the fastest joint was measured last, rad/s; 0 before the first."""
        return float(np.abs(self.states[-1].velocity).max()) if self.states else 0.0

    def instruct(self, text: str) -> None:
        """Give an instruction until the policy says that it works on it; an empty text ends it."""
        for _ in range(5):
            self._instruction.publish(String(data=text))
            try:
                self.until(
                    lambda: self.policy.instruction == text, f"the policy to take {text!r}", 3
                )
            except TimeoutError:
                continue  # a node that has just started may not be listening yet
            return
        raise TimeoutError(f"the policy does not take {text!r}; it says: {self.policy.reason}")

    def call(self, kind: Any, name: str, request: Any) -> Any:
        """Call a service and return its answer."""
        client = self._clients.get(name)
        if client is None:
            client = self._clients[name] = self.node.create_client(kind, name)
        self.until(client.service_is_ready, f"the service {name}")
        future = client.call_async(request)
        self.until(future.done, f"an answer of {name}")
        return future.result()

    def arm(self) -> None:
        """Arm the controller, whatever it was."""
        reply = self.call(SetBool, "controller_node/arm", SetBool.Request(data=True))
        if not reply.success:
            raise RuntimeError(f"the controller cannot be armed: {reply.message}")

    def reset(self) -> None:
        """Lay the simulated table anew, once nobody moves the arm: it is at its start, at rest, and
        what is seen of it here is of the new table.
        """
        self.until(lambda: is_idle(self.status), "the controller to end the instruction")
        self.until(lambda: self._scene.laid, "the simulator's table")
        before = self._scene.laid
        reply = self.call(Trigger, "simulator_node/reset", Trigger.Request())
        if not reply.success:
            raise RuntimeError(f"the simulator cannot be reset: {reply.message}")
        self.until(lambda: self._scene.laid != before, "the new table")
        laid_ns = stamp_ns(self._scene.header.stamp)
        # The joint states before may still be queued up, and be led on to the controller.
        self.until(lambda: self._seen_ns >= laid_ns, "the arm at the new table")

    def set_parameter(self, node: str, name: str, value: Any) -> str:
        """Set a parameter of a running node; return why it was refused, empty if it was not."""
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg()]
        )
        (result,) = self.call(SetParameters, f"{node}/set_parameters", request).results
        return "" if result.successful else result.reason or "refused"
