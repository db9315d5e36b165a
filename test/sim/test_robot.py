# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from rt2_ros.sim.robot import SimulatedRobot
from rt2_ros.sim.world import HOME

REST = np.zeros(7)


@pytest.fixture
def robot(tabletop):
    tabletop.world.set_joints(HOME, 0.08)
    tabletop.world.update()
    return SimulatedRobot(tabletop.world)


def test_it_names_its_joints_in_order(robot):
    assert robot.joint_names[0] == "panda_joint1" and robot.joint_names[7] == "panda_finger_joint1"
    np.testing.assert_allclose(robot.positions(), [*HOME, 0.04, 0.04])
    np.testing.assert_array_equal(robot.velocities(), np.zeros(9))


def test_it_follows_a_trajectory_to_rest(robot):
    target = HOME + 0.1
    robot.follow_arm([(0.3, target, REST)])
    robot.advance(0.15)
    np.testing.assert_allclose(robot.positions()[:7], HOME + 0.05, atol=0.015)
    assert (robot.velocities()[:7] > 0.2).all()
    robot.advance(0.35)
    np.testing.assert_allclose(robot.positions()[:7], target, atol=2e-3)


def test_a_new_trajectory_replaces_the_old_one(robot):
    robot.follow_arm([(0.4, HOME + 0.2, REST)])
    robot.advance(0.2)
    robot.follow_arm([(0.3, HOME, REST)])
    robot.advance(0.8)
    np.testing.assert_allclose(robot.positions()[:7], HOME, atol=2e-3)


def test_the_gripper_follows_its_own(robot):
    robot.follow_gripper([(0.2, [0.01], [0.0])])
    robot.advance(0.5)
    np.testing.assert_allclose(robot.positions()[7:], [0.01, 0.01], atol=1e-3)
    np.testing.assert_allclose(robot.positions()[:7], HOME, atol=1e-3)


def test_reset_holds_the_joints_where_they_are(robot):
    robot.follow_arm([(1.0, HOME + 0.5, REST)])
    robot.reset()
    robot.advance(0.5)
    np.testing.assert_allclose(robot.positions()[:7], HOME, atol=1e-4)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([(0.3, HOME, REST), (0.3, HOME, REST)], "strictly increasing"),
        ([(0.0, HOME, REST)], "strictly increasing"),
        ([(0.3, HOME, REST + 0.1)], "expected 0"),
        ([(0.3, HOME[:3], REST[:3])], "expected 7 positions"),
        ([(0.3, HOME * np.nan, REST)], "expected finite"),
    ],
)
def test_a_bad_trajectory_is_refused_and_moves_nothing(robot, points, message):
    with pytest.raises(ValueError, match=message):
        robot.follow_arm(points)
    robot.advance(0.3)
    np.testing.assert_allclose(robot.positions()[:7], HOME, atol=1e-4)
