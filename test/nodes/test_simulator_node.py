# SPDX-License-Identifier: Apache-2.0
"""The simulator node where something fails; test/system has it at work."""

import time
from pathlib import Path

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")

from rclpy.context import Context  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint  # noqa: E402

from rt2_ros.nodes.base import SUCCESS  # noqa: E402
from rt2_ros.nodes.simulator_node import SimulatorNode  # noqa: E402
from rt2_ros.sim.robot import SimulatedRobot  # noqa: E402
from rt2_ros.sim.world import Unstable  # noqa: E402


@pytest.fixture
def node(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a file where it stands
    context = Context()
    rclpy.init(context=context, args=[])
    node = SimulatorNode(context=context)
    try:
        assert node.trigger_configure() == SUCCESS
        yield node
    finally:
        node.destroy_node()
        context.try_shutdown()
        context.destroy()  # graphs of later tests would see the node


def test_a_table_whose_physics_became_unstable_is_laid_anew(node, capfd):
    world = node._table.world
    laid, count = node._loop.call(world.joint_positions), node._laid
    node._loop.call(lambda: world.data.qvel.__setitem__(0, 1e12))
    assert node.trigger_activate() == SUCCESS
    end = time.monotonic() + 10.0
    while "physics became unstable" not in capfd.readouterr().err:
        assert time.monotonic() < end
        time.sleep(0.05)
    np.testing.assert_allclose(node._loop.call(world.joint_positions), laid, atol=0.02)
    assert node._laid == count + 1  # so that who plays there hears of it


def reset(node):
    return node._reset(Trigger.Request(), Trigger.Response())


@pytest.mark.parametrize("kind", [PermissionError, Unstable])
def test_a_reset_that_fails_is_answered(node, monkeypatch, kind):
    def fail(*_, **options):
        raise kind("it fell over")  # a new one: it holds the node, which must not outlive the test

    if kind is Unstable:
        monkeypatch.setattr(node._table, "reset", fail)
    else:
        monkeypatch.setattr(Path, "read_text", fail)
        node.set_parameters([Parameter("scenario", value="seen:anything")])
    reply = reset(node)
    assert not reply.success and reply.message == "table not laid: it fell over"
    monkeypatch.undo()
    node.set_parameters([Parameter("scenario", value="")])
    assert reset(node).success


@pytest.mark.parametrize("sec", [-1, -(2**31)])
def test_a_trajectory_stamped_below_zero_is_refused(node, sec):
    assert node.trigger_activate() == SUCCESS
    joint = node._profile.gripper_joint
    point = JointTrajectoryPoint(positions=[0.02], velocities=[0.0])
    point.time_from_start.sec = 1
    msg = JointTrajectory(joint_names=[joint], points=[point])
    msg.header.stamp.sec = sec
    node._receive("gripper", (joint,), SimulatedRobot.follow_gripper, msg)
    assert node._refused == 1
