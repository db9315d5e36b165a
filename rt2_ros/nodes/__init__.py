# SPDX-License-Identifier: Apache-2.0
"""The ROS 2 nodes: wiring only. The one folder that imports rclpy; nothing imports it."""
