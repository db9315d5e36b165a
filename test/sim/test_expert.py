# SPDX-License-Identifier: Apache-2.0
"""The expert's law, state by state."""

import numpy as np
import pinocchio as pin
import pytest

from rt2_ros.sim.expert import expert_action

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
