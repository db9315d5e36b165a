# SPDX-License-Identifier: Apache-2.0
"""What must be so between the robot and the policy, judged from what was seen of a live graph.

    checks(facts, profile, own)[0]  # Check("node camera_node", "runs"): nothing has to be done

No ROS: `rt2_ros.nodes.inspector` gathers the facts, `rt2 check-robot` shows what comes of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rt2_ros.control.history import GRIPPER_AGE, by_name
from rt2_ros.control.kinematics import Kinematics
from rt2_ros.control.profile import RobotProfile
from rt2_ros.facts import Facts, Stream

OURS = ("camera_node", "policy_node", "controller_node")
JOINT_RATE = 20.0  # Hz; below it the controller does not know well enough where the arm was
PICTURE_RATE = 2.0  # Hz; below it no policy works
AHEAD = 0.005  # s that a stamp may lie in the future before clocks are to blame
CLOCKS = "let both machines follow one clock (chrony or PTP), and use_sim_time be the same for all"
UNCONFIGURED, FAULT, DISARMED, STOPPED = 0, 5, 0, 4  # of PolicyStatus and ControllerStatus


@dataclass(frozen=True)
class Check:
    """One line of the table; `todo` is empty where all is well, and says what to do otherwise."""

    name: str
    found: str
    todo: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing has to be done."""
        return not self.todo


def checks(facts: Facts, profile: RobotProfile, own: RobotProfile | None) -> list[Check]:
    """Judge everything between the robot and the policy, in the order in which to mend it.

    own: the profile that the controller runs with, which should be the same; None where it cannot
    be read on this machine.
    """
    return [
        *_nodes(facts, profile, own),
        *_time(facts),
        _description(facts, profile),
        _joint_states(facts, profile),
        *(_camera(facts, name, stream) for name, stream in facts.cameras.items()),
        _observation(facts),
        _policy(facts, profile),
        _controller(facts, profile),
        _deltas(facts),
        *_commands(facts, profile),
    ]


def _nodes(facts: Facts, profile: RobotProfile, own: RobotProfile | None) -> Iterator[Check]:
    for name in OURS:
        count = facts.nodes[facts.full(name)]
        todo = ""
        if count == 0:
            todo = "start the graph: rt2 up, or ros2 launch rt2_ros bringup.launch.py"
        elif count > 1:
            todo = "end all but one: each would send commands of its own"
        elif not facts.parameters.get(name):
            todo = "it does not answer: end it and start it again"
        else:
            level, message, figures = facts.diagnostics.get(name, (0, "", {}))
            # A policy without an instruction warns that it holds; it is judged by its status.
            todo = message if level > 0 and name != "policy_node" else ""
            if figures.get("lifecycle") == "inactive":
                todo = f"it is inactive: ros2 lifecycle set {facts.full(name)} activate"
        yield Check(f"node {name}", "runs" if count == 1 else f"{count} of them run", todo)
    robots = {
        name: str(values["robot"]) for name, values in facts.parameters.items() if "robot" in values
    }
    if len(set(robots.values())) > 1:
        said = ", ".join(f"{name}: {robot}" for name, robot in sorted(robots.items()))
        yield Check("robot profile", said, "give all nodes the same `robot`")
    elif own != profile:
        robot = next(iter(robots.values()), "none")
        what = "cannot be read here" if own is None else "is another"
        todo = "start the graph with the profile that you check, by `robot:=`"
        yield Check("robot profile", f"the nodes run with {robot}, which {what}", todo)
    elif _figures(facts, "controller_node").get("profile") not in (None, own.digest()):
        todo = "start bring-up again: what the file says now is not in force"
        yield Check("robot profile", "the controller runs with what the file said before", todo)
    else:
        yield Check("robot profile", profile.name)


def _figures(facts: Facts, node: str) -> dict[str, str]:
    """What a node's diagnostics tell, by name."""
    return facts.diagnostics.get(node, (0, "", {}))[2]


