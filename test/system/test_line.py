# SPDX-License-Identifier: Apache-2.0
"""Simulator, camera and controller as processes, driven by deltas from the test.

The simulator is the judge: what its joints do is what happened.
"""

import math
import re
import signal

import numpy as np
import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.time import Time
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from rt2_ros.msg import ControllerStatus, PolicyStatus
from rt2_ros.nodes import topics
from rt2_ros.paths import config_path

ARM = topics.joint_trajectory("panda_arm_controller")
GRIPPER = topics.joint_trajectory("panda_gripper_controller")
TOLERANCE = 0.004  # m
LINE = {"instruction": 0}  # ids go up over the module


@pytest.fixture(scope="module")
def robot(tmp_path_factory):
    """The Panda with times for a busy machine: a delta takes 0.6 s and lives for 1.5 s."""
    text = config_path("robots", "panda.yaml").read_text(encoding="utf-8")
    for key, value in (
        ("chunk_duration", 0.6),
        ("time_to_live", 1.5),
        ("joint_state_timeout", 1.0),
    ):
        text, count = re.subn(rf"(?m)^{key}: [0-9.]+", f"{key}: {value}", text)
        assert count == 1
    path = tmp_path_factory.mktemp("robots") / "slow.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def line(start, probe, robot):
    """The graph, at rest, armed, the probe listening to all of it."""
    probe.keep(
        topics.JOINT_STATES, topics.OBSERVATION, topics.CONTROLLER_STATUS, topics.SCENE_STATE
    )
    probe.keep(ARM, GRIPPER, topics.camera_image("scene"), topics.camera_info("scene"))
    probe.simulator = start("simulator_node", seed=7)
    probe.camera = start("camera_node")
    probe.restart = lambda: start("controller_node", start_armed=True, robot=robot)
    probe.controller = probe.restart()
    probe.publish(topics.POLICY_STATUS, PolicyStatus(state=PolicyStatus.IDLE))
    probe.more(topics.SCENE_STATE)
    probe.until(
        lambda: (msg := probe.last(topics.OBSERVATION)) and msg.has_end_effector, "observations"
    )
    return probe


@pytest.fixture
def arm(line):
    """The line with a new instruction, the arm armed and at rest; `arm.id` is the instruction's."""
    begin(line)
    return line


def begin(line):
    until_status(line, lambda msg: msg.end_effector_pose.position.x > 0)
    line.call(SetBool, "controller_node/arm", SetBool.Request(data=True))
    LINE["instruction"] += 1
    line.id = LINE["instruction"]
    line.publish(topics.INSTRUCTION, String(data="pick up the apple"))
    line.instruct(line.id)
    line.rest()
    line.kept[ARM.name].clear()
    line.kept[GRIPPER.name].clear()


def until_status(line, condition):
    """Wait for a controller status; return it."""
    line.until(
        lambda: (msg := line.last(topics.CONTROLLER_STATUS)) and condition(msg),
        "a controller status",
    )
    return line.last(topics.CONTROLLER_STATUS)


def assert_still(line, before, joint_states=40):
    """Nothing was sent to the arm, and nothing moved over the next joint states."""
    line.more(topics.JOINT_STATES, joint_states)
    assert not line.kept[ARM.name] and not line.kept[GRIPPER.name]
    assert np.abs(line.arm_positions() - before).max() < 1e-3


def test_an_observation_holds_a_square_picture_and_the_pose_at_its_moment(line):
    msg = line.more(topics.OBSERVATION)
    (image,) = msg.images
    assert (image.width, image.height, image.encoding, image.step) == (192, 192, "rgb8", 576)
    assert len(np.unique(np.frombuffer(image.data, np.uint8))) > 20
    assert msg.camera_names == ["scene"] and msg.header.frame_id == "panda_link0"
    assert msg.header.stamp == image.header.stamp
    tip = msg.end_effector_pose.position
    assert np.abs([tip.x, tip.y, tip.z] - line.tip()).max() < TOLERANCE
    assert msg.gripper_closedness == pytest.approx(0.0, abs=0.02)


def test_the_camera_tells_its_optics(line):
    image = line.more(topics.camera_image("scene"))
    info = line.more(topics.camera_info("scene"))
    assert (image.width, image.height, image.encoding) == (640, 480, "rgb8")
    assert image.header.frame_id == info.header.frame_id == "scene_optical_frame"
    fx, cx, fy, cy = info.k[0], info.k[2], info.k[4], info.k[5]
    assert fx == fy == pytest.approx(240 / math.tan(math.radians(21.5) / 2))
    assert (cx, cy) == (319.5, 239.5)


def test_joint_states_come_at_a_hundred_hertz(line):
    states = line.kept[topics.JOINT_STATES.name]
    line.more(topics.JOINT_STATES, 100)
    stamps = [Time.from_msg(msg.header.stamp).nanoseconds * 1e-9 for msg in states[-100:]]
    assert (np.diff(stamps) > 0).all()
    assert np.median(np.diff(stamps)) == pytest.approx(0.01, abs=0.002)


