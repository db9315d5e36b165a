# SPDX-License-Identifier: Apache-2.0
"""Gazebo is not on the machines that run these tests: what can be known without it.

Robot, world, controllers and bridge agree with the profile and with our own simulator; SDF's own
parser takes both files, where Debian's libsdformat is installed; the launch files start what they
say, in order, where launch_ros is.
"""

import ctypes
import json
import runpy
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pinocchio as pin
import pytest
import xacro
import yaml

from rt2_ros.bringup import PROFILES, SIMULATORS, describe
from rt2_ros.control.kinematics import Kinematics
from rt2_ros.control.profile import RobotProfile
from rt2_ros.nodes import topics
from rt2_ros.paths import config_path
from rt2_ros.sim import model
from rt2_ros.sim.camera import FOVY, scene_camera
from rt2_ros.sim.world import World

LAUNCH = Path(__file__).parents[1] / "launch"
PROFILE = RobotProfile.load(config_path("robots", "panda.yaml"))
PLAIN = config_path("robots", "panda.urdf").read_text(encoding="utf-8")
WORLD = config_path("gazebo", "tabletop.sdf")
CONTROLLERS = yaml.safe_load(config_path("gazebo", "controllers.yaml").read_text())
BRIDGE = yaml.safe_load(config_path("gazebo", "bridge.yaml").read_text())


def expand(**mappings):
    return xacro.process_file(
        str(config_path("gazebo", "panda.urdf.xacro")), mappings=mappings
    ).toxml()


URDF = expand(controllers="/c.yaml", namespace="left")
ROBOT = ET.fromstring(URDF)


def numbers(text):
    return np.array(text.split(), float)


# Gazebo: the robot


def test_gazebos_arm_is_the_arm_of_the_profile():
    arm = PROFILE.kinematics(URDF)
    plain = PROFILE.kinematics(PLAIN)
    q = np.array(PROFILE.home) + 0.1
    np.testing.assert_allclose(arm.forward(q).position, plain.forward(q).position, atol=1e-12)
    assert {link.get("name") for link in ROBOT.iter("link")} == {
        link.get("name") for link in ET.fromstring(PLAIN).iter("link")
    } | {"world", "scene_camera_link", "scene_optical_frame"}


def test_every_joint_of_the_profile_is_commanded_and_begins_at_home():
    (system,) = ROBOT.findall("ros2_control")
    assert system.findtext("hardware/plugin") == "gz_ros2_control/GazeboSimSystem"
    joints = {joint.get("name"): joint for joint in system.findall("joint")}
    commanded = [n for n, joint in joints.items() if joint.find("command_interface") is not None]
    assert commanded == [*PROFILE.arm_joints, PROFILE.gripper_joint]
    assert set(joints) - set(commanded) == {"panda_finger_joint2"}  # it mirrors the other finger
    begin = {
        name: float(
            joint.findtext("state_interface[@name='position']/param[@name='initial_value']")
        )
        for name, joint in joints.items()
    }
    assert begin == dict(zip(PROFILE.arm_joints, PROFILE.home, strict=True)) | {
        "panda_finger_joint1": PROFILE.gripper_open,
        "panda_finger_joint2": PROFILE.gripper_open,
    }
    for joint in joints.values():
        assert joint.find("state_interface[@name='velocity']") is not None


def test_the_plugin_gets_the_controllers_and_the_namespace():
    plugin = ROBOT.find("gazebo/plugin")
    assert plugin.get("name") == "gz_ros2_control::GazeboSimROS2ControlPlugin"
    assert plugin.findtext("parameters") == "/c.yaml"
    assert plugin.findtext("ros/namespace") == "left"


def test_gazebos_camera_is_our_simulators():
    seen = scene_camera()
    frame = Kinematics(URDF, [PROFILE.gripper_joint], "panda_link0", "scene_optical_frame")
    pose = frame.forward(np.zeros(1))
    np.testing.assert_allclose(pose.position, seen.position, atol=1e-9)
    np.testing.assert_allclose(pose.rotation, seen.rotation, atol=1e-9)
    camera = ROBOT.find("gazebo/sensor/camera")
    width, height = (int(camera.findtext(f"image/{side}")) for side in ("width", "height"))
    assert (width, height) == (640, 480)
    focal = width / 2 / np.tan(float(camera.findtext("horizontal_fov")) / 2)
    assert focal == pytest.approx(seen.focal_length(height), rel=1e-9)
    assert focal == pytest.approx(240 / np.tan(np.radians(FOVY) / 2), rel=1e-9)