def _time(facts: Facts) -> Iterator[Check]:
    follow = {
        name: bool(values.get("use_sim_time"))
        for name, values in facts.parameters.items()
        if values
    }
    if len(set(follow.values())) > 1:
        said = ", ".join(f"{name}: {'yes' if on else 'no'}" for name, on in sorted(follow.items()))
        yield Check("simulated time", said, "set use_sim_time alike for all nodes")
    elif any(follow.values()):
        todo = "" if facts.clock.arrivals else "no /clock: start the simulator, or its bridge"
        if len(facts.clock.publishers) > 1:
            todo = f"{_several(facts.clock)}: end all but one; it is one for the whole domain"
        yield Check("simulated time", f"/clock at {facts.clock.rate:.0f} Hz", todo)
    else:
        yield Check("simulated time", "not used")


def _stream(stream: Stream, what: str) -> str:
    """Say what keeps a topic from being heard at all; empty if it was heard."""
    if stream.arrivals:
        return ""
    if not stream.publishers:
        return f"nobody publishes {stream.topic}: start {what}, or remap it"
    types = {end.type for end in stream.publishers}
    if stream.type not in types:
        return f"{stream.topic} carries {', '.join(sorted(types))}, expected {stream.type}"
    if stream.latched and not any(end.latched for end in stream.publishers):
        return f"{stream.topic} is offered volatile, expected transient local (latched)"
    who = ", ".join(sorted({end.node for end in stream.publishers}))
    return f"{who} offers {stream.topic} but is silent: look at {what}"


def _several(stream: Stream) -> str:
    """Say so where several publish what must come from one: either's messages may be taken."""
    if len(stream.publishers) < 2:
        return ""
    who = ", ".join(sorted({end.node for end in stream.publishers}))
    return f"{stream.topic} has {len(stream.publishers)} publishers ({who})"


def _stamps(stream: Stream, oldest: float) -> str:
    """Say what is wrong with the stamps of messages that came; empty if nothing is."""
    ages = np.array(stream.ages)
    if np.isinf(ages).any():
        return "header.stamp is zero or negative: the driver must stamp its messages"
    if float(ages.min()) < -AHEAD:
        return f"stamps lie up to {-ages.min():.3f} s ahead of this clock: {CLOCKS}"
    if float(np.median(ages)) > oldest:
        return f"messages are {np.median(ages):.3f} s old, at most {oldest:g} s counts: {CLOCKS}"
    return ""


def _description(facts: Facts, profile: RobotProfile) -> Check:
    stream, name = facts.description, "robot_description"
    todo = _stream(stream, "robot_state_publisher")
    if todo:
        return Check(name, "not received", todo)
    try:
        profile.kinematics(stream.newest.data)
    except ValueError as error:
        return Check(name, f"does not fit {profile.name}: {error}", "correct the URDF or `robot`")
    return Check(name, f"fits {profile.name}")


def _joint_states(facts: Facts, profile: RobotProfile) -> Check:
    stream, name = facts.joint_states, "joint states"
    todo = _stream(stream, "the arm's driver and its joint_state_broadcaster")
    if todo:
        return Check(name, "not received", todo)
    arm, hand = _part(stream, profile.arm_joints), _part(stream, [profile.gripper_joint])
    found = f"{arm.rate:.0f} Hz, {_age(arm)}"
    try:
        q = by_name(arm.newest.name, arm.newest.position, profile.arm_joints)
        if profile.gripper_joint:
            by_name(hand.newest.name, hand.newest.position, [profile.gripper_joint])
    except ValueError as error:
        return Check(name, str(error), "correct the joint names of the profile or of the driver")
    if arm.rate < JOINT_RATE:
        return Check(name, found, f"too seldom: at least {JOINT_RATE:g} Hz are needed")
    todo = _stamps(arm, profile.joint_state_timeout)
    if todo:
        return Check(name, found, todo)
    if profile.gripper_joint and hand is not arm and (todo := _stamps(hand, GRIPPER_AGE)):
        return Check(name, f"{profile.gripper_joint}: {_age(hand)}", todo)
    for joint, value, low, high in zip(
        profile.arm_joints, q, profile.joint_lower, profile.joint_upper, strict=True
    ):
        if not low <= value <= high:
            return Check(
                name,
                f"{joint} is at {value:.3f} rad, the profile allows {low:g} to {high:g}",
                "move the arm inside its limits by its own means",
            )
    tip = _tip(facts, profile, q)
    if tip is not None and (
        np.any(tip < profile.workspace_min) or np.any(tip > profile.workspace_max)
    ):
        where = ", ".join(f"{value:.3f}" for value in tip)
        return Check(
            name,
            f"the tip is at ({where}) m, outside the workspace",
            "move the arm into it by its own means: from outside only ways inward are taken",
        )
    return Check(name, found)


