# SPDX-License-Identifier: Apache-2.0
"""What MoveIt and MoveIt Servo are told, from our robot profile and config/moveit. No ROS.

    profile = RobotProfile.load(config_path("robots", "panda.yaml"))
    urdf = config_path("robots", "panda.urdf").read_text()
    limits = description(profile, urdf)["robot_description_planning"]["joint_limits"]
    limits["panda_joint1"]["max_velocity"]      # 1.7 rad/s: the profile's, below the URDF's 2.175

`launch/moveit.launch.py` gives these to move_group and servo_node. What MoveIt may do is thereby
bounded by the same numbers as our own controller.
"""

from __future__ import annotations

from typing import Any

import yaml

from rt2_ros.control.profile import RobotProfile
from rt2_ros.paths import config_path

ROBOT = "panda"  # the robot that config/moveit describes


def description(profile: RobotProfile, urdf: str) -> dict[str, Any]:
    """Return URDF, SRDF, kinematics and joint limits, which every MoveIt node takes.

    urdf: XML text. ValueError if config/moveit does not describe this robot, or if profile and URDF
    disagree, naming the joint, frame or limit.
    """
    if profile.name != ROBOT:
        raise ValueError(f"MoveIt is configured for robot '{ROBOT}' only, not '{profile.name}'")
    profile.kinematics(urdf)
    limits = {
        joint: {
            "has_position_limits": True,
            "min_position": lower,
            "max_position": upper,
            "has_velocity_limits": True,
            "max_velocity": velocity,
            "has_acceleration_limits": True,
            "max_acceleration": acceleration,
        }
        for joint, lower, upper, velocity, acceleration in zip(
            profile.arm_joints,
            profile.joint_lower,
            profile.joint_upper,
            profile.joint_velocity,
            profile.joint_acceleration,
            strict=True,
        )
    }
    return {
        "robot_description": urdf,
        "robot_description_semantic": _text("panda.srdf"),
        "robot_description_kinematics": _read("move_group.yaml")["robot_description_kinematics"],
        "robot_description_planning": {
            "joint_limits": limits,
            "default_velocity_scaling_factor": 0.1,  # a plan of a person's who says nothing is slow
            "default_acceleration_scaling_factor": 0.1,
        },
    }


def move_group_parameters(profile: RobotProfile, urdf: str) -> dict[str, Any]:
    """Return all parameters of move_group, nested as a parameter file nests them."""
    return {**_read("move_group.yaml"), **description(profile, urdf)}


def servo_parameters(
    profile: RobotProfile, urdf: str, primary_scene: bool = False
) -> dict[str, Any]:
    """Return all parameters of Servo's node.

    primary_scene: no move_group runs that keeps the planning scene, so Servo keeps it.
    """
    servo = _read("servo.yaml")
    servo |= {
        "move_group_name": profile.move_group,
        "command_out_topic": f"{profile.arm_controller}/joint_trajectory",
        "is_primary_planning_scene_monitor": primary_scene,
        # Where move_group tells what it knows; of what comes later Servo hears nowhere else.
        "monitored_planning_scene_topic": "planning_scene"
        if primary_scene
        else "monitored_planning_scene",
        "scale": {"linear": profile.max_linear_speed, "rotational": profile.max_angular_speed},
        "lower_singularity_threshold": profile.singularity_slow,
        "hard_stop_singularity_threshold": profile.singularity_stop,
    }
    return {
        **description(profile, urdf),
        "moveit_servo": servo,
        # Of the smoothing plugin, which reads them beside Servo's own.
        "update_period": servo["publish_period"],
        "planning_group_name": profile.move_group,
    }


def _text(name: str) -> str:
    return config_path("moveit", name).read_text(encoding="utf-8")


def _read(name: str) -> Any:
    return yaml.safe_load(_text(name))
