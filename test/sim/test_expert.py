# SPDX-License-Identifier: Apache-2.0
"""The expert's law, state by state."""

import numpy as np
import pinocchio as pin
import pytest

from rt2_ros.control.pose import Pose
from rt2_ros.sim.env import Scenario, TabletopEnv
from rt2_ros.sim.expert import (
    BESIDE,
    CLEARANCE,
    PUT_BESIDE,
    STEPS,
    VERBS,
    act,
    beside,
    expert,
    free_side,
    free_way,
    has_room,
    open_sides,
    place_for,
    side_for,
    subgoal,
)
from rt2_ros.sim.scene import (
    AREA_HIGH,
    AREA_LOW,
    Appearance,
    random_layout,
    random_start,
    rest_height,
)
from rt2_ros.sim.tabletop import HAND_DOWN, ObjectState, TabletopState
from rt2_ros.sim.tasks import PUSHES, Task
from rt2_ros.sim.world import MAX_OPENING

KEY, CARD = (0.60, 0.05), (0.50, -0.10)


def table(x, y, z, closedness, rotation=HAND_DOWN, held="", **places):
    """A table with a key, a rose and a star (a card); places: where else one of them is, (2,)."""
    upright = np.array([0.0, 0, 0, 1])
    objects = []
    for name, (u, v) in {"key": KEY, "rose": (0.45, 0.15), "star": CARD, **places}.items():
        kind = "card" if name == "star" else "block"
        position = np.array([u, v, rest_height(kind)])
        if name == held:
            position = np.array([x, y, z + 0.005])
        objects.append(ObjectState(name, kind, position, upright, name == held))
    opening = MAX_OPENING * (1 - closedness)
    hand = Pose(np.array([x, y, z]), np.asarray(rotation))
    return TabletopState(0.0, 0, tuple(objects), hand, opening, np.zeros(9))


def check(state, task, wanted, translation, gripper, terminate=False):
    goal = subgoal(state, task)
    assert (goal.verb, goal.step) == wanted
    assert goal.verb in VERBS and goal.step in STEPS
    action = act(state, goal)
    np.testing.assert_allclose(action.translation, translation, atol=1e-9)
    np.testing.assert_allclose(action.rotation, 0, atol=1e-9)
    assert (action.terminate, action.gripper) == (terminate, gripper)


@pytest.mark.parametrize(
    ("state", "step", "translation", "gripper"),
    [
        ((0.52, 0.05, 0.20, 0.0), "over", (0.08, 0, -0.07), 0.0),  # far: across, to hover height
        ((0.30, 0.00, 0.13, 0.0), "over", (0.10, 0.05, 0.0), 0.0),  # at most 0.1 m along an axis
        ((0.60, 0.05, 0.13, 0.0), "down", (0, 0, -0.10), 0.0),  # above it: straight down
        ((0.50, 0.05, 0.03, 0.0), "up", (0, 0, 0.10), 0.0),  # too low for its distance
        ((0.60, 0.05, 0.02, 0.0), "grip", (0, 0, 0), 1.0),  # there: close
        ((0.605, 0.05, 0.031, 0.1), "grip", (0, 0, 0), 1.0),  # near enough
        ((0.50, 0.05, 0.05, 1.0), "up", (0, 0, 0.08), 0.0),  # closed on nothing: open, up
        ((0.50, 0.05, 0.05, 0.4), "up", (0, 0, 0.08), 0.0),  # half closed, nothing there
    ],
)
def test_each_situation_of_taking(state, step, translation, gripper):
    check(table(*state), Task("pick", "key"), ("take", step), translation, gripper)


def test_what_is_in_the_hand_is_lifted_and_at_the_top_it_is_done():
    pick = Task("pick", "key")
    low, high = (table(0.6, 0.05, z, 0.375, held="key") for z in (0.02, 0.21))
    check(low, pick, ("lift", "up"), (0, 0, 0.10), 1.0)
    check(high, pick, ("lift", "done"), (0, 0, 0), 1.0, terminate=True)


