# SPDX-License-Identifier: Apache-2.0
"""What bridges talk to, as real nodes in one thread: an arm with its controllers, and on demand
MoveIt Servo, move_group, a gripper's action server and controller_manager.

They behave as those of Jazzy do where that matters to a client. The arm is the judge: what its
joints did is what happened.
"""

import threading
import time

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future
from rclpy.time import Time
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from rt2_ros.control.history import by_name
from rt2_ros.control.pose import Pose
from rt2_ros.control.trajectory import Chunk
from rt2_ros.nodes import topics
from rt2_ros.nodes.trajectories import Point, read

PERIOD = 0.01  # s, of controllers and joint states
NEVER = -1e9


class Peers:
    """One context, one executor, one thread; `add` makes a peer in it."""

    def __init__(self, namespace):
        self.namespace = namespace
        self.context = Context()
        rclpy.init(context=self.context, args=[])
        self._executor = SingleThreadedExecutor(context=self.context)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self.nodes = []

    def add(self, kind, *args):
        peer = kind(self, *args)
        self.nodes.append(peer)
        self._executor.add_node(peer)
        if not self._thread.is_alive():
            self._thread.start()
        self._executor.wake()
        return peer

    def remove(self, peer):
        self.nodes.remove(peer)
        self._executor.remove_node(peer)
        peer.destroy_node()

    def close(self):
        self._executor.shutdown(timeout_sec=2.0)
        self._thread.join(5.0)
        for peer in self.nodes:
            peer.destroy_node()
        self.context.try_shutdown()


class Peer(Node):
    def __init__(self, peers, name):
        super().__init__(name, namespace=peers.namespace, context=peers.context)
        self.actions = []

    def destroy_node(self):
        for server in self.actions:
            server.destroy()
        super().destroy_node()

    def now_ns(self):
        return self.get_clock().now().nanoseconds


class Arm(Peer):
    """An arm under joint_trajectory_controllers: a trajectory replaces the one before hard.

    tracks: (steady time, joints, velocity) of every period; received: trajectories for the arm.
    """

    def __init__(self, peers, profile, urdf):
        super().__init__(peers, "arm")
        self.profile, self.urdf = profile, urdf
        self.kinematics = profile.kinematics(urdf)
        self.q, self.velocity = np.array(profile.home), np.zeros(len(profile.home))
        self.gripper = profile.gripper_open
        self.chunk, self.chunk_time = None, NEVER
        self.tracks, self.received, self.refused = [], [], []
        self.create_subscription(
            *topics.joint_trajectory(profile.arm_controller).to(self._take_trajectory)
        )
        self.create_subscription(
            *topics.gripper_trajectory(profile.gripper_controller).to(self._take_gripper)
        )
        self._states = self.create_publisher(*topics.JOINT_STATES)
        self._description = self.create_publisher(*topics.ROBOT_DESCRIPTION)
        self._description.publish(String(data=urdf))
        self.create_timer(PERIOD, self._step)

    def tip(self):
        return self.kinematics.forward(self.q).position

    def place(self, q):
        """Be somewhere else, at rest."""
        self.chunk, self.q, self.velocity = None, np.array(q), np.zeros(len(q))

    def follow(self, msg):
        """Take a message as a joint_trajectory_controller does; False if it refuses."""
        stamp = Time.from_msg(msg.header.stamp).nanoseconds
        delay = (stamp - self.now_ns()) * 1e-9 if stamp else 0.0
        points = [
            Point(
                Duration.from_msg(p.time_from_start).nanoseconds * 1e-9, p.positions, p.velocities
            )
            for p in msg.points
        ]
        try:
            rows = read(msg.joint_names, points, self.profile.arm_joints, delay)
        except ValueError as error:
            self.refused.append(str(error))
            return False
        times, positions, velocities = zip(*rows, strict=True)
        self.chunk = Chunk(
            np.array([0.0, *times]),
            np.stack([self.q, *positions]),
            np.stack([self.velocity, *velocities]),
        )
        self.chunk_time = time.monotonic()
        return True

    def _take_trajectory(self, msg):
        self.received.append(msg)
        self.follow(msg)

    def _take_gripper(self, msg):
        self.gripper = msg.points[-1].positions[0]

    def _step(self):
        now = time.monotonic()
        if self.chunk is not None:
            before = self.q
            self.q, self.velocity = self.chunk.sample(now - self.chunk_time)
            assert np.abs(self.q - before).max() < 0.5, "a jump"
        self.tracks.append((now, self.q, self.velocity))
        joints = (*self.profile.arm_joints, self.profile.gripper_joint)
        msg = JointState(name=list(joints), position=[*self.q.tolist(), float(self.gripper)])
        msg.header.stamp = self.get_clock().now().to_msg()
        self._states.publish(msg)


