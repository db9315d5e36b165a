# SPDX-License-Identifier: Apache-2.0
import dataclasses

import numpy as np
import pytest
import yaml

from rt2_ros.control.profile import RobotProfile
from rt2_ros.paths import config_path


@pytest.fixture
def data():
    return yaml.safe_load(config_path("robots", "panda.yaml").read_text())


def test_panda_home_lies_in_its_workspace(profile, kinematics):
    tip = kinematics.forward(profile.home).position
    assert (np.array(profile.workspace_min) < tip).all()
    assert (tip < np.array(profile.workspace_max)).all()


def test_closedness_runs_from_open_to_closed(profile):
    assert profile.gripper_position(0.0) == 0.04
    assert profile.gripper_position(1.0) == 0.0
    assert profile.gripper_closedness(0.01) == pytest.approx(0.75)
    assert profile.gripper_closedness(0.05) == 0.0


def test_a_thin_box_needs_the_arms_shapes_to_be_kept_off(data):
    board = [[0.5, -0.1, 0.0], [0.502, 0.1, 0.3]]
    assert RobotProfile.from_dict({**data, "keep_out": [board]}).keep_out
    with pytest.raises(ValueError, match="keep_out: .*expected boxes of 0.02 m or more each way"):
        RobotProfile.from_dict({**data, "keep_out": [board], "self_collision": False})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("base_frame", "", "base_frame: '', expected a non-empty text"),
        ("time_to_live", -1, "time_to_live: -1.0, expected above 0"),
        ("time_to_live", "soon", "time_to_live: 'soon', expected a finite number"),
        ("control_rate", float("nan"), "control_rate: nan, expected a finite number"),
        ("control_rate", 1.0, "control_rate: 1.0, expected 10 or more"),
        ("gripper_settle", True, "gripper_settle: True, expected a finite number"),
        ("home", [0.0] * 6, "home: .*, expected 7 numbers"),
        ("home", [9.0] * 7, "home of panda_joint1: 9.0, expected in -2.85 .. 2.85"),
        ("home", 3, "home: 3, expected a list"),
        ("arm_joints", ["a"] * 7, "arm_joints: .*, expected distinct joint names"),
        ("joint_velocity", [0.0] * 7, "joint_velocity: .*, expected numbers above 0"),
        ("joint_lower", [3.0] * 7, "joint_lower of panda_joint1: 3.0, expected below"),
        ("workspace_min", [0.8, 0.0, 0.1], "workspace_min x: 0.8, expected below workspace_max"),
        ("table_height", 0.2, "workspace_min z: 0.012, expected 0.005 m or more above"),
        ("gripper_closed", 0.04, "gripper_open: 0.04, expected different from gripper_closed"),
        ("speed", 1.0, "speed: not a key of a robot profile"),
        ("bridge", "magic", "bridge: 'magic', expected one of joint_trajectory, moveit_servo"),
        ("servo_command", "joint", "servo_command: 'joint', expected one of twist, pose"),
        ("gripper_action", "cmd", "gripper_action: 'cmd', expected empty, as gripper_command is"),
        ("gripper_command", "parallel_gripper", "gripper_action: '', expected a name, as"),
        ("keep_out", [[0, 0, 0]], "keep_out: .*, expected a list of boxes"),
        ("keep_out", [[[0, 0, 0], [1, 0, 1]]], "keep_out: .*, expected a list of boxes"),
        ("self_collision", 1, "self_collision: 1, expected true or false"),
        ("singularity_slow", 40, "singularity_slow: 40.0, expected in 1 .. singularity_stop, 30"),
        ("min_confidence", 1.5, "min_confidence: 1.5, expected in 0..1"),
        ("ensemble_horizon", 1.5, "ensemble_horizon: 1.5, expected a whole number"),
        ("ensemble_horizon", 0, "ensemble_horizon: 0, expected 1 or more"),
        ("gripper_settle", 0.2, "gripper_settle: 0.2, expected 0.25 or more"),
        ("smoothing_time", -0.1, "smoothing_time: -0.1, expected 0 or more"),
    ],
)
def test_errors_name_key_value_and_expected(data, tmp_path, key, value, message):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**data, key: value}))
    with pytest.raises(ValueError, match=f"mine.yaml: {message}"):
        RobotProfile.load(path)


