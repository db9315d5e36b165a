# SPDX-License-Identifier: Apache-2.0
"""The states of the controller: above all what must not move the arm."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from rt2_ros.control.arm import ArmController
from rt2_ros.control.command import State
from rt2_ros.control.pose import Pose
from rt2_ros.control.safety import Delta

from .refusal import held


def test_a_delta_moves_the_arm_by_what_it_says(rig):
    before = rig.tip.position
    rig.move(0.03, 0.02, -0.01)
    assert rig.arm.state == State.MOVING
    rig.run(0.5)
    assert_allclose(rig.tip.position - before, [0.03, 0.02, -0.01], atol=1e-4)
    assert not rig.moving


def test_late_decisions_do_not_overshoot(rig):
    """At 5 Hz with 0.2 s of latency, each delta counts from its own image."""
    goal = rig.tip.position + [0.12, 0.08, -0.15]
    waiting, reached = [], []
    for _ in range(15):
        way = goal - rig.tip.position
        waiting.append(rig.delta(way * min(1.0, 0.05 / np.linalg.norm(way))))
        if len(waiting) > 1:
            rig.send(waiting.pop(0))
        rig.run(0.2)
        reached.append(rig.tip.position)
    assert_allclose(reached[-1], goal, atol=1e-3)
    assert (np.array(reached)[:, 2] > goal[2] - 0.002).all()
    assert rig.arm.refused == 0


def test_deltas_in_a_row_are_blended_without_stop_and_go(rig):
    rig.move(0.0, 0.06, 0.0)
    speeds = []
    for _ in range(4):
        rig.run(0.2)
        rig.move(0.0, 0.04, 0.0)
        speeds.append(np.abs(rig.velocity).max())
    assert min(speeds) > 0.05


def test_nothing_moves_while_disarmed(new_rig):
    rig = new_rig(armed=False)
    rig.instruct()
    rig.move(0.05, 0, 0)
    assert held(rig, "disarmed")
    rig.run(1.0)
    assert rig.commands == []
    assert rig.arm.state == State.DISARMED


def test_nothing_moves_because_the_arm_is_armed(new_rig):
    """An instruction given before does not count: it must be given again."""
    rig = new_rig(armed=False)
    rig.instruct()
    rig.arm.arm()
    rig.arm.on_policy_status(1, "pick up the apple")
    rig.move(0.05, 0, 0)
    assert held(rig, "instruction")
    rig.instruct(instruction_id=2)
    rig.move(0.05, 0, 0)
    assert len(rig.commands) == 1


def test_nothing_moves_because_the_controller_starts_beside_a_running_policy(new_rig):
    rig = new_rig()
    rig.arm.on_policy_status(5, "pick up the apple")
    rig.move(0.05, 0, 0)
    assert held(rig, "instruction")
    assert rig.arm.state == State.HOLDING
    rig.arm.on_policy_status(6, "pick up the pear")
    rig.move(0.05, 0, 0)
    assert rig.arm.state == State.MOVING


def test_an_old_instruction_that_is_seen_late_is_not_the_one_just_heard(new_rig):
    rig = new_rig()
    rig.apply(rig.arm.on_instruction("wave"))
    rig.apply(rig.arm.on_policy_status(3, "push the key"))  # latched, from before
    rig.move(0.03, 0, 0)
    assert held(rig, "instruction")
    rig.apply(rig.arm.on_policy_status(4, "wave"))
    assert rig.move(0.03, 0, 0) is not None


def test_two_policies_that_speak_by_turns_do_not_revive_an_old_instruction(rig):
    rig.apply(rig.arm.on_policy_status(4, "pick up the pear"))
    assert rig.move(0.02, 0, 0) is not None
    rig.run(0.5)
    for stopped in (False, True):
        if stopped:
            rig.apply(rig.arm.stop())
            rig.apply(rig.arm.on_instruction("pick up the apple"))  # as it stands stopped
            rig.arm.arm()
        else:
            rig.apply(rig.arm.on_instruction("pick up the apple"))
            rig.apply(rig.arm.on_instruction(""))  # and said no before any policy took it up
        for number, text in 2 * [(1, "pick up the apple"), (4, "pick up the pear")]:
            rig.apply(rig.arm.on_policy_status(number, text))
            rig.move(0.02, 0, 0)
            assert held(rig, "instruction")
            assert rig.arm.reason == "the instruction was given before: repeat it"
    rig.instruct()  # a person says it again
    assert rig.move(0.02, 0, 0) is not None
    rig.run(0.5)
    rig.apply(rig.arm.on_policy_status(4, "pick up the pear"))
    rig.apply(rig.arm.on_policy_status(1, "pick up the apple"))
    rig.move(0.02, 0, 0)
    assert held(rig, "instruction")


@pytest.mark.parametrize("first", ["instruction", "status"])
def test_a_policy_that_was_started_again_may_use_its_numbers_again(rig, first):
    """Whichever of a person's words and the policy's status comes first."""
    rig.move(0.02, 0, 0)
    rig.run(0.5)
    rig.apply(rig.arm.on_policy_status(0, ""))
    if first == "status":
        rig.apply(rig.arm.on_policy_status(1, "pick up the apple"))
        rig.move(0.02, 0, 0)
        assert held(rig, "instruction")
    rig.instruct()
    assert rig.move(0.02, 0, 0, step=1) is not None
    assert rig.arm.on_policy_status(1, "pick up the apple") is None
    assert rig.arm.state == State.MOVING


def test_what_a_disarmed_arm_was_told_is_not_obeyed_by_the_first_status_after_it(new_rig):
    rig = new_rig(armed=False)
    rig.apply(rig.arm.on_instruction("wave"))
    rig.arm.arm()
    rig.apply(rig.arm.on_policy_status(1, "wave"))
    rig.move(0.02, 0, 0)
    assert held(rig, "instruction")


@pytest.mark.parametrize("between", ["arm", "stop and arm", "stop", "another", "long"])
def test_what_was_taken_back_is_not_obeyed_when_a_policy_takes_it_up_late(new_rig, between):
    """A policy that stood still, or was cut off, still finds the message when it is back."""
    rig = new_rig(armed=between != "arm")
    rig.apply(rig.arm.on_policy_status(0, ""))
    rig.apply(rig.arm.on_instruction("wave"))
    if between == "stop and arm":
        rig.apply(rig.arm.stop())
    if between.endswith("arm"):
        rig.arm.arm()
    if between == "stop":
        rig.apply(rig.arm.on_instruction("stop"))
    if between == "another":
        rig.apply(rig.arm.on_instruction("push the key"))
    rig.run(30.0 if between == "long" else 1.0)
    rig.apply(rig.arm.on_policy_status(1, "wave"))
    rig.move(0.02, 0, 0)
    assert held(rig, "instruction")
    assert rig.arm.reason == "the instruction was given before: repeat it"
    rig.instruct("wave", instruction_id=2)
    assert rig.move(0.02, 0, 0) is not None


def test_what_is_said_while_nothing_may_be_obeyed_is_not_obeyed_later(new_rig):
    rig = new_rig()
    rig.apply(rig.arm.on_policy_status(0, ""))
    rig.arm.overhear("wave")
    rig.apply(rig.arm.on_policy_status(1, "wave"))
    rig.move(0.02, 0, 0)
    assert held(rig, "instruction")


def test_an_arm_that_nobody_measures_any_more_says_so(rig):
    rig.run(0.2, joint_states=False)
    assert rig.arm.joint_states.ended == ""
    rig.run(0.2, joint_states=False)
    assert rig.arm.joint_states.ended == "no joint states for more than 0.3 s"
    rig.run(0.1)
    assert rig.arm.joint_states.ended == ""


def test_an_idle_policy_seen_first_makes_the_next_instruction_a_new_one(new_rig):
    rig = new_rig()
    rig.arm.on_policy_status(0, "")
    rig.arm.on_policy_status(1, "pick up the apple")
    assert rig.move(0.05, 0, 0) is not None


def test_nothing_moves_without_an_instruction(new_rig):
    rig = new_rig()
    rig.move(0.05, 0, 0)
    assert held(rig, "instruction")
    assert rig.arm.state == State.ARMED


def test_stop_brakes_at_once_and_latches(rig):
    rig.move(0.08, 0, 0)
    rig.run(0.15)
    assert rig.moving
    command = rig.apply(rig.arm.stop())
    assert command.chunk.duration <= 0.2
    rig.run(0.2)
    assert not rig.moving
    sent = len(rig.commands)
    rig.move(0.05, 0, 0)
    assert held(rig, "stopped")
    rig.instruct("pick up the pear", 2)
    rig.move(0.05, 0, 0)
    assert held(rig, "stopped")
    rig.arm.arm()
    rig.move(0.05, 0, 0)
    assert held(rig, "instruction")
    assert len(rig.commands) == sent
    rig.instruct("pick up the pear", 3)
    rig.move(0.05, 0, 0)
    assert rig.arm.state == State.MOVING


def test_disarm_brakes(rig):
    rig.move(0.08, 0, 0)
    rig.run(0.15)
    rig.apply(rig.arm.disarm())
    rig.run(0.2)
    assert not rig.moving
    assert rig.arm.state == State.DISARMED


def test_stop_at_rest_sends_nothing(rig):
    assert rig.arm.stop() is None
    assert rig.arm.state == State.STOPPED


@pytest.mark.parametrize("words", ["  ", "Stop!", "停下"])
def test_an_empty_instruction_stops_and_its_deltas_are_dead(rig, words):
    rig.move(0.08, 0, 0)
    rig.run(0.15)
    rig.apply(rig.arm.on_instruction(words))
    rig.run(0.2)
    assert not rig.moving
    assert rig.arm.state == State.ARMED
    rig.arm.on_policy_status(1, "pick up the apple")  # the policy has not noticed yet
    rig.move(0.05, 0, 0)
    assert held(rig, "instruction")
    rig.arm.on_policy_status(0, "")
    rig.instruct(instruction_id=2)
    assert rig.move(0.05, 0, 0) is not None


def test_a_new_instruction_drops_what_is_under_way(rig):
    rig.move(0.08, 0, 0)
    rig.run(0.15)
    old = rig.delta((0.05, 0, 0))
    rig.instruct("pick up the pear", 2)
    rig.run(0.2)
    assert not rig.moving
    rig.send(old)
    assert held(rig, "instruction")
    assert rig.arm.state == State.HOLDING
    assert rig.move(0.02, 0, 0, step=1) is not None  # steps count anew


def test_terminate_holds_until_the_next_instruction(rig):
    rig.move(0.08, 0, 0)
    rig.run(0.15)
    rig.move(0.05, 0, 0, terminate=True)
    rig.run(0.2)
    assert not rig.moving
    rig.move(0.05, 0, 0)
    assert held(rig, "instruction")
    assert (rig.arm.state, rig.arm.reason) == (State.HOLDING, "done: the policy says terminate")


DONE = (State.HOLDING, "done: the policy says terminate")


@pytest.mark.parametrize("obstacle", ["gripper", "rate", "bridge", "joint states"])
def test_a_terminate_is_heard_whatever_keeps_the_arm_from_moving(rig, obstacle):
    """It comes once, and moves nothing; lost, a finished task would end as a call for help."""
    if obstacle == "gripper":
        rig.move(0, 0, 0, gripper=1.0)
        rig.run(0.1)
    else:
        rig.move(0.03, 0, 0)
        rig.run(0.8 if obstacle == "joint states" else 0.0, joint_states=False)
    rig.arm.blocked = "controllers are missing" if obstacle == "bridge" else ""
    rig.move(0.03, 0, 0)
    assert held(rig, obstacle)
    sent = len(rig.commands)
    command = rig.move(0.03, 0, 0, terminate=True)
    assert rig.arm.verdict.accepted and (command is None or command.brake)
    assert rig.arm.rate() == 0.0  # as many are too few to tell
    assert (rig.arm.state, rig.arm.reason) == DONE
    rig.run(3.0)
    assert (rig.arm.state, rig.arm.reason) == DONE and len(rig.commands) <= sent + 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, "stale"),
        ({"stamp_ns": 10**15}, "stamp"),
        ({"frame_id": "camera"}, "frame"),
        ({"instruction_id": 7}, "instruction"),
        ({"step": 0}, "step"),
        ({"translation": (np.nan, 0.0, 0.0)}, "not finite"),
    ],
)
def test_a_terminate_that_is_no_good_ends_nothing(rig, changes, code):
    rig.move(0.03, 0, 0)
    rig.arm.busy = "carrying out a plan"
    delta = rig.delta(**{"terminate": True, **changes})
    rig.run(0.9 if code == "stale" else 0.0)
    rig.send(delta)
    assert held(rig, code)
    assert rig.arm.state == State.MOVING
    rig.arm.busy = ""
    rig.run(0.1)
    assert rig.move(0.03, 0, 0) is not None


def test_a_terminate_before_any_joint_state_is_refused(profile, kinematics):
    arm = ArmController(profile, kinematics, None, clock=lambda: 100.0, armed=True)
    arm.on_instruction("pick up the apple")
    arm.on_policy_status(1, "pick up the apple")
    frame, still = profile.base_frame, (0.0, 0.0, 0.0)
    assert arm.on_delta(Delta(10**9, frame, 1, 0, still, still, 0.0, terminate=True), 10**9) is None
    assert (arm.verdict.accepted, arm.verdict.code) == (False, "joint states")


def test_a_terminate_does_not_cut_what_the_bridge_carries_out(rig):
    rig.move(0.03, 0, 0)
    rig.arm.busy = "carrying out a plan"
    assert rig.move(0, 0, 0, terminate=True) is None
    rig.run(3.0)
    assert (rig.arm.state, rig.arm.reason) == (State.MOVING, DONE[1])
    rig.move(0.03, 0, 0)
    assert held(rig, "instruction")
    rig.arm.busy = ""
    rig.run(0.05)
    assert (rig.arm.state, rig.arm.reason) == DONE
    assert len(rig.commands) == 1


def test_replayed_and_old_steps_are_refused(rig):
    delta = rig.delta((0.02, 0, 0))
    rig.send(delta)
    rig.run(0.1)
    rig.send(delta)
    assert held(rig, "step")
    rig.move(0.02, 0, 0, step=0)
    assert held(rig, "step")


def test_stale_future_and_unstamped_deltas_are_refused(rig):
    rig.run(1.0)
    rig.move(0.02, 0, 0, stamp_ns=rig.now_ns - 900_000_000)
    assert held(rig, "stale")
    rig.move(0.02, 0, 0, stamp_ns=rig.now_ns + 1_000)
    assert held(rig, "stamp")
    rig.move(0.02, 0, 0, stamp_ns=0)
    assert held(rig, "stamp")
    assert rig.commands == []
    assert rig.arm.refused == 3
    rig.move(0.02, 0, 0)
    rig.run(0.2)
    rig.move(0.02, 0, 0, stamp_ns=-1)
    assert held(rig, "stamp")


def test_a_flood_is_cut_to_the_control_rate(rig):
    for _ in range(1000):
        rig.move(0.001, 0, 0)
    assert len(rig.commands) == 1
    assert rig.arm.refusals["rate"] == 999


def test_arming_an_arm_that_is_armed_changes_nothing(rig):
    rig.move(0.03, 0, 0)
    rig.arm.arm()
    rig.arm.resume()
    assert (rig.arm.state, rig.arm.reason) == (State.MOVING, "moving")


def test_what_was_changed_is_counted(rig):
    rig.move(0.3, 0, 0)
    rig.run(0.5)
    rig.move(0.3, 0, 0, rotation=(0, 0, 2.0))
    assert rig.arm.changes == {"translation": 2, "rotation": 1}


@pytest.mark.parametrize(
    ("changes", "altered", "limited"),
    [
        ({"translation": (0.0, -0.07, -0.06)}, {"workspace": 2}, 1),  # two sides of it, one delta
        ({"translation": (0.05, 0.0, 0.0), "gripper": 1.0}, {"motion": 1}, 0),
        ({"translation": (0.08, 0.0, 0.08)}, {"translation": 1}, 0),
        ({"translation": (0.03, 0.0, 0.0)}, {}, 0),
        ({"frame_id": "camera"}, {}, 1),
        ({"stamp_ns": 1}, {}, 1),
    ],
)
def test_deltas_that_ran_into_a_limit_are_counted(
    new_rig, kinematics, start, changes, altered, limited
):
    """What any good episode has does not count."""
    corner = Pose(np.array([0.5, -0.3, 0.05]), np.diag([1.0, -1.0, -1.0]))
    rig = new_rig(q=kinematics.inverse(corner, seed=start))
    rig.instruct()
    rig.send(rig.delta(**changes))
    assert (rig.arm.changes, rig.arm.limited) == (altered, limited)


def test_the_gripper_closes_before_the_arm_goes_on(rig):
    rig.move(0.06, 0, 0)
    rig.run(0.2)
    command = rig.move(0.05, 0, 0, gripper=1.0)
    assert command.gripper == 0.0
    assert (command.chunk.velocities[-1] == 0).all()
    assert command.chunk.duration <= 0.2
    rig.run(0.2)
    assert not rig.moving
    rig.move(0.0, 0, 0.05, gripper=1.0)
    assert held(rig, "gripper")
    rig.run(0.2)
    command = rig.move(0.0, 0, 0.05, gripper=1.0)
    assert command.gripper is None
    rig.run(0.4)
    assert rig.tip.position[2] == pytest.approx(0.30, abs=1e-3)


def test_the_gripper_command_is_kept_and_not_read_back(rig):
    """Around an object the fingers stand half open: that is not a reason to send them again."""
    rig.move(0, 0, 0, gripper=1.0)
    rig.finger = 0.025
    rig.run(0.5)
    assert rig.arm.gripper_closedness == pytest.approx(0.375)
    assert rig.move(0, 0, 0.05, gripper=1.0).gripper is None


def test_a_new_instruction_tells_the_fingers_anew(rig):
    """Somebody has opened the hand, or laid the table anew, since it was told to close."""
    rig.move(0, 0, 0, gripper=1.0)
    rig.run(0.5)
    assert rig.move(0, 0, 0, gripper=1.0).gripper is None
    rig.finger = 0.04
    rig.run(0.5)
    rig.instruct("pick up the apple", 2)
    assert rig.move(0, 0, 0, gripper=1.0).gripper == 0.0


def test_who_says_what_the_fingers_have_does_not_loosen_them(rig):
    """A policy that only stays says what it measures: around an object that is less than was told,
    and a hand that goes there lets go.
    """
    rig.move(0, 0, 0, gripper=1.0)
    rig.finger = 0.025
    rig.run(0.5)
    assert rig.move(0, 0, 0.05, gripper=rig.arm.gripper_closedness).gripper is None
    rig.run(0.5)
    assert rig.move(0, 0, 0, gripper=0.0).gripper is not None
    rig.finger = 0.03  # slow to open: where it is then is to be held again
    rig.run(0.5)
    assert rig.move(0, 0, 0, gripper=rig.arm.gripper_closedness).gripper is not None


@pytest.mark.parametrize("anew", [False, True])
def test_a_hand_on_something_wide_opens_when_it_is_told_to(rig, anew):
    rig.move(0, 0, 0, gripper=1.0)
    rig.finger = 0.0375  # 75 mm wide: nearly open as it is
    rig.run(0.5)
    if anew:
        rig.instruct("put it down", 2)
    assert rig.move(0, 0, 0.03, gripper=0.0).gripper == rig.profile.gripper_open
    rig.run(0.5)
    assert rig.move(0, 0, 0.03, gripper=0.0).gripper is None


def test_an_arm_off_its_trajectory_goes_on_from_where_it_is(rig):
    rig.move(0.02, 0, 0)
    rig.run(0.5)
    pushed = rig.q + 0.15
    rig.chunk, rig.q = None, pushed
    rig.run(0.25)
    command = rig.move(0, 0, 0.01)
    assert_allclose(command.chunk.positions[0], pushed)


def test_status_figures(rig):
    for _ in range(10):
        rig.move(0.01, 0, 0)
        rig.run(0.2)
    assert (rig.arm.accepted, rig.arm.refused) == (10, 0)
    assert rig.arm.rate() == pytest.approx(5.0)
    assert rig.arm.instruction_id == 1
    rig.run(3.0)
    assert rig.arm.rate() == 0.0


def test_what_the_bridge_says_is_heeded(rig):
    rig.move(0.08, 0, 0)
    rig.run(0.1)
    rig.arm.blocked = "Servo halted for a collision"
    rig.run(0.02)
    assert (rig.arm.state, rig.arm.reason) == (State.HOLDING, "Servo halted for a collision")
    assert rig.commands[-1][3].brake
    rig.move(0.05, 0, 0)
    assert held(rig, "bridge")
    rig.arm.blocked, rig.arm.busy = "", "carrying out a plan"
    rig.move(0.05, 0, 0)
    assert held(rig, "bridge")
    rig.arm.busy = ""
    assert rig.move(0.05, 0, 0) is not None
    rig.arm.busy = "carrying out a plan"
    rig.run(3.0)
    assert rig.arm.state == State.MOVING  # a plan outlives the decision that asked for it
