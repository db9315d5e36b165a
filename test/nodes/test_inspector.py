# SPDX-License-Identifier: Apache-2.0
"""What the inspector makes of messages; test/system/test_check_robot.py has live graphs."""

import math

import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import JointState  # noqa: E402

from rt2_ros.nodes import topics  # noqa: E402
from rt2_ros.nodes.inspector import Inspector  # noqa: E402


@pytest.mark.parametrize("sec", [0, -1])
def test_a_message_without_a_time_has_no_age(sec):
    msg = JointState()
    msg.header.stamp.sec = sec
    with Inspector("test_inspector") as inspector:
        stream = inspector._listen(topics.JOINT_STATES)
        out = inspector.node.create_publisher(*topics.JOINT_STATES)

        def heard():
            out.publish(msg)
            return stream.ages

        inspector._until(heard, 10.0)
    assert stream.ages[:1] == [math.inf]
