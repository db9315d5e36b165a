# SPDX-License-Identifier: Apache-2.0
"""MoveIt's move_group and MoveIt Servo for the Panda, beside a graph that runs.

    ros2 launch rt2_ros bringup.launch.py sim:=gazebo
    ros2 launch rt2_ros moveit.launch.py use_sim_time:=true     # from another terminal
    ros2 launch rt2_ros moveit.launch.py network:=true          # beside a real arm

Their parameters are in config/moveit and rt2_ros/moveit_config.py. A graph that is to use them
has `bridge: moveit_servo` or `bridge: moveit` in its robot profile, as its argument (`bridge:=`),
or as controller_node's parameter. The arm must be one of ros2_control: move_group carries out plans
by the actions of its controllers, which our own simulator has not (Servo needs only their topic).
"""

from typing import Any

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from rt2_ros.bringup import environment
from rt2_ros.control.profile import RobotProfile
from rt2_ros.moveit_config import ROBOT, move_group_parameters, servo_parameters
from rt2_ros.paths import config_path

ARGUMENTS = (
    ("namespace", "", "Namespace of the arm's topics.", None),
    ("use_sim_time", "false", "Follow the simulator's /clock.", ["true", "false"]),
    (
        "network",
        "false",
        "Reach other machines, as a real arm's driver may be on one.",
        ["true", "false"],
    ),
    ("move_group", "true", "Start move_group.", ["true", "false"]),
    ("servo", "true", "Start MoveIt Servo.", ["true", "false"]),
)


def moveit(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    given = {name: LaunchConfiguration(name).perform(context) for name, *_ in ARGUMENTS}
    profile = RobotProfile.load(config_path("robots", f"{ROBOT}.yaml"))
    urdf = config_path("robots", f"{ROBOT}.urdf").read_text(encoding="utf-8")
    with_move_group = given["move_group"] == "true"
    sim_time = {"use_sim_time": given["use_sim_time"] == "true"}

    def node(package: str, executable: str, name: str | None, parameters: dict[str, Any]) -> Node:
        return Node(
            package=package,
            executable=executable,
            name=name,
            namespace=given["namespace"],
            parameters=[parameters, sim_time],
            additional_env=environment(network=given["network"] == "true"),
            output="screen",
            on_exit=Shutdown(reason=f"{executable} ended"),
        )

    nodes: list[LaunchDescriptionEntity] = []
    if with_move_group:
        parameters = move_group_parameters(profile, urdf)
        # Without a name: that would be each node's of its process, and the parameters one node's.
        nodes.append(node("moveit_ros_move_group", "move_group", None, parameters))
    if given["servo"] == "true":
        parameters = servo_parameters(profile, urdf, primary_scene=not with_move_group)
        nodes.append(node("moveit_servo", "servo_node", profile.servo_node, parameters))
    return nodes


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            DeclareLaunchArgument(name, default_value=default, description=text, choices=choices)
            for name, default, text, choices in ARGUMENTS
        ]
        + [OpaqueFunction(function=moveit)]
    )
