# SPDX-License-Identifier: Apache-2.0
"""The two transports of bring-up on one machine: `rt2 say` has one, a simulated graph the other.

This process has fastdds.xml, as every test has.
"""

import os
import subprocess
import sys
import time

import pytest

rclpy = pytest.importorskip("rclpy")

from rclpy.context import Context  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from std_msgs.msg import String  # noqa: E402

from rt2_ros.bringup import PROFILES  # noqa: E402
from rt2_ros.paths import config_path  # noqa: E402

ECHO = """
import rclpy
from std_msgs.msg import String
rclpy.init()
node = rclpy.create_node("echo")
out = node.create_publisher(String, "test_transport/pong", 1)
node.create_subscription(String, "test_transport/ping", out.publish, 1)
rclpy.spin(node)
"""


def test_processes_of_both_transports_hear_each_other():
    environment = {**os.environ, PROFILES: str(config_path("fastdds-network.xml"))}
    echo = subprocess.Popen([sys.executable, "-c", ECHO], env=environment)
    context = Context()
    context.init(args=[])
    node = Node("asks", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    ping, heard = node.create_publisher(String, "test_transport/ping", 1), []
    node.create_subscription(String, "test_transport/pong", heard.append, 1)
    try:
        end = time.monotonic() + 30.0
        while not heard and time.monotonic() < end:
            ping.publish(String(data="hello"))
            executor.spin_once(0.1)
        assert echo.poll() is None
        assert [msg.data for msg in heard[:1]] == ["hello"]
    finally:
        echo.kill()
        echo.wait()
        executor.shutdown()
        node.destroy_node()
        context.try_shutdown()
