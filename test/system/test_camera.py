# SPDX-License-Identifier: Apache-2.0
"""camera_node as a process, with pictures published by the test."""

import time
from array import array

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String

from rt2_ros.control.profile import RobotProfile
from rt2_ros.nodes import topics
from rt2_ros.paths import config_path

SCENE, WRIST = topics.camera_image("scene"), topics.camera_image("wrist")
PHOTO = topics.camera_compressed("photo")
MS = 1_000_000
SIZE = 32
PROFILE = RobotProfile.load(config_path("robots", "panda.yaml"))
URDF = config_path("robots", "panda.urdf").read_text(encoding="utf-8")
KINEMATICS = PROFILE.kinematics(URDF)


@pytest.fixture(scope="module")
def cameras(start, probe):
    """A node for two raw cameras, one for a compressed camera, and a URDF."""
    probe.keep(topics.OBSERVATION, topics.DIAGNOSTICS)
    probe.node_of_two = start(
        "camera_node",
        cameras="['scene', 'wrist']",
        image_size=SIZE,
        camera_timeout=60.0,
        sync_tolerance=0.02,
    )
    probe.node_of_one = start(
        "camera_node",
        remappings={"__node": "photo_node"},
        cameras="['photo']",
        transport="compressed",
        image_size=SIZE,
        camera_timeout=60.0,
    )
    probe.publish(topics.ROBOT_DESCRIPTION, String(data=URDF), readers=2)
    return probe


def stamped(msg, nanoseconds):
    msg.header.stamp = Time(nanoseconds=nanoseconds).to_msg()
    return msg


def picture(colour, encoding="rgb8", padding=0):
    """A 640x480 picture of one colour, given in the encoding's own order."""
    row = bytes(colour) * 640 + b"\x63" * padding
    return Image(
        width=640, height=480, encoding=encoding, step=len(row), data=array("B", row * 480)
    )


def joint_state(q, finger=0.04):
    return JointState(
        name=[PROFILE.gripper_joint, *PROFILE.arm_joints], position=[finger, *map(float, q)]
    )


def colours(observation):
    """The colour of each camera's picture; they are of one colour."""
    found = {}
    for name, image in zip(observation.camera_names, observation.images, strict=True):
        pixels = np.frombuffer(image.data, np.uint8).reshape(image.height, image.width, 3)
        assert pixels.shape == (SIZE, SIZE, 3) and np.ptp(pixels, axis=(0, 1)).max() == 0
        found[name] = pixels[0, 0].tolist()
    return found


def show(probe, pictures, until, what):
    """Publish fresh pictures again and again (they are best effort) until an observation fits."""
    probe.kept[topics.OBSERVATION.name].clear()

    def attempt():
        now = probe.now().nanoseconds
        for topic, msg, age_ms in pictures:
            probe.publish(topic, stamped(msg, now - age_ms * MS))
        return any(until(msg) for msg in probe.kept[topics.OBSERVATION.name])

    probe.until(attempt, what)
    return next(msg for msg in probe.kept[topics.OBSERVATION.name] if until(msg))


def health(probe, node, until):
    """Wait for a diagnostic status of `node` for which `until` holds."""
    kept = probe.kept[topics.DIAGNOSTICS.name]
    name = f"{probe.namespace}/{node}"

    def found():
        statuses = [status for msg in kept for status in msg.status if status.name == name]
        return next((status for status in statuses if until(status)), None)

    return probe.until(found, f"diagnostics of {node}")


def test_two_cameras_in_step_make_one_observation(cameras):
    observation = show(
        cameras,
        [(SCENE, picture([10, 20, 30], "bgr8", padding=7), 5), (WRIST, picture([7], "mono8"), 0)],
        lambda msg: True,
        "an observation of both",
    )
    assert colours(observation) == {"scene": [30, 20, 10], "wrist": [7, 7, 7]}
    assert observation.header.stamp == observation.images[0].header.stamp  # the older one's
    assert not observation.has_end_effector and not observation.joint_state.name


