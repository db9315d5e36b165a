# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import pytest

from rt2_ros.data import split
from rt2_ros.sim.tasks import BEHIND, PUSHES, Judge, Task, UnknownTask, parse_task

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
        ([([0.6, 0.1, 0.03], 0.0, LAYOUT[1:], "thing 1")], "timeout"),  # gripped, hardly lifted
        ([([0.6, -0.1, 0.06], 0.0, LAYOUT[:1], "thing 2")], "timeout"),  # another one, not taken
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


def test_who_stops_too_soon_has_not_run_out_of_time(tabletop):
    tabletop.pose([0.45, 0, 0.2], 0.08, LAYOUT)
    judge = Judge(TASK, tabletop.state())
    tabletop.pose([0.55, 0, 0.2], 0.08, LAYOUT)
    judge.watch(tabletop.state())
    assert judge.verdict(stopped=True).reason == "stopped early"
    tabletop.pose([0.6, 0.1, 0.15], 0, LAYOUT[1:], held="thing 1")
    judge.watch(tabletop.state())
    assert judge.verdict(stopped=True).success


def test_a_judge_tells_for_how_long_it_was_blind(tabletop):
    tabletop.pose([0.45, 0, 0.2], 0.08, LAYOUT)
    start = tabletop.state()
    judge = Judge(TASK, start)
    assert judge.blind_for(start.time + 3) == pytest.approx(3)
    for later in (0.5, 2.5, 3.0):
        judge.watch(replace(start, time=start.time + later))
    assert judge.blind_for(start.time + 3.1) == pytest.approx(2)


def test_the_right_thing_after_another_is_no_success(tabletop):
    poses = [([0.6, 0.1, 0.18], 0.0, LAYOUT[1:], "thing 1")]
    assert judged(tabletop, *poses).success
    other = ([0.55, 0, 0.15], 0.0, LAYOUT[:1], "thing 2")
    assert judged(tabletop, other, *poses).reason == "wrong object"


def test_a_task_for_what_is_not_there_cannot_be_judged(tabletop):
    with pytest.raises(KeyError, match="no 'unicorn' on the table"):
        Judge(Task("pick", "unicorn"), tabletop.reset(0))


PLACING = {
    "apple": "red apple",
    "cup": "cup",
    "3": "keycap three",
    "苹果": "red apple",
    "杯子": "cup",
}


@pytest.mark.parametrize(
    ("instruction", "task"),
    [
        ("move the apple near the cup", Task("near", "red apple", "cup")),
        ("Bring the apple to the cup.", Task("near", "red apple", "cup")),
        ("please put an apple next to the cup", Task("near", "red apple", "cup")),
        ("move the apple to 3", Task("near", "red apple", "keycap three")),
        ("put the apple on the cup", Task("on", "red apple", "cup")),
        ("could you place the apple on top of the cup, please?", Task("on", "red apple", "cup")),
        ("take the apple", Task("pick", "red apple")),
        ("把苹果移到杯子旁边", Task("near", "red apple", "cup")),
        ("请把苹果放在杯子上。", Task("on", "red apple", "cup")),
        ("把苹果拿起来", Task("pick", "red apple")),
    ],
)
def test_things_are_put_somewhere_in_many_words(instruction, task):
    assert parse_task(instruction, PLACING.__getitem__) == task


@pytest.mark.parametrize("kind", Task.KINDS)
def test_all_that_demonstrations_say_is_understood(kind):
    names = ["" if kind in Task.GRIPPER else "soccer ball", "key" if kind in Task.PLACING else ""]
    for phrase in (*split.ROBOT_PHRASES[kind], *split.ROBOT_PHRASES_ZH[kind]):
        ball, key = ("football", "key") if phrase.isascii() else ("足球", "钥匙")
        said = phrase.format(object=ball, target=key)
        assert parse_task(said, split.object_name) == Task(kind, *names), said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("near", "cup"), "target: '', expected a name for 'near'"),
        (("pick", "cup", "apple"), "target: 'apple', expected none for 'pick'"),
        (("on", "cup", "cup"), "target: 'cup', expected another thing"),
        (("push left",), "object: '', expected a name for 'push left'"),
        (("open", "cup"), "object: 'cup', expected none for 'open'"),
        (("pick", "cup", "", "cup"), "spared: 'cup', expected none of cup"),
    ],
)
def test_targets_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Task(*arguments)


def placed(tabletop, x, y, task=None, held=None, others=(), z=0.025):
    """Verdict on thing 1 that was lifted, and then is at (x, y, z); thing 2 lies at (0.6, -0.1)."""
    task = task or Task("near", "thing 1", "thing 2")
    rest = [LAYOUT[1], *others]
    tabletop.pose([0.45, 0, 0.2], 0.08, [LAYOUT[0], *rest])
    judge = Judge(task, tabletop.state())
    tabletop.pose([0.6, 0.1, 0.15], 0.0, rest, held="thing 1")
    judge.watch(tabletop.state())
    if held:
        tabletop.pose([x, y, 0.02], 0.0, rest, held="thing 1")
    else:
        tabletop.pose([0.45, 0.1, 0.2], 0.08, [("thing 1", (x, y, z), 0.0), *rest])
    judge.watch(tabletop.state())
    return judge.verdict()


