# SPDX-License-Identifier: Apache-2.0
"""RT-2 for ROS 2: images and an instruction go in, end-effector motion comes out.

Sub-packages import one way: ``actions`` <- ``models`` <- ``policies`` <- ``nodes``; ``control`` and
``sim`` know no model. ``rt2_ros.msg`` is generated from the folder ``msg/`` by the build.
"""
