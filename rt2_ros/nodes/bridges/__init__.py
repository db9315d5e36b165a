# SPDX-License-Identifier: Apache-2.0
"""How commands reach the arm: one bridge for each kind of robot software.

    bridge = make_bridge("moveit_servo", node, profile, on_gripper_refused)
    bridge.start()           # publishers, clients; what is missing is said in one line
    bridge.attach(arm)       # once there is a URDF
    bridge.send(command)     # what has passed the safety filter, the same for every bridge

`bridge` of controller_node chooses one; the robot profile says which one a robot has by default.
"""

from __future__ import annotations

from collections.abc import Callable

from rt2_ros.control.profile import RobotProfile
from rt2_ros.nodes.base import BaseNode
from rt2_ros.nodes.bridges.base import Bridge
from rt2_ros.nodes.bridges.dry_run import DryRunBridge
from rt2_ros.nodes.bridges.joint_trajectory import JointTrajectoryBridge
from rt2_ros.nodes.bridges.moveit import MoveItBridge
from rt2_ros.nodes.bridges.servo import MoveItServoBridge

BRIDGES: dict[str, type[Bridge]] = {
    "joint_trajectory": JointTrajectoryBridge,
    "moveit_servo": MoveItServoBridge,
    "moveit": MoveItBridge,
    "dry_run": DryRunBridge,
}


def make_bridge(
    name: str, node: BaseNode, profile: RobotProfile, gripper_refused: Callable[[str], None]
) -> Bridge:
    """Return a bridge, not started; ValueError names those that there are.

    gripper_refused: called with the reason when the gripper has not taken a command.
    """
    if name not in BRIDGES:
        raise ValueError(f"bridge is {name!r}; expected one of {', '.join(BRIDGES)}")
    return BRIDGES[name](node, profile, gripper_refused)
