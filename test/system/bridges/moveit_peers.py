# SPDX-License-Identifier: Apache-2.0
"""MoveIt Servo and move_group, as bridges meet them: peers of the arm in bridge_peers."""

import time

import numpy as np
from bridge_peers import NEVER, PERIOD, Peer
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.duration import Duration
from rclpy.task import Future
from rclpy.time import Time
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from rt2_ros.control.history import by_name
from rt2_ros.control.pose import Pose


class Servo(Peer):
    """MoveIt Servo: no command type at the start, no memory of it after a restart.

    A command is stale 0.1 s after its stamp: one without a stamp always, one from the future never.
    What it makes of it is of a time to come, and the arm's motion as much later.
    """

    TIMEOUT = 0.1  # s
    LATENCY = 0.03  # s

    def __init__(self, peers, arm):
        from moveit_msgs.msg import ServoStatus
        from moveit_msgs.srv import ServoCommandType

        super().__init__(peers, "servo_node")
        self.arm, self.kinematics = arm, arm.profile.kinematics(arm.urdf)
        self.types, self.Status = ServoCommandType.Request, ServoStatus
        self.type, self.code, self.speaks, self.halts = None, ServoStatus.NO_WARNING, True, None
        self.commands, self._new = [], None  # (arrival in ns, message)
        self._step, self._time = 0.0, NEVER
        self._ahead = []  # (steady time, joints) that the arm is still to come to
        self.create_subscription(TwistStamped, "~/delta_twist_cmds", self._take, 10)
        self.create_subscription(PoseStamped, "~/pose_target_cmds", self._take, 10)
        self.create_service(ServoCommandType, "~/switch_command_type", self._switch)
        self._status = self.create_publisher(ServoStatus, "~/status", 10)
        self.create_timer(PERIOD, self._loop)

    def _switch(self, request, response):
        self.type = request.command_type
        response.success = True
        return response

    def _take(self, msg):
        self.commands.append((self.now_ns(), msg))
        self._new = msg

    def _loop(self):
        now = time.monotonic()  # the thread may be late on a busy machine; a real loop is not
        self._step, self._time = min(now - self._time, self.TIMEOUT), now
        msg = self._new
        if msg is not None:
            wanted = {TwistStamped: self.types.TWIST, PoseStamped: self.types.POSE}[type(msg)]
            stamp = Time.from_msg(msg.header.stamp).nanoseconds
            stale = stamp == 0 or (self.now_ns() - stamp) * 1e-9 >= self.TIMEOUT
            if stale or self.type != wanted:
                self._new = None
            elif msg.header.frame_id != self.arm.profile.base_frame:
                self.code, self._new = self.Status.INVALID, None
            elif self.halts is not None:
                self.code = self.halts
            else:
                self.code = self.Status.NO_WARNING
                self._move(self._twist_of(msg))
        while self._ahead and self._ahead[0][0] <= now:
            self.arm.chunk = None
            self.arm.q = self._ahead.pop(0)[1]
        if self.speaks:
            self._status.publish(self.Status(code=self.code, message="by request"))

    def _twist_of(self, msg):
        if isinstance(msg, TwistStamped):
            linear, angular = msg.twist.linear, msg.twist.angular
            return np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
        p, o = msg.pose.position, msg.pose.orientation
        target = Pose.from_quaternion([p.x, p.y, p.z], [o.x, o.y, o.z, o.w])
        q = self._ahead[-1][1] if self._ahead else self.arm.q  # its own loop is closed on its own
        return np.concatenate(self.kinematics.forward(q).delta_to(target)) / 0.05

    def _move(self, twist):
        q = self._ahead[-1][1] if self._ahead else self.arm.q
        jacobian = self.kinematics.jacobian(q)
        q = q + np.linalg.pinv(jacobian) @ twist * self._step
        self._ahead.append((time.monotonic() + self.LATENCY, q))


