# SPDX-License-Identifier: Apache-2.0
"""The whole graph: `ros2 launch rt2_ros bringup.launch.py policy:=rt2-tiny sim:=mujoco`.

What is started is written in rt2_ros/bringup.py, which `rt2 up` reads too. When one node ends, all
of them do: an arm is not left with half of its graph.
"""

from pathlib import Path

from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    Shutdown,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from rt2_ros.bringup import ARGUMENTS, PACKAGE, describe


def robot_nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    arguments = {a.name: LaunchConfiguration(a.name).perform(context) for a in ARGUMENTS}
    graph = describe(**arguments)
    actions: list[LaunchDescriptionEntity] = [
        Node(
            package=PACKAGE,
            executable=node.executable,
            arguments=node.ros_args(),
            additional_env=dict(node.environment),
            output="screen",
            on_exit=Shutdown(reason=f"{node.full_name} ended"),
        )
        for node in graph.robot
    ]
    if arguments["sim"] != "none":
        simulation = Path(__file__).with_name("simulation.launch.py")
        actions.insert(
            0,
            IncludeLaunchDescription(
                PythonLaunchDescriptionSource(str(simulation)),
                launch_arguments=arguments.items(),
            ),
        )
    return actions


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                a.name,
                default_value=a.default,
                description=a.text,
                choices=list(a.choices) or None,
            )
            for a in ARGUMENTS
        ]
        + [OpaqueFunction(function=robot_nodes)]
    )
