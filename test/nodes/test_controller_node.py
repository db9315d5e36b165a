# SPDX-License-Identifier: Apache-2.0
"""What controller_node makes of messages; test/system/test_line.py has the node as a process."""

import re
import time
from types import SimpleNamespace

import pytest

rclpy = pytest.importorskip("rclpy")

from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
from std_msgs.msg import String  # noqa: E402
from std_srvs.srv import SetBool, Trigger  # noqa: E402

from rt2_ros.control.command import State  # noqa: E402
from rt2_ros.control.profile import RobotProfile  # noqa: E402
from rt2_ros.msg import EndEffectorDelta, PolicyStatus  # noqa: E402
from rt2_ros.nodes import topics  # noqa: E402
from rt2_ros.nodes.base import SUCCESS  # noqa: E402
from rt2_ros.nodes.controller_node import ControllerNode  # noqa: E402
from rt2_ros.paths import config_path  # noqa: E402

URDF = config_path("robots", "panda.urdf").read_text(encoding="utf-8")
PROFILE = RobotProfile.load(config_path("robots", "panda.yaml"))


@pytest.fixture
def node(tmp_path):
    """An armed controller that knows where the arm is and has got an instruction, its first."""
    text = config_path("robots", "panda.yaml").read_text(encoding="utf-8")
    # What moves does so for longer than a busy machine stands still.
    for key, value in (("chunk_duration", 3), ("time_to_live", 4), ("joint_state_timeout", 3)):
        text = re.sub(rf"(?m)^{key}: [0-9.]+", f"{key}: {value}.0", text)
    (tmp_path / "panda.yaml").write_text(text, encoding="utf-8")
    rclpy.init()
    given = {"robot": str(tmp_path / "panda.yaml"), "bridge": "dry_run", "start_armed": True}
    node = ControllerNode(parameter_overrides=[Parameter(k, value=v) for k, v in given.items()])
    assert node.trigger_configure() == node.trigger_activate() == SUCCESS
    node._take_description(String(data=URDF))
    node._take_joints(joints(node))
    node._take_instruction(String(data="pick up the apple"))
    node._take_policy_status(PolicyStatus(instruction="pick up the apple", instruction_id=1))
    yield node
    node.destroy_node()
    rclpy.shutdown()


def joints(node):
    msg = JointState(
        name=[*PROFILE.arm_joints, PROFILE.gripper_joint], position=[*PROFILE.home, 0.04]
    )
    msg.header.stamp = node.get_clock().now().to_msg()
    return msg


def test_what_was_asked_for_while_the_controller_was_inactive_is_not_obeyed(node):
    node.trigger_deactivate()
    node._take_policy_status(PolicyStatus(instruction="push the key", instruction_id=2))
    node.trigger_activate()
    node._arm.arm()
    node._take_policy_status(PolicyStatus(instruction="push the key", instruction_id=2))
    assert node._arm.instruction_id == 2 and not node._arm._mandate.live


def test_an_inactive_controller_sends_nothing_by_itself(node):
    """Bridges speak then as well: nothing but brakes may reach them."""
    node.trigger_deactivate()
    node._arm.arm()  # as with start_armed and a robot_description that comes late
    sent = []
    node._bridge.send = sent.append
    node._take_joints(joints(node))
    node._take_instruction(String(data="push the key"))
    node._take_policy_status(PolicyStatus(instruction="push the key", instruction_id=2))
    delta = EndEffectorDelta(instruction_id=2, step=0)
    delta.header.frame_id = PROFILE.base_frame
    delta.header.stamp = node.get_clock().now().to_msg()
    delta.translation.x = 0.05
    node._take_delta(delta)
    assert not node._serve_home(Trigger.Request(), Trigger.Response()).success
    assert not node._serve_arm(SetBool.Request(data=True), SetBool.Response()).success
    node._tick()
    assert sent == []


@pytest.mark.parametrize("sec", [0, -1, -(2**31)])
def test_messages_without_a_time_are_refused(node, sec):
    msg = joints(node)
    msg.header.stamp.sec = sec
    msg.header.stamp.nanosec = 0
    node._take_joints(msg)
    assert node._arm.joint_states.refused == 1
    delta = EndEffectorDelta(instruction_id=1, step=0)
    delta.header.frame_id = PROFILE.base_frame
    delta.header.stamp.sec = sec
    delta.translation.x = 0.05
    node._take_delta(delta)
    assert (node._arm.verdict.accepted, node._arm.verdict.code) == (False, "stamp")


CHANGED = String(data=f"{URDF}<!-- mended -->")


def change(node):
    node._take_description(CHANGED)


def configure_again(node):
    for trigger in ("deactivate", "cleanup", "configure", "activate"):
        getattr(node, f"trigger_{trigger}")()
    node._take_policy_status(PolicyStatus(instruction="pick up the apple", instruction_id=1))
    node._take_description(String(data=URDF))


@pytest.mark.parametrize("anew", [change, configure_again])
def test_a_controller_that_is_made_anew_counts_anew(node, anew):
    """What the old one had counted was taken off the new one's 0, and no status could say that."""
    node._take_delta(EndEffectorDelta(instruction_id=1))  # refused: it has no stamp
    assert node._arm.refused == 1
    node._take_policy_status(PolicyStatus(instruction="push the key", instruction_id=2))
    node._take_policy_status(PolicyStatus(instruction="pick up the apple", instruction_id=1))
    anew(node)
    heard = []
    node._status_out.publish, publish = heard.append, node._status_out.publish
    node._publish_status()
    node._status_out.publish = publish
    assert (heard[0].instruction_id, heard[0].refused) == (1, 0)


