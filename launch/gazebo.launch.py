# SPDX-License-Identifier: Apache-2.0
"""Gazebo Harmonic with the table, the Panda and the scene camera, in place of our own simulator.

    ros2 launch rt2_ros bringup.launch.py sim:=gazebo       # this and our nodes
    ros2 launch rt2_ros gazebo.launch.py headless:=true     # this alone, without a window

Each step waits for the one before to end well: Gazebo gets the arm, then the joint state
broadcaster, then the controllers of arm and gripper. What ends badly ends everything.
"""

from collections.abc import Callable
from typing import Any

import xacro
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from rt2_ros.bringup import environment
from rt2_ros.control.profile import RobotProfile
from rt2_ros.paths import config_path

CONTROLLER_MANAGER_S = "60"  # for Gazebo to load the controller manager
ON_SIM_TIME: dict[str, Any] = {"use_sim_time": True}


def gazebo(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    namespace = LaunchConfiguration("namespace").perform(context)
    headless = LaunchConfiguration("headless").perform(context) == "true"
    profile = RobotProfile.load(config_path("robots", "panda.yaml"))
    controllers = str(config_path("gazebo", "controllers.yaml"))
    urdf = xacro.process_file(
        str(config_path("gazebo", "panda.urdf.xacro")),
        mappings={"controllers": controllers, "namespace": namespace},
    ).toxml()

    def node(package: str, executable: str, **options: Any) -> Node:
        return Node(
            package=package,
            executable=executable,
            namespace=namespace,
            additional_env=environment(),
            output="screen",
            **options,
        )

    def spawner(*names: str) -> Node:
        options = ("--param-file", controllers, "--controller-manager-timeout")
        return node(
            "controller_manager",
            "spawner",
            arguments=[*names, *options, CONTROLLER_MANAGER_S],
            parameters=[ON_SIM_TIME],
        )

    world = config_path("gazebo", "tabletop.sdf")
    window = "--headless-rendering -s " if headless else ""
    simulation = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([FindPackageShare("ros_gz_sim"), "launch", "gz_sim.launch.py"])
        ),
        launch_arguments={
            "gz_args": f"{window}-r -v 4 {world}",
            "on_exit_shutdown": "true",
        }.items(),
    )
    # The controller manager lives in Gazebo's process, which must not leave this computer either.
    transport = [SetEnvironmentVariable(name, value) for name, value in environment().items()]
    state_publisher = node(
        "robot_state_publisher",
        "robot_state_publisher",
        parameters=[{"robot_description": ParameterValue(urdf, value_type=str)}, ON_SIM_TIME],
        on_exit=Shutdown(reason="robot_state_publisher ended"),
    )
    bridge = node(
        "ros_gz_bridge",
        "parameter_bridge",
        parameters=[{"config_file": str(config_path("gazebo", "bridge.yaml"))}, ON_SIM_TIME],
        on_exit=Shutdown(reason="ros_gz_bridge ended"),
    )
    create = node(
        "ros_gz_sim",
        "create",
        arguments=["-topic", "robot_description", "-name", "arm"],
        parameters=[ON_SIM_TIME],
    )
    broadcaster = spawner("joint_state_broadcaster")
    commanded = spawner(profile.arm_controller, profile.gripper_controller)
    return [
        GroupAction([*transport, simulation]),  # scoped: what else is launched keeps its own
        state_publisher,
        bridge,
        create,
        after(create, broadcaster),
        after(broadcaster, commanded),
        after(commanded),
    ]


def after(first: Node, *then: Node) -> RegisterEventHandler:
    """Start `then` when `first` has ended with status 0; end everything when it failed."""

    def ended(event: Any, context: LaunchContext) -> list[LaunchDescriptionEntity]:
        if event.returncode == 0:
            return list(then)
        return [Shutdown(reason=f"{event.process_name} failed (status {event.returncode})")]

    on_exit: Callable[..., Any] = ended
    return RegisterEventHandler(OnProcessExit(target_action=first, on_exit=on_exit))


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "namespace", default_value="", description="Namespace of the arm's topics."
            ),
            DeclareLaunchArgument(
                "headless",
                default_value="false",
                choices=["true", "false"],
                description="No window; the camera still sees.",
            ),
            OpaqueFunction(function=gazebo),
        ]
    )
