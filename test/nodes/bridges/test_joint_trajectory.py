# SPDX-License-Identifier: Apache-2.0
"""When the bridge to a trajectory controller speaks; test/system/bridges has what it says."""

from types import SimpleNamespace

import numpy as np
import pytest

from rt2_ros.control.arm import Command
from rt2_ros.control.profile import RobotProfile
from rt2_ros.control.trajectory import stop_chunk
from rt2_ros.nodes.bridges import joint_trajectory
from rt2_ros.paths import config_path

PROFILE = RobotProfile.load(config_path("robots", "panda.yaml"))


@pytest.mark.parametrize("active", [True, False])
def test_a_brake_goes_out_also_from_a_node_that_was_deactivated(monkeypatch, active):
    """It is said again there, to an arm that did not hear the first one."""
    sent = []

    def publish(topic, *, always=False):
        return SimpleNamespace(
            publish=lambda msg: sent.append(msg) if active or always else None,
            get_subscription_count=lambda: 1,
        )

    for part in ("Controllers", "make_gripper"):
        monkeypatch.setattr(joint_trajectory, part, lambda *args: None)
    node = SimpleNamespace(publish=publish, every=lambda period, callback: None)
    bridge = joint_trajectory.JointTrajectoryBridge(node, PROFILE, None)
    bridge.start()
    chunk = stop_chunk(PROFILE.home, np.full(7, 0.1), PROFILE.limits())
    bridge.send(Command(chunk=chunk, brake=True))
    assert len(sent) == 1
