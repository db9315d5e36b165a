# SPDX-License-Identifier: Apache-2.0
"""The expert's law, state by state."""

import numpy as np
import pinocchio as pin
import pytest

from rt2_ros.sim.env import Scenario, TabletopEnv
from rt2_ros.sim.expert import expert, expert_action, free_place
from rt2_ros.sim.scene import AREA_HIGH, AREA_LOW, Appearance, random_layout, random_start
from rt2_ros.sim.tasks import Task

TARGET = np.array([0.60, 0.05, 0.025])
AWAY = np.array([[0.45, -0.15, 0.025]])


def act(x, y, z, closedness, others=AWAY, **kwargs):
    return expert_action([x, y, z, closedness], TARGET, others, **kwargs)


@pytest.mark.parametrize(
    ("state", "translation", "gripper"),
    [
        ((0.52, 0.05, 0.20, 0.0), (0.08, 0, -0.07), 0.0),  # far: across, down to hover height
        ((0.30, 0.00, 0.13, 0.0), (0.10, 0.05, 0.0), 0.0),  # at most 0.1 m along an axis
        ((0.55, 0.05, 0.13, 0.0), (0.05, 0, -0.066), 0.0),  # in the funnel: lower while nearer
        ((0.60, 0.05, 0.13, 0.0), (0, 0, -0.10), 0.0),  # above it: straight down
        ((0.50, 0.05, 0.03, 0.0), (0, 0, 0.10), 0.0),  # too low for its distance: up first
        ((0.50, 0.05, 0.115, 0.0), (0.05, 0, 0.015), 0.0),  # a little low: across by half
        ((0.60, 0.05, 0.02, 0.0), (0, 0, 0), 1.0),  # there: close
        ((0.605, 0.05, 0.031, 0.1), (0, 0, 0), 1.0),  # near enough
        ((0.60, 0.05, 0.02, 0.375), (0, 0, 0.10), 1.0),  # in hand: up
        ((0.50, 0.05, 0.05, 1.0), (0, 0, 0.08), 0.0),  # closed on nothing: open, up to hover
        ((0.50, 0.05, 0.05, 0.7), (0, 0, 0.08), 0.0),
        ((0.50, 0.05, 0.05, 0.4), (0, 0, 0.08), 0.0),  # half closed, nothing there: the same
    ],
)
def test_each_situation(state, translation, gripper):
    action = act(*state)
    np.testing.assert_allclose(action.translation, translation, atol=1e-9)
    np.testing.assert_allclose(action.rotation, 0, atol=1e-9)
    assert (action.terminate, action.gripper) == (False, gripper)


def test_at_the_top_with_the_block_it_terminates_and_stands_still():
    action = expert_action([0.5, 0, 0.21, 0.375], [0.5, 0, 0.215])
    assert action.terminate and action.gripper == 1.0
    np.testing.assert_array_equal(action.translation, 0)


def test_it_does_not_terminate_with_another_block_in_hand():
    action = act(0.5, 0, 0.21, 0.375, others=[[0.5, 0, 0.215]])
    assert not action.terminate and action.gripper == 1.0
    np.testing.assert_allclose(action.translation, [0, 0, -0.10])


def test_another_block_is_let_go_on_the_table():
    action = act(0.5, 0, 0.022, 0.375, others=[[0.5, 0, 0.027]])
    assert action.gripper == 0.0
    np.testing.assert_array_equal(action.translation, 0)


def test_a_turned_hand_is_turned_back_in_the_base_frame():
    tilt = pin.exp3(np.array([0.1, -0.05, 0.2])) @ np.diag([1.0, -1.0, -1.0])
    action = act(0.5, 0, 0.2, 0.0, rotation=tilt)
    np.testing.assert_allclose(action.rotation, [-0.1, 0.05, -0.2], atol=1e-9)


def test_a_hand_that_is_far_off_turns_by_no_more_than_a_quarter_radian():
    tilt = pin.exp3(np.array([0.0, 0.0, 1.0])) @ np.diag([1.0, -1.0, -1.0])
    np.testing.assert_allclose(act(0.5, 0, 0.2, 0.0, rotation=tilt).rotation, [0, 0, -0.25])


GOAL = np.array([0.50, -0.10, 0.025])


@pytest.mark.parametrize(
    ("state", "block", "translation", "gripper"),
    [
        ((0.60, 0.05, 0.02, 0.375), None, (0, 0, 0.10), 1.0),  # in hand, far from its goal: up
        ((0.60, 0.05, 0.13, 0.375), None, (-0.10, -0.10, 0), 1.0),  # at hover height: across
        ((0.50, -0.10, 0.13, 0.375), None, (0, 0, -0.10), 1.0),  # above the goal: down
        ((0.50, -0.10, 0.022, 0.375), None, (0, 0, 0), 0.0),  # there: let go
        ((0.60, 0.05, 0.02, 0.0), TARGET, (0, 0, 0), 1.0),  # not yet in hand: take it
    ],
)
def test_each_situation_of_putting_something_somewhere(state, block, translation, gripper):
    if block is None:  # in the hand
        block = np.array(state[:3]) + [0, 0, 0.005]
    action = expert_action(state, block, AWAY, goal=GOAL)
    np.testing.assert_allclose(action.translation, translation, atol=1e-9)
    assert (action.terminate, action.gripper) == (False, gripper)


def test_what_is_placed_is_left_and_the_expert_terminates_above_it():
    low = expert_action([0.5, -0.1, 0.02, 0.1], GOAL, goal=GOAL, placed=True)
    np.testing.assert_allclose(low.translation, [0, 0, 0.10])
    assert (low.terminate, low.gripper) == (False, 0.0)
    high = expert_action([0.5, -0.1, 0.12, 0.0], GOAL, goal=GOAL, placed=True)
    np.testing.assert_array_equal(high.translation, 0)
    assert high.terminate


def test_the_place_beside_a_target_is_near_free_and_on_the_table():
    place, gap = free_place([0.6, 0.1], [0.55, -0.05], [])
    assert np.hypot(*(place - [0.55, -0.05])) == pytest.approx(0.09) and gap == 1.0
    assert place[1] > -0.05  # on the side that the thing comes from
    taken, gap = free_place([0.6, 0.1], [0.55, -0.05], [place])
    assert np.hypot(*(taken - place)) == pytest.approx(gap) and gap >= 0.095
    corner, _ = free_place([0.42, -0.17], [0.66, 0.16], [])
    assert (corner >= AREA_LOW - 0.011).all() and (corner <= AREA_HIGH + 0.011).all()


@pytest.mark.parametrize("kind", ["near", "on"])
def test_in_physics_it_puts_things_where_they_belong(shared_tabletop, kind):
    env = TabletopEnv(shared_tabletop, render=False)
    names = ["thing 1", "thing 2", "thing 3", "thing 4"]
    kinds = ["block", "card", "block", "block"]
    for seed in range(5):
        rng = np.random.default_rng([seed, 3])
        layout = random_layout(rng, names, kinds, apart=0.16)
        task = Task(kind, "thing 1", "thing 2")
        scenario = Scenario(seed, task, "put it there", layout, random_start(rng), Appearance())
        observation, done = env.begin(scenario), False
        while not done:
            observation, done = env.step(expert(observation.truth, task))
        assert env.verdict().success, (seed, env.verdict())
        assert observation.truth.tcp.position[2] > 0.09
