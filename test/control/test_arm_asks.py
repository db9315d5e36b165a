# SPDX-License-Identifier: Apache-2.0
"""When the controller holds and asks a person, and what makes it go on."""

import dataclasses

import numpy as np
import pytest

from rt2_ros.bench.rig import Rig
from rt2_ros.control.arm import NEEDS_HELP
from rt2_ros.control.command import State

from .refusal import held


def asks(rig, reason):
    """Fail unless the arm holds, asks for help and does nothing whatever comes."""
    assert (rig.arm.state, rig.arm.needs_help) == (State.HOLDING, True)
    assert rig.arm.reason.startswith(NEEDS_HELP + reason)
    rig.run(0.3)
    assert not rig.moving
    sent, said = len(rig.commands), rig.arm.reason
    rig.move(0.05, 0, 0)
    assert held(rig, "help")
    assert (len(rig.commands), rig.arm.reason) == (sent, said)
    return True


@pytest.fixture
def careful(profile, kinematics, collisions, start):
    """Return an armed arm with an instruction, 1, that wants to be sure."""
    mine = dataclasses.replace(profile, min_confidence=0.5, no_progress_time=2.0)
    rig = Rig(mine, kinematics, collisions, q=start)
    rig.instruct()
    return rig


@pytest.mark.parametrize("confidence", [0.49, 0.0, np.nan])
def test_an_unsure_decision_brakes_and_asks_a_person(careful, confidence):
    careful.move(0.08, 0, 0, confidence=0.5)
    careful.run(0.15)
    command = careful.move(0.08, 0, 0, confidence=confidence)
    assert command.brake
    assert held(careful, "confidence")
    assert asks(careful, f"confidence {confidence:.2f}, at least 0.5 wanted")


def test_an_unsure_terminate_or_grasp_is_not_done_either(careful):
    assert careful.move(0, 0, 0, confidence=0.1, gripper=1.0) is None
    assert asks(careful, "confidence 0.10")
    careful.instruct(instruction_id=2)
    careful.move(0, 0, 0, confidence=0.1, terminate=True)
    assert asks(careful, "confidence 0.10")


def test_a_person_may_say_go_on_for_a_while(careful):
    careful.move(0.03, 0, 0, confidence=0.1)
    careful.run(0.5)
    careful.arm.arm()
    assert careful.arm.reason == "resumed: waiting for the next decision"
    careful.run(0.5)
    assert careful.commands == []  # that alone moves nothing
    assert careful.move(0.03, 0, 0, confidence=0.1) is not None
    careful.run(1.6)
    careful.move(0.03, 0, 0, confidence=0.1)
    assert asks(careful, "confidence 0.10")


def test_a_task_that_is_done_while_a_person_is_asked_is_done(careful):
    """Terminate comes once; lost, the person would arm, and arm again, for no decision comes."""
    careful.move(0.03, 0, 0, confidence=0.1)
    assert careful.arm.needs_help
    careful.move(0, 0, 0, confidence=0.9, terminate=True)
    assert careful.arm.verdict.accepted and not careful.arm.needs_help
    assert careful.arm.reason == "done: the policy says terminate"
    careful.arm.arm()
    careful.run(3.0)
    assert not careful.arm.needs_help and careful.commands == []
    careful.move(0.03, 0, 0)
    assert held(careful, "instruction")


def test_a_new_instruction_answers_as_well(careful):
    careful.move(0.03, 0, 0, confidence=0.1)
    careful.instruct("pick up the pear", 2)
    assert not careful.arm.needs_help
    careful.move(0.03, 0, 0, confidence=0.1)  # it is trusted no more for that
    assert asks(careful, "confidence 0.10")


@pytest.mark.parametrize("way", [(0.0, 0.0, 0.0), (0.0, 0.005, 0.0), (0.0, 0.06, 0.0)])
def test_without_progress_a_person_is_asked(careful, way):
    """Standing, trembling, or going to and fro: all the same."""
    signs = 0
    for _ in range(14):
        careful.move(*(np.array(way) * (1 if signs % 2 else -1)))
        signs += 1
        careful.run(0.25)
        if careful.arm.needs_help:
            break
    assert 8 <= signs <= 12
    assert asks(careful, "no progress for 2 s")
    careful.arm.arm()
    assert careful.move(0.0, 0.03, 0.0) is not None


def test_progress_is_what_gets_somewhere_or_moves_the_gripper(careful):
    for step in range(24):
        careful.move(0.0, 0.015, 0.0) if step < 12 else careful.move(0.0, 0.0, 0.01)
        careful.run(0.25)
    careful.move(0, 0, 0, gripper=1.0)
    for _ in range(4):
        careful.run(0.45)
        careful.move(0, 0, 0, gripper=1.0)  # decisions go on, and get nowhere
    assert not careful.arm.needs_help
    careful.run(0.4)
    assert asks(careful, "no progress")


def test_a_gripper_that_refuses_for_long_is_no_progress(rig):
    """Each of its goals was progress, so nobody was ever asked."""
    begin = rig.time
    while not rig.arm.needs_help and rig.time < begin + 12.0:
        rig.move(0, 0, 0, gripper=1.0)
        rig.finger = 0.025  # as it holds something
        rig.run(0.1)
        rig.apply(rig.arm.gripper_refused("fr3_gripper ended without reaching its position"))
        rig.run(0.1)
    assert 8.0 < rig.time - begin < 8.5
    assert sum(command.gripper is not None for *_, command in rig.commands) > 30
    assert asks(rig, "no progress for 8 s")


