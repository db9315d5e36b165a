# SPDX-License-Identifier: Apache-2.0
import pytest

from rt2_ros.sim.tasks import Judge, Task, UnknownTask, parse_task

NAMES = {"apple": "red apple", "red apple": "red apple", "苹果": "red apple", "cup": "cup"}


@pytest.mark.parametrize(
    "instruction",
    [
        "pick up the apple", "Pick up the red apple.", "pick the apple", "pick the apple up",
        "pick up apple", "grab an apple", "please lift the apple", "take  the apple!",
        "could you grasp the apple, please?", "get the apple",
        "拿起苹果", "把苹果拿起来", "抓住苹果", "请把苹果举起来。",
    ],
)  # fmt: skip
def test_many_ways_to_ask_for_the_same(instruction):
    assert parse_task(instruction, NAMES.__getitem__) == Task("pick", "red apple")


def test_a_name_that_begins_like_a_verb_stays_whole():
    assert parse_task("pick up the cup", NAMES.__getitem__).object == "cup"


@pytest.mark.parametrize("instruction", ["", "what is this?", "go home", "pick up", "x" * 10_000])
def test_what_is_no_task_is_refused_in_one_short_line(instruction):
    with pytest.raises(UnknownTask) as error:
        parse_task(instruction, NAMES.__getitem__)
    assert "\n" not in str(error.value) and len(str(error.value)) < 200


def test_an_unknown_object_is_named():
    with pytest.raises(UnknownTask, match="unicorn"):
        parse_task("pick up the unicorn", NAMES.__getitem__)


def test_other_kinds_are_refused():
    with pytest.raises(ValueError, match="kind: 'dance', expected one of pick, near, on"):
        Task("dance", "cup")


LAYOUT = [("thing 1", (0.6, 0.1, 0.025), 0.0), ("thing 2", (0.6, -0.1, 0.025), 0.0)]
TASK = Task("pick", "thing 1")


def judged(tabletop, *poses):
    """Verdict after these poses of the hand: (tip, opening, objects on the table, held)."""
    tabletop.pose([0.45, 0, 0.2], 0.08, LAYOUT)
    judge = Judge(TASK, tabletop.state())
    for tip, opening, objects, held in poses:
        tabletop.pose(tip, opening, objects, held=held)
        judge.watch(tabletop.state())
    return judge.verdict()


def test_lifted_by_ten_centimetres_is_success(tabletop):
    verdict = judged(tabletop, ([0.6, 0.1, 0.15], 0, LAYOUT[1:], "thing 1"))
    assert (verdict.success, verdict.reason, verdict.steps) == (True, "", 1)


def test_lifted_too_little_is_not(tabletop):
    verdict = judged(tabletop, ([0.6, 0.1, 0.10], 0, LAYOUT[1:], "thing 1"))
    assert (verdict.success, verdict.reason) == (False, "timeout")


def test_high_up_but_not_in_the_hand_is_not(tabletop):
    high = [("thing 1", (0.6, 0.1, 0.3), 0.0), LAYOUT[1]]
    assert not judged(tabletop, ([0.45, 0, 0.2], 0.08, high, None)).success


@pytest.mark.parametrize(
    ("poses", "reason"),
    [
        ([], "never moved"),
        ([([0.46, 0, 0.2], 0.08, LAYOUT, None)], "never moved"),
        ([([0.55, 0, 0.2], 0.08, LAYOUT, None)], "timeout"),
        ([([0.55, 0, 0.03], 0.0, LAYOUT, None)], "missed grasp"),
        ([([0.55, 0, 0.15], 0.0, LAYOUT[:1], "thing 2")], "wrong object"),
        (
            [
                ([0.6, 0.1, 0.15], 0.0, LAYOUT[1:], "thing 1"),
                ([0.6, 0.1, 0.15], 0.08, LAYOUT, None),
            ],
            "dropped",
        ),
    ],
)
def test_failures_have_reasons(tabletop, poses, reason):
    verdict = judged(tabletop, *poses)
    assert not verdict.success
    assert verdict.reason == reason


def test_a_task_for_what_is_not_there_cannot_be_judged(tabletop):
    with pytest.raises(KeyError, match="no 'unicorn' on the table"):
        Judge(Task("pick", "unicorn"), tabletop.reset(0))