class Servo(Peer):
    """MoveIt Servo: no command type at the start, no memory of it after a restart.

    A command is stale 0.1 s after its stamp: one without a stamp always, one from the future never.
    """

    TIMEOUT = 0.1  # s

    def __init__(self, peers, arm):
        from moveit_msgs.msg import ServoStatus
        from moveit_msgs.srv import ServoCommandType

        super().__init__(peers, "servo_node")
        self.arm, self.kinematics = arm, arm.profile.kinematics(arm.urdf)
        self.types, self.Status = ServoCommandType.Request, ServoStatus
        self.type, self.code, self.speaks, self.halts = None, ServoStatus.NO_WARNING, True, None
        self.commands, self._new = [], None  # (arrival in ns, message)
        self._step, self._time = 0.0, NEVER
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
        if self.speaks:
            self._status.publish(self.Status(code=self.code, message="by request"))

    def _twist_of(self, msg):
        if isinstance(msg, TwistStamped):
            linear, angular = msg.twist.linear, msg.twist.angular
            return np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
        p, o = msg.pose.position, msg.pose.orientation
        target = Pose.from_quaternion([p.x, p.y, p.z], [o.x, o.y, o.z, o.w])
        step = np.concatenate(self.kinematics.forward(self.arm.q).delta_to(target))
        return step / 0.05

    def _move(self, twist):
        jacobian = self.kinematics.jacobian(self.arm.q)
        self.arm.chunk = None
        self.arm.q = self.arm.q + np.linalg.pinv(jacobian) @ twist * self._step


class MoveGroup(Peer):
    """move_group's two actions; executing, it hears of no cancel, only of the event `stop`."""

    DURATION = 2.0  # s that a plan takes

    def __init__(self, peers, arm):
        from moveit_msgs.action import ExecuteTrajectory
        from moveit_msgs.action import MoveGroup as Plan
        from moveit_msgs.msg import MoveItErrorCodes

        super().__init__(peers, "move_group")
        self.arm, self.kinematics = arm, arm.profile.kinematics(arm.urdf)
        self.codes, self.Plan, self.Execute = MoveItErrorCodes, Plan, ExecuteTrajectory
        self.fails, self.takes, self.thinks = None, self.DURATION, 0.0
        self.requests, self.executed, self.events = [], 0, []
        self._done, self._finish_time = None, NEVER
        self._waiting = []  # (steady time, future)
        never = lambda handle: CancelResponse.REJECT  # noqa: E731
        yes = lambda handle: CancelResponse.ACCEPT  # noqa: E731
        self.actions = [
            ActionServer(self, Plan, "move_action", self._plan, cancel_callback=yes),
            ActionServer(
                self, ExecuteTrajectory, "execute_trajectory", self._execute, cancel_callback=never
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

    async def _execute(self, handle):
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
            self._done.set_result("stopped")


class Gripper(Peer):
    """A gripper's action server; `outcome` is what becomes of goals."""

    def __init__(self, peers, arm, kind):
        super().__init__(peers, "gripper")
        self.arm, self.kind, self.outcome, self.goals = arm, kind, "reached", []
        name = f"{arm.profile.gripper_controller}/{arm.profile.gripper_action}"
        server = ActionServer(self, kind, name, self._execute, goal_callback=self._judge)
        self.actions = [server]

    def _judge(self, goal):
        self.goals.append(goal)
        return GoalResponse.REJECT if self.outcome == "rejected" else GoalResponse.ACCEPT

    def _execute(self, handle):
        command = handle.request.command
        position = command.position
        self.arm.gripper = position if isinstance(position, float) else position[0]
        if self.outcome == "reached":
            handle.succeed()
        else:
            handle.abort()
        stalled, reached = self.outcome == "stalled", self.outcome == "reached"
        return self.kind.Result(stalled=stalled, reached_goal=reached)


class ControllerManager(Peer):
    """controller_manager: `states` by name are (state, joints)."""

    def __init__(self, peers, states):
        from controller_manager_msgs.msg import ControllerState
        from controller_manager_msgs.srv import ListControllers, SwitchController

        super().__init__(peers, "controller_manager")
        self.states, self.State, self.refuses, self.switches = states, ControllerState, "", []
        self.create_service(ListControllers, "~/list_controllers", self._list)
        self.create_service(SwitchController, "~/switch_controller", self._switch)

    def _list(self, request, response):
        response.controller = [
            self.State(
                name=name,
                state=state,
                required_command_interfaces=[f"{joint}/position" for joint in joints],
            )
            for name, (state, joints) in self.states.items()
        ]
        return response

    def _switch(self, request, response):
        self.switches.append(request)
        response.ok, response.message = not self.refuses, self.refuses
        if response.ok:
            for name in request.activate_controllers:
                self.states[name] = ("active", self.states[name][1])
        return response