class MoveGroup(Peer):
    """move_group's two actions; executing, it hears of no cancel, only of the event `stop`.

    accepts, begins: while False, a goal to execute waits to be accepted, or after that for its
    motion to begin, before which the event is for nothing.
    """

    DURATION = 2.0  # s that a plan takes

    def __init__(self, peers, arm):
        from moveit_msgs.action import ExecuteTrajectory
        from moveit_msgs.action import MoveGroup as Plan
        from moveit_msgs.msg import MoveItErrorCodes

        super().__init__(peers, "move_group")
        self.arm, self.kinematics = arm, arm.profile.kinematics(arm.urdf)
        self.codes, self.Plan, self.Execute = MoveItErrorCodes, Plan, ExecuteTrajectory
        self.fails, self.takes, self.thinks = None, self.DURATION, 0.0
        self.accepts = self.begins = True
        self.requests, self.asked, self.executed, self.events = [], 0, 0, []
        self._done, self._finish_time = None, NEVER
        self._waiting = []  # (steady time, future)
        never = lambda handle: CancelResponse.REJECT  # noqa: E731
        yes = lambda handle: CancelResponse.ACCEPT  # noqa: E731
        self.actions = [
            ActionServer(self, Plan, "move_action", self._plan, cancel_callback=yes),
            ActionServer(
                *(self, ExecuteTrajectory, "execute_trajectory", self._execute),
                callback_group=ReentrantCallbackGroup(),  # others go on while it waits
                goal_callback=self._accept,
                cancel_callback=never,
            ),
        ]
        self.create_subscription(String, "trajectory_execution_event", self._take_event, 10)
        self.create_timer(PERIOD, self._wake)

    def _wake(self):
        now = time.monotonic()
        for due, future in self._waiting:
            if now >= due and not future.done():
                future.set_result("done")
        self._waiting = [item for item in self._waiting if not item[1].done()]

    def _after(self, seconds):
        future = Future(executor=self.executor)
        self._waiting.append((time.monotonic() + seconds, future))
        return future

    async def _plan(self, handle):
        request = handle.request
        self.requests.append(request)
        assert request.planning_options.plan_only and request.request.start_state.is_diff
        await self._after(self.thinks)
        result = self.Plan.Result()
        result.error_code.val = self.codes.SUCCESS if self.fails is None else self.fails
        if self.fails is not None:
            handle.abort()
            return result
        target = self._target(request.request.goal_constraints[0])
        result.planned_trajectory.joint_trajectory = self._trajectory(target)
        handle.succeed()
        return result

    def _target(self, constraints):
        if constraints.joint_constraints:
            names = [constraint.joint_name for constraint in constraints.joint_constraints]
            values = [constraint.position for constraint in constraints.joint_constraints]
            return by_name(names, values, self.arm.profile.arm_joints)
        (position,), (turn,) = constraints.position_constraints, constraints.orientation_constraints
        assert position.link_name == turn.link_name == self.arm.profile.tip_frame
        p, o = position.constraint_region.primitive_poses[0].position, turn.orientation
        pose = Pose.from_quaternion([p.x, p.y, p.z], [o.x, o.y, o.z, o.w])
        return self.kinematics.inverse(pose, self.arm.q)

    def _trajectory(self, target):
        """Points of one cubic, in another order of joints, with accelerations as MoveIt gives."""
        start, way = self.arm.q, target - self.arm.q
        msg = JointTrajectory(joint_names=list(self.arm.profile.arm_joints[::-1]))
        for s in np.linspace(0.0, 1.0, 16):
            point = JointTrajectoryPoint(
                positions=(start + way * s * s * (3 - 2 * s))[::-1].tolist(),
                velocities=(way * 6 * s * (1 - s) / self.takes)[::-1].tolist(),
                accelerations=(way * (6 - 12 * s) / self.takes**2)[::-1].tolist(),
                time_from_start=Duration(nanoseconds=round(s * self.takes * 1e9)).to_msg(),
            )
            msg.points.append(point)
        return msg

    async def _accept(self, goal):
        self.asked += 1
        while not self.accepts:
            await self._after(PERIOD)
        return GoalResponse.ACCEPT

    async def _execute(self, handle):
        while not self.begins:
            await self._after(PERIOD)
        trajectory = handle.request.trajectory.joint_trajectory
        assert not any(len(point.accelerations) for point in trajectory.points)
        trajectory.points = trajectory.points[1:]  # the first is where the arm is
        self.executed += 1
        result = self.Execute.Result()
        assert self.arm.follow(trajectory)
        self._done = self._after(self.arm.chunk.duration)
        how = await self._done
        if how == "done":
            result.error_code.val = self.codes.SUCCESS
            handle.succeed()
        else:
            result.error_code.val = self.codes.PREEMPTED
            handle.abort()
        return result

    def _take_event(self, msg):
        self.events.append(msg.data)
        if msg.data == "stop" and self._done is not None and not self._done.done():
            self.arm.place(self.arm.q)  # a trajectory controller whose goal is cancelled holds
            self._done.set_result("stopped")
