# SPDX-License-Identifier: Apache-2.0
"""What is late: a motion is dropped, all else arrives."""

import time

import pytest

rclpy = pytest.importorskip("rclpy")

from rclpy.node import Node  # noqa: E402
from trajectory_msgs.msg import JointTrajectory  # noqa: E402

from rt2_ros.nodes import topics  # noqa: E402


@pytest.fixture
def node():
    rclpy.init()
    node = Node("test_topics", use_global_arguments=False)
    yield node
    node.destroy_node()
    rclpy.shutdown()


def heard(node, topic, late):
    """What arrives of a message to somebody who stood still for `late` seconds."""
    received = []
    node.create_subscription(*topic.to(received.append))
    out = node.create_publisher(*topic)
    end = time.monotonic() + 10.0
    while not out.get_subscription_count():
        assert time.monotonic() < end
        time.sleep(0.01)
    out.publish(JointTrajectory(joint_names=["a"]))
    time.sleep(late)
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.05)
    return [list(msg.joint_names) for msg in received]


def test_a_motion_arrives_in_time_or_not_at_all(node):
    assert heard(node, topics.joint_trajectory("prompt"), late=0.0) == [["a"]]
    assert heard(node, topics.joint_trajectory("late"), late=1.0) == []


def test_a_gripper_is_where_it_is_taken_to_be_even_if_late(node):
    assert heard(node, topics.gripper_trajectory("late"), late=1.0) == [["a"]]
