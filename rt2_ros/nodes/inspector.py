# SPDX-License-Identifier: Apache-2.0
"""Looks at a live graph without touching it: who is there, what comes, how often, how old.

    facts = inspect(namespace="", seconds=3.0)
    facts.cameras["scene"].rate         # 29.8 Hz
    facts.joint_states.ages             # s from each stamp to its arrival here

`rt2_ros.checks` judges these facts. This node only subscribes and asks for parameters: it offers
no topic of the graph and calls no service that changes anything.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from rcl_interfaces.srv import GetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from rclpy.time import Time

from rt2_ros.facts import Endpoint, Facts, Stream
from rt2_ros.nodes import topics
from rt2_ros.nodes.base import one_line
from rt2_ros.nodes.camera_node import CameraNode, rgb
from rt2_ros.nodes.controller_node import ControllerNode
from rt2_ros.nodes.decoding import BadImage
from rt2_ros.nodes.parameters import words
from rt2_ros.nodes.policy_node import PolicyNode
from rt2_ros.nodes.topics import Topic

DISCOVERY_S = 5.0  # at most, for our nodes to be seen
PARAMETERS_S = 2.0  # for a node to say its parameters
KINDS = {"camera_node": CameraNode, "policy_node": PolicyNode, "controller_node": ControllerNode}


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
            namespace=namespace,
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
        end = time.monotonic() + DISCOVERY_S
        while time.monotonic() < end and not all(self._nodes()[self._full(n)] for n in KINDS):
            self._spin(0.1)
        seen = self._nodes()
        parameters = {name: self._parameters(name) for name in KINDS if seen[self._full(name)]}
        sim_time = any(values.get("use_sim_time") for values in parameters.values())
        self.node.set_parameters([Parameter("use_sim_time", value=sim_time)])

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
        joints = self._listen(self._remapped("controller_node", topics.JOINT_STATES_IN))
        description = self._listen(topics.ROBOT_DESCRIPTION, stamped=False)
        observation = self._listen(topics.OBSERVATION)
        policy = self._listen(topics.POLICY_STATUS)
        controller = self._listen(topics.CONTROLLER_STATUS)
        clock = self._listen(topics.CLOCK, stamped=False)
        health: dict[str, tuple[int, str, dict[str, str]]] = {}
        self.node.create_subscription(*topics.DIAGNOSTICS.to(partial(self._take_health, health)))
        self._spin(seconds)
        for stream in (
            *(joints, description, observation, policy, controller, clock),
            *listened.values(),
        ):
            stream.publishers, _ = self._endpoints(stream.topic)
        return Facts(
            namespace=self.node.get_namespace().rstrip("/"),
            nodes=self._nodes(),
            parameters=parameters,
            cameras=listened,
            joint_states=joints,
            description=description,
            observation=observation,
            policy=policy,
            controller=controller,
            clock=clock,
            endpoints={
                name: self._endpoints(name) for name, _ in self.node.get_topic_names_and_types()
            },
            services={name for name, _ in self.node.get_service_names_and_types()},
            diagnostics=health,
        )

    def _nodes(self) -> Counter[str]:
        """How many nodes of each full name are seen now."""
        found = self.node.get_node_names_and_namespaces()
        return Counter(f"{namespace.rstrip('/')}/{name}" for name, namespace in found)

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
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(left)

    def _parameters(self, name: str) -> dict[str, Any]:
        """Return a node's parameters by name; empty if it does not answer."""
        wanted = ["use_sim_time", *(p.name for p in KINDS[name].PARAMETERS)]
        client = self.node.create_client(GetParameters, f"{self._full(name)}/get_parameters")
        try:
            future = client.call_async(GetParameters.Request(names=wanted))
            self._executor.spin_until_future_complete(future, PARAMETERS_S)
            reply = future.result() if future.done() else None
        finally:
            self.node.destroy_client(client)
        values = [] if reply is None else map(parameter_value_to_python, reply.values)
        return {key: value for key, value in zip(wanted, values, strict=False) if value is not None}

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
    ) -> Stream:
        name = self.node.resolve_topic_name(topic.name)
        package, kind = topic.type.__module__.split(".")[0], topic.type.__name__
        latched = topic.qos.durability == DurabilityPolicy.TRANSIENT_LOCAL
        stream = Stream(name, f"{package}/msg/{kind}", latched)

        def take(msg: Any) -> None:
            now = self.node.get_clock().now().nanoseconds
            stream.arrivals.append(time.monotonic())
            if stamped:
                stamp = Time.from_msg(msg.header.stamp).nanoseconds
                stream.ages.append((now - stamp) * 1e-9 if stamp else float("inf"))
            stream.problem = problem_of(msg) or stream.problem
            stream.newest = msg

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
                    info.qos_profile.reliability == ReliabilityPolicy.RELIABLE,
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