@pytest.mark.parametrize("step", [(0.04, 0, 0), (0, -0.05, 0), (-0.03, 0.04, 0.02)])
def test_the_arm_moves_by_the_delta(arm, step):
    seen = arm.delta(arm.id, 0, step).end_effector_pose.position
    until_status(arm, lambda msg: msg.state == ControllerStatus.MOVING)
    arm.rest()
    assert np.abs(arm.tip() - (np.array([seen.x, seen.y, seen.z]) + step)).max() < TOLERANCE


def test_deltas_in_a_row_each_count_from_their_own_picture(arm):
    start = arm.tip()
    for step in range(8):
        seen = arm.delta(arm.id, step, (0, 0, 0.015)).end_effector_pose.position
    arm.rest()
    assert arm.tip()[2] == pytest.approx(seen.z + 0.015, abs=TOLERANCE)
    assert arm.tip()[2] > start[2] + 0.02


def test_the_gripper_closes_and_opens(arm):
    for closed in (1.0, 0.0):
        arm.delta(arm.id, int(10 - 10 * closed), gripper=closed)
        arm.until(
            lambda closed=closed: (
                abs(arm.last(topics.OBSERVATION).gripper_closedness - closed) < 0.05
            ),
            f"the gripper at {closed}",
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"age": 2.0},
        {"age": -1.0},
        {"instruction_id": 4_000_000_000},
        {"frame_id": "panda_hand_tcp"},
        {"translation": (math.nan, 0, 0)},
        {"translation": (math.inf, 0, 0)},
        {"gripper": math.nan},
    ],
    ids=str,
)
def test_a_delta_that_is_not_right_moves_nothing(arm, changes):
    before = arm.arm_positions()
    refused = until_status(arm, lambda msg: msg.instruction_id == arm.id).refused
    arm.delta(**{"instruction_id": arm.id, "step": 0, "translation": (0.05, 0, 0)} | changes)
    status = until_status(arm, lambda msg: msg.refused > refused)
    assert status.reason and status.state == ControllerStatus.HOLDING
    assert_still(arm, before)


def test_a_step_that_was_taken_already_moves_nothing(arm):
    arm.delta(arm.id, 5, (0.02, 0, 0))
    until_status(arm, lambda msg: msg.accepted == 1)
    arm.rest()
    arm.kept[ARM.name].clear()
    before = arm.arm_positions()
    arm.delta(arm.id, 5, (0.05, 0, 0))
    until_status(arm, lambda msg: msg.refused == 1)
    assert_still(arm, before)


def test_the_old_instructions_deltas_move_nothing_after_a_new_one(arm):
    arm.instruct(arm.id + 1)
    LINE["instruction"] += 1
    before = arm.arm_positions()
    arm.delta(arm.id, 0, (0.05, 0, 0))
    until_status(arm, lambda msg: msg.refused == 1)
    assert_still(arm, before)


def test_a_disarmed_arm_moves_for_nobody(arm):
    arm.call(SetBool, "controller_node/arm", SetBool.Request(data=False))
    until_status(arm, lambda msg: msg.state == ControllerStatus.DISARMED)
    before = arm.arm_positions()
    refused = arm.last(topics.CONTROLLER_STATUS).refused
    arm.delta(arm.id, 0, (0.05, 0, 0))
    until_status(arm, lambda msg: msg.refused > refused)
    assert_still(arm, before)


def stop_in_motion(arm, stop, state):
    """Stop a moving arm; it must end where the braking trajectory ends, short of the delta's goal.

    On a busy machine the motion may be over before the stop arrives: then try again.
    """
    for _ in range(5):
        start = arm.tip()
        arm.delta(arm.id, 0, (0.0, 0.09, 0.0) if start[1] < 0 else (0.0, -0.09, 0.0))
        arm.until(lambda start=start: np.linalg.norm(arm.tip() - start) > 0.005, "the arm to move")
        stop()
        until_status(arm, lambda msg: msg.state == state)
        arm.rest()
        goal, *brakes = [np.array(msg.points[-1].positions) for msg in arm.kept[ARM.name]]
        if brakes:
            assert np.abs(arm.arm_positions() - brakes[-1]).max() < 0.01
            assert np.abs(goal - brakes[-1]).max() > 0.001
            return
        begin(arm)
    raise AssertionError("five motions were over before they could be stopped")


def test_the_stop_service_stops_until_armed_and_told_again(arm):
    arm.client(Trigger, "controller_node/stop")

    def stop():
        assert arm.call(Trigger, "controller_node/stop", Trigger.Request()).success

    stop_in_motion(arm, stop, ControllerStatus.STOPPED)
    arm.kept[ARM.name].clear()
    before = arm.arm_positions()
    refused = arm.last(topics.CONTROLLER_STATUS).refused
    arm.delta(arm.id, 1, (0.05, 0, 0))
    until_status(arm, lambda msg: msg.refused > refused)
    assert arm.call(SetBool, "controller_node/arm", SetBool.Request(data=True)).success
    until_status(arm, lambda msg: msg.state == ControllerStatus.ARMED)
    arm.delta(arm.id, 2, (0.05, 0, 0))
    until_status(arm, lambda msg: msg.refused > refused + 1)
    assert_still(arm, before)