def stop(node):
    node._serve_stop(Trigger.Request(), Trigger.Response())


def test_the_stop_service_stops_what_this_controller_did_not_begin(node):
    heard, node._bridge.stop = [], lambda reason: heard.append(reason)
    stop(node)
    assert heard == ["stopped by service; call ~/arm to go on"]


def disarm(node):
    node._serve_arm(SetBool.Request(data=False), SetBool.Response())


def deactivate(node):
    node.trigger_deactivate()
    node.trigger_activate()


def nothing(node):
    pass


@pytest.mark.parametrize("end", [stop, disarm, deactivate, nothing])
@pytest.mark.parametrize("first", [True, False])
def test_a_controller_is_armed_at_the_start_and_never_again_by_itself(node, end, first):
    if first:  # what ends it comes before any URDF
        for trigger in ("deactivate", "cleanup", "configure", "activate"):
            getattr(node, f"trigger_{trigger}")()
        assert node._arm is None
    end(node)
    node._take_description(CHANGED)
    armed = node._arm.state not in (State.DISARMED, State.STOPPED)
    assert armed is (first and end is nothing)


def test_what_is_said_to_an_inactive_controller_is_not_obeyed_when_it_is_armed(node):
    """A policy that was busy takes it up then."""
    node.trigger_deactivate()
    node._take_instruction(String(data="push the key"))
    node.trigger_activate()
    node._arm.arm()
    node._take_policy_status(PolicyStatus(instruction="push the key", instruction_id=2))
    assert node._arm.instruction_id == 2 and not node._arm._mandate.live


def test_an_arm_that_has_become_another_says_why_it_is_disarmed(node):
    node._take_description(CHANGED)
    assert node._arm.reason == "robot_description changed"
    node._take_joints(joints(node))
    found = node.diagnose()
    assert (found.level, found.message) == (DiagnosticStatus.WARN, "robot_description changed")


@pytest.mark.parametrize("order", ["none", "stop", "disarm"])
def test_that_joint_states_have_ended_is_told_also_of_an_arm_at_rest(node, monkeypatch, order):
    """Its pose is of some time before: a stop that it confirmed would be worth nothing."""
    told = []
    monkeypatch.setattr(node, "_status_out", SimpleNamespace(publish=told.append))
    {"none": nothing, "stop": stop, "disarm": disarm}[order](node)
    node._publish_status()
    assert "no joint states" not in told[-1].reason
    node._arm.joint_states.time -= 4.0
    node._publish_status()
    assert told[-1].reason.endswith("; no joint states for more than 3 s")
    found = node.diagnose()
    assert (found.level, found.message) == (
        DiagnosticStatus.WARN, "no joint states for more than 3 s"
    )  # fmt: skip


def test_a_stop_reaches_the_bridge_also_where_the_arm_is_not_known(node):
    """MoveIt may still carry out what a controller before this one has told it."""
    node._take_description(String(data="<robot name='other'/>"))
    told = []
    node._bridge.stop = told.append
    answer = node._serve_stop(Trigger.Request(), Trigger.Response())
    assert len(told) == 1
    assert not answer.success and "does not fit robot" in answer.message


def test_diagnostics_warn_of_an_arm_that_disarmed_itself_and_of_a_second_policy(node):
    level = lambda: (node.diagnose().level, node.diagnose().message)  # noqa: E731
    assert level()[0] == DiagnosticStatus.OK
    disarm(node)  # as it was told
    assert level()[0] == DiagnosticStatus.OK
    node._arm.disarm("the clock went back by 1.0 s")
    assert level() == (DiagnosticStatus.WARN, "the clock went back by 1.0 s")
    node._arm.arm()
    policies = [node.create_publisher(*topics.END_EFFECTOR_DELTA) for _ in range(2)]
    end = time.monotonic() + 10.0
    while level()[0] == DiagnosticStatus.OK and time.monotonic() < end:
        time.sleep(0.02)
    assert level() == (
        DiagnosticStatus.WARN, "/end_effector_delta has 2 publishers: end all but the policy"
    )  # fmt: skip
    for policy in policies:
        node.destroy_publisher(policy)


ENDS = {
    "deactivated": lambda node: node.trigger_deactivate(),
    "another arm": lambda node: node._take_description(String(data="<robot name='other'/>")),
    "ended": lambda node: node._teardown(),  # as by SIGTERM
}


def moving(node):
    """Have the arm move; return what is sent to it from then on."""
    sent = []
    delta = EndEffectorDelta(instruction_id=1, step=0)
    delta.header.frame_id = PROFILE.base_frame
    delta.translation.y = 0.08
    for _ in range(50):  # until joint states lie on either side of its picture
        delta.header.stamp = node.get_clock().now().to_msg()
        time.sleep(0.002)
        node._take_joints(joints(node))
        node._take_delta(delta)
        if node._arm.state == State.MOVING:
            break
    assert node._arm.state == State.MOVING, node._arm.verdict
    time.sleep(0.05)
    node._bridge.send = sent.append
    return sent


@pytest.mark.parametrize("end", ENDS)
def test_an_arm_that_moves_is_braked_before_its_controller_goes(node, end):
    sent = moving(node)
    ENDS[end](node)
    assert sent[-1].brake and (sent[-1].chunk.velocities[-1] == 0).all()


def test_what_the_hand_holds_it_keeps_when_the_arm_is_stopped(node):
    sent = moving(node)
    node._serve_stop(Trigger.Request(), Trigger.Response())
    assert node._arm.state == State.STOPPED
    assert [(command.brake, command.gripper) for command in sent] == [(True, None)]
