# SPDX-License-Identifier: Apache-2.0
"""When the bridge to a trajectory controller speaks; test/system/bridges has what it says."""

from types import SimpleNamespace

import numpy as np
import pytest

from rt2_ros.control.command import Command
from rt2_ros.control.profile import RobotProfile
from rt2_ros.control.trajectory import stop_chunk
from rt2_ros.nodes.bridges import joint_trajectory
from rt2_ros.paths import config_path

PROFILE = RobotProfile.load(config_path("robots", "panda.yaml"))


class Rig:
    """The bridge and what it sends; `writers` publish to the arm's controller."""

    def __init__(self, monkeypatch):
        self.sent, self.active, self.writers = [], True, 1
        quiet = SimpleNamespace(problem=lambda: "")
        for part in ("Controllers", "make_gripper"):
            monkeypatch.setattr(joint_trajectory, part, lambda *args: quiet)
        node = SimpleNamespace(
            publish=self._publish,
            every=lambda period, callback: setattr(self, "look", callback),
            resolve_topic_name=lambda name: f"/{name}",
            count_publishers=lambda name: self.writers,
        )
        self.bridge = joint_trajectory.JointTrajectoryBridge(node, PROFILE, None)
        self.bridge.start()

    def _publish(self, topic, *, always=False):
        return SimpleNamespace(
            publish=lambda msg: self.sent.append(msg) if self.active or always else None,
            get_subscription_count=lambda: 1,
        )


@pytest.mark.parametrize("active", [True, False])
def test_a_brake_goes_out_also_from_a_node_that_was_deactivated(monkeypatch, active):
    """It is said again there, to an arm that did not hear the first one."""
    rig = Rig(monkeypatch)
    rig.active = active
    chunk = stop_chunk(PROFILE.home, np.full(7, 0.1), PROFILE.limits())
    rig.bridge.send(Command(chunk=chunk, brake=True))
    assert len(rig.sent) == 1


def test_nothing_may_move_while_somebody_else_commands_the_arm_as_well(monkeypatch):
    rig = Rig(monkeypatch)
    assert rig.bridge.problem() == ""
    rig.writers = 2
    rig.look()
    assert rig.bridge.problem() == (
        "/panda_arm_controller/joint_trajectory has 2 publishers: end what else commands the arm"
    )
    rig.writers = 1
    rig.look()
    assert rig.bridge.problem() == ""
