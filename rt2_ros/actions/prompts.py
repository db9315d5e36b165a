# SPDX-License-Identifier: Apache-2.0
"""What a model is asked and what it answers, as text.

    Q: what action should the robot take to pick up the apple? A:
    Q: what action should the robot take to pick up the apple? State: 120 45 200 255. A:
        -> 0 127 140 118 127 127 127 255
        -> Plan: apple 131 87. Action: 0 127 140 118 127 127 127 255
    Q: what action should the robot take to pick up the apple? State: 120 45 180 255. Plan: apple
       131 87. A:

The formats are RT-2's (arXiv 2307.15818) and OpenVLA's. A plan holds no colon, so that "Action:"
can only ever mean the end of it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from rt2_ros.actions.bins import checked_bins

PLAN = "Plan:"
ACTION = "Action:"
QUOTES, ENDS = "\"'“”‘’«»", ".?!,;:…~。？！，；：、"

# Words that are no task for any model: to stop, politely, said again, of the arm or the robot.
STOP = re.compile(
    r"(please )?(((emergency |e-)?stop|halt|freeze|pause|abort|cancel)"
    r"( (stop|halt|it|that|everything|moving|(the )?(robot|arm|motion)))*"
    r"|(do not|don t|dont) move|(hold|stand|keep) still)"
    r"( (now|immediately|right now|at once))?( please)?"
)
STOP_CHINESE = re.compile(  # without spaces
    r"请?(你|让?(机器人|机械臂|手臂))?(立即|立刻|马上|赶紧|快)?"
    r"(急停|紧急停止|暂停|住手|停手|停+(一下|下来?|止(运动|移动|动作)?|住)?|(别|不要|不许)再?动)"
    r"(机器人|机械臂|手臂)?(吧|了|啊)?"
)

# Llama's token for a lone space, which OpenVLA was trained to find at the end of its prompt.
OPENVLA_SPACE = 29871


def action_prompt(instruction: str, state_bins: ArrayLike | None = None, recalled: str = "") -> str:
    """RT-2's prompt for a robot task, with the discretised robot state where the model wants it.

    recalled: of the plan before this one, what the model is reminded of (see `PlanForm`).
    """
    # "PANDA: ..." would hold the mark that an answer begins with.
    task = re.sub(r"(?<=[A-Za-z]):", " :", _tidy(instruction, "instruction"))
    question = f"Q: what action should the robot take to {task}?"
    if state_bins is not None:
        question += f" State: {_integers(state_bins)}."
    if recalled:
        question += f" {PLAN} {tidy_plan(recalled)}."
    return f"{question} A:"


def is_stop(instruction: str) -> bool:
    """Whether an instruction means that the arm is to stop: nothing, or the very word for it.

    >>> is_stop(""), is_stop("Stop!"), is_stop("停下"), is_stop("stop the clock")
    (True, True, True, False)
    """
    plain = unicodedata.normalize("NFKC", instruction)  # full-width letters are letters
    plain = "".join(sign for sign in plain if unicodedata.category(sign) != "Cf")
    words = re.sub(f"[{QUOTES}{ENDS}]", " ", plain).lower().split()
    return (
        not words
        or STOP.fullmatch(" ".join(words)) is not None
        or STOP_CHINESE.fullmatch("".join(words)) is not None
    )


def question_prompt(question: str) -> str:
    """The prompt for free text: a question about the picture, kept as it was asked."""
    text = " ".join(question.split())
    if not text:
        raise ValueError("question: empty, expected words")
    return f"Q: {text} A:"


def answer_text(bins: ArrayLike, plan: str | None = None) -> str:
    """The answer that training asks for and that `parse` reads, bins in the order of the space."""
    if plan is None:
        return _integers(bins)
    return f"{PLAN} {tidy_plan(plan)}. {ACTION} {_integers(bins)}"


def tidy_plan(plan: str) -> str:
    """A plan on one line without its full stop; ValueError where it is empty or holds a colon."""
    text = " ".join(plan.split()).removesuffix(".").rstrip()
    if not text or ":" in text:
        raise ValueError(f"plan: {plan!r}, expected words without a colon")
    return text


def openvla_prompt(instruction: str) -> str:
    """OpenVLA's prompt; its ids go through `openvla_prompt_ids`."""
    task = _tidy(instruction, "instruction").lower()
    return f"In: What action should the robot take to {task}?\nOut:"


def openvla_prompt_ids(ids: Sequence[int]) -> list[int]:
    """The prompt's token ids with Llama's lone space at the end, added where it is missing."""
    ids = [int(i) for i in ids]
    return ids if ids and ids[-1] == OPENVLA_SPACE else [*ids, OPENVLA_SPACE]


def _integers(bins: ArrayLike) -> str:
    return " ".join(str(b) for b in np.atleast_1d(checked_bins(bins)).tolist())


def _tidy(text: str, name: str) -> str:
    """One line, without what a sentence stands in or ends with (the prompt brings its own)."""
    text = " ".join(text.split()).lstrip(QUOTES).rstrip(f" {QUOTES}{ENDS}")
    if not text:
        raise ValueError(f"{name}: empty, expected words")
    return text