@pytest.mark.parametrize("kind", ["pick", "near", "on"])
def test_another_block_in_the_hand_is_put_down_and_let_go(kind):
    task = Task(kind, "key", "" if kind == "pick" else "star")
    high, low = (table(0.5, 0, z, 0.375, held="rose") for z in (0.21, 0.022))
    check(high, task, ("drop", "down"), (0, 0, -0.10), 1.0)
    check(low, task, ("drop", "release"), (0, 0, 0), 0.0)


@pytest.mark.parametrize(
    ("state", "step", "translation", "gripper"),
    [
        ((0.60, 0.05, 0.02), "up", (0, 0, 0.10), 1.0),  # too low for its distance
        ((0.60, 0.05, 0.13), "over", (-0.10, -0.10, 0), 1.0),  # at hover height: across
        ((0.50, -0.10, 0.13), "down", (0, 0, -0.10), 1.0),  # above its place
        ((0.50, -0.10, 0.03), "release", (0, 0, 0), 0.0),  # there: let go
    ],
)
def test_each_situation_of_putting_something_somewhere(state, step, translation, gripper):
    held = table(*state, 0.375, held="key")
    check(held, Task("on", "key", "star"), ("put", step), translation, gripper)


def test_a_block_goes_on_a_block_higher_and_beside_a_card_to_where_there_is_room():
    held = table(0.45, 0.15, 0.13, 0.375, held="key", rose=(0.45, 0.15))
    on = subgoal(held, Task("on", "key", "rose"))
    assert (on.verb, on.step) == ("stack", "down")
    flat = table(0.45, 0.15, 0.10, 0.375, held="key", star=(0.45, 0.15), rose=(0.6, 0.1))
    low = subgoal(flat, Task("on", "key", "star"))
    stacked = table(0.45, 0.15, 0.10, 0.375, held="key")
    high = subgoal(stacked, Task("on", "key", "rose"))
    assert act(flat, low).translation[2] < act(stacked, high).translation[2] - 0.03
    near = Task("near", "key", "star")
    goal = subgoal(held, near)
    assert goal.verb == "put" and side_for(held, near) == "left"
    np.testing.assert_allclose(goal.place, place_for(held, near)[:2])
    np.testing.assert_allclose(goal.place, beside(CARD, "left", PUT_BESIDE))


def test_what_is_placed_is_left_and_the_expert_is_done_above_it():
    near, place = Task("near", "key", "star"), (0.50, -0.01)
    low, high = (table(0.5, -0.01, z, 0.1, key=place) for z in (0.02, 0.12))
    check(low, near, ("leave", "up"), (0, 0, 0.10), 0.0)
    check(high, near, ("leave", "done"), (0, 0, 0), 0.0, terminate=True)


@pytest.mark.parametrize(
    ("state", "step", "translation", "gripper"),
    [
        ((0.60, 0.05, 0.13, 0.0), "grip", (0, 0, 0), 1.0),  # a fist first, high up
        ((0.60, 0.30, 0.13, 1.0), "over", (0, -0.10, 0), 1.0),  # to behind the block
        ((0.60, 0.125, 0.13, 1.0), "down", (0, 0, -0.10), 1.0),  # behind it
        ((0.60, 0.125, 0.025, 1.0), "push", (0, -0.10, 0), 1.0),
        ((0.61, 0.085, 0.025, 1.0), "push", (-0.01, -0.10, 0), 1.0),  # a whole step, wherever it is
        ((0.60, -0.03, 0.025, 1.0), "up", (0, 0, 0.10), 1.0),  # on the wrong side, low
        ((0.64, 0.125, 0.025, 1.0), "up", (0, 0, 0.10), 1.0),  # aside of the lane
    ],
)
def test_each_situation_of_pushing_right(state, step, translation, gripper):
    task = Task("push right", "key")
    check(table(*state), task, ("push right", step), translation, gripper)


@pytest.mark.parametrize("kind", PUSHES)
def test_a_push_is_done_at_the_edge_of_the_area(kind):
    way = np.array(PUSHES[kind])
    edge = np.where(way > 0, AREA_HIGH, AREA_LOW)
    place = np.where(way == 0, KEY, edge + 0.005 * way)
    state = table(*(place - 0.06 * way), 0.025, 1.0, key=tuple(place))
    check(state, Task(kind, "key"), (kind, "done"), (0, 0, 0), 1.0, terminate=True)


