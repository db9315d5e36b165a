# SPDX-License-Identifier: Apache-2.0
"""A look-alike of moveit.planning: straight plans in joint space for the Panda, really executed.

It has the calls of moveit_py (Jazzy) that moveit_py_process makes, with their names and types, and
two of its habits: planning holds the interpreter, and `execute` blocks until the arm is there or
`trajectory_execution_event` says stop, which is for nothing before the motion has begun. The
parameter file, read anew each time, says how long a plan `takes`, in s, and whether it `begins`;
until it does, `execute` waits.
"""

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import rclpy
import yaml
from moveit_msgs.msg import RobotTrajectory
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from rt2_ros.control.history import by_name
from rt2_ros.control.pose import Pose
from rt2_ros.control.profile import RobotProfile
from rt2_ros.nodes import topics
from rt2_ros.paths import config_path

PROFILE = RobotProfile.load(config_path("robots", "panda.yaml"))


class PlanRequestParameters:
    def __init__(self, moveit, namespace):
        self.max_velocity_scaling_factor = self.max_acceleration_scaling_factor = 1.0
        self.planning_pipeline, self.planning_attempts, self.planning_time = "", 1, 1.0


class Trajectory:
    def __init__(self, msg):
        self.msg = msg

    def get_robot_trajectory_msg(self):
        return self.msg

    def set_robot_trajectory_msg(self, state, msg):
        assert state == "current"
        self.msg = msg


class Plan(SimpleNamespace):
    def __bool__(self):
        return self.trajectory is not None


class Status(SimpleNamespace):
    def __bool__(self):
        return self.status == "SUCCEEDED"


class MoveItPy:
    def __init__(
        self, node_name, name_space, launch_params_filepaths, provide_planning_service=True
    ):
        (self.path,) = launch_params_filepaths
        rclpy.init(args=[])
        self.node = rclpy.create_node(node_name, namespace=name_space)
        urdf = config_path("robots", "panda.urdf").read_text(encoding="utf-8")
        self.kinematics = PROFILE.kinematics(urdf)
        self.q, self.stopped = None, threading.Event()
        self.node.create_subscription(*topics.JOINT_STATES_IN.to(self._take_joints))
        self.node.create_subscription(String, "trajectory_execution_event", self._take_event, 10)
        self.out = self.node.create_publisher(*topics.joint_trajectory(PROFILE.arm_controller))
        executor = SingleThreadedExecutor()
        executor.add_node(self.node)
        threading.Thread(target=executor.spin, daemon=True).start()
        while self.q is None:  # its state monitor waits as well
            time.sleep(0.01)

    def _take_joints(self, msg):
        self.q = by_name(msg.name, msg.position, PROFILE.arm_joints)

    def _take_event(self, msg):
        if msg.data == "stop":
            self.stopped.set()

    def get_planning_component(self, group):
        assert group == PROFILE.move_group
        return PlanningComponent(self)

    def value(self, name):
        return yaml.safe_load(Path(self.path).read_text())[name]

    def execute(self, trajectory, controllers):
        assert controllers == []
        print("asked to execute", flush=True)
        while not self.value("begins"):
            time.sleep(0.01)
        self.stopped.clear()
        msg = trajectory.msg.joint_trajectory
        msg.points = msg.points[1:]
        self.out.publish(msg)
        last = msg.points[-1].time_from_start
        stopped = self.stopped.wait(Duration.from_msg(last).nanoseconds * 1e-9)
        print("ended the execution", flush=True)
        if stopped:  # a trajectory controller whose goal is cancelled holds
            hold = JointTrajectoryPoint(positions=self.q.tolist(), velocities=[0.0] * len(self.q))
            hold.time_from_start = Duration(seconds=0.02).to_msg()
            msg.points = [hold]
            self.out.publish(msg)
        return Status(status="PREEMPTED" if stopped else "SUCCEEDED")


class PlanningComponent:
    def __init__(self, moveit):
        self.moveit, self.start, self.constraints = moveit, None, None

    def set_start_state_to_current_state(self):
        self.start = "current"

    def get_start_state(self):
        return self.start

    def set_goal_state(self, motion_plan_constraints):
        (self.constraints,) = motion_plan_constraints

    def plan(self, single_plan_parameters):
        assert 0 < single_plan_parameters.max_velocity_scaling_factor < 1
        if single_plan_parameters.planning_pipeline != "ompl":
            return Plan(trajectory=None, error_code=SimpleNamespace(val=99999))
        moveit, goal = self.moveit, self.constraints
        end = time.monotonic() + 0.2
        while time.monotonic() < end:  # as moveit_py does, with the interpreter's lock held
            sum(range(1000))
        start = moveit.q
        if goal.joint_constraints:
            names = [constraint.joint_name for constraint in goal.joint_constraints]
            values = [constraint.position for constraint in goal.joint_constraints]
            target = by_name(names, values, PROFILE.arm_joints)
        else:
            p = goal.position_constraints[0].constraint_region.primitive_poses[0].position
            o = goal.orientation_constraints[0].orientation
            if p.y > 0.2:  # somewhere MoveIt finds no way to
                return Plan(trajectory=None, error_code=SimpleNamespace(val=-1))
            pose = Pose.from_quaternion([p.x, p.y, p.z], [o.x, o.y, o.z, o.w])
            target = moveit.kinematics.inverse(pose, start)
        takes, way = moveit.value("takes"), target - start
        msg = JointTrajectory(joint_names=list(PROFILE.arm_joints))
        for s in np.linspace(0.0, 1.0, 16):
            msg.points.append(
                JointTrajectoryPoint(
                    positions=(start + way * s * s * (3 - 2 * s)).tolist(),
                    velocities=(way * 6 * s * (1 - s) / takes).tolist(),
                    accelerations=(way * (6 - 12 * s) / takes**2).tolist(),
                    time_from_start=Duration(nanoseconds=round(s * takes * 1e9)).to_msg(),
                )
            )
        return Plan(trajectory=Trajectory(RobotTrajectory(joint_trajectory=msg)))
