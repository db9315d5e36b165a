# SPDX-License-Identifier: Apache-2.0
"""The bridge to trajectory controllers: what it sends, and the way home."""

import signal

import numpy as np
import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.time import Time
from std_srvs.srv import SetBool, Trigger

ARM_JOINTS = tuple(f"panda_joint{i}" for i in range(1, 8))
STEP = np.array([0.0, 0.05, -0.04])


@pytest.fixture(scope="module")
def graph(bench):
    """One controller for all."""
    bench.begin("joint_trajectory")
    yield bench
    bench.end()


@pytest.fixture
def arm(graph):
    """The arm at rest at home, armed and with a new instruction."""
    graph.until_free()
    graph.rest()
    graph.arm.place(graph.arm.profile.home)
    graph.instruct()
    return graph.arm


def home(bench):
    return bench.probe.call(Trigger, "controller_node/home", Trigger.Request())


def test_a_delta_becomes_a_trajectory_from_now_to_rest(bench, arm):
    start = bench.until_taken(STEP)
    end = bench.rest()
    assert np.abs(end - (start + STEP)).max() < 1e-3
    (msg,) = arm.received
    assert Time.from_msg(msg.header.stamp).nanoseconds == 0 and arm.refused == []
    assert tuple(msg.joint_names) == ARM_JOINTS and len(msg.points) > 1
    assert np.any(msg.points[0].velocities) and not np.any(msg.points[-1].velocities)


def test_home_needs_an_armed_arm_and_is_slow(bench, arm):
    bench.probe.call(SetBool, "controller_node/arm", SetBool.Request(data=False))
    arm.place(np.array(arm.profile.home) + 0.15)
    bench.rest()
    reply = home(bench)
    assert not reply.success and reply.message == "the arm is disarmed: call ~/arm first"
    bench.assert_still()
    bench.probe.call(SetBool, "controller_node/arm", SetBool.Request(data=True))
    reply = home(bench)
    assert reply.success, reply.message
    bench.until(lambda msg: msg.reason == "at home", "the arm to be home")
    assert np.abs(bench.rest() - arm.kinematics.forward(arm.profile.home).position).max() < 1e-3
    points = [point for msg in arm.received for point in msg.points]
    assert 0 < max(np.abs(point.velocities).max() for point in points) <= 0.2 * 2.2 + 1e-6
    for msg in arm.received:  # each ends at rest, within a second
        assert not np.any(msg.points[-1].velocities) and msg.points[-1].time_from_start.sec == 0
    again = home(bench)
    assert again.success and again.message == "moving home"  # it is there before a status is seen
    bench.until_new(lambda msg: msg.reason == "at home", "the arm to be home again")


def test_home_can_be_stopped(bench, arm):
    arm.place(np.array(arm.profile.home) + 0.3)
    bench.rest()
    assert home(bench).success
    bench.until_moving()
    bench.probe.call(Trigger, "controller_node/stop", Trigger.Request())
    stopped = arm.tip()
    assert np.linalg.norm(bench.rest() - stopped) < 0.01
    assert np.abs(arm.q - arm.profile.home).max() > 0.1


def test_a_controller_that_is_killed_on_the_way_home_leaves_an_arm_at_rest(bench, arm):
    arm.place(np.array(arm.profile.home) + 0.5)
    bench.rest()
    assert home(bench).success
    bench.until_moving()
    assert bench.controller.end(signal.SIGKILL) == -signal.SIGKILL
    bench.rest()
    assert np.abs(arm.q - arm.profile.home).max() > 0.1
    bench.restart("joint_trajectory", bench._profile_file())
    bench.assert_still()


@pytest.mark.parametrize(("name", "value"), [("bridge", "dry_run"), ("robot", "panda")])
def test_bridge_and_robot_are_fixed_while_active(bench, arm, name, value):
    request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
    reply = bench.probe.call(SetParameters, "controller_node/set_parameters", request)
    assert [result.reason for result in reply.results] == [
        f"{name}: fixed while the node is configured; clean it up first"
    ]
    assert not reply.results[0].successful