# Gazebo: the world, controllers and bridge


def sdf_models():
    return {m.get("name"): m for m in ET.parse(WORLD).getroot().find("world").findall("model")}


def test_the_table_is_our_simulators():
    table = World().model.geom("table")
    sdf = sdf_models()["table"]
    assert sdf.findtext("static") == "true"
    np.testing.assert_allclose(numbers(sdf.findtext("pose"))[:3], table.pos)
    for shape in ("collision", "visual"):
        size = numbers(sdf.findtext(f"link/{shape}/geometry/box/size"))
        np.testing.assert_allclose(size, 2 * table.size)
    assert table.pos[2] + table.size[2] == PROFILE.table_height


def test_the_blocks_are_our_simulators_and_lie_within_reach():
    blocks = {name: m for name, m in sdf_models().items() if name != "table"}
    assert len(blocks) == 3
    half, mass = np.array(model.HALF_SIZES["block"]), model.MASSES["block"]
    for block in blocks.values():
        np.testing.assert_allclose(
            numbers(block.findtext("link/collision/geometry/box/size")), 2 * half
        )
        assert float(block.findtext("link/inertial/mass")) == mass
        moment = mass * (2 * half[0]) ** 2 / 6
        assert float(block.findtext("link/inertial/inertia/ixx")) == pytest.approx(moment, rel=1e-4)
        x, y, z = numbers(block.findtext("pose"))[:3]
        assert z == half[2]
        assert PROFILE.workspace_min[0] < x < PROFILE.workspace_max[0]
        assert PROFILE.workspace_min[1] < y < PROFILE.workspace_max[1]


def test_controllers_are_those_of_the_profile_and_end_at_rest():
    manager = CONTROLLERS["/**/controller_manager"]["ros__parameters"]
    kind = {name: value["type"] for name, value in manager.items() if name != "update_rate"}
    trajectories = "joint_trajectory_controller/JointTrajectoryController"
    assert kind == {
        "joint_state_broadcaster": "joint_state_broadcaster/JointStateBroadcaster",
        PROFILE.arm_controller: trajectories,
        PROFILE.gripper_controller: trajectories,
    }
    for name, joints in (
        (PROFILE.arm_controller, list(PROFILE.arm_joints)),
        (PROFILE.gripper_controller, [PROFILE.gripper_joint]),
    ):
        parameters = CONTROLLERS[f"/**/{name}"]["ros__parameters"]
        assert parameters["joints"] == joints
        assert parameters["command_interfaces"] == ["position"]
        assert parameters["interpolate_from_desired_state"] is True
        assert parameters["allow_nonzero_velocity_at_trajectory_end"] is False


def test_the_bridge_carries_clock_and_camera_one_way():
    assert {row["direction"] for row in BRIDGE} == {"GZ_TO_ROS"}
    carried = {row["ros_topic_name"]: row for row in BRIDGE}
    wanted = (topics.CLOCK, topics.camera_image("scene"), topics.camera_info("scene"))
    assert set(carried) == {topic.name for topic in wanted}
    for topic in wanted:
        package, name = topic.type.__module__.split(".")[0], topic.type.__name__
        assert carried[topic.name]["ros_type_name"] == f"{package}/msg/{name}"
        assert carried[topic.name]["gz_type_name"] == f"gz.msgs.{name}"
    sensor = ROBOT.find("gazebo/sensor")
    said = [sensor.findtext("topic"), sensor.findtext("camera/camera_info_topic")]
    assert [carried[topic.name]["gz_topic_name"] for topic in wanted[1:]] == [f"/{t}" for t in said]


def sdformat():
    for version in range(16, 11, -1):
        try:
            return ctypes.CDLL(f"libsdformat{version}.so.{version}")
        except OSError:
            continue
    pytest.skip("libsdformat is not installed (Debian: apt install libsdformat12-12 sdformat-sdf)")


