# SPDX-License-Identifier: Apache-2.0
"""What MoveIt is told agrees with profile and URDF; MoveIt itself is not on these machines."""

import itertools
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import numpy as np
import pinocchio as pin
import pytest

from rt2_ros.control.profile import RobotProfile
from rt2_ros.moveit_config import description, move_group_parameters, servo_parameters
from rt2_ros.nodes import topics
from rt2_ros.paths import config_path

PROFILE = RobotProfile.load(config_path("robots", "panda.yaml"))
PLAIN = config_path("robots", "panda.urdf").read_text(encoding="utf-8")


def test_moveit_may_do_no_more_than_our_controller():
    limits = description(PROFILE, PLAIN)["robot_description_planning"]["joint_limits"]
    assert list(limits) == list(PROFILE.arm_joints)
    for joint, low, high, velocity, acceleration in zip(
        PROFILE.arm_joints,
        PROFILE.joint_lower,
        PROFILE.joint_upper,
        PROFILE.joint_velocity,
        PROFILE.joint_acceleration,
        strict=True,
    ):
        said = limits[joint]
        assert (said["min_position"], said["max_position"]) == (low, high)
        assert (said["max_velocity"], said["max_acceleration"]) == (velocity, acceleration)
    servo = servo_parameters(PROFILE, PLAIN)["moveit_servo"]
    assert servo["command_in_type"] == "speed_units" and servo["incoming_command_timeout"] == 0.1
    assert servo["scale"] == {"linear": 0.5, "rotational": 1.5}
    assert servo["move_group_name"] == PROFILE.move_group == "panda_arm"
    assert servo["command_out_topic"] == topics.joint_trajectory(PROFILE.arm_controller).name
    assert servo["check_collisions"] is True
    assert servo["is_primary_planning_scene_monitor"] is False
    assert servo["monitored_planning_scene_topic"] == "monitored_planning_scene"  # move_group's
    alone = servo_parameters(PROFILE, PLAIN, primary_scene=True)["moveit_servo"]
    assert alone["is_primary_planning_scene_monitor"] is True


def test_moveit_sends_to_the_controllers_of_the_profile():
    manager = move_group_parameters(PROFILE, PLAIN)["moveit_simple_controller_manager"]
    assert manager["controller_names"] == [PROFILE.arm_controller, PROFILE.gripper_controller]
    assert manager[PROFILE.arm_controller]["joints"] == list(PROFILE.arm_joints)
    assert manager[PROFILE.gripper_controller]["joints"] == [PROFILE.gripper_joint]


def test_another_robot_is_refused():
    other = SimpleNamespace(name="iiwa14")
    with pytest.raises(ValueError, match="for robot 'panda' only, not 'iiwa14'"):
        description(other, PLAIN)


def srdf():
    return ET.fromstring(description(PROFILE, PLAIN)["robot_description_semantic"])


def test_the_srdf_names_what_the_urdf_has():
    urdf = ET.fromstring(PLAIN)
    links = {link.get("name") for link in urdf.iter("link")}
    joints = {joint.get("name") for joint in urdf.iter("joint")}
    root = srdf()
    named = {e.get(k) for e in root.iter() for k in ("link1", "link2", "base_link", "tip_link")}
    assert named - {None} <= links
    assert {e.get("name") for tag in ("joint", "passive_joint") for e in root.iter(tag)} <= joints
    chain = root.find("group[@name='panda_arm']/chain")
    assert chain.get("base_link") == PROFILE.base_frame
    assert chain.get("tip_link") == PROFILE.tip_frame
    home = {j.get("name"): float(j.get("value")) for j in root.find("group_state[@name='home']")}
    assert home == dict(zip(PROFILE.arm_joints, PROFILE.home, strict=True))


def test_only_neighbours_and_links_that_never_meet_are_not_checked():
    arm = pin.buildModelFromXML(PLAIN)
    shapes = pin.buildGeomFromUrdfString(arm, PLAIN, pin.GeometryType.COLLISION)
    link = [arm.frames[shape.parentFrame].name for shape in shapes.geometryObjects]
    unchecked = {
        frozenset((e.get("link1"), e.get("link2"))): e.get("reason")
        for e in srdf().iter("disable_collisions")
    }
    for a, b in itertools.combinations(range(len(link)), 2):
        if unchecked.get(frozenset((link[a], link[b]))) == "Never":
            shapes.addCollisionPair(pin.CollisionPair(a, b))
    data, shape_data = arm.createData(), shapes.createData()
    rng = np.random.default_rng(1)
    for _ in range(2000):
        q = rng.uniform(arm.lowerPositionLimit, arm.upperPositionLimit)
        assert not pin.computeCollisions(arm, data, shapes, shape_data, q, True)
