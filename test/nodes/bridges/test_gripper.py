# SPDX-License-Identifier: Apache-2.0
"""What becomes of a goal for the gripper whose server answers when nobody waits any longer."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from rclpy.task import Future

from rt2_ros.control.profile import RobotProfile
from rt2_ros.nodes.bridges import gripper
from rt2_ros.paths import config_path

PROFILE = replace(
    RobotProfile.load(config_path("robots", "panda.yaml")),
    gripper_command="gripper_command", gripper_action="gripper_cmd",
)  # fmt: skip


class Server:
    """A client of an action; the test answers."""

    def __init__(self, *args):
        self.sent, self.cancels = [], 0

    def send_goal_async(self, goal):
        self.sent.append(Future())
        return self.sent[-1]

    def server_is_ready(self):
        return True

    def destroy(self):
        pass

    def cancel(self):
        self.cancels += 1


@pytest.fixture
def rig(monkeypatch):
    rig = SimpleNamespace(now=10.0, refused=[], timers=[])
    goal = SimpleNamespace(Goal=lambda: SimpleNamespace(command=SimpleNamespace()))
    actions = SimpleNamespace(GripperCommand=goal, ParallelGripperCommand=goal)
    monkeypatch.setattr(gripper, "interfaces", lambda package, kind: actions)
    monkeypatch.setattr(gripper, "ActionClient", Server)
    monkeypatch.setattr(gripper, "time", SimpleNamespace(monotonic=lambda: rig.now))
    node = SimpleNamespace(
        resolve_service_name=lambda name: name, at_teardown=lambda callback: None,
        every=lambda period, callback: rig.timers.append(callback),
    )  # fmt: skip
    rig.gripper = gripper.make_gripper(node, PROFILE, rig.refused.append)
    rig.server = rig.gripper._client
    return rig


def accepted(server):
    return SimpleNamespace(
        accepted=True, cancel_goal_async=server.cancel, get_result_async=lambda: Future()
    )


@pytest.mark.parametrize("late", [False, True])
def test_a_goal_that_was_given_up_is_taken_back_when_its_server_accepts_it(rig, late):
    rig.gripper.send(0.0)
    if late:
        rig.now += gripper.PATIENCE + 0.1
        rig.timers[0]()
        assert "has said nothing for 5 s" in rig.refused[0]
    rig.gripper._answered(1, accepted(rig.server))
    assert rig.server.cancels == int(late)


def test_a_goal_whose_place_another_has_taken_is_left_to_the_server(rig):
    rig.gripper.send(0.0)
    rig.gripper.send(0.04)
    rig.gripper._answered(1, accepted(rig.server))
    assert rig.server.cancels == 0 and not rig.refused