def test_sdfs_own_parser_takes_world_and_robot_and_keeps_the_camera_where_it_is(tmp_path, capfd):
    library = sdformat()
    assert library.cmdCheck(str(WORLD).encode()) == 0
    path = tmp_path / "robot.urdf"
    path.write_text(URDF)
    assert library.cmdCheck(str(path).encode()) == 0
    broken = tmp_path / "broken.sdf"
    broken.write_text(WORLD.read_text().replace("0.05 0.05 0.05", "five", 1))
    assert library.cmdCheck(str(broken).encode()) != 0
    ctypes.CDLL(None).fflush(None)
    capfd.readouterr()
    assert library.cmdPrint(str(path).encode()) == 0
    ctypes.CDLL(None).fflush(None)
    converted = ET.fromstring(capfd.readouterr().out)
    links = {link.get("name"): link for link in converted.iter("link")}
    # The camera's link has no mass: what becomes of it is that its sensor sits on the arm's base.
    pose = numbers(links["panda_link0"].findtext("sensor/pose"))
    camera = scene_camera()
    np.testing.assert_allclose(pose[:3], camera.position, atol=1e-4)
    np.testing.assert_allclose(
        pin.rpy.rpyToMatrix(pose[3:]) @ [1, 0, 0], camera.rotation[:, 2], atol=1e-4
    )


# The launch files: launch_ros is not on PyPI. Without it they run with stand-ins, which tell what
# was asked of them; with it they are launched, below.

MODULES = (
    "launch", "launch.actions", "launch.event_handlers", "launch.launch_description_sources",
    "launch.substitutions", "launch_ros", "launch_ros.actions",
    "launch_ros.parameter_descriptions", "launch_ros.substitutions",
)  # fmt: skip


@pytest.fixture
def asked(monkeypatch):
    """Return what a launch file asks of Node: the keywords of each, in order."""
    for module in MODULES:
        monkeypatch.setitem(sys.modules, module, MagicMock())
    sys.modules["launch.substitutions"].LaunchConfiguration = lambda key: SimpleNamespace(
        perform=lambda context: context[key]
    )

    def asked(name, **given):
        actions, node = sys.modules["launch.actions"], sys.modules["launch_ros.actions"].Node
        for called in (actions.DeclareLaunchArgument, actions.OpaqueFunction, node):
            called.reset_mock()
        file = runpy.run_path(str(LAUNCH / name))
        file["generate_launch_description"]()
        defaults = {
            call.args[0]: call.kwargs["default_value"]
            for call in actions.DeclareLaunchArgument.call_args_list
        }
        assert given.keys() <= defaults.keys()
        for call in actions.OpaqueFunction.call_args_list:
            call.kwargs["function"]({**defaults, **given})
        return [call.kwargs for call in node.call_args_list]

    return asked


@pytest.mark.parametrize("sim", SIMULATORS)
def test_bringup_asks_for_the_nodes_of_the_description(asked, sim):
    given = {"policy": "hold", "sim": sim, "namespace": "left"}
    graph = describe(**given)
    nodes = asked("bringup.launch.py", **given)
    assert [(n["package"], n["executable"], n["arguments"]) for n in nodes] == [
        ("rt2_ros", node.executable, node.ros_args()) for node in graph.robot
    ]
    assert [n["additional_env"] for n in nodes] == [dict(n.environment) for n in graph.robot]
    simulated = asked("simulation.launch.py", **given) if sim == "mujoco" else []
    assert [(n["executable"], n["arguments"]) for n in simulated] == [
        (node.executable, node.ros_args()) for node in graph.simulation
    ]


def test_the_other_launch_files_ask_for_what_they_say(asked):
    nodes = asked("gazebo.launch.py", namespace="left", headless="true")
    assert {n["executable"] for n in nodes} >= {
        "robot_state_publisher", "parameter_bridge", "create"
    }  # fmt: skip
    assert [n["executable"] for n in asked("moveit.launch.py")] == ["move_group", "servo_node"]
    alone = asked("moveit.launch.py", move_group="false")
    assert [n["executable"] for n in alone] == ["servo_node"]