def test_lying_beside_the_target_is_near_it(tabletop):
    assert placed(tabletop, 0.6, 0.0).success  # 10 cm between centres
    assert placed(tabletop, 0.52, -0.1).success


def test_too_far_still_held_or_nearer_to_something_else_is_not_near(tabletop):
    assert placed(tabletop, 0.6, 0.02).reason == "misplaced"  # 12 cm
    held = placed(tabletop, 0.6, 0.0, held=True)
    assert not held.success and held.reason == "timeout"
    nearer = [("thing 3", (0.6, 0.08, 0.025), 0.0)]
    assert placed(tabletop, 0.6, 0.0, others=nearer).reason == "misplaced"


def test_on_the_wrong_top_is_misplaced_and_in_the_air_is_dropped(tabletop):
    other = [("thing 3", (0.5, 0.1, 0.025), 0.0)]
    onto = Task("on", "thing 1", "thing 2")
    assert placed(tabletop, 0.6, -0.1, z=0.075).reason == "misplaced"  # on the target, not near it
    assert placed(tabletop, 0.5, 0.1, onto, others=other, z=0.075).reason == "misplaced"
    assert placed(tabletop, 0.5, 0.1, onto, others=other, z=0.12).reason == "dropped"


def test_the_right_thing_is_reached_by_a_hand_that_stays_where_the_task_begins(tabletop):
    def reached(task, *tips):
        tabletop.pose([0.45, 0, 0.2], 0.08, LAYOUT)
        judge, time = Judge(task, tabletop.state()), 0.0
        for tip in tips:
            tabletop.pose([*tip, 0.13], 0.08, LAYOUT)
            time += 0.25
            judge.watch(replace(tabletop.state(), time=time))
        assert judge.verdict().reason == "timeout"
        return judge.reached

    over, aside, other = (0.62, 0.1), (0.64, 0.1), (0.6, -0.1)
    assert reached(TASK, other, over, over)
    assert not reached(TASK, over, aside, over, aside)  # passing by
    assert not reached(TASK, other, other, other) and not reached(TASK, aside, aside, aside)
    push, behind = Task("push left", "thing 1"), (0.6, 0.1 - BEHIND)
    assert reached(push, over, behind, behind) and not reached(push, over, over)
    assert reached(Task("close"), over, over) is None


def test_what_is_done_was_reached(tabletop):
    tabletop.pose([0.45, 0, 0.2], 0.08, LAYOUT)
    judge = Judge(TASK, tabletop.state())
    assert not judge.reached
    tabletop.pose([0.6, 0.1, 0.15], 0.0, LAYOUT[1:], held="thing 1")
    assert judge.watch(tabletop.state()) and judge.reached


@pytest.mark.parametrize("kind", Task.PLACING)
def test_a_target_that_was_brought_to_its_object_is_not_what_was_asked(tabletop, kind):
    apart, height = (0.1, 0.025) if kind == "near" else (0.0, 0.075)
    tabletop.pose([0.45, 0, 0.2], 0.08, LAYOUT)
    judge = Judge(Task(kind, "thing 1", "thing 2"), tabletop.state())
    start = tabletop.state()
    for y, success in ((-0.06, True), (-0.04, False)):  # 4 and 6 cm from where it was
        there = [("thing 1", (0.6, y + apart, height), 0.0), ("thing 2", (0.6, y, 0.025), 0.0)]
        tabletop.pose([0.45, 0, 0.2], 0.08, there)
        assert judge.watch(tabletop.state()) is success
        assert judge.verdict().success is success
        assert judge.task.placed(tabletop.state())  # by which demonstrations go
    assert not judge.task.placed(start)


def test_a_target_in_the_hand_over_its_object_is_not_near_it(tabletop):
    tabletop.pose([0.45, 0, 0.2], 0.08, LAYOUT)
    judge = Judge(Task("near", "thing 1", "thing 2"), tabletop.state())
    for tip in ([0.6, 0.1, 0.2], [0.6, -0.08, 0.02]):  # the latter is hardly moved
        tabletop.pose(tip, 0.0, [("thing 1", (0.6, 0.01, 0.025), 0.0)], held="thing 2")
        assert not judge.watch(tabletop.state()) and not judge.verdict().success