def test_missing_keys_are_named(data):
    del data["home"], data["tip_frame"]
    with pytest.raises(ValueError, match="missing home, tip_frame"):
        RobotProfile.from_dict(data)


def test_unknown_robot_names_those_that_exist():
    with pytest.raises(ValueError, match="robot 'r2d2': no .*r2d2.yaml; there are: .*panda"):
        RobotProfile.load(config_path("robots", "panda.yaml").with_name("r2d2.yaml"))


@pytest.mark.parametrize("text", ["- a\n- b\n", "", "a: [1\n"])
def test_a_file_that_is_no_mapping_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match="mine.yaml") as caught:
        RobotProfile.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gripper_joint": "claw"}, "joint 'claw': not in the URDF"),
        ({"tip_frame": "nose"}, "frame 'nose': not in the URDF"),
        ({"joint_upper": (2.85, 1.72, 2.85, -0.12, 2.85, 3.70, 2.95)}, "panda_joint7: limits"),
        ({"joint_velocity": (9.0,) * 7}, "joint_velocity of panda_joint1: 9.0, expected at most"),
        ({"gripper_open": 0.08}, "gripper_open: 0.08, expected in 0 .. 0.04"),
    ],
)
def test_what_the_urdf_does_not_allow_is_refused_by_name(profile, urdf, changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(profile, **changes).kinematics(urdf)


def test_a_joint_without_end_keeps_away_from_where_its_reading_jumps(profile, urdf):
    endless = urdf.replace('"panda_joint3" type="revolute"', '"panda_joint3" type="continuous"')
    profile.kinematics(endless)
    home, lower, upper = (
        list(getattr(profile, key)) for key in ("home", "joint_lower", "joint_upper")
    )
    home[2], lower[2], upper[2] = np.pi, 0.1, 6.2
    over = dataclasses.replace(profile, home=home, joint_lower=lower, joint_upper=upper)
    with pytest.raises(ValueError, match="joint_upper of panda_joint3: 6.2, expected in -pi .. pi"):
        over.kinematics(endless)


def test_no_home_lies_where_the_reading_of_a_joint_jumps():
    for robot in ROBOTS:
        profile = RobotProfile.load(config_path("robots", f"{robot}.yaml"))
        assert np.abs(profile.home).max() < np.pi - 0.5, robot


def test_a_joint_of_the_arm_that_the_urdf_lacks_is_named(profile, urdf):
    names = ("panda_joint1x", *profile.arm_joints[1:])
    with pytest.raises(ValueError, match="joint 'panda_joint1x': not in the URDF"):
        dataclasses.replace(profile, arm_joints=names).kinematics(urdf)


ROBOTS = ("fr3", "gen3", "iiwa14", "panda", "template", "xarm7")


def test_these_robots_are_there():
    assert {p.stem for p in config_path("robots").glob("*.yaml")} >= set(ROBOTS)


@pytest.mark.parametrize("robot", ROBOTS)
def test_each_profile_is_valid_and_sees_to_it_that_a_person_can_stop_it(robot):
    profile = RobotProfile.load(config_path("robots", f"{robot}.yaml"))
    assert profile.name == robot
    assert len(profile.arm_joints) == 7
    # An arm at full tip speed comes to rest in 10 cm.
    assert profile.max_linear_speed**2 / (2 * profile.max_linear_acceleration) < 0.1
    assert profile.time_to_live <= 1.0


def test_the_template_explains_every_key():
    lines = config_path("robots", "template.yaml").read_text().splitlines()
    keys = [line for line in lines if line and not line.startswith("#")]
    assert [line for line in keys if "#" not in line] == []
    assert len(keys) == len(dataclasses.fields(RobotProfile))


def test_a_robot_without_a_gripper_needs_no_gripper_joint(profile, urdf):
    changes = {"gripper_command": "none", "gripper_joint": "", "gripper_controller": ""}
    dataclasses.replace(profile, **changes).kinematics(urdf)
    with pytest.raises(ValueError, match="gripper_joint: '', expected a name, as gripper_command"):
        dataclasses.replace(profile, gripper_joint="")
