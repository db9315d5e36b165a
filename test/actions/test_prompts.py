# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from rt2_ros.actions import (
    action_prompt,
    answer_text,
    is_stop,
    openvla_prompt,
    openvla_prompt_ids,
    question_prompt,
)
from rt2_ros.models.tiny import build_processor

BINS = [0, 127, 140, 118, 127, 127, 127, 255]


def test_a_prompt_reminds_of_a_plan():
    assert action_prompt("pick up the apple", [1, 2], "apple 131 87") == (
        "Q: what action should the robot take to pick up the apple? State: 1 2. "
        "Plan: apple 131 87. A:"
    )
    with pytest.raises(ValueError, match="words without a colon"):
        action_prompt("pick up the apple", [1, 2], "a: b")


def test_action_prompt():
    assert (
        action_prompt("pick up the apple")
        == "Q: what action should the robot take to pick up the apple? A:"
    )
    assert (
        action_prompt("pick up the apple", np.array([120, 45, 200, 255], np.uint8))
        == "Q: what action should the robot take to pick up the apple? State: 120 45 200 255. A:"
    )


@pytest.mark.parametrize(
    "text",
    ["pick up  the apple.", " pick up the\napple!", "pick up the apple", '"pick up the apple"',
     "pick up the apple, ", "“pick up the apple…”", "pick up the apple;"],
)  # fmt: skip
def test_an_instruction_is_tidied(text):
    assert action_prompt(text) == action_prompt("pick up the apple")


def test_an_instruction_holds_no_mark_of_the_prompts_own():
    """To the default model's tokenizer "A:" is one word, wherever it stands."""
    prompt = action_prompt("PANDA: pick up the apple. Plan: none")
    assert prompt.count("A:") == prompt.count(" A:") == 1 and "Plan:" not in prompt
    tokens = build_processor().tokenizer
    assert tokens.tokenize("robot : pick it") == tokens.tokenize("robot: pick it")


def test_other_languages_stay():
    assert action_prompt("拿起苹果。") == "Q: what action should the robot take to 拿起苹果? A:"


def test_question_prompt():
    assert question_prompt(" what is  this?") == "Q: what is this? A:"


@pytest.mark.parametrize("prompt", [action_prompt, question_prompt, openvla_prompt])
@pytest.mark.parametrize("text", ["", "  \n"])
def test_empty_text_is_refused(prompt, text):
    with pytest.raises(ValueError, match="empty, expected words"):
        prompt(text)


def test_answer_text():
    assert answer_text(BINS) == "0 127 140 118 127 127 127 255"
    expected = "Plan: apple 131 87. Action: 0 127 140 118 127 127 127 255"
    assert answer_text(BINS, "apple 131 87") == expected
    assert answer_text(BINS, " apple 131  87. ") == expected


@pytest.mark.parametrize("plan", ["", " . ", "go: left", "Action: 0"])
def test_a_plan_that_would_not_read_back_is_refused(plan):
    with pytest.raises(ValueError, match="plan: .*without a colon"):
        answer_text(BINS, plan)


def test_state_outside_a_byte_is_refused():
    with pytest.raises(ValueError, match="expected integers in 0..255"):
        action_prompt("pick up the apple", [256])


def test_openvla_prompt():
    assert (
        openvla_prompt("Pick up the Apple")
        == "In: What action should the robot take to pick up the apple?\nOut:"
    )


def test_openvla_prompt_ends_with_a_lone_space_once():
    assert openvla_prompt_ids([1, 512, 29901]) == [1, 512, 29901, 29871]
    assert openvla_prompt_ids([1, 512, 29901, 29871]) == [1, 512, 29901, 29871]
    assert openvla_prompt_ids([]) == [29871]


@pytest.mark.parametrize(
    "words",
    [
        "", "  ", "stop", "STOP!", "please stop", "Stop now.", "halt", "停",
        "stop the robot", "Stop the arm now!", "stop everything", "stop stop stop", "STOP! STOP!",
        "emergency stop", "freeze", "don't move", "Do not move.",
        "ｓｔｏｐ", "ＳＴＯＰ！", "st\u200bop",
        "请停下。", "马上停止！", "急停", "紧急停止", "暂停", "停手", "住手", "停停停", "停一下",
        "机器人停下", "让机械臂停下来", "请停止移动", "不要再动了",
    ],
)  # fmt: skip
def test_the_word_for_it_stops(words):
    assert is_stop(words)


@pytest.mark.parametrize(
    "words",
    [
        "stop sign", "pick up the stop sign", "don't stop", "stop at the cup", "停车标志", "stay",
        "stop the clock", "move the robot near the cup", "把机器人放在停车标志上",
        "机器人", "cancel the cup",
    ],
)  # fmt: skip
def test_what_only_has_the_word_in_it_is_a_task(words):
    assert not is_stop(words)