@pytest.fixture
def ros_launch(monkeypatch, tmp_path):
    """`launch`, and in the index a package ros_gz_sim, whose launch file writes what it is given.

    `start` returns that, the context, and what is started at once.
    """
    sources = pytest.importorskip("launch.launch_description_sources")
    pytest.importorskip("launch_ros")
    index = tmp_path / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    (index / "ros_gz_sim").touch()
    folder = tmp_path / "share" / "ros_gz_sim" / "launch"
    folder.mkdir(parents=True)
    given = tmp_path / "given.json"
    (folder / "gz_sim.launch.py").write_text(
        "import json\n"
        "from launch import LaunchDescription\n"
        "from launch.actions import OpaqueFunction\n"
        "def note(context):\n"
        "    given = dict(context.environment) | context.launch_configurations\n"
        f"    open({str(given)!r}, 'w').write(json.dumps(given))\n"
        "def generate_launch_description():\n"
        "    return LaunchDescription([OpaqueFunction(function=note)])\n"
    )
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    monkeypatch.delenv(PROFILES)

    def start(name, **arguments):
        import launch

        context = launch.LaunchContext()
        context.launch_configurations.update(arguments)
        description = sources.get_launch_description_from_python_launch_file(str(LAUNCH / name))
        actions = list(walk(description.entities, context))
        return json.loads(given.read_text()) if given.exists() else {}, context, actions

    return start


def walk(entities, context):
    """Visit what is no node; give nodes and event handlers."""
    from launch.actions import RegisterEventHandler
    from launch_ros.actions import Node

    for entity in entities or []:
        if isinstance(entity, (Node, RegisterEventHandler)):
            yield entity
        else:
            yield from walk(entity.visit(context), context)


def is_node(action):
    return hasattr(action, "node_executable")


@pytest.mark.parametrize("headless", ["true", "false"])
def test_gazebo_gets_world_arm_and_controllers_one_after_the_other(ros_launch, headless):
    from launch.events.process import ProcessExited

    given, context, actions = ros_launch("gazebo.launch.py", namespace="left", headless=headless)
    window = "--headless-rendering -s " if headless == "true" else ""
    assert given["gz_args"] == f"{window}-r -v 4 {WORLD}"
    assert given["on_exit_shutdown"] == "true"
    # Gazebo's own process holds the controllers: it does not leave the computer, others may.
    assert given[PROFILES] == str(config_path("fastdds.xml"))
    assert PROFILES not in context.environment
    nodes = [action for action in actions if is_node(action)]
    assert [node.node_executable for node in nodes] == [
        "robot_state_publisher",
        "parameter_bridge",
        "create",
    ]
    handlers = [action.event_handler for action in actions if not is_node(action)]

    def ended(node, status):
        event = ProcessExited(
            action=node, name="it", cmd=[], cwd=None, env=None, pid=1, returncode=status
        )
        (handler,) = [h for h in handlers if h.matches(event)]
        return handler.handle(event, context) or []

    (broadcaster,) = ended(nodes[2], 0)
    (controllers,) = ended(broadcaster, 0)
    assert ended(controllers, 0) == []
    words = [
        [word.text for part in action.cmd[1:] for word in part if hasattr(word, "text")]
        for action in (broadcaster, controllers)
    ]
    assert words[0][0] == "joint_state_broadcaster"
    assert words[1][:2] == [PROFILE.arm_controller, PROFILE.gripper_controller]
    for failed in (nodes[2], broadcaster, controllers):
        (shutdown,) = ended(failed, 1)
        assert type(shutdown).__name__ == "Shutdown"


def test_bringup_starts_gazebo_and_our_nodes_on_its_time(ros_launch):
    given, _, actions = ros_launch("bringup.launch.py", policy="hold", sim="gazebo")
    started = [action.node_executable for action in actions if is_node(action)]
    assert started == [
        *("robot_state_publisher", "parameter_bridge", "create"),
        *("camera_node", "policy_node", "controller_node"),
    ]
    assert "tabletop.sdf" in given["gz_args"]


def test_moveit_launch_starts_move_group_and_servo(ros_launch):
    *_, actions = ros_launch("moveit.launch.py", use_sim_time="true")
    assert [action.node_executable for action in actions] == ["move_group", "servo_node"]
    *_, actions = ros_launch("moveit.launch.py", move_group="false")
    assert [action.node_executable for action in actions] == ["servo_node"]


def test_our_nodes_follow_gazebos_time_and_only_a_simulated_arm_starts_armed(tmp_path):
    for sim in SIMULATORS:
        nodes = {node.name: node.parameters for node in describe(policy="hold", sim=sim).robot}
        assert all(p["use_sim_time"] is (sim == "gazebo") for p in nodes.values())
        assert nodes["controller_node"]["start_armed"] is (sim != "none")
    mine = tmp_path / "mine.yaml"
    mine.touch()
    with pytest.raises(ValueError, match="sim 'gazebo' has only robot 'panda'"):
        describe(robot=str(mine), policy="hold", sim="gazebo")
