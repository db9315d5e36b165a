# SPDX-License-Identifier: Apache-2.0
"""What bridges talk to, as real nodes in one thread: an arm with its controllers, and on demand
a gripper's action server and controller_manager; moveit_peers has those of MoveIt.

They behave as those of Jazzy do where that matters to a client. The arm is the judge: what its
joints did is what happened.
"""

import threading
import time
from functools import partial

import numpy as np
import rclpy
from rclpy.action import ActionServer, GoalResponse
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future
from rclpy.time import Time
from sensor_msgs.msg import JointState
from std_msgs.msg import String

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
        self.behind = 0.0  # s that the clock of its joint states is
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
        stamp = self.now_ns() - round(self.behind * 1e9)
        msg.header.stamp = Time(nanoseconds=stamp).to_msg()
        self._states.publish(msg)


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

    async def _execute(self, handle):
        command = handle.request.command
        position = command.position
        if self.outcome == "lost":
            await Future()
        self.arm.gripper = position if isinstance(position, float) else position[0]
        if self.outcome == "reached":
            handle.succeed()
        else:
            handle.abort()
        stalled, reached = self.outcome == "stalled", self.outcome == "reached"
        return self.kind.Result(stalled=stalled, reached_goal=reached)


class ControllerManager(Peer):
    """controller_manager: `states` by name are (state, joints).

    While it is `silent`, its answers go to `held`; called, they are sent.
    """

    def __init__(self, peers, states, silent=False):
        from controller_manager_msgs.msg import ControllerState
        from controller_manager_msgs.srv import ListControllers, SwitchController

        super().__init__(peers, "controller_manager")
        self.states, self.State, self.refuses, self.switches = states, ControllerState, "", []
        self.silent, self.held = silent, []
        for kind, name, callback in (
            (ListControllers, "~/list_controllers", self._list),
            (SwitchController, "~/switch_controller", self._switch),
        ):
            service = self.create_service(kind, name, callback)
            service.send_response = partial(self._send, service.send_response)

    def _send(self, send, *answer):
        if self.silent:
            self.held.append(partial(send, *answer))
        else:
            send(*answer)

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
