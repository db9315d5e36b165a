# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from rt2_ros.control.kinematics import Unreachable
from rt2_ros.sim.scene import Placement


def poses(state):
    return [(o.name, *o.position, *o.quaternion) for o in state.objects]


def test_the_same_seed_lays_the_same_table_whatever_came_before(tabletop):
    first = tabletop.reset(11)
    picture = tabletop.render()
    tabletop.reset(12)
    tabletop.world.step(200)
    again = tabletop.reset(11)
    assert poses(first) == poses(again)
    np.testing.assert_array_equal(first.joints, again.joints)
    np.testing.assert_array_equal(picture, tabletop.render())
    assert again.time == 0.0 and again.seed == 11


def test_seeds_differ(tabletop):
    assert poses(tabletop.reset(1)) != poses(tabletop.reset(2))


@pytest.mark.parametrize("seed", range(10))
def test_a_table_holds_what_must_be_there_and_three_to_six_things(tabletop, seed):
    state = tabletop.reset(seed, ["thing 7", "thing 8"])
    names = [o.name for o in state.objects]
    assert names[:2] == ["thing 7", "thing 8"]
    assert 3 <= len(names) <= 6 and len(set(names)) == len(names)
    assert state.held is None
    assert state.closedness == pytest.approx(0, abs=1e-3)


def test_the_count_can_be_given(tabletop):
    assert len(tabletop.reset(0, count=8).objects) == 8


def test_pose_puts_the_hand_where_it_is_told(tabletop):
    q = tabletop.pose([0.6, -0.1, 0.05], 0.03, [("thing 1", (0.5, 0.1, 0.025), 0.2)])
    state = tabletop.state()
    np.testing.assert_allclose(state.tcp.position, [0.6, -0.1, 0.05], atol=2e-5)
    np.testing.assert_allclose(state.tcp.rotation, np.diag([1, -1, -1]), atol=2e-4)
    np.testing.assert_allclose(state.vector, [0.6, -0.1, 0.05, 0.625], atol=2e-5)
    np.testing.assert_array_equal(state.joints[:7], q)
    block = state.find("thing 1")
    np.testing.assert_allclose(block.position, [0.5, 0.1, 0.025])
    np.testing.assert_allclose(block.quaternion, [0, 0, np.sin(0.1), np.cos(0.1)], atol=1e-9)


def test_a_posed_block_is_in_the_hand(tabletop):
    tabletop.pose([0.5, 0.1, 0.2], 0.08, [("thing 1", (0.5, -0.1, 0.025), 0.0)], held="thing 2")
    state = tabletop.state()
    assert state.held == "thing 2"
    assert state.closedness == pytest.approx(0.3825)
    np.testing.assert_allclose(state.find("thing 2").position, [0.5, 0.1, 0.205], atol=1e-4)


def test_cards_and_blocks_lie_side_by_side(tabletop):
    tabletop.pose(
        [0.45, 0, 0.3],
        0.08,
        [Placement("thing 1", (0.5, 0, 0.004), 0.0, "card"), Placement("thing 2", (0.6, 0, 0.025))],
    )
    tabletop.world.step(100)
    state = tabletop.state()
    assert [o.kind for o in state.objects] == ["card", "block"]
    assert [o.height for o in state.objects] == pytest.approx([0, 0], abs=1e-3)


def test_out_of_reach_is_said(tabletop):
    with pytest.raises(Unreachable):
        tabletop.pose([1.5, 0, 0.2], 0.08)


def test_bad_requests_are_named(tabletop):
    with pytest.raises(ValueError, match="count: 30 objects, expected at most 10"):
        tabletop.reset(0, count=30)
    twice = [("thing 1", (0.5, 0, 0.025), 0.0), ("thing 1", (0.6, 0, 0.025), 0.0)]
    with pytest.raises(ValueError, match="expected each name once"):
        tabletop.pose([0.45, 0, 0.3], 0.08, twice)
    with pytest.raises(KeyError, match="no 'unicorn' on the table"):
        tabletop.state().find("unicorn")
