# SPDX-License-Identifier: Apache-2.0
"""From end-effector deltas to commands of the arm: the node around the arm's controller.

    ros2 run rt2_ros controller_node --ros-args -p robot:=panda -p bridge:=dry_run
    ros2 service call /controller_node/arm std_srvs/srv/SetBool "{data: true}"
    ros2 service call /controller_node/home std_srvs/srv/Trigger

Whether and how the arm moves is decided in `rt2_ros.control.arm`; how its commands reach the robot,
in `rt2_ros.nodes.bridges`; here are the wires. The stop
service is not a safety-rated stop: keep the robot's own within reach.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from rt2_ros.control.arm import UNARMED, ArmController
from rt2_ros.control.command import Command, State
from rt2_ros.control.history import NotInHistory
from rt2_ros.control.joint_states import NO_JOINT_STATES
from rt2_ros.control.safety import Delta
from rt2_ros.msg import ControllerStatus, EndEffectorDelta, PolicyStatus
from rt2_ros.nodes import topics
from rt2_ros.nodes.base import BaseNode, Health, one_line, run
from rt2_ros.nodes.bridges import BRIDGES, make_bridge
from rt2_ros.nodes.parameters import Parameter
from rt2_ros.nodes.robot import ROBOT, load_robot, pose_msg
from rt2_ros.stamps import stamp_ns

STATUS_PERIOD = 0.2  # s
BY_SERVICE = "disarmed by service"


def delta_of(msg: EndEffectorDelta) -> Delta:
    """Return a message as the safety filter takes it; nothing is checked here."""
    t, r = msg.translation, msg.rotation
    return Delta(
        stamp_ns=stamp_ns(msg.header.stamp),
        frame_id=msg.header.frame_id,
        instruction_id=msg.instruction_id,
        step=msg.step,
        translation=(t.x, t.y, t.z),
        rotation=(r.x, r.y, r.z),
        gripper=msg.gripper_closedness,
        terminate=msg.terminate,
        confidence=msg.confidence,
    )


class ControllerNode(BaseNode):
    """Every event goes to the ArmController, every command that it returns goes out."""

    PARAMETERS = (
        ROBOT,
        Parameter(
            "bridge",
            "",
            "How commands reach the arm; empty: as the robot's profile says.",
            choices=("", *BRIDGES),
        ),
        Parameter(
            "moveit_params",
            "",
            "Parameter file of a MoveItCpp node, with which the moveit bridge plans by moveit_py; "
            "empty: by move_group.",
        ),
        Parameter(
            "start_armed",
            False,
            "Armed from the start, for simulated arms, once after each configure and unless it was "
            "stopped before; otherwise a person calls ~/arm.",
            read_only=True,
        ),
    )

    def __init__(self, name: str = "controller_node", **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self._arm: ArmController | None = None
        self._problem = "not configured"
        self._frame = ""
        self._told: tuple[object, ...] = ()  # what the last status said
        self._begun = (0, 0, 0, 0)  # instruction id; accepted, refused, limited when it began
        # Not managed, and not torn down: the last word must be that the arm is disarmed.
        self._status_out = self.create_publisher(*topics.CONTROLLER_STATUS)
        self._publish_status()

    def _setup(self) -> None:
        self._profile = load_robot(self.value("robot"))
        self._digest = self._profile.digest()
        self._frame = self._profile.base_frame
        self._description = ""
        self._may_start_armed = self.value("start_armed")
        self._policy_status: PolicyStatus | None = None
        self._problem = f"no URDF on {self.resolve_topic_name(topics.ROBOT_DESCRIPTION.name)} yet"
        self.at_teardown(self._forget)
        name = self.value("bridge") or self._profile.bridge
        self._profile = replace(self._profile, **BRIDGES[name].OVERRIDES)
        self._moving = False
        self._bridge = make_bridge(name, self, self._profile, self._gripper_refused)
        self._bridge.start()
        self.subscribe(topics.ROBOT_DESCRIPTION, self._take_description)
        self.subscribe(topics.JOINT_STATES_IN, self._take_joints)
        self.subscribe(topics.INSTRUCTION, self._take_instruction)
        self.subscribe(topics.POLICY_STATUS, self._take_policy_status)
        self.subscribe(topics.END_EFFECTOR_DELTA, self._take_delta)
        self.serve(SetBool, topics.ARM_SERVICE, self._serve_arm)
        self.serve(Trigger, topics.STOP_SERVICE, self._serve_stop)
        self.serve(Trigger, topics.HOME_SERVICE, self._serve_home)
        self.every(1.0 / self._profile.control_rate, self._tick)
        self.every(STATUS_PERIOD, self._publish_status)

    def _start(self) -> None:
        """What the policy took up meanwhile was not given under this arming."""
        if self._arm is not None and self._policy_status is not None:
            status = self._policy_status
            self._send(self._arm.on_policy_status(status.instruction_id, status.instruction))

    def _stop(self) -> None:
        self._may_start_armed = False
        if self._arm is not None:
            self._send(self._arm.disarm("the controller was deactivated"))

    def _forget(self) -> None:
        self._arm, self._problem, self._told = None, "not configured", ()
        self._publish_status()

    # Events

    def _take_description(self, msg: String) -> None:
        if msg.data == self._description:
            return
        self._description, changed = msg.data, ""
        if self._arm is not None:
            changed = "robot_description changed"
            self._send(self._arm.disarm(changed))
            self._arm = None
            self._bridge.attach(None)
        try:
            kinematics = self._profile.kinematics(msg.data)
            collisions = self._profile.collisions(msg.data)
        except ValueError as error:
            self._problem = (
                f"{self.resolve_topic_name(topics.ROBOT_DESCRIPTION.name)} does not fit robot "
                f"{self._profile.name!r}: {one_line(error)}; correct the URDF or set `robot`"
            )
            self.get_logger().error(self._problem)
        else:
            self._problem = ""
            if collisions is not None and (pairs := collisions.left_out):
                names = "; ".join(" and ".join(pair) for pair in pairs)
                self.get_logger().warning(f"not checked, as they overlap at home: {names}")
            # Once: not what a person has stopped since, nor an arm that has become another one.
            armed, self._may_start_armed = self._may_start_armed, False
            parts = self._bridge.PARTS
            self._arm = ArmController(
                self._profile, kinematics, collisions, armed=armed, parts=parts
            )
            self._arm.reason = changed or self._arm.reason
            self._begun = (0, 0, 0, 0)
            self._bridge.attach(self._arm)
            if self._policy_status is not None:  # latched, so it may have come before the URDF
                self._take_policy_status(self._policy_status)
        self._publish_status()

    def _take_joints(self, msg: JointState) -> None:
        if self._arm is not None:
            stamp = stamp_ns(msg.header.stamp)
            self._send(self._arm.on_joint_state(stamp, msg.name, msg.position, self.now_ns()))

    def _take_instruction(self, msg: String) -> None:
        if self._arm is None:
            return
        if self.active:
            self._send(self._arm.on_instruction(msg.data))
        else:
            self._arm.overhear(msg.data)

    def _take_policy_status(self, msg: PolicyStatus) -> None:
        self._policy_status = msg
        if self._arm is not None and self.active:
            self._send(self._arm.on_policy_status(msg.instruction_id, msg.instruction))

    def _take_delta(self, msg: EndEffectorDelta) -> None:
        if self._arm is None or not self.active:
            return
        self._ask_bridge(self._arm)
        self._send(self._arm.on_delta(delta_of(msg), self.now_ns()))
        verdict = self._arm.verdict
        if verdict is not None and not verdict.accepted:
            self.complain(f"delta {msg.step} refused: {verdict.reason}")

    def _tick(self) -> None:
        if self._arm is not None:
            self._ask_bridge(self._arm)
            self._send(self._arm.tick(self.now_ns()))

    def _serve_arm(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        if not request.data:
            self._may_start_armed = False
        if self._arm is None or not self.active:
            response.message = self._problem or "the controller is not active"
            return response
        if request.data:
            self._arm.arm()
            self._send(None)
        else:
            self._send(self._arm.disarm(BY_SERVICE))
        response.success = True
        response.message = self._arm.reason
        return response

    def _serve_stop(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._may_start_armed = False
        reason = "stopped by service; call ~/arm to go on"
        if self._arm is not None:
            self._send(self._arm.stop(reason))
        self._bridge.stop(reason)  # whatever it is at, also if the arm holds already
        response.success = self._arm is not None
        response.message = reason if response.success else f"nothing braked: {self._problem}"
        return response

    def _serve_home(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._arm is None or not self.active:
            response.message = self._problem or "the controller is not active"
            return response
        self._ask_bridge(self._arm)
        try:
            command = self._arm.home(direct=not self._bridge.PLANS)
        except ValueError as error:
            response.message = one_line(error)
            return response
        self._send(command)
        response.success, response.message = True, self._arm.reason
        return response

    def _gripper_refused(self, reason: str) -> None:
        self.complain(reason)
        if self._arm is not None:
            self._send(self._arm.gripper_refused(reason))

    def _ask_bridge(self, arm: ArmController) -> None:
        arm.blocked = self._bridge.problem() or self._strangers()
        arm.busy = self._bridge.busy()

    @staticmethod
    def _disarmed_itself(arm: ArmController) -> bool:
        return arm.state == State.DISARMED and arm.reason not in (UNARMED, BY_SERVICE)

    def _strangers(self) -> str:
        """Say so if not only one node publishes deltas: which is the policy cannot be told."""
        return self.crowd(topics.END_EFFECTOR_DELTA, "the policy")

    # What goes out

    def _send(self, command: Command | None) -> None:
        """Publish a command if there is one, and the status if it has changed."""
        if command is not None:
            self._bridge.send(command)
        arm = self._arm
        if arm is None:
            return
        if self._moving and arm.state != State.MOVING:
            self._bridge.hold(arm.reason)
        self._moving = arm.state == State.MOVING
        if (arm.state, arm.reason, arm.instruction_id) != self._told:
            self._publish_status()

    def _publish_status(self) -> None:
        arm = self._arm
        msg = ControllerStatus(state=ControllerStatus.DISARMED, reason=self._problem)
        if arm is not None:
            if arm.instruction_id != self._begun[0]:
                self._begun = (arm.instruction_id, arm.accepted, arm.refused, arm.limited)
            msg.state, msg.reason, msg.rate = int(arm.state), arm.reason, arm.rate()
            msg.instruction_id = arm.instruction_id
            msg.accepted = arm.accepted - self._begun[1]
            msg.refused = arm.refused - self._begun[2]
            msg.limited = arm.limited - self._begun[3]
            msg.gripper_closedness = arm.gripper_closedness or 0.0
            try:
                msg.end_effector_pose = pose_msg(arm.pose())
            except NotInHistory:
                msg.reason = f"{arm.reason}; {NO_JOINT_STATES} yet"
            if arm.joint_states.ended and NO_JOINT_STATES not in msg.reason:
                msg.reason = f"{msg.reason}; {arm.joint_states.ended}"
            self._ask_bridge(arm)
            if arm.blocked and arm.blocked not in msg.reason:
                msg.reason = f"{msg.reason}; {arm.blocked}"
            msg.reason = f"{self._bridge.NOTE}{msg.reason}"
            told = (arm.state, arm.reason, arm.instruction_id)
            if self._told[:1] != told[:1]:
                self.get_logger().info(f"{arm.state.name.lower()}: {arm.reason}")
            self._told = told
        msg.header.stamp = self.get_clock().now().to_msg()
        msg.header.frame_id = self._frame
        self._status_out.publish(msg)

    def diagnose(self) -> Health:
        """State and counts; a warning while it is stopped or asks for help, an error if no URDF."""
        arm = self._arm
        if arm is None:
            return Health.error(self._problem)
        figures: dict[str, object] = {
            "profile": self._digest,
            "state": arm.state.name,
            "rate": f"{arm.rate():.1f} Hz",
            "accepted": arm.accepted,
            "bad joint states": arm.joint_states.refused,
        }
        figures |= self._bridge.figures()
        figures |= {f"refused: {code}": count for code, count in sorted(arm.refusals.items())}
        figures |= {f"changed: {code}": count for code, count in sorted(arm.changes.items())}
        try:
            arm.history.newest()
        except NotInHistory:
            name = self.resolve_topic_name(topics.JOINT_STATES.name)
            problem = arm.joint_states.problem
            which = f"({problem})" if problem else "that name all joints"
            return Health.warn(f"{NO_JOINT_STATES} on {name} {which}", **figures)
        if arm.joint_states.ended:
            return Health.warn(arm.joint_states.ended, **figures)
        if problem := self._bridge.problem() or self._strangers():
            return Health.warn(problem, **figures)
        if arm.state == State.STOPPED or arm.needs_help or self._disarmed_itself(arm):
            return Health.warn(arm.reason, **figures)
        return Health(message=arm.reason or arm.state.name.lower(), values=figures)


def main(argv: list[str] | None = None) -> int:
    """Run the node to its end."""
    return run(ControllerNode, argv)


if __name__ == "__main__":
    sys.exit(main())
