# SPDX-License-Identifier: Apache-2.0
"""What camera_node, controller_node and simulator_node say alike about a robot and its messages."""

from __future__ import annotations

from pathlib import Path

from geometry_msgs.msg import Point, Quaternion
from geometry_msgs.msg import Pose as PoseMsg

from rt2_ros.control.pose import Pose
from rt2_ros.control.profile import RobotProfile
from rt2_ros.msg import ControllerStatus
from rt2_ros.nodes.parameters import Parameter
from rt2_ros.paths import config_path

ROBOT = Parameter(
    "robot",
    "panda",
    "Name of a file in config/robots, or path of such a file.",
)


def load_robot(robot: str) -> RobotProfile:
    """Return the profile of a robot by name or path; ValueError names those that there are."""
    if not robot.endswith(".yaml"):
        return RobotProfile.load(config_path("robots", f"{robot}.yaml"))
    return RobotProfile.load(Path(robot))


def is_idle(status: ControllerStatus) -> bool:
    """Whether nothing more comes of the last instruction, so that a simulated arm may be put
    elsewhere.

    A controller that still moves the arm would pull it back to where it was, and so it may while it
    has not heard yet that the policy was stopped.
    """
    return status.instruction_id == 0 and status.state != ControllerStatus.MOVING


def pose_msg(pose: Pose) -> PoseMsg:
    """Return a pose (m, rotation matrix) as a message (m, unit quaternion)."""
    x, y, z = pose.position.tolist()
    qx, qy, qz, qw = pose.quaternion().tolist()
    return PoseMsg(position=Point(x=x, y=y, z=z), orientation=Quaternion(x=qx, y=qy, z=qz, w=qw))
