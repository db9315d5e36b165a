# SPDX-License-Identifier: Apache-2.0
"""The simulated world alone: `ros2 launch rt2_ros simulation.launch.py sim:=mujoco`.

What is started is written in rt2_ros/bringup.py, and for `sim:=gazebo` in gazebo.launch.py.
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


def simulation_nodes(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    arguments = {a.name: LaunchConfiguration(a.name).perform(context) for a in ARGUMENTS}
    graph = describe(**arguments)
    if arguments["sim"] == "gazebo":
        source = PythonLaunchDescriptionSource(str(Path(__file__).with_name("gazebo.launch.py")))
        return [
            IncludeLaunchDescription(
                source, launch_arguments={"namespace": arguments["namespace"]}.items()
            )
        ]
    return [
        Node(
            package=PACKAGE,
            executable=node.executable,
            arguments=node.ros_args(),
            additional_env=dict(node.environment),
            output="screen",
            on_exit=Shutdown(reason=f"{node.full_name} ended"),
        )
        for node in graph.simulation
    ]


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
        + [OpaqueFunction(function=simulation_nodes)]
    )