def _part(stream: Stream, joints: Sequence[str]) -> Stream:
    """Return the messages that name these joints, where a robot sends several; else all."""
    return next((part for names, part in stream.parts.items() if {*joints} <= {*names}), stream)


def _tip(facts: Facts, profile: RobotProfile, q: Any) -> Any:
    try:
        arm: Kinematics = profile.kinematics(facts.description.newest.data)
    except (AttributeError, ValueError):  # told by its own check
        return None
    return arm.forward(q).position


def _camera(facts: Facts, camera: str, stream: Stream) -> Check:
    name = f"camera {camera}"
    todo = _stream(stream, "the camera's driver")
    if todo:
        return Check(name, "no picture", todo)
    msg = stream.newest
    size = f"{msg.width}x{msg.height} {msg.encoding}" if hasattr(msg, "encoding") else msg.format
    found = f"{size} at {stream.rate:.1f} Hz, {_age(stream)}"
    if several := _several(stream):
        return Check(name, found, f"{several}: end all but this robot's camera")
    if stream.problem:
        return Check(name, found, stream.problem)
    if stream.rate < PICTURE_RATE:
        return Check(name, found, f"too seldom: at least {PICTURE_RATE:g} Hz are needed")
    oldest = facts.parameters.get("camera_node", {}).get("max_image_age", 0.5)
    return Check(name, found, _stamps(stream, oldest))


def _observation(facts: Facts) -> Check:
    stream, name = facts.observation, "observation"
    todo = _stream(stream, "camera_node, and see the lines above")
    if todo:
        return Check(name, "none", todo)
    if several := _several(stream):
        return Check(name, "of several", f"{several}: end all but this robot's camera_node")
    if not stream.newest.has_end_effector:
        return Check(
            name,
            "without the hand's pose",
            "joint states around the picture's stamp, of arm or gripper, are missing: see joint "
            "states and their clock",
        )
    oldest = facts.parameters.get("policy_node", {}).get("max_observation_age", 0.5)
    found = f"{stream.rate:.1f} Hz with the hand's pose, {_age(stream)}"
    return Check(name, found, _stamps(stream, oldest))


def _policy(facts: Facts, profile: RobotProfile) -> Check:
    todo = _stream(facts.policy, "policy_node")
    if todo:
        return Check("policy", "not heard", todo)
    msg = facts.policy.newest
    if msg.state == FAULT:
        return Check("policy", "fault", msg.reason)
    if msg.state == UNCONFIGURED:
        return Check("policy", "not loaded", msg.reason or "wait until it is loaded; see its log")
    figures = _figures(facts, "policy_node")
    frame = figures.get("frame") or profile.base_frame
    if frame != profile.base_frame:
        return Check(
            "policy",
            f"{msg.policy} gives deltas in {frame}, the robot's base_frame is {profile.base_frame}",
            f"start a copy of its file with `frame: {profile.base_frame}`; a model must have been "
            "trained in that frame",
        )
    pictures, cameras = int(figures.get("pictures", 1)), len(facts.cameras)
    if cameras < pictures and facts.parameters.get("camera_node"):  # else told by its own check
        return Check(
            "policy",
            f"{msg.policy} looks at {pictures} pictures, camera_node has {cameras}",
            "name as many in camera_node's `cameras`, in the order in which it learned them",
        )
    return Check("policy", f"{msg.policy} is loaded")


