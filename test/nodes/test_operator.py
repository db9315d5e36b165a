# SPDX-License-Identifier: Apache-2.0
"""What a person at a terminal may do, and when, on a graph of one stub."""

import threading

import pytest

rclpy = pytest.importorskip("rclpy")

from rclpy.context import Context  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from rt2_ros.msg import ControllerStatus, SceneObject, SceneState  # noqa: E402
from rt2_ros.nodes import topics  # noqa: E402
from rt2_ros.nodes.operator import Operator  # noqa: E402

NAMESPACE = "test_operator"


@pytest.fixture
def stub():
    """A simulator's parameters and publishers, spun in a thread; services are for the test."""
    context = Context()
    context.init(args=[])
    node = Node("simulator_node", namespace=NAMESPACE, context=context)
    for name, value in (("seed", 0), ("scenario", ""), ("objects", [""])):
        node.declare_parameter(name, value)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    ending = threading.Event()

    def spin():
        while not ending.is_set():
            executor.spin_once(0.05)

    thread = threading.Thread(target=spin)
    thread.start()
    yield node
    ending.set()
    thread.join()
    executor.shutdown()
    node.destroy_node()
    context.try_shutdown()


def test_a_table_is_laid_anew_only_when_nothing_moves_the_arm_any_more(stub):
    """A controller that has not heard of the end would pull the arm back to where it was."""
    status, scene = (
        stub.create_publisher(*topic) for topic in (topics.CONTROLLER_STATUS, topics.SCENE_STATE)
    )
    told = []

    def say(state, instruction_id):
        told.append((state, instruction_id))
        status.publish(ControllerStatus(state=state, instruction_id=instruction_id))

    at_reset = []

    def reset(request, response):
        at_reset.append(told[-1])
        response.success = True
        return response

    stub.create_service(Trigger, topics.RESET_SERVICE, reset)
    state = SceneState(seed=7, objects=[SceneObject(name="banana")])
    stub.create_timer(0.05, lambda: scene.publish(state))
    says = iter(((ControllerStatus.HOLDING, 3), (ControllerStatus.MOVING, 0)))
    with Operator(NAMESPACE) as person:
        say(ControllerStatus.MOVING, 3)
        person.until(lambda: person.controller.instruction_id == 3, 10.0, "the stub")
        stub.create_timer(0.2, lambda: say(*next(says, (ControllerStatus.ARMED, 0))))
        person.reset_table(7, ["banana"])
    assert at_reset == [(ControllerStatus.ARMED, 0)]