@pytest.mark.parametrize(
    ("spared", "held", "y", "success"),
    [
        ("thing 2", None, -0.1, True),
        ("thing 2", "thing 2", -0.1, False),  # taken, hardly lifted, and put back
        ("thing 2", None, -0.13, False),  # pushed away
        ("", "thing 2", -0.1, True),
    ],
)
def test_what_is_to_be_spared_is_not_touched_at_any_time(tabletop, spared, held, y, success):
    tabletop.pose([0.45, 0, 0.2], 0.08, LAYOUT)
    judge = Judge(Task("pick", "thing 1", spared=spared), tabletop.state())
    if held:
        tabletop.pose([0.6, -0.1, 0.03], 0.0, LAYOUT[:1], held=held)
        assert not judge.watch(tabletop.state())
    tabletop.pose([0.6, 0.1, 0.15], 0.0, [("thing 2", (0.6, y, 0.025), 0.0)], held="thing 1")
    assert judge.watch(tabletop.state()) is success
    assert judge.verdict().reason == ("" if success else "wrong object")


def test_what_lies_on_a_card_is_on_it_and_what_lies_beside_it_is_not(tabletop):
    task = Task("on", "thing 1", "thing 2")
    card = ("thing 2", (0.6, -0.1, 0.004), 0.0, "card")
    start = [LAYOUT[0], card]
    tabletop.pose([0.45, 0, 0.2], 0.08, start)
    for x, y, z, success in ((0.6, -0.1, 0.033, True), (0.6, -0.04, 0.025, False),
                             (0.61, -0.12, 0.033, True), (0.6, -0.1, 0.20, False)):  # fmt: skip
        judge = Judge(task, tabletop.state())
        tabletop.pose([0.45, 0, 0.2], 0.08, [("thing 1", (x, y, z), 0.0), card])
        judge.watch(tabletop.state())
        assert judge.verdict().success is success, (x, y, z)


def test_a_policy_that_keeps_running_into_limits_is_told_apart(tabletop):
    tabletop.pose([0.45, 0, 0.2], 0.08, LAYOUT)
    judge = Judge(TASK, tabletop.state())
    for limited in (True, True, False):
        tabletop.pose([0.55, 0, 0.2], 0.08, LAYOUT)
        judge.watch(tabletop.state(), limited)
    assert judge.verdict().reason == "limit hit"


def test_whether_limits_were_run_into_may_be_told_by_who_knows(tabletop):
    tabletop.pose([0.45, 0, 0.2], 0.08, LAYOUT)
    judge = Judge(TASK, tabletop.state())
    judge.watch(tabletop.state())
    assert judge.verdict(limited=True).reason == "limit hit"
    assert judge.verdict().reason == "never moved"


@pytest.mark.parametrize("kind", PUSHES)
@pytest.mark.parametrize(
    ("along", "aside", "success"),
    [(0.06, 0.0, True), (0.04, 0.0, False), (-0.06, 0.0, False), (0.06, 0.025, True),
     (0.06, 0.035, False), (0.0, 0.06, False)],
)  # fmt: skip
def test_a_push_is_far_enough_and_not_aside(tabletop, kind, along, aside, success):
    (x, y), (x0, y0, z0) = PUSHES[kind], (0.55, 0.05, 0.025)
    tabletop.pose([0.45, 0, 0.2], 0.08, [("thing 1", (x0, y0, z0), 0.0)])
    judge = Judge(Task(kind, "thing 1"), tabletop.state())
    there = (x0 + along * x - aside * y, y0 + along * y + aside * x, z0)
    tabletop.pose([0.45, 0, 0.2], 0.08, [("thing 1", there, 0.0)])
    assert judge.watch(tabletop.state()) is success
    assert judge.verdict().success is success


def test_what_is_carried_is_not_pushed(tabletop):
    tabletop.pose([0.45, 0, 0.2], 0.08, LAYOUT[:1])
    judge = Judge(Task("push right", "thing 1"), tabletop.state())
    tabletop.pose([0.6, 0.0, 0.02], 0.0, [], held="thing 1")
    assert not judge.watch(tabletop.state())


@pytest.mark.parametrize(("opening", "success"), [(0.0, True), (0.049, False)])
def test_what_a_fist_still_presses_on_is_not_held(tabletop, opening, success):
    tabletop.pose([0.45, 0, 0.2], 0.08, [("thing 1", (0.55, 0.0, 0.025), 0.0)])
    judge = Judge(Task("push forward", "thing 1"), tabletop.state())
    tabletop.pose([0.5, 0, 0.2], opening, [("thing 1", (0.63, 0.0, 0.025), 0.0)])
    state = tabletop.state()  # both fingers touch it, as when a fist's front lies flat against it
    state = replace(state, objects=(replace(state.objects[0], grasped=True),))
    assert judge.watch(state) is success


@pytest.mark.parametrize(("kind", "before", "after"), [("open", 0.0, 0.08), ("close", 0.08, 0.0)])
def test_the_gripper_is_as_it_was_told_to_be(tabletop, kind, before, after):
    tabletop.pose([0.45, 0, 0.2], before, LAYOUT)
    judge = Judge(Task(kind), tabletop.state())
    assert not judge.watch(tabletop.state())
    tabletop.pose([0.45, 0, 0.2], 0.04, LAYOUT)
    assert not judge.watch(tabletop.state())  # half way
    tabletop.pose([0.45, 0, 0.2], after, LAYOUT)
    assert judge.watch(tabletop.state())
