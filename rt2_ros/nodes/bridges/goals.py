# SPDX-License-Identifier: Apache-2.0
"""Goals and plans, as messages of MoveIt have them and as the controller does. No nodes.

>>> goal = Goal(pose=kinematics.forward(q))       # or Goal(joints=(("panda_joint1", 0.3), ...))
>>> constraints = constraints_msg(goal, "panda_link0", "panda_hand_tcp")   # moveit_msgs/Constraints
>>> chunk = chunk_of(names, points, arm_joints)   # a plan, to be judged
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import Point as PointMsg
from geometry_msgs.msg import Pose as PoseMsg
from geometry_msgs.msg import Quaternion
from rclpy.duration import Duration
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory

from rt2_ros.control.execution import HOME_SHARE
from rt2_ros.control.pose import Pose
from rt2_ros.control.trajectory import Chunk
from rt2_ros.nodes.bridges.base import interfaces
from rt2_ros.nodes.trajectories import Point, read

POSITION_TOLERANCE = 0.001  # m, radius of the ball in which the tip must end
ROTATION_TOLERANCE = 0.01  # rad about each axis
JOINT_TOLERANCE = 0.001  # rad
# Share of the speeds and accelerations in MoveIt's joint_limits.yaml. What comes of it is held
# against the robot profile anyway.
SCALING = 0.3

Points = list[tuple[float, Sequence[float], Sequence[float]]]  # time s, positions, velocities


@dataclass(frozen=True)
class Goal:
    """Where to go: the tip's pose in the base frame, or each joint's position (name, rad), which is
    home.
    """

    pose: Pose | None = None
    joints: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if (self.pose is None) == (not self.joints):
            raise ValueError(f"Goal: pose {self.pose}, joints {self.joints}; expected one of them")

    @property
    def scaling(self) -> tuple[float, float]:
        """Shares of MoveIt's speeds and accelerations; home is gone at a fifth of the pace."""
        pace = 1.0 if self.pose is not None else HOME_SHARE
        return SCALING * pace, SCALING * pace**2


def goal_json(goal: Goal) -> dict[str, Any]:
    """Return a goal as JSON holds it."""
    if goal.pose is None:
        return {"joints": dict(goal.joints)}
    return {"pose": [*goal.pose.position.tolist(), *goal.pose.quaternion().tolist()]}


def goal_of(data: dict[str, Any]) -> Goal:
    """Return the goal that `goal_json` has written."""
    if "joints" in data:
        return Goal(joints=tuple(data["joints"].items()))
    return Goal(pose=Pose.from_quaternion(data["pose"][:3], data["pose"][3:]))


def constraints_msg(goal: Goal, base_frame: str, tip_frame: str) -> Any:
    """Return the goal as moveit_msgs/Constraints."""
    msg = interfaces("moveit_msgs", "msg")
    if goal.pose is None:
        tolerance = {"tolerance_above": JOINT_TOLERANCE, "tolerance_below": JOINT_TOLERANCE}
        return msg.Constraints(
            joint_constraints=[
                msg.JointConstraint(joint_name=name, position=position, weight=1.0, **tolerance)
                for name, position in goal.joints
            ]
        )
    primitive = interfaces("shape_msgs", "msg").SolidPrimitive
    ball = primitive(type=primitive.SPHERE, dimensions=[POSITION_TOLERANCE])
    x, y, z = goal.pose.position.tolist()
    qx, qy, qz, qw = goal.pose.quaternion().tolist()
    centre = PoseMsg(position=PointMsg(x=x, y=y, z=z), orientation=Quaternion(w=1.0))
    header = Header(frame_id=base_frame)
    return msg.Constraints(
        position_constraints=[
            msg.PositionConstraint(
                header=header,
                link_name=tip_frame,
                constraint_region=msg.BoundingVolume(primitives=[ball], primitive_poses=[centre]),
                weight=1.0,
            )
        ],
        orientation_constraints=[
            msg.OrientationConstraint(
                header=header,
                link_name=tip_frame,
                orientation=Quaternion(x=qx, y=qy, z=qz, w=qw),
                absolute_x_axis_tolerance=ROTATION_TOLERANCE,
                absolute_y_axis_tolerance=ROTATION_TOLERANCE,
                absolute_z_axis_tolerance=ROTATION_TOLERANCE,
                parameterization=msg.OrientationConstraint.ROTATION_VECTOR,
                weight=1.0,
            )
        ],
    )


def points_of(trajectory: JointTrajectory) -> Points:
    """Return a message's points."""
    return [
        (
            Duration.from_msg(point.time_from_start).nanoseconds * 1e-9,
            list(point.positions),
            list(point.velocities),
        )
        for point in trajectory.points
    ]


def chunk_of(names: Sequence[str], points: Points, joints: Sequence[str]) -> Chunk:
    """Return a plan, whose first point is where the arm is, as a chunk in the order of `joints`.

    Raises ValueError for what a trajectory controller would refuse, and for a plan without motion.
    """
    if len(points) < 2:
        raise ValueError(f"{len(points)} points; expected at least 2")
    first, *rest = [Point(*point) for point in points]
    if first.time != 0:
        raise ValueError(f"it begins at {first.time:g} s; expected 0")
    order = [list(names).index(joint) for joint in joints if joint in names]
    rows = read(names, rest, joints)
    begin = np.array(first.positions, np.float64)[order]
    speed = np.array(first.velocities or [0.0] * len(names), np.float64)[order]
    return Chunk(
        np.array([0.0, *(time for time, _, _ in rows)]),
        np.stack([begin, *(position for _, position, _ in rows)]),
        np.stack([speed, *(velocity for _, _, velocity in rows)]),
    )