def test_a_policy_silent_for_long_does_not_move_the_arm_when_it_is_back(careful):
    careful.move(0.03, 0, 0)
    careful.run(1.5)
    assert careful.arm.reason.startswith("no decision")
    careful.run(1.5)
    assert asks(careful, "no decision to act on for 2 s")


def test_a_controller_that_was_paused_does_not_go_on_by_itself(rig):
    rig.move(0.08, 0, 0)
    rig.run(3.0, joint_states=False, ticks=False)
    rig.run(0.01)
    assert asks(rig, "the controller stood still for 3.0 s")


def test_joint_states_missing_for_long_do_not_move_the_arm_when_they_are_back(rig):
    rig.move(0.08, 0, 0)
    rig.run(1.5, joint_states=False)
    assert not rig.arm.needs_help
    rig.run(0.6, joint_states=False)
    rig.run(0.1)
    assert asks(rig, "no joint states for 2 s")


def test_a_policy_that_was_away_for_long_does_not_go_on_by_itself(rig):
    rig.move(0.08, 0, 0)
    rig.run(1.5)
    rig.move(0.02, 0, 0)  # late, and still in time
    assert rig.arm.state == State.MOVING
    rig.run(1.9)
    assert not rig.arm.needs_help
    rig.run(0.2)
    assert asks(rig, "no decision to act on for 2 s")
    rig.arm.resume()
    rig.run(1.9)  # a person has said so; the policy has as long again
    rig.move(0.02, 0, 0)
    assert rig.arm.state == State.MOVING


def think(rig, seconds, instruction_id=1):
    """Let time pass in which the policy says each second what it works on, and decides nothing."""
    for _ in range(int(seconds)):
        rig.apply(rig.arm.on_policy_status(instruction_id, "pick up the apple"))
        rig.run(1.0)
    rig.run(seconds % 1.0)


def test_a_policy_that_thinks_long_before_its_first_decision_is_waited_for(rig):
    think(rig, 30.0)
    assert not rig.arm.needs_help
    rig.move(0.02, 0, 0)
    assert rig.arm.state == State.MOVING


@pytest.mark.parametrize("resumed", [False, True])
def test_a_first_decision_is_not_waited_for_for_ever(rig, resumed):
    think(rig, 59.5)
    assert not rig.arm.needs_help
    think(rig, 1.0)
    assert rig.arm.needs_help and "no decision to act on for 60 s" in rig.arm.reason
    assert rig.commands == []
    rig.arm.arm() if resumed else rig.instruct(instruction_id=2)
    think(rig, 59.5, 1 if resumed else 2)
    assert not rig.arm.needs_help
    rig.move(0.02, 0, 0)
    assert rig.arm.state == State.MOVING


def test_a_policy_that_freezes_before_its_first_decision_does_not_move_the_arm_when_it_thaws(rig):
    """Nobody who said something half a minute ago waits beside the arm for it to move."""
    rig.run(4.9)
    assert not rig.arm.needs_help
    rig.run(0.2)
    assert asks(rig, "the policy has said nothing for 5 s")
    rig.run(20.0)
    rig.apply(rig.arm.on_policy_status(1, "pick up the apple"))
    rig.move(0.02, 0, 0)
    assert rig.arm.verdict.code == "help" and rig.commands == []
    rig.arm.resume()
    rig.run(4.9)
    rig.move(0.02, 0, 0)
    assert rig.arm.state == State.MOVING


def test_decisions_that_come_as_seldom_as_the_profile_lets_them_are_waited_for(rig_with):
    rig = rig_with(time_to_live=4.0)
    rig.run(4.0)
    for _ in range(3):
        rig.move(0.02, 0, 0, stamp_ns=rig.now_ns - 3_500_000_000)
        assert rig.arm.verdict.accepted
        rig.run(3.5)
    assert not rig.arm.needs_help
    rig.run(1.6)
    assert asks(rig, "no decision to act on for 5 s")


def test_a_policy_is_not_silent_while_the_gripper_keeps_it_waiting(rig_with):
    rig = rig_with(gripper_settle=2.5)
    rig.move(0, 0, 0, gripper=1.0)
    for _ in range(3):
        rig.run(0.8)
        rig.move(0.02, 0, 0, gripper=1.0)
        assert held(rig, "gripper")
    rig.run(0.8)
    rig.move(0.02, 0, 0, gripper=1.0)
    assert rig.arm.verdict.accepted and not rig.arm.needs_help
    rig.run(2.1)
    assert asks(rig, "no decision to act on for 2 s")


def test_stop_and_disarm_end_the_call_for_help(careful):
    careful.move(0.03, 0, 0, confidence=0.1)
    careful.arm.stop()
    careful.arm.arm()
    assert careful.arm.state == State.ARMED
    assert not careful.arm.needs_help
    careful.move(0.03, 0, 0)
    assert held(careful, "instruction")


def test_a_hand_that_opens_and_closes_for_ever_gets_nowhere(rig):
    rig.instruct()
    for turn in range(60):
        rig.move(0, 0, 0, gripper=float(turn % 2 == 0))
        rig.run(0.5)
        if rig.arm.needs_help:
            break
    assert "no progress" in rig.arm.reason and 16 < turn < 30
