# SPDX-License-Identifier: Apache-2.0
"""What a bridge asks of others: controller_manager and the gripper; and the dry run, which asks
nothing of anybody.
"""

import re

import numpy as np
import pytest
from std_srvs.srv import Trigger

from rt2_ros.msg import ControllerStatus

ARM_JOINTS = tuple(f"panda_joint{i}" for i in range(1, 8))
FINGER = ("panda_finger_joint1",)
STEP = np.array([0.0, 0.05, -0.04])


@pytest.fixture
def begin(bench):
    def begin(bridge="joint_trajectory", **options):
        made = bench.begin(bridge, **options)
        return made[0] if made else None

    yield begin
    bench.end()


def controllers(arm=("active", ARM_JOINTS), gripper=("active", FINGER), **others):
    return {"panda_arm_controller": arm, "panda_gripper_controller": gripper} | others


def with_manager(bench, states, **options):
    return [(lambda peers, arm: bench.kinds.ControllerManager(peers, states, **options),)]


def test_what_is_inactive_is_activated_once_and_strictly(bench, begin):
    states = controllers(arm=("inactive", ARM_JOINTS))
    manager = begin(peers=with_manager(bench, states))
    bench.probe.until(lambda: manager.switches, "the controller to be activated")
    (switch,) = manager.switches
    assert switch.activate_controllers == ["panda_arm_controller"]
    assert switch.deactivate_controllers == [] and switch.strictness == switch.STRICT
    bench.until_free()
    states["panda_arm_controller"] = ("inactive", ARM_JOINTS)  # a person takes it away
    bench.until_reason("controller panda_arm_controller is inactive")
    bench.instruct()
    bench.until_refused(STEP)
    bench.assert_still()
    assert bench.arm.received == [] and len(manager.switches) == 1


@pytest.mark.parametrize(
    ("states", "reason"),
    [
        (
            {"panda_gripper_controller": ("active", FINGER), "other": ("active", ARM_JOINTS)},
            "controller panda_arm_controller is not loaded; there are: panda_gripper_controller "
            "active, other active",
        ),
        (
            controllers(arm=("active", ARM_JOINTS[:6])),
            "controller panda_arm_controller commands panda_joint1, panda_joint2, panda_joint3, "
            f"panda_joint4, panda_joint5, panda_joint6; expected {', '.join(ARM_JOINTS)}",
        ),
    ],
    ids=["missing", "other joints"],
)
def test_controllers_that_do_not_fit_are_named_and_nothing_moves(bench, begin, states, reason):
    manager = begin(peers=with_manager(bench, states))
    bench.until_reason(reason)
    reply = bench.probe.call(Trigger, "controller_node/home", Trigger.Request())
    assert not reply.success and reason in reply.message
    bench.instruct()
    bench.until_refused(STEP)
    bench.assert_still()
    assert bench.arm.received == [] and manager.switches == []


def test_answers_that_are_lost_are_asked_for_again_and_nothing_moves_meanwhile(bench, begin):
    manager = begin(peers=with_manager(bench, controllers(), silent=True))
    silence = "/controller_manager/list_controllers does not answer"
    bench.until_reason(silence)
    bench.instruct()
    assert silence in bench.until_refused(STEP).reason
    manager.silent = False
    bench.until_free()
    bench.instruct()
    bench.until_taken(STEP)
    bench.rest()
    manager.silent = True
    bench.until_reason(silence)
    assert len(manager.held) > 1
    manager.held[0]()  # too late: what it says may be so no longer
    manager.states["panda_arm_controller"] = ("inactive", ARM_JOINTS)
    bench.arm.received.clear()
    bench.until_refused(STEP)
    manager.silent = False
    bench.until_reason("controller panda_arm_controller is inactive")
    bench.assert_still()
    assert bench.arm.received == [] and manager.switches == []


def gripper_peer(bench, name):
    from control_msgs import action

    return [(bench.kinds.Gripper, getattr(action, name))]


ACTIONS = {"gripper_command": "GripperCommand", "parallel_gripper": "ParallelGripperCommand"}


@pytest.mark.parametrize("command", ACTIONS)
def test_the_gripper_closes_by_an_action_and_may_stall_on_what_it_holds(bench, begin, command):
    keys = {"gripper_command": command, "gripper_action": "gripper_cmd"}
    gripper = begin(peers=gripper_peer(bench, ACTIONS[command]), **keys)
    bench.until_free()
    bench.instruct()
    gripper.outcome = "stalled"
    bench.until_taken(gripper=1.0)
    bench.probe.until(lambda: gripper.goals, "the gripper's goal")
    sent = gripper.goals[0].command
    if command == "gripper_command":
        assert (sent.position, sent.max_effort) == (0.0, 20.0)
    else:
        assert (sent.name, list(sent.position)) == (list(FINGER), [0.0])
        assert list(sent.effort) == [20.0]
    bench.until_figure("gripper goal", "stalled: it holds something")
    start = bench.arm.tip()
    bench.until_taken(STEP, gripper=1.0)
    assert np.abs(bench.rest() - (start + STEP)).max() < 1e-3
    assert len(gripper.goals) == 1


def asked_to_close(bench, begin, outcome):
    """A gripper of which that becomes when it is told to close."""
    keys = {"gripper_command": "gripper_command", "gripper_action": "gripper_cmd"}
    gripper = begin(peers=gripper_peer(bench, "GripperCommand"), **keys)
    bench.until_free()
    bench.instruct()
    gripper.outcome = outcome
    bench.until_taken(gripper=1.0)
    return gripper


def test_a_gripper_that_refuses_is_a_hold_and_is_asked_again(bench, begin):
    gripper = asked_to_close(bench, begin, "rejected")
    status = bench.until(lambda msg: "refused the gripper's goal" in msg.reason, "the refusal")
    assert status.state == ControllerStatus.HOLDING
    gripper.outcome = "reached"
    bench.until_taken(gripper=1.0)
    bench.probe.until(lambda: len(gripper.goals) == 2, "the goal again")
    bench.peers.remove(gripper)
    bench.until_reason(f"no gripper action server /{bench.probe.namespace}/panda_gripper_")


def test_a_gripper_that_says_nothing_is_a_hold_and_is_asked_again(bench, begin):
    gripper = asked_to_close(bench, begin, "lost")
    bench.until_figure("gripper goal", "no answer")
    gripper.outcome = "reached"
    bench.instruct()  # nothing was decided meanwhile, so the arm has asked for help
    bench.until_taken(gripper=1.0)
    bench.until_figure("gripper goal", "reached")


def test_a_dry_run_says_what_it_would_do_and_does_nothing(bench, begin):
    begin("dry_run")
    bench.instruct()
    bench.until_taken(STEP)
    bench.until_reason("dry run: ")
    bench.probe.until(
        lambda: "dry run: the tip would go to (" in bench.controller.text, "the log to say it"
    )
    assert re.search(r"the joints to( -?\d\.\d{3}){7}", bench.controller.text)
    bench.assert_still()
    bench.until_taken(gripper=1.0)
    bench.probe.until(lambda: "the gripper would go to 0" in bench.controller.text, "the log")
    assert bench.arm.received == [] and bench.arm.gripper == bench.arm.profile.gripper_open
    assert (
        bench.arm.count_publishers(
            bench.arm.resolve_topic_name("panda_arm_controller/joint_trajectory")
        )
        == 0
    )
