# SPDX-License-Identifier: Apache-2.0
"""A person at a terminal, as a node: says what to do, asks, watches, lays the simulated table anew.

    with Operator() as person:
        person.reset_table(seed=7, objects=["banana"])
        person.instruct("pick up the banana")
        person.until(lambda: person.policy.state == PolicyStatus.DONE, 30.0, "the policy to finish")

The commands `rt2 up`, `demo`, `say`, `ask`, `arm`, `stop`, `home` and `bench loop` are its users.
It spins only inside its own methods, in the caller's thread, so callbacks need no locks. A wait
that fails raises TimeoutError with what was waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from math import dist
from typing import Any

from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from std_msgs.msg import String
from std_srvs.srv import Trigger

from rt2_ros.actions import is_stop
from rt2_ros.bringup import Graph, checked_namespace
from rt2_ros.control.joint_states import NO_JOINT_STATES
from rt2_ros.msg import ControllerStatus, PolicyStatus, SceneState
from rt2_ros.nodes import topics
from rt2_ros.nodes.alone import Alone
from rt2_ros.nodes.robot import is_idle
from rt2_ros.nodes.topics import Topic

LATE_S = 10.0  # within which another graph is seen on a machine that is very busy
READY_S = 90.0  # for all nodes to be ready
LOAD_S = 1800.0  # for the policy to load its checkpoint, perhaps from a hub
REPLY_S = 10.0  # for a service of a node that is there
SPIN_S = 0.02  # that one message is waited for
ACKNOWLEDGE_S = 1.0  # for those who were told something to have got it, or to say how they are
SETTLE_S = 2.0  # within which those are met who are met late
REST = 0.0005  # m that a hand at rest may seem to move from one status to the next
LOADING = "the policy to be loaded"
UNNAMED = "_NODE_NAME_UNKNOWN_"  # rmw's word for the node of a reader that was met just now


class NotLaid(RuntimeError):
    """The table is not the one that was asked for; the message says why."""


class Operator:
    """The newest policy, controller and scene messages as attributes, empty until the first."""

    def __init__(self, namespace: str = "") -> None:
        self._context = Context()
        self._context.init(args=[])
        self.node = Node(
            "operator",
            namespace=checked_namespace(namespace),
            context=self._context,
            use_global_arguments=False,
        )
        self.alone = Alone(self.node, self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.policy = PolicyStatus()
        self.controller = ControllerStatus()
        self._moved = 0.0  # m, of the hand between the controller's last two statuses
        self.scene = self._asked_for = SceneState()
        self._heard: set[str] = set()
        self._answers: list[str] = []
        self._callbacks: dict[str, list[Callable[[Any], None]]] = {}
        self.on(topics.POLICY_STATUS, self._keeper("policy"))
        self.on(topics.CONTROLLER_STATUS, self._follow_hand)
        self.on(topics.CONTROLLER_STATUS, self._keeper("controller"))
        self.on(topics.SCENE_STATE, self._keeper("scene"))
        self.on(topics.ANSWER, lambda msg: self._answers.append(msg.data))
        self._instruction = self.node.create_publisher(*topics.INSTRUCTION)
        self._question = self.node.create_publisher(*topics.QUESTION)

    def __enter__(self) -> Operator:
        return self

    def __exit__(self, *exc: object) -> None:
        self._executor.shutdown(timeout_sec=1.0)
        self.node.destroy_node()
        self._context.try_shutdown()
        self.alone.close()

    def _keeper(self, name: str) -> Callable[[Any], None]:
        def keep(msg: Any) -> None:
            setattr(self, name, msg)
            self._heard.add(name)

        return keep

    def _follow_hand(self, msg: ControllerStatus) -> None:
        (now, before) = (each.end_effector_pose.position for each in (msg, self.controller))
        known = "controller" in self._heard
        self._moved = dist(*((p.x, p.y, p.z) for p in (now, before))) if known else 0.0

    def on(self, topic: Topic, callback: Callable[[Any], None]) -> None:
        """Call back with each message of a topic, while one of the methods here waits.

        All callbacks of a topic get the same messages: of two subscriptions one may starve.
        """
        callbacks = self._callbacks.setdefault(topic.name, [])
        callbacks.append(callback)

        def tell(msg: Any) -> None:
            for each in callbacks:
                each(msg)

        if len(callbacks) == 1:
            self.node.create_subscription(*topic.to(tell))

    def spin(self, seconds: float) -> None:
        """Receive for some seconds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            # Always as long: where that changes, rclpy begins with its first subscription again,
            # and a machine that is too busy never comes to the last.
            self._executor.spin_once(SPIN_S)

    def until(
        self,
        condition: Callable[[], object],
        timeout: float,
        what: str | Callable[[], str],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Receive until the condition holds; `check` is called now and then and may raise."""
        end = time.monotonic() + timeout
        while not condition():
            check()
            if time.monotonic() > end:
                words = what if isinstance(what, str) else what()
                raise TimeoutError(f"waited {timeout:g} s for {words}")
            self._executor.spin_once(SPIN_S)

    def refuse_second(self, graph: Graph) -> None:
        """RuntimeError if this graph runs already; call it before starting one."""
        self.alone.refuse_second(graph, self.spin)

    def refuse_late_second(self, graph: Graph, check: Callable[[], None]) -> None:
        """The same for a graph that is discovered late; call it when one's own is ready."""
        end = time.monotonic() + LATE_S
        while time.monotonic() < end:
            check()
            self.spin(0.1)
            self.alone.refuse_more_than(1, graph)

    def until_ready(self, graph: Graph, check: Callable[[], None]) -> None:
        """Wait until the policy waits for an instruction and, if simulated, the arm is armed."""

        def missing() -> str:
            self.alone.refuse_more_than(1, graph)
            unseen = {node.full_name for node in graph.nodes} - set(self.alone.running())
            if unseen:
                return f"{', '.join(sorted(unseen))} to start"
            if "policy" not in self._heard:
                return "the policy to start"
            if self.policy.state == PolicyStatus.UNCONFIGURED:
                return LOADING
            if "controller" not in self._heard:
                return "the controller to start"
            if graph.simulation and "scene" not in self._heard:
                return "the simulator to start"
            if graph.simulation and self.controller.state == ControllerStatus.DISARMED:
                return f"the controller to be armed ({self.controller.reason})"
            return ""

        since, last = time.monotonic(), ""
        while what := missing():
            check()
            if what != last and LOADING in (what, last):
                since = time.monotonic()
            last, limit = what, LOAD_S if what == LOADING else READY_S
            if time.monotonic() - since > limit:
                raise TimeoutError(f"waited {limit:g} s for {what}")
            self._executor.spin_once(SPIN_S)

    def instruct(self, text: str, check: Callable[[], None] = lambda: None) -> int:
        """Publish an instruction, "" or "stop" to stop, and return its id once the policy has taken
        it.

        `check` is called now and then and may raise. RuntimeError if several policies would take
        it, perhaps another machine's as well.
        """
        if is_stop(text):
            if problem := self.stop(check=check):
                raise TimeoutError(f"waited {REPLY_S:g} s for the stop: {problem}")
            return self.policy.instruction_id
        self._await_policy(self._instruction, check)
        before = self.policy.instruction_id
        self._instruction.publish(String(data=text))
        self.until(
            lambda: self.policy.instruction_id != before,
            REPLY_S,
            "the policy to take the instruction",
            check,
        )
        return self.policy.instruction_id

    def unheeded(self) -> str:
        """Why the arm never obeys what is said to it now, "" if it may: it is not armed, or nobody
        tells how it is.
        """
        end = time.monotonic() + REPLY_S
        while "controller" not in self._heard and time.monotonic() < end:
            self._executor.spin_once(SPIN_S)
        if "controller" not in self._heard:
            return "no controller was met"
        status = self.controller
        deaf = status.state in (ControllerStatus.DISARMED, ControllerStatus.STOPPED)
        return f"{status.reason}; arm the arm (rt2 arm), then say it again" if deaf else ""

    def stop(
        self,
        tell: Callable[[str], None] = lambda words: None,
        check: Callable[[], None] = lambda: None,
        settle: float = 0.0,
    ) -> str:
        """Publish an empty instruction at once, and return who has not confirmed it, "" if all.

        The controller listens for it itself, so nobody is waited for before: it goes to whoever
        listens already, and again when others are met. `tell` is called with how many each
        time, and `check`, which may raise, now and then. Over when the policy has taken it, the arm
        does not move, all that listen have got it, and nobody else was met for `settle` seconds.
        TimeoutError if there is nobody.
        """
        topic, told = self._instruction.topic_name, 0
        since = time.monotonic()  # when somebody was met last
        end = since + REPLY_S + settle
        before = self.policy.instruction_id if "policy" in self._heard else None
        self._heard -= {"policy", "controller"}  # only what is said from now on confirms anything
        problem = ""
        while time.monotonic() < end:
            met = self._instruction.get_subscription_count()
            if met > told:
                self._instruction.publish(String(data=""))
                tell(f"stop: sent, {met} listen to {topic}")
            since = time.monotonic() if met != told else since
            told = met
            problem = self._unconfirmed(before, told)
            if not problem and time.monotonic() - since >= settle:
                if self._instruction.wait_for_all_acked(Duration(seconds=ACKNOWLEDGE_S)):
                    return ""
                problem = "not all that listen have got it"
            check()
            self._executor.spin_once(SPIN_S)
        if not told:
            raise TimeoutError(
                f"waited {REPLY_S:g} s for somebody who listens to {topic} ({self._where()})"
            )
        return problem

    def _where(self) -> str:
        """What a person may look for where nobody is met."""
        listened = self.node.get_topic_names_and_types()
        own = self._instruction.topic_name
        others = [
            name.removesuffix("/instruction") or "none"
            for name, types in listened
            if name.endswith("/instruction") and name != own and "std_msgs/msg/String" in types
        ]
        if "policy" in self._heard and self.policy.state == PolicyStatus.UNCONFIGURED:
            return "the policy is still being loaded"
        if others:
            return f"is it another --namespace: {', '.join(sorted(others))}?"
        domain = self._context.get_domain_id()
        return f"is it up in ROS domain {domain}? try rt2 up"

    def _unconfirmed(self, before: int | None, told: int) -> str:
        """Say who has not confirmed a stop that `told` readers were sent, "" if all have.

        before: the policy's instruction id at that time, None if it was not known.
        """
        problems = []
        status, readers = self.policy, self._readers(self._instruction)
        writers = self._writers(topics.CONTROLLER_STATUS)
        controllers = set(writers)  # on two computers they are called the same
        met = told >= len(readers) and controllers and controllers <= set(readers) - {UNNAMED}
        if "policy" not in self._heard or status.instruction or status.instruction_id == before:
            problems.append("no policy has confirmed the stop")
        if "controller" not in self._heard:
            problems.append("no controller was met")
        elif len(writers) > 1:  # their statuses come as one
            problems.append(f"{len(writers)} controllers were met, and which stopped is not told")
        elif NO_JOINT_STATES in self.controller.reason:
            problems.append("nobody tells where the arm is")
        elif self.moves():
            problems.append("the controller has not confirmed the stop")
        elif not met:
            problems.append("not all were met that must listen")
        return " and ".join(problems)

    def _readers(self, publisher: Any) -> list[str]:
        """The node of each reader of a publisher's topic."""
        found = self.node.get_subscriptions_info_by_topic(publisher.topic_name)
        return [info.node_name for info in found]

    def _writers(self, topic: Topic) -> list[str]:
        """The node of each publisher of a topic."""
        found = self.node.get_publishers_info_by_topic(self.node.resolve_topic_name(topic.name))
        return [info.node_name for info in found]

    def ask(self, question: str, timeout: float = 60.0) -> str:
        """Publish a question about what the camera sees now and return the first answer.

        It is another's if another asks at the same time: an answer does not say to which question
        it is. RuntimeError if several policies would answer.
        """
        self._await_policy(self._question)
        self._answers.clear()
        self._question.publish(String(data=question))
        self.until(lambda: self._answers, timeout, "an answer")
        return self._answers[0]

    def _await_policy(self, publisher: Any, check: Callable[[], None] = lambda: None) -> None:
        """Wait until the node that tells its policy_status is matched as this topic's reader.

        RuntimeError if there are several. Another's reader may be met before its status is, and
        before it is known whose it is.
        """

        def matched() -> bool:
            readers, policies = self._readers(publisher), self._writers(topics.POLICY_STATUS)
            return (
                "policy" in self._heard
                and bool(policies)
                and set(policies) <= set(readers)
                and UNNAMED not in readers
                and publisher.get_subscription_count() >= len(readers)
            )

        self.until(
            matched,
            REPLY_S,
            lambda: f"a policy that listens to {publisher.topic_name} ({self._where()})",
            check,
        )
        policies = self._writers(topics.POLICY_STATUS)
        listening = sum(reader in policies for reader in self._readers(publisher))
        count = max(len(policies), listening)
        if count > 1:
            raise RuntimeError(
                f"{count} policies listen to {publisher.topic_name}: end all but one (one that was "
                "killed is seen for 20 s more), or take another --namespace or ROS_DOMAIN_ID"
            )

    def reset_table(
        self,
        seed: int,
        objects: Sequence[str] = (),
        scenario: str = "",
        check: Callable[[], None] = lambda: None,
    ) -> SceneState:
        """Lay the simulated table anew with these objects on it; return its first state.

        Waits until the controller has heard that the last instruction is over (`instruct("")`).
        scenario: "SUITE:CELL" of the evaluation that the scene is of, if it is of one. check: is
        called now and then and may raise.
        """
        simulator = f"{self.node.get_namespace().rstrip('/')}/simulator_node"
        request = SetParameters.Request()
        request.parameters = [
            Parameter("seed", value=seed).to_parameter_msg(),
            Parameter("scenario", value=scenario).to_parameter_msg(),
            Parameter(
                "objects", value=[""] if scenario else list(objects) or [""]
            ).to_parameter_msg(),
        ]
        reply = self._call(SetParameters, f"{simulator}/set_parameters", request, check)
        refused = [result.reason for result in reply.results if not result.successful]
        if refused:
            raise NotLaid(f"the simulator refused: {'; '.join(refused)}")
        self.until(
            lambda: is_idle(self.controller),
            REPLY_S,
            "the controller to end the instruction",
            check,
        )
        before = self.scene.laid
        reply = self._call(Trigger, f"{simulator}/reset", Trigger.Request(), check)
        if not reply.success:
            raise NotLaid(f"the simulator could not be reset: {reply.message}")
        self.scene = self._asked_for = SceneState()

        def laid() -> bool:
            there = {o.name for o in self.scene.objects}
            new = self.scene.laid != before and self.scene.seed == seed
            return new and bool(there) and set(objects) <= there

        self.until(laid, REPLY_S, f"the table of seed {seed} with {', '.join(objects)}", check)
        self._asked_for = self.scene
        return self.scene

    def moves(self) -> bool:
        """Whether the arm moves, by what the controller says of itself or of the hand."""
        return self.controller.state == ControllerStatus.MOVING or self._moved > REST

    def relaid(self) -> str:
        """Say so if the table is no longer the one that `reset_table` returned; else ""."""
        if self.scene.laid == self._asked_for.laid:
            return ""
        return (
            "the table was laid anew in the middle of it: by somebody else, or because physics "
            "became unstable, which the simulator's log then says"
        )

    def order(self, service: str, kind: Any, request: Any, at_once: bool) -> tuple[bool, str]:
        """Call one of the controller's own services; whether it did so, and what it says.

        at_once: nobody else is waited for before, as nothing may delay a stop; it goes again to
        those who are met within `SETTLE_S`, and is done only if there is nobody else. RuntimeError
        where several controllers are met and it is not: all of them would do it.
        """
        name = f"{self.node.get_namespace().rstrip('/')}/controller_node/{service}"
        if not at_once:
            self.spin(SETTLE_S)
            if (met := self.node.count_services(name)) > 1:
                raise RuntimeError(
                    f"{met} controllers were met, and all would do it: end all but one (one that "
                    "was killed is seen for 20 s more), or take another --namespace or "
                    "ROS_DOMAIN_ID"
                )
        reply = self._call(kind, name, request, lambda: None)
        if at_once:
            told, end = 1, time.monotonic() + SETTLE_S
            while time.monotonic() < end:
                self._executor.spin_once(SPIN_S)
                if (met := self.node.count_services(name)) > told:
                    told = met
                    self._call(kind, name, request, lambda: None)
            if told > 1:
                return False, f"{told} controllers were met, and not all have said that they did it"
        return reply.success, reply.message

    def _call(self, kind: Any, name: str, request: Any, check: Callable[[], None]) -> Any:
        client = self.node.create_client(kind, name)
        try:
            self.until(client.service_is_ready, REPLY_S, f"the service {name}", check)
            future = client.call_async(request)
            self.until(future.done, REPLY_S, f"a reply of {name}", check)
            return future.result()
        finally:
            self.node.destroy_client(client)