def _controller(facts: Facts, profile: RobotProfile) -> Check:
    todo = _stream(facts.controller, "controller_node")
    if todo:
        return Check("controller", "not heard", todo)
    msg = facts.controller.newest
    if msg.header.frame_id != profile.base_frame:
        return Check(
            "controller", f"frame '{msg.header.frame_id}'", f"expected {profile.base_frame}"
        )
    tip = msg.end_effector_pose.position
    if not any((tip.x, tip.y, tip.z)):
        return Check("controller", "not ready", msg.reason or "see its log")
    state = {DISARMED: "disarmed", STOPPED: "stopped"}.get(msg.state, "ARMED: the arm may move")
    return Check("controller", state)


def _deltas(facts: Facts) -> Check:
    """Only our policy may speak to our controller."""
    publishers, readers = facts.endpoints.get(facts.full("end_effector_delta"), ([], []))
    strange = sorted({end.node for end in publishers} - {facts.full("policy_node")})
    if strange:
        todo = "end it: only policy_node may say how the arm moves"
        return Check("end_effector_delta", f"also published by {', '.join(strange)}", todo)
    if not publishers:
        return Check("end_effector_delta", "nobody publishes it", "see node policy_node")
    if facts.full("controller_node") not in {end.node for end in readers}:
        return Check("end_effector_delta", "the controller does not read it", "see its log")
    return Check("end_effector_delta", "from policy_node to controller_node")


def _commands(facts: Facts, profile: RobotProfile) -> Iterator[Check]:
    """What is at the other end of the bridge."""
    parameters = facts.parameters.get("controller_node", {})
    bridge = parameters.get("bridge") or profile.bridge
    controllers = _figures(facts, "controller_node").get("controllers", "")
    yield Check("bridge", f"{bridge}; controllers: {controllers}" if controllers else bridge)
    goals = ("move_action", "execute_trajectory")  # moveit_py needs no servers of them
    servo = "pose_target_cmds" if profile.servo_command == "pose" else "delta_twist_cmds"
    ways: dict[str, Callable[[], Iterator[Check]]] = {
        "joint_trajectory": lambda: _reader(
            facts,
            f"{profile.arm_controller}/joint_trajectory",
            "trajectory_msgs/msg/JointTrajectory",
        ),
        "moveit_servo": lambda: _reader(facts, f"{profile.servo_node}/{servo}", ""),
        "moveit": lambda: _actions(facts, *([] if parameters.get("moveit_params") else goals)),
    }
    if bridge not in ways:
        return
    yield from ways[bridge]()
    if profile.gripper_command == "trajectory":
        yield from _reader(
            facts,
            f"{profile.gripper_controller}/joint_trajectory",
            "trajectory_msgs/msg/JointTrajectory",
        )
    elif profile.gripper_command != "none":
        yield from _actions(facts, f"{profile.gripper_controller}/{profile.gripper_action}")


def _reader(facts: Facts, topic: str, kind: str) -> Iterator[Check]:
    """A command topic needs one reader, and no writer but our controller."""
    name = facts.full(topic)
    publishers, readers = facts.endpoints.get(name, ([], []))
    others = sorted({end.node for end in publishers} - {facts.full("controller_node")})
    types = {end.type for end in readers}
    if not readers:
        found, todo = (
            "nobody reads it",
            "start the controller, or name the right one in the profile",
        )
    elif kind and types != {kind}:
        found, todo = f"read as {', '.join(sorted(types))}", f"expected {kind}"
    elif others:
        found, todo = f"also written by {', '.join(others)}", "end what else commands the arm"
    else:
        found, todo = f"read by {', '.join(sorted({end.node for end in readers}))}", ""
    yield Check(name, found, todo)


def _actions(facts: Facts, *actions: str) -> Iterator[Check]:
    for action in actions:
        name = facts.full(action)
        there = f"{name}/_action/send_goal" in facts.services
        todo = "" if there else "start its server, or name the right one in the profile"
        yield Check(name, "an action server" if there else "no action server", todo)


def _age(stream: Stream) -> str:
    return f"{1e3 * float(np.median(stream.ages)):.0f} ms old"