def test_a_compressed_camera(cameras):
    bgr = np.full((480, 640, 3), (30, 20, 10), np.uint8)
    data = array("B", cv2.imencode(".png", bgr)[1].tobytes())
    observation = show(
        cameras,
        [(PHOTO, CompressedImage(format="bgr8; png compressed bgr8", data=data), 0)],
        lambda msg: msg.camera_names == ["photo"],
        "an observation of the photo",
    )
    assert colours(observation) == {"photo": [10, 20, 30]}


def test_the_pose_is_that_of_the_moment_of_the_picture(cameras):
    """Of three joint states, the first two lie around the picture."""
    before = np.array(PROFILE.home)
    after = before + 0.1
    halfway = KINEMATICS.forward((before + after) / 2)

    def attempt():
        time.sleep(0.3)  # no state of the attempt before lies among those of this one
        now = cameras.now().nanoseconds
        for q, finger, age_ms in ((before, 0.0, 120), (after, 0.04, 80), (before, 0.0, 40)):
            msg = stamped(joint_state(q, finger), now - age_ms * MS)
            cameras.publish(topics.JOINT_STATES, msg, readers=2)
        cameras.more(topics.DIAGNOSTICS)  # lets the joint states arrive before the pictures
        for topic in (SCENE, WRIST):
            cameras.publish(topic, stamped(picture([1, 2, 3]), now - 100 * MS))

    observations = cameras.kept[topics.OBSERVATION.name]
    observations.clear()
    attempt()
    observation = cameras.until(
        lambda: (
            next((msg for msg in observations if msg.has_end_effector), None)
            or (attempt() and None)
        ),
        "an observation with a pose",
    )
    tip = observation.end_effector_pose
    assert np.allclose([tip.position.x, tip.position.y, tip.position.z], halfway.position)
    expected = halfway.quaternion()
    found = [getattr(tip.orientation, axis) for axis in "xyzw"]
    assert abs(np.dot(found, expected)) == pytest.approx(1.0)
    assert observation.gripper_closedness == pytest.approx(0.5)
    assert observation.joint_state.header.stamp == observation.header.stamp


@pytest.mark.parametrize(
    ("scene", "age_ms", "reason"),
    [
        (picture([1, 2, 3]), 900, "at most 500 ms is accepted"),
        (picture([1, 2, 3]), -900, "ahead; check clocks and use_sim_time"),
        (picture([1, 2], "yuv422"), 0, "encoding 'yuv422' is not supported; known: rgb8"),
        (Image(width=640, height=480, encoding="rgb8", step=1920, data=[0] * 9), 0, "9 bytes of"),
    ],
    ids=["late", "future", "encoding", "truncated"],
)
def test_bad_pictures_are_refused_and_told(cameras, scene, age_ms, reason):
    cameras.kept[topics.DIAGNOSTICS.name].clear()
    cameras.kept[topics.OBSERVATION.name].clear()

    def told():
        now = cameras.now().nanoseconds
        cameras.publish(WRIST, stamped(picture([9], "mono8"), now))
        cameras.publish(SCENE, stamped(scene, now - age_ms * MS))
        statuses = [s for m in cameras.kept[topics.DIAGNOSTICS.name] for s in m.status]
        return next((s for s in statuses if reason in s.message), None)

    status = cameras.until(told, f"diagnostics to say {reason!r}")
    assert status.level == DiagnosticStatus.WARN and "camera 'scene'" in status.message
    assert status.name.endswith("camera_node")
    # One of an earlier test's pictures may still have been on its way.
    observations = [colours(msg) for msg in cameras.kept[topics.OBSERVATION.name]]
    assert not [found for found in observations if found.get("wrist") == [9, 9, 9]]
    assert reason in cameras.node_of_two.text


def test_good_pictures_are_taken_again_afterwards(cameras):
    show(
        cameras,
        [(SCENE, picture([1, 2, 3]), 0), (WRIST, picture([4, 5, 6]), 0)],
        lambda msg: colours(msg) == {"scene": [1, 2, 3], "wrist": [4, 5, 6]},
        "an observation",
    )
    status = health(cameras, "camera_node", lambda status: True)
    figures = {item.key: item.value for item in status.values}
    assert int(figures["scene: broken"]) > 0 and int(figures["scene: late"]) > 0
