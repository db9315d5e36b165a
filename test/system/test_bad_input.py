# SPDX-License-Identifier: Apache-2.0
"""Each kind of bad input ends in one clear line: what, where, what to do. Nothing moves."""

import os

import pytest
from sensor_msgs.msg import CompressedImage, JointState
from std_msgs.msg import String
from std_srvs.srv import SetBool

from rt2_ros.msg import ControllerStatus
from rt2_ros.nodes import topics
from rt2_ros.paths import config_path

ARM = topics.joint_trajectory("panda_arm_controller")
URDF = config_path("robots", "panda.urdf").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("node", "parameters", "line"),
    [
        (
            node,
            {"robot": "pandora"},
            "configure: robot 'pandora': no {config}/robots/pandora.yaml; there are: fr3, "
            "gen3, iiwa14, panda, template, xarm7",
        )
        for node in ("camera_node", "controller_node", "simulator_node")
    ]
    + [
        (
            "camera_node",
            {"image_size": 8},
            "camera_node.py: parameter image_size: got 8, expected int from 16 to 2048 px",
        ),
        (
            "camera_node",
            {"max_image_age": 1},
            "camera_node.py: parameter max_image_age: got 1, expected float from 0.02 to 10 s; "
            "write 1.0",
        ),
        (
            "camera_node",
            {"transport": "theora"},
            "camera_node.py: parameter transport: got 'theora', expected one of raw, compressed",
        ),
        (
            "camera_node",
            {"cameras": "['']"},
            "configure: cameras: expected one or more different names, got []",
        ),
        (
            "camera_node",
            {"cameras": "['front-cam']"},
            "configure: Invalid topic name: topic name must not contain characters other than "
            "alphanumerics, '_', '~', '{{', or '}}': 'front-cam/image_raw' ^",
        ),
        (
            "simulator_node",
            {"cameras": "['front']"},
            "configure: camera: 'front', expected one of scene, wrist",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.endswith("_node") else "",
)
def test_a_bad_parameter_ends_the_node_with_one_line(start, node, parameters, line):
    process = start(node, **parameters)
    assert process.wait() == 1
    assert process.problems() == [line.format(config=config_path())]
    assert process.text.count("\n") == 1


def test_an_unknown_object_ends_the_simulator_with_one_line(start):
    process = start("simulator_node", objects="['banananana']")
    assert process.wait() == 1
    (line,) = process.problems()
    assert "no pictograph is named 'banananana'; nearest names: banana" in line


def test_a_missing_gl_library_ends_the_simulator_with_one_line(start):
    """EGL is asked for, and the loader is told that no vendor's library is there."""
    env = os.environ | {"MUJOCO_GL": "egl", "__EGL_VENDOR_LIBRARY_FILENAMES": "/nonexistent.json"}
    process = start("simulator_node", env=env)
    assert process.wait() == 1
    (line,) = process.problems()
    assert line.startswith("configure: ") and "apt install" in line


@pytest.fixture(scope="module")
def lonely(start, probe):
    """Controller and camera node without a robot, a camera or a URDF."""
    probe.keep(topics.CONTROLLER_STATUS, topics.DIAGNOSTICS, ARM)
    probe.controller = start("controller_node", start_armed=True)
    probe.camera = start("camera_node", camera_timeout=0.5)
    probe.until(
        lambda: (msg := probe.last(topics.CONTROLLER_STATUS)) and "yet" in msg.reason,
        "the controller's status",
    )
    return probe


def camera_problem(probe, text):
    """Wait until the camera node's diagnostics say `text`."""
    probe.until(
        lambda: any(
            text in status.message
            for msg in probe.kept[topics.DIAGNOSTICS.name]
            for status in msg.status
        ),
        f"diagnostics to say {text!r}",
    )


def test_without_a_urdf_the_controller_says_so_and_cannot_be_armed(lonely):
    status = lonely.last(topics.CONTROLLER_STATUS)
    assert status.state == ControllerStatus.DISARMED
    assert status.reason == f"no URDF on /{lonely.namespace}/robot_description yet"
    reply = lonely.call(SetBool, "controller_node/arm", SetBool.Request(data=True))
    assert not reply.success and reply.message == status.reason


def test_a_camera_that_never_comes_is_told_once_and_in_diagnostics(lonely):
    text = (
        f"camera 'scene': no picture on /{lonely.namespace}/scene/image_raw for 0.5 s; "
        "nobody publishes it: start the camera's driver, or remap scene/image_raw"
    )
    camera_problem(lonely, text)
    assert lonely.camera.problems() == [text]


def test_a_camera_of_the_other_message_type_is_told(lonely):
    other = topics.camera_image("scene")._replace(type=CompressedImage)
    lonely.node.create_publisher(*other)
    camera_problem(lonely, "it carries sensor_msgs/msg/CompressedImage: set `transport`")


@pytest.mark.parametrize(
    ("urdf", "reason"),
    [
        (URDF.replace("panda_hand_tcp", "tool0"), "frame 'panda_hand_tcp': not in the URDF"),
        (URDF.replace("panda_joint7", "panda_joint_7"), "panda_joint7"),
        ("<robot", "not XML"),
    ],
    ids=["frame", "joint", "xml"],
)
def test_a_urdf_that_does_not_fit_is_told_and_nothing_moves(lonely, urdf, reason):
    lonely.publish(topics.ROBOT_DESCRIPTION, String(data=urdf), readers=2)
    start = f"/{lonely.namespace}/robot_description does not fit robot 'panda': "
    lonely.until(
        lambda: (
            (msg := lonely.last(topics.CONTROLLER_STATUS)).reason.startswith(start)
            and reason in msg.reason
        ),
        "the controller to say what does not fit",
    )
    status = lonely.last(topics.CONTROLLER_STATUS)
    assert status.state == ControllerStatus.DISARMED and "\n" not in status.reason
    assert status.reason.endswith("correct the URDF or set `robot`")
    for node, who in ((lonely.controller, "controller"), (lonely.camera, "camera node")):
        lonely.until(
            lambda node=node: node.problems()[-1:] == [status.reason], f"the {who} to log the same"
        )
    assert not lonely.kept[ARM.name]


def test_joint_states_of_another_robot_are_told(lonely):
    lonely.publish(topics.ROBOT_DESCRIPTION, String(data=URDF), readers=2)
    lonely.until(
        lambda: lonely.last(topics.CONTROLLER_STATUS).state == ControllerStatus.ARMED,
        "the controller to take the right URDF",
    )
    for _ in range(3):
        msg = JointState(name=["joint1"], position=[0.0])
        msg.header.stamp = lonely.now().to_msg()
        lonely.publish(topics.JOINT_STATES, msg, readers=2)
    name = f"/{lonely.namespace}/joint_states"
    camera_problem(lonely, f"no joint states on {name} that name all joints")
    assert not lonely.kept[ARM.name]
