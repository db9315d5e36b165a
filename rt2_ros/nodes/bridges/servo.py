# SPDX-License-Identifier: Apache-2.0
"""Drive MoveIt Servo (Jazzy): a chunk becomes 50 twists or poses a second, each with a fresh stamp.

    chunk at t: joints q, velocity v  ->  twist J(q) v, in m/s and rad/s, in the robot's base frame

Servo forgets a command 0.1 s after its stamp, so a policy of a few decisions a second must be
repeated; and it never forgets one from the future, so a stamp is always now. Repeating stops by
itself where the chunk ends, or half a second later: some zero twists, then silence. Servo's
parameters must be `command_in_type: speed_units`, and its group's tip the profile's tip_frame, the
point that twists and poses are about. Pausing Servo turns its collision checks off: that is never
done here.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped, TwistStamped, Vector3
from std_msgs.msg import Header

from rt2_ros.control.command import Command
from rt2_ros.control.execution import HOME_SHARE
from rt2_ros.control.history import NotInHistory
from rt2_ros.control.pose import Array, Pose
from rt2_ros.control.trajectory import Chunk
from rt2_ros.nodes.bridges.base import Bridge, Trouble, interfaces
from rt2_ros.nodes.bridges.controllers import Controllers
from rt2_ros.nodes.bridges.gripper import make_gripper
from rt2_ros.nodes.robot import pose_msg
from rt2_ros.nodes.topics import COMMAND, QUEUE, Topic

PERIOD = 0.02  # s, 50 Hz
FAREWELLS = 5  # zero twists (or the last pose again) before silence
SILENCE = 1.0  # s without a status, after which Servo is taken to be gone
OLD_STATUS = 0.2  # s after a start in which a halt may still be the one before
SWITCH_PATIENCE = 1.0  # s for an answer about the command type
PULL = 4.0  # 1/s, how fast the tip is drawn to where the chunk had it LATENCY ago
LATENCY = 0.05  # s from a twist to its motion as it is measured: Servo sends it for a time to come
STALL = 0.25  # s between two commands, after which this process stood still: it does not go on
SETTLE, SETTLED = 0.5, 0.002  # s after its end for which that goes on; m, unless it is as near
LAG = 0.05  # m behind on the way home, from which that waits: it was checked, no other way was
CODA = 0.5  # s of a chunk in which it comes to rest as soon as a brake would

_SLOWER = (
    "DECELERATE_FOR_APPROACHING_SINGULARITY",
    "DECELERATE_FOR_LEAVING_SINGULARITY",
    "DECELERATE_FOR_COLLISION",
)
_HALTS = ("INVALID", "HALT_FOR_SINGULARITY", "HALT_FOR_COLLISION", "JOINT_BOUND")


class MoveItServoBridge(Bridge):
    """Samples the newest chunk and publishes `~/delta_twist_cmds` or `~/pose_target_cmds`."""

    def start(self) -> None:
        """Make publishers and clients of Servo; ImportError names the package that is missing."""
        msg, srv = interfaces("moveit_msgs", "msg"), interfaces("moveit_msgs", "srv")
        node, servo = self.node, self.profile.servo_node
        self._twist = self.profile.servo_command == "twist"
        if self._twist:
            command = Topic(TwistStamped, f"{servo}/delta_twist_cmds", COMMAND)
        else:
            command = Topic(PoseStamped, f"{servo}/pose_target_cmds", COMMAND)
        self._out = node.publish(command)
        kind = srv.ServoCommandType.Request
        self._request = kind(command_type=kind.TWIST if self._twist else kind.POSE)
        self._switch = node.create_client(
            srv.ServoCommandType, name := f"{servo}/switch_command_type"
        )
        node.at_teardown(node.destroy_client, self._switch)
        self._switch_name = node.resolve_service_name(name)
        names = (*_SLOWER, *_HALTS, "NO_WARNING")
        self._names = {getattr(msg.ServoStatus, name): name for name in names}
        status = Topic(msg.ServoStatus, f"{servo}/status", QUEUE)
        self._status_name = node.resolve_topic_name(status.name)
        node.subscribe(status, self._take_status)

        self._chunk: Chunk | None = None
        self._chunk_time = self._begun = 0.0  # of the chunk, and of the motion it belongs to
        self._stream_time = 0.0  # when it was looked at last
        self._pull = self._slow = self._braking = False
        self._farewells = 0
        self._path: deque[tuple[float, Pose]] = deque()  # what was streamed lately, and when
        self._end: Pose | None = None  # where the tip is to stay
        self._trouble = Trouble()
        self._status, self._status_time = "none yet", -np.inf
        self._set = False  # Servo has confirmed the command type
        self._asked = -np.inf  # when it was asked to, while there is no answer
        self._sent = self._halts = self._slowed = 0
        self._gripper = make_gripper(node, self.profile, self.gripper_refused)
        self._controllers = Controllers(node, self.profile, self.armed)
        node.every(PERIOD, self._stream)
        node.every(SWITCH_PATIENCE / 2, self._choose_type)

    def send(self, command: Command) -> None:
        """Follow a chunk from now on; one that only brakes is followed without correction."""
        if command.gripper is not None:
            self._gripper.send(command.gripper)
            self._pull = False  # the tip stays where it is while the fingers move
        if command.chunk is None or str(self._trouble):
            return
        now = time.monotonic()
        if self._chunk is not None and now - self._stream_time > STALL:
            self._end_stream(None)
        if self._chunk is None and command.brake:
            return  # Servo has forgotten what was under way: the arm is at rest
        if self._chunk is None:
            self._begun = now
            self._ask_type(now)  # somebody may have driven Servo by joystick meanwhile
        self._chunk, self._chunk_time = command.chunk, now
        self._stream_time = now
        self._pull, self._slow = not command.brake, command.joint_goal
        self._braking = command.brake
        self._stream()

    def hold(self, reason: str) -> None:
        """Follow the brake that was sent, or a chunk's last moments; or else say goodbye at once:
        where nobody knows where the arm is, there is no brake.
        """
        self._pull = False
        left = 0.0
        if self._chunk is not None:
            left = self._chunk_time + self._chunk.duration - time.monotonic()
        if left > CODA and not self._braking:
            self._end_stream(None)

    def problem(self) -> str:
        """Servo is silent, does not take our kind of command, or has halted just now."""
        silence = time.monotonic() - self._status_time
        if silence > SILENCE:
            since = "yet" if np.isinf(silence) else f"for {silence:.1f} s"
            return (
                f"no status of MoveIt Servo on {self._status_name} {since}: it is not running, "
                "has no joint states, or is paused"
            )
        if not self._set:
            return f"{self._switch_name} has not confirmed the command type yet"
        if self.node.now_ns() == 0:
            return "no time on /clock yet"
        return str(self._trouble) or self._controllers.problem() or self._gripper.problem()

    def figures(self) -> dict[str, object]:
        """What Servo says, and how often it slowed down or halted."""
        servo: dict[str, object] = {
            "servo": self._status,
            "servo commands": self._sent,
            "servo slowed": self._slowed,
            "servo halts": self._halts,
        }
        return servo | self._controllers.figures() | self._gripper.figures()

    # Servo's word

    def _take_status(self, msg: Any) -> None:
        now = time.monotonic()
        before, self._status = self._status, self._names.get(msg.code, f"status {msg.code}")
        if now - self._status_time > SILENCE:  # it may be another one, without a command type
            self._set = False
        self._status_time = now
        moving = self._chunk is not None and now - self._begun > OLD_STATUS
        if self._status in _SLOWER and self._status != before:
            self._slowed += 1
        if moving and self._status in _HALTS and not str(self._trouble):
            self._halts += 1
            self._trouble.raise_(f"MoveIt Servo: {self._status}: {msg.message}")
            self._end_stream(None)

    def _choose_type(self) -> None:
        """Ask for our command type until Servo has confirmed."""
        if not self._set:
            self._ask_type(time.monotonic())

    def _ask_type(self, now: float) -> None:
        waiting = now - self._asked < SWITCH_PATIENCE
        if waiting or not self._switch.service_is_ready():
            return
        self._asked = now
        self._switch.call_async(self._request).add_done_callback(self._type_chosen)

    def _type_chosen(self, future: Any) -> None:
        self._asked = -np.inf
        self._set = future.result().success

    # What goes out

    def _stream(self) -> None:
        # The time that a command is of is taken first: where this process stands still before it is
        # out, Servo finds it stale.
        stamp, now = self.node.get_clock().now().to_msg(), time.monotonic()
        if self._chunk is None or self.arm is None:
            if self._farewells:
                self._farewells -= 1
                self._publish(stamp, np.zeros(6), self._end)
            return
        since, self._stream_time = now - self._stream_time, now
        if waits := self._waits(now - since - self._chunk_time):
            self._chunk_time += since
        past, stalled = now - self._chunk_time, since > STALL
        if stalled or now - self._status_time > SILENCE or not self.node.active:
            self._end_stream(None)
            return
        if past >= self._chunk.duration and not self._settling(past - self._chunk.duration):
            self._end_stream(self.arm.kinematics.forward(self._chunk.positions[-1]))
            return
        # The command is in force until the next: the motion in the middle of that.
        q, velocity = self._chunk.sample(past + PERIOD / 2)
        target = self.arm.kinematics.forward(q)
        twist = self.arm.kinematics.jacobian(q) @ (velocity * (not waits))
        if self._twist and self._pull and not self.arm.history.jumps():
            twist = self._within_speed(twist + PULL * self._error(self._due(now, target)))
        self._publish(stamp, twist, target)

    def _due(self, now: float, target: Pose) -> Pose:
        """Where the tip was to be LATENCY before it was measured last, by whichever chunk: they may
        follow fast. Where joint states come late, or no more, a tip that was due now would seem to
        lag ever more, and be driven beyond its goal.
        """
        assert self.arm is not None
        self._path.append((now, target))
        try:
            age = max(0.0, (self.node.now_ns() - self.arm.history.newest()[0]) * 1e-9)
        except NotInHistory:
            age = 0.0
        while len(self._path) > 1 and self._path[1][0] <= now - age - LATENCY:
            self._path.popleft()
        return self._path[0][1]

    def _error(self, target: Pose) -> Array:
        """Return from the measured tip to where the chunk has it (6,): m, rotation vector rad."""
        assert self.arm is not None
        try:
            return np.concatenate(self.arm.pose().delta_to(target))
        except NotInHistory:
            return np.zeros(6)

    def _waits(self, past: float) -> bool:
        """Say whether the tip is so far behind the way home that this must not go on without it.

        Servo slows down where it sees fit; a tip that then made up for it would be fast, and off
        the way.
        """
        if not (self._slow and self._pull) or self._chunk is None:
            return False
        assert self.arm is not None
        target = self.arm.kinematics.forward(self._chunk.sample(past)[0])
        return bool(np.linalg.norm(self._error(target)[:3]) > LAG)

    def _settling(self, past: float) -> bool:
        """Say whether the tip is still drawn to the chunk's end, `past` s after it.

        Servo slows down where it sees fit, and may have missed commands: then the tip lags. It is
        there when it rests there: one that passes by has commands before it yet.
        """
        if not (self._twist and self._pull) or past >= SETTLE or self._chunk is None:
            return False
        assert self.arm is not None
        end = self.arm.kinematics.forward(self._chunk.positions[-1])
        if past < LATENCY or np.linalg.norm(self._error(end)[:3]) > SETTLED:
            return True
        try:
            return not self.arm.history.is_still()
        except NotInHistory:
            return False

    def _within_speed(self, twist: Array) -> Array:
        """Return the twist (6,), slowed down to the profile's speeds of the tip; home, to those of
        the way home.
        """
        linear, angular = np.linalg.norm(twist[:3]), np.linalg.norm(twist[3:])
        profile, share = self.profile, HOME_SHARE if self._slow else 1.0
        over = max(linear / profile.max_linear_speed, angular / profile.max_angular_speed, share)
        return np.asarray(twist * (share / over))

    def _end_stream(self, end: Pose | None) -> None:
        """Say goodbye: zero twists, or the pose that was reached; no pose where it was not."""
        self._chunk, self._end = None, end
        self._path.clear()
        self._farewells = FAREWELLS if self._twist or end is not None else 0
        self._stream()

    def _publish(self, stamp: Time, twist: Array, target: Pose | None) -> None:
        header = Header(stamp=stamp, frame_id=self.profile.base_frame)
        self._sent += 1
        if self._twist:
            msg = TwistStamped(header=header)
            x, y, z, rx, ry, rz = twist.tolist()
            msg.twist.linear, msg.twist.angular = Vector3(x=x, y=y, z=z), Vector3(x=rx, y=ry, z=rz)
            self._out.publish(msg)
        elif target is not None:
            self._out.publish(PoseStamped(header=header, pose=pose_msg(target)))