@pytest.mark.parametrize(
    ("kind", "closedness", "step", "gripper"),
    [("open", 1.0, "release", 0.0), ("open", 0.02, "done", 0.0), ("close", 0.0, "grip", 1.0),
     ("close", 0.95, "done", 1.0)],
)  # fmt: skip
def test_the_gripper_moves_and_nothing_else(kind, closedness, step, gripper):
    state = table(0.5, 0, 0.2, closedness)
    check(state, Task(kind), (kind, step), (0, 0, 0), gripper, terminate=step == "done")


def test_a_turned_hand_is_turned_back_in_the_base_frame_by_a_quarter_radian_at_most():
    for turn, back in (((0.1, -0.05, 0.2), (-0.1, 0.05, -0.2)), ((0, 0, 1.0), (0, 0, -0.25))):
        tilt = pin.exp3(np.array(turn)) @ HAND_DOWN
        action = expert(table(0.5, 0, 0.2, 0.0, rotation=tilt), Task("pick", "key"))
        np.testing.assert_allclose(action.rotation, back, atol=1e-9)


def test_a_way_is_free_with_room_behind_and_ahead():
    assert free_way(KEY, "push right", [])
    assert not free_way(KEY, "push right", [(0.60, -0.05)])  # in the lane
    assert not free_way(KEY, "push right", [(0.60, 0.15)])  # where the fist comes down
    assert free_way(KEY, "push right", [(0.50, -0.05)])  # aside
    assert not free_way((0.60, -0.12), "push right", [])  # too near the edge


def test_the_side_of_a_target_is_one_with_room_on_the_table():
    target = np.array([0.55, -0.02])
    assert free_side([0.6, 0.15], target, []) == ("left", 1.0)
    np.testing.assert_allclose(beside(target, "left"), target + [0, BESIDE])
    side, gap = free_side([0.6, 0.15], target, [beside(target, "left")])
    assert side == "forward" and gap == pytest.approx(BESIDE * np.sqrt(2))  # nearer than "right"
    assert open_sides(target, [beside(target, "left")]) == ("right", "forward", "back")
    side, gap = free_side([0.6, 0.15], target, [beside(target, "left"), beside(target, "right")])
    assert side == "forward" and gap == pytest.approx(BESIDE * np.sqrt(2))
    assert free_side([0.42, 0.16], [0.67, 0.16], [])[0] in ("right", "back")  # others are off it
    crowd = [beside(target, side) for side in ("left", "right", "forward", "back")]
    assert free_side([0.6, 0.15], target, crowd)[1] < CLEARANCE


@pytest.mark.parametrize("kind", Task.KINDS)
@pytest.mark.parametrize("onto", ["card", "block"])
def test_in_physics_it_does_what_is_asked(shared_tabletop, kind, onto):
    placing = kind in Task.PLACING
    if onto == "block" and not placing:
        pytest.skip("no target")
    env = TabletopEnv(shared_tabletop, render=False)
    names = ["thing 1", "thing 2", "thing 3", "thing 4"]
    kinds = ["block", onto if placing else "block", "block", "block"]
    task = Task(kind, "" if kind in Task.GRIPPER else names[0], names[1] if placing else "")
    for seed in range(5):
        rng = np.random.default_rng([seed, 3])
        while True:
            layout = random_layout(rng, names, kinds, apart=0.16 if placing else 0.0)
            if has_room(task, layout):
                break
        opening = 0.0 if kind == "open" else MAX_OPENING
        start = random_start(rng)
        scenario = Scenario(seed, task, "do it", layout, start, Appearance(), opening)
        observation, done = env.begin(scenario), False
        assert not env.success()
        while not done:
            observation, done = env.step(expert(observation.truth, task))
        assert env.verdict().success, (seed, env.verdict())
        if placing:
            assert observation.truth.tcp.position[2] > 0.09
