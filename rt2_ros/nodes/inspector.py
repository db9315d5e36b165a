# SPDX-License-Identifier: Apache-2.0
"""Looks at a live graph without touching it: who is there, what comes, how often, how old.

    facts = inspect(namespace="", seconds=3.0)
    facts.cameras["scene"].rate         # 29.8 Hz
    facts.joint_states.ages             # s from each stamp to its arrival here

`rt2_ros.checks` judges these facts. This node only subscribes and asks for parameters: it offers
no topic of the graph and calls no service that changes anything.

What is there must not be reported missing because it was discovered late. A DDS participant whose
first announcements were lost, as they are on a busy machine, announces itself again after 3 s; and
a request or its reply is dropped where the two ends have not both met. So nothing is judged before
the graph has been quiet for longer than that, requests are repeated, and the seconds of listening
begin once everything on offer has been heard. Each of these waits has a limit, LATE_S.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from rcl_interfaces.srv import GetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import DurabilityPolicy
from rclpy.task import Future

from rt2_ros.bringup import checked_namespace
from rt2_ros.facts import Endpoint, Facts, Stream
from rt2_ros.nodes import topics
from rt2_ros.nodes.base import one_line
from rt2_ros.nodes.camera_node import CameraNode, rgb
from rt2_ros.nodes.controller_node import ControllerNode
from rt2_ros.nodes.decoding import BadImage
from rt2_ros.nodes.parameters import words
from rt2_ros.nodes.policy_node import PolicyNode
from rt2_ros.nodes.topics import Topic
from rt2_ros.stamps import stamp_ns

LATE_S = 10.0  # at most, for what is there to be seen, to answer, or to be heard
QUIET_S = 4.0  # that a graph to which nothing is added any more has been seen whole
AGAIN_S = 1.0  # after which a request is repeated
LOOK_S = 0.1  # from one look to the next
KINDS = {"camera_node": CameraNode, "policy_node": PolicyNode, "controller_node": ControllerNode}


@dataclass(frozen=True)
class Snapshot:
    """Nodes by full name, publishers and readers by topic, and services, as seen at one moment."""

    nodes: Counter[str]
    endpoints: dict[str, tuple[list[Endpoint], list[Endpoint]]]
    services: set[str]


def inspect(namespace: str = "", seconds: float = 3.0) -> Facts:
    """Listen to the graph in a namespace for some seconds and return what was found."""
    with Inspector(namespace) as inspector:
        return inspector.look(seconds)


class Inspector:
    """The node, and what it has heard so far."""

    def __init__(self, namespace: str = "") -> None:
        self._context = Context()
        self._context.init(args=[])
        self.node = Node(
            "check_robot",
            namespace=checked_namespace(namespace),
            context=self._context,
            use_global_arguments=False,
            enable_rosout=False,
            start_parameter_services=False,
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)

    def __enter__(self) -> Inspector:
        return self

    def __exit__(self, *exc: object) -> None:
        self._executor.shutdown(timeout_sec=1.0)
        self.node.destroy_node()
        self._context.try_shutdown()

    def look(self, seconds: float) -> Facts:
        """See who is there, ask our nodes for their parameters, then listen."""
        self._settle()
        parameters = self._parameters(self._seen())
        sim_time = any(values.get("use_sim_time") for values in parameters.values())
        self.node.set_parameters([Parameter("use_sim_time", value=sim_time)])
        if sim_time:  # until the first /clock it is 0 s, and every stamp in the future
            self._until(lambda: self.node.get_clock().now().nanoseconds, LATE_S)

        camera = parameters.get("camera_node", {})
        row = {parameter.name: parameter.default for parameter in CameraNode.PARAMETERS}
        names = words(camera.get("cameras", row["cameras"]))
        raw = camera.get("transport", row["transport"]) == "raw"
        kind = topics.camera_image if raw else topics.camera_compressed
        pictures = {name: self._remapped("camera_node", kind(name)) for name in names}
        listened = {
            name: self._listen(topic, problem_of=picture_problem)
            for name, topic in pictures.items()
        }
        joints = self._listen(
            self._remapped("controller_node", topics.JOINT_STATES_IN),
            part_of=lambda msg: tuple(sorted(msg.name)),
        )
        description = self._listen(topics.ROBOT_DESCRIPTION, stamped=False)
        observation = self._listen(topics.OBSERVATION)
        policy = self._listen(topics.POLICY_STATUS)
        controller = self._listen(topics.CONTROLLER_STATUS)
        clock = self._listen(topics.CLOCK, stamped=False)
        health: dict[str, tuple[int, str, dict[str, str]]] = {}
        self.node.create_subscription(*topics.DIAGNOSTICS.to(partial(self._take_health, health)))
        streams = [joints, description, observation, policy, controller, *listened.values()]
        self._until(
            lambda: (
                all(
                    stream.arrivals or not self.node.count_publishers(stream.topic)
                    for stream in streams
                )
                and health.keys() >= {name for name, values in parameters.items() if values}
            ),
            LATE_S,
        )
        self._spin(seconds)
        graph = self._graph()
        for stream in (*streams, clock):
            stream.publishers, _ = self._endpoints(stream.topic)
        return Facts(
            namespace=self.node.get_namespace().rstrip("/"),
            nodes=graph.nodes,
            parameters=parameters,
            cameras=listened,
            joint_states=joints,
            description=description,
            observation=observation,
            policy=policy,
            controller=controller,
            clock=clock,
            endpoints=graph.endpoints,
            services=graph.services,
            diagnostics=health,
        )

    def _settle(self) -> None:
        """Wait for our nodes, LATE_S at most, then until nothing has changed for QUIET_S."""
        start = changed = now = time.monotonic()
        graph = self._graph()
        while now - start < LATE_S + QUIET_S and (
            now - changed < QUIET_S or (now - start < LATE_S and len(self._seen()) < len(KINDS))
        ):
            self._spin(LOOK_S)
            before, graph, now = graph, self._graph(), time.monotonic()
            if graph != before:
                changed = now

    def _graph(self) -> Snapshot:
        """What is seen now."""
        found = self.node.get_node_names_and_namespaces()
        return Snapshot(
            Counter(f"{namespace.rstrip('/')}/{name}" for name, namespace in found),
            {name: self._endpoints(name) for name, _ in self.node.get_topic_names_and_types()},
            {name for name, _ in self.node.get_service_names_and_types()},
        )

    def _seen(self) -> list[str]:
        """Which of our nodes are seen now."""
        nodes = self._graph().nodes
        return [name for name in KINDS if nodes[self._full(name)]]

    def _take_health(self, health: dict[str, tuple[int, str, dict[str, str]]], msg: Any) -> None:
        for status in msg.status:
            name = next((n for n in KINDS if self._full(n) == f"/{status.name}"), None)
            if name is not None:
                figures = {pair.key: pair.value for pair in status.values}
                health[name] = int.from_bytes(status.level, "little"), status.message, figures

    def _full(self, name: str) -> str:
        return f"{self.node.get_namespace().rstrip('/')}/{name}"

    def _spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._executor.spin_once(0.02)  # always as long, or rclpy serves its first ones alone

    def _until(self, condition: Callable[[], object], seconds: float) -> None:
        """Receive until the condition holds, for some seconds at most."""
        end = time.monotonic() + seconds
        while not condition() and time.monotonic() < end:
            self._spin(LOOK_S)

    def _parameters(self, names: list[str]) -> dict[str, dict[str, Any]]:
        """Return the parameters of these nodes; none of a node that has not answered in LATE_S."""
        found: dict[str, dict[str, Any]] = {name: {} for name in names}
        clients = {
            name: self.node.create_client(GetParameters, f"{self._full(name)}/get_parameters")
            for name in names
        }
        due = dict.fromkeys(names, 0.0)

        def ask(name: str) -> None:
            wanted = ["use_sim_time", *(p.name for p in KINDS[name].PARAMETERS)]

            def take(future: Future) -> None:
                values = map(parameter_value_to_python, future.result().values)
                pairs = zip(wanted, values, strict=False)
                found[name] = {key: value for key, value in pairs if value is not None}

            future = clients[name].call_async(GetParameters.Request(names=wanted))
            future.add_done_callback(take)

        def answered() -> bool:
            for name in names:
                now = time.monotonic()
                if not found[name] and now >= due[name] and clients[name].service_is_ready():
                    ask(name)
                    due[name] = now + AGAIN_S
            return all(found.values())

        self._until(answered, LATE_S)
        for client in clients.values():
            self.node.destroy_client(client)
        return found

    def _remapped(self, name: str, topic: Topic) -> Topic:
        """Return the topic as a node of ours reads it, which a person may have remapped."""
        own = self.node.resolve_topic_name(topic.name)
        kind = f"{topic.type.__module__.split('.')[0]}/msg/{topic.type.__name__}"
        try:
            read = self.node.get_subscriber_names_and_types_by_node(name, self.node.get_namespace())
        except RuntimeError:  # rclpy's NodeNameNonExistentError: the node is not there
            return topic
        found = [other for other, kinds in read if kind in kinds]
        return topic if own in found or len(found) != 1 else topic._replace(name=found[0])

    def _listen(
        self,
        topic: Topic,
        stamped: bool = True,
        problem_of: Callable[[Any], str] = lambda msg: "",
        part_of: Callable[[Any], tuple[str, ...]] = lambda msg: (),
    ) -> Stream:
        name = self.node.resolve_topic_name(topic.name)
        package, kind = topic.type.__module__.split(".")[0], topic.type.__name__
        latched = topic.qos.durability == DurabilityPolicy.TRANSIENT_LOCAL
        new = partial(Stream, name, f"{package}/msg/{kind}", latched)
        stream = new()

        def take(msg: Any) -> None:
            now = self.node.get_clock().now().nanoseconds
            found = [stream]
            if part := part_of(msg):
                found.append(stream.parts.setdefault(part, new()))
            for each in found:
                each.arrivals.append(time.monotonic())
                if stamped:
                    stamp = stamp_ns(msg.header.stamp)
                    each.ages.append((now - stamp) * 1e-9 if stamp > 0 else float("inf"))
                each.problem = problem_of(msg) or each.problem
                each.newest = msg

        self.node.create_subscription(*topic.to(take))
        return stream

    def _endpoints(self, topic: str) -> tuple[list[Endpoint], list[Endpoint]]:
        """Return who publishes and who reads a topic, ourselves left out."""
        name = self.node.resolve_topic_name(topic)
        ways = (self.node.get_publishers_info_by_topic, self.node.get_subscriptions_info_by_topic)
        found = []
        for infos in (way(name) for way in ways):
            ends = (
                Endpoint(
                    f"{info.node_namespace.rstrip('/')}/{info.node_name}",
                    info.topic_type,
                    info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL,
                )
                for info in infos
            )
            found.append([end for end in ends if end.node != self._full("check_robot")])
        return found[0], found[1]


def picture_problem(msg: Any) -> str:
    """Say why a picture cannot be used; empty if it can."""
    try:
        rgb(msg)
    except BadImage as error:
        return one_line(error)
    return ""
