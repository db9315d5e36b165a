# SPDX-License-Identifier: Apache-2.0
"""The simulator node where its physics fails; test/system has it at work."""

import time

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")

from rt2_ros.nodes.base import SUCCESS  # noqa: E402
from rt2_ros.nodes.simulator_node import SimulatorNode  # noqa: E402


def test_a_table_whose_physics_became_unstable_is_laid_anew(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a file where it stands
    rclpy.init()
    node = SimulatorNode()
    try:
        assert node.trigger_configure() == SUCCESS
        world = node._table.world
        laid = node._loop.call(world.joint_positions)
        node._loop.call(lambda: world.data.qvel.__setitem__(0, 1e12))
        assert node.trigger_activate() == SUCCESS
        end = time.monotonic() + 10.0
        while "physics became unstable" not in capfd.readouterr().err:
            assert time.monotonic() < end
            time.sleep(0.05)
        np.testing.assert_allclose(node._loop.call(world.joint_positions), laid, atol=0.02)
    finally:
        node.destroy_node()
        rclpy.shutdown()
