# SPDX-License-Identifier: Apache-2.0
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rt2_ros.actions import Parsed, answer_text, parse

GOOD = "0 127 140 118 127 127 127 255"
BINS = [0, 127, 140, 118, 127, 127, 127, 255]

# The language once more, written in another way.
BYTE = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
LANGUAGE = re.compile(rf"\s*(?:Plan:[^:]*Action:)?\s*[01](?:\s+{BYTE}){{7}}\s*")

ACTIONS = st.tuples(st.integers(0, 1), *[st.integers(0, 255)] * 7).map(list)
PLANS = st.none() | st.text(st.characters(exclude_characters=":", codec="utf-8"), max_size=30)


def test_a_valid_answer(space):
    parsed = parse(GOOD, space)
    assert parsed.valid and parsed.reason == "" and parsed.plan == ""
    assert parsed.bins.tolist() == BINS
    assert parsed.action == space.from_bins(BINS)


def test_a_plan_before_it(space):
    parsed = parse(f" Plan: pick apple 131 87. Action: {GOOD}\n", space)
    assert parsed.valid and parsed.plan == "pick apple 131 87"
    assert parsed.bins.tolist() == BINS


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty answer"),
        ("  \n", "empty answer"),
        ("0 127 140 118 127 127 127", "7 integers, expected 8"),
        ("1 128 91 241 5 101 127", "7 integers, expected 8"),
        (f"{GOOD} 3", "9 integers, expected 8"),
        (f"{GOOD} {GOOD}", "16 integers, expected 8"),
        ("0 127 140 256 127 127 127 255", "'256' is not an integer in 0..255"),
        ("0 127 140 -1 127 127 127 255", "'-1' is not an integer in 0..255"),
        ("0 127 140 1.5 127 127 127 255", "'1.5' is not an integer in 0..255"),
        ("0 127 140 007 127 127 127 255", "'007' is not an integer in 0..255"),
        ("0 127 140 +7 127 127 127 255", "'+7' is not an integer in 0..255"),
        ("0 127 140 1_0 127 127 127 255", "'1_0' is not an integer in 0..255"),
        ("0 127 140 ٣ 127 127 127 255", "'٣' is not an integer in 0..255"),
        ("0,127,140,118,127,127,127,255", "'0,127,140,118,127,127,127,255' is not an integer"),
        ("0 nan 140 118 127 127 127 255", "'nan' is not an integer in 0..255"),
        ("9" * 9999, f"'{'9' * 40}...' is not an integer in 0..255"),
        ("I do not see an apple", "'I' is not an integer in 0..255"),
        (f"{GOOD}.", "'255.' is not an integer in 0..255"),
        (f"{GOOD}<eos>", "'255<eos>' is not an integer in 0..255"),
        ("2 127 140 118 127 127 127 255", "terminate is 2, expected 0..1"),
        ("255 127 140 118 127 127 127 255", "terminate is 255, expected 0..1"),
        (f"Action: {GOOD}", "'Action:' without 'Plan:' before it"),
        (f"plan: apple. Action: {GOOD}", "'Action:' without 'Plan:' before it"),
        (f"Plan: apple. {GOOD}", "'Action:' 0 times after 'Plan:', expected once"),
        (f"Plan: a. Action: {GOOD} Action: {GOOD}", "'Action:' 2 times after 'Plan:'"),
        (f"Plan: a: b. Action: {GOOD}", "a colon in the plan 'a: b.'"),
        ("Plan: apple. Action:", "no integers"),
        ("Plan: apple. Action: 0 1 2", "3 integers, expected 8"),
    ],
)
def test_an_invalid_answer_says_why(space, text, reason):
    parsed = parse(text, space)
    assert not parsed.valid
    assert parsed.action is None and parsed.bins is None
    assert parsed.reason.startswith(reason)


def test_the_plan_of_an_invalid_answer_is_kept(space):
    assert parse("Plan: apple. Action: 0 1 2", space).plan == "apple"


def test_openvla_has_seven_integers(openvla_space):
    parsed = parse("127 127 127 127 127 127 255", openvla_space)
    assert parsed.bins.tolist() == [0, 127, 127, 127, 127, 127, 127, 255]
    assert parsed.action.gripper == pytest.approx(1 / 255)
    assert parse(GOOD, openvla_space).reason == "8 integers, expected 7"


def test_a_result_is_an_action_or_a_reason():
    with pytest.raises(ValueError, match="expected an action and its bins, or a reason"):
        Parsed(None, None)


@given(bins=ACTIONS, plan=PLANS)
def test_what_training_writes_reads_back(space, bins, plan):
    tidy = "" if plan is None else " ".join(plan.split()).removesuffix(".").rstrip()
    if plan is not None and not tidy:
        with pytest.raises(ValueError, match="plan: "):
            answer_text(bins, plan)
        return
    parsed = parse(answer_text(bins, plan), space)
    assert parsed.bins.tolist() == bins
    assert parsed.plan == tidy


@st.composite
def mutated(draw):
    """A valid answer with a few characters or words changed."""
    text = answer_text(draw(ACTIONS), draw(st.sampled_from([None, "apple 131 87"])))
    for _ in range(draw(st.integers(1, 3))):
        pieces = re.findall(r"\w+|\s+|.", text)
        at = draw(st.integers(0, max(0, len(pieces) - 1)))
        new = draw(st.sampled_from(["", " ", "0", "2", "256", "-", ":", "Plan:", " Action: ", "x"]))
        pieces[at : at + draw(st.integers(0, 1))] = [new]
        text = "".join(pieces)
    return text


@given(text=mutated() | st.text("0123456789 .-:PlanActio\n", max_size=60))
@example(text="")
def test_exactly_the_language_parses(space, text):
    parsed = parse(text, space)
    assert parsed.valid == bool(LANGUAGE.fullmatch(text))
    assert parsed.valid == (parsed.reason == "")