def test_an_empty_instruction_stops_without_the_policy(arm):
    stop_in_motion(
        arm,
        lambda: arm.publish(topics.INSTRUCTION, String(data="")),
        ControllerStatus.ARMED,
    )


def test_without_deltas_the_arm_holds(arm):
    arm.delta(arm.id, 0, (0.02, 0, 0))
    until_status(arm, lambda msg: msg.state == ControllerStatus.MOVING)
    status = until_status(arm, lambda msg: msg.state == ControllerStatus.HOLDING)
    assert "no decision on an image of the last" in status.reason
    arm.rest()


def test_terminate_moves_nothing_and_ends_the_instruction(arm):
    before = arm.arm_positions()
    arm.delta(arm.id, 0, (0.05, 0, 0), terminate=True)
    until_status(arm, lambda msg: "terminate" in msg.reason)
    arm.delta(arm.id, 1, (0.05, 0, 0))
    until_status(arm, lambda msg: msg.refused == 1)
    assert_still(arm, before)


def test_a_restarted_controller_does_not_go_on_by_itself(arm):
    assert arm.controller.end(signal.SIGKILL) == -signal.SIGKILL
    arm.kept[topics.CONTROLLER_STATUS.name].clear()
    before = arm.arm_positions()
    arm.controller = arm.restart()
    # The policy's latched status still names the instruction, and its deltas still come.
    until_status(arm, lambda msg: msg.instruction_id == arm.id)
    for step in range(100):  # the first ones may be gone before the new controller is discovered
        arm.delta(arm.id, step, (0.05, 0, 0))
        if arm.last(topics.CONTROLLER_STATUS).refused > 2:
            break
    assert arm.last(topics.CONTROLLER_STATUS).refused > 2
    assert_still(arm, before)


def lay(line, seed, *objects):
    parameters = [
        Parameter("seed", value=seed).to_parameter_msg(),
        Parameter("objects", value=list(objects)).to_parameter_msg(),
    ]
    request = SetParameters.Request(parameters=parameters)
    reply = line.call(SetParameters, "simulator_node/set_parameters", request)
    assert all(result.successful for result in reply.results)
    return line.call(Trigger, "simulator_node/reset", Trigger.Request())


def test_reset_lays_the_table_of_a_seed(line):
    first = [lay(line, 11, "banana"), lay(line, 12, ""), lay(line, 11, "banana")]
    assert all(reply.success for reply in first)
    assert first[0].message == first[2].message != first[1].message
    line.kept[topics.SCENE_STATE.name].clear()
    scene = line.more(topics.SCENE_STATE)
    assert scene.seed == 11 and scene.header.frame_id == "panda_link0"
    names = [item.name for item in scene.objects]
    assert "banana" in names and len(set(names)) == len(names) >= 3
    assert all(abs(item.pose.position.z - 0.025) < 0.005 for item in scene.objects)
    assert not any(item.grasped for item in scene.objects)


def test_reset_refuses_an_object_that_there_is_not(line):
    reply = lay(line, 11, "banananana")
    assert not reply.success and "'banananana'" in reply.message and "banana" in reply.message
    assert lay(line, 11, "").success


def trajectory(times, positions, joints=None, velocity=0.0):
    joints = joints or [f"panda_joint{i}" for i in range(1, 8)]
    msg = JointTrajectory(joint_names=joints)
    for time, q in zip(times, positions, strict=True):
        point = JointTrajectoryPoint(positions=list(map(float, q)), velocities=[velocity] * len(q))
        point.time_from_start.sec = int(time)
        point.time_from_start.nanosec = round(time % 1 * 1e9)
        msg.points.append(point)
    return msg


def test_the_simulated_controller_refuses_what_the_real_one_refuses(line):
    line.rest()
    before = line.arm_positions()
    away = before + 0.1
    bad = {
        "joints are": trajectory([0.5], [away], [f"joint{i}" for i in range(7)]),
        "expected increasing": trajectory([0.5, 0.4], [away, away]),
        "velocity at the end": trajectory([0.5], [away], velocity=0.3),
        "it ended": trajectory([0.5], [away]),
        "no points": trajectory([], []),
        "expected finite": trajectory([0.5], [away * math.nan]),
    }
    bad["it ended"].header.stamp.sec = 1
    for reason, msg in bad.items():
        line.publish(ARM, msg)
        line.until(
            lambda reason=reason: reason in line.simulator.text, f"the simulator to say {reason!r}"
        )
    line.more(topics.JOINT_STATES, 60)
    assert np.abs(line.arm_positions() - before).max() < 1e-3


def test_the_simulated_controller_follows_points_in_any_order_of_joints(line):
    line.rest()
    goal = line.arm_positions() + np.array([0.05, 0, 0, 0, 0, 0, -0.1])
    joints = [f"panda_joint{i}" for i in range(7, 0, -1)]
    line.publish(ARM, trajectory([0.4], [goal[::-1]], joints))
    line.until(lambda: np.abs(line.arm_positions() - goal).max() < 2e-3, "the joints at the goal")
