# SPDX-License-Identifier: Apache-2.0
"""What camera_node makes of joint states; test/system/test_camera.py has the node as a process."""

import time

import pytest
import yaml

rclpy = pytest.importorskip("rclpy")

from rclpy.parameter import Parameter  # noqa: E402
from rclpy.time import Time  # noqa: E402
from sensor_msgs.msg import Image, JointState  # noqa: E402
from std_msgs.msg import String  # noqa: E402

from rt2_ros.control.profile import RobotProfile  # noqa: E402
from rt2_ros.nodes.base import SUCCESS  # noqa: E402
from rt2_ros.nodes.camera_node import CameraNode  # noqa: E402
from rt2_ros.nodes.frames import FrameSets, Limits  # noqa: E402
from rt2_ros.paths import config_path  # noqa: E402

PANDA = config_path("robots", "panda.yaml")
URDF = config_path("robots", "panda.urdf").read_text(encoding="utf-8")
PROFILE = RobotProfile.load(PANDA)
ARM = dict(zip(PROFILE.arm_joints, PROFILE.home, strict=True))
FINGER = PROFILE.gripper_joint
MS = 1_000_000
START = 1_000_000 * MS


class Seen:
    """A configured node, told by hand; it waits for nothing."""

    def __init__(self, robot):
        given = {"robot": str(robot), "joint_wait": 0.0, "image_size": 16}
        self.node = CameraNode(
            parameter_overrides=[Parameter(k, value=v) for k, v in given.items()]
        )
        assert self.node.trigger_configure() == SUCCESS
        self.told = []
        self.node._out = self
        self.node._take_model(String(data=URDF))

    def publish(self, msg):
        self.told.append(msg)

    def joints(self, ms, positions):
        msg = JointState(name=list(positions), position=list(positions.values()))
        msg.header.stamp = Time(nanoseconds=START + ms * MS).to_msg()
        self.node._take_joints(msg)

    def until_publishers(self, topic, count):
        """Wait until so many are discovered: nothing tells of that."""
        end = time.monotonic() + 20.0
        while self.node.count_publishers(topic) != count:
            assert time.monotonic() < end, f"not {count} publishers of {topic}"
            time.sleep(0.02)

    def look(self, ms):
        """Return the observation of a picture taken at that time."""
        picture = Image(width=16, height=16, encoding="rgb8", step=48, data=bytes(768))
        self.node._observe({"scene": (START + ms * MS, picture)})
        return self.told[-1]


@pytest.fixture
def new():
    rclpy.init()
    made = []

    def make(robot):
        made.append(Seen(robot))
        return made[-1]

    yield make
    for seen in made:
        seen.node.trigger_cleanup()
        seen.node.destroy_node()
    rclpy.shutdown()


def test_an_arm_without_a_gripper_has_a_hand_pose(new, tmp_path):
    changes = {"gripper_joint": "", "gripper_controller": "", "gripper_command": "none"}
    bare = tmp_path / "bare.yaml"
    bare.write_text(yaml.safe_dump({**yaml.safe_load(PANDA.read_text()), **changes}))
    seen = new(bare)
    seen.joints(0, ARM)
    observation = seen.look(0)
    assert observation.has_end_effector and observation.gripper_closedness == 0.0
    assert observation.joint_state.name == list(ARM)
    told = seen.node.diagnose()
    assert told.message == "observing"
    for stage in ("pictures", "pose", "publish"):  # where an observation's time went
        assert 0 <= float(told.values[stage].removesuffix(" ms")) < 1e4


def test_cameras_that_are_never_in_step_are_told(new):
    seen = new("panda")
    limits = Limits(max_age_ns=500_000_000, tolerance_ns=50_000_000)
    seen.node._frames = FrameSets(("scene", "wrist"), limits)
    for ms in range(1000, 2000, 200):
        seen.node._frames.add("scene", ms * 1_000_000, ms * 1_000_000, None)
        seen.node._frames.add("wrist", (ms + 70) * 1_000_000, (ms + 70) * 1_000_000, None)
    told = seen.node.diagnose()
    assert told.message.startswith("the nearest pictures of 'scene' and 'wrist' are 70 ms apart")


def test_a_gripper_may_tell_its_joint_apart_and_seldom(new):
    seen = new("panda")
    seen.joints(0, {FINGER: 0.01})
    for ms in range(5, 500, 10):
        seen.joints(ms, ARM)
    observation = seen.look(490)
    assert observation.has_end_effector
    assert observation.gripper_closedness == pytest.approx(0.75)
    assert observation.joint_state.name == [*ARM, FINGER]
    assert seen.node.diagnose().message == "observing"


def test_a_gripper_in_the_same_message_is_where_it_was_at_the_picture(new):
    seen = new("panda")
    seen.joints(0, {**ARM, FINGER: 0.04})
    seen.joints(100, {FINGER: 0.0, **ARM})
    assert seen.look(50).gripper_closedness == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("before", "why"),
    [([], "lacks panda_finger_joint1"), ([0], "gripper: no joint state as new as that: 1.500 s")],
)
def test_a_gripper_that_is_not_known_is_not_said_to_be_open(new, before, why):
    seen = new("panda")
    for ms in before:
        seen.joints(ms, {FINGER: 0.0})
    seen.joints(1500, ARM)
    observation = seen.look(1500)
    assert not observation.has_end_effector and observation.joint_state.name == list(ARM)
    assert why in seen.node.diagnose().message
    seen.joints(1510, {**ARM, FINGER: 0.0})
    assert seen.look(1510).has_end_effector
    assert seen.node.diagnose().message == "observing"


def test_a_clock_that_is_set_back_begins_anew(new):
    seen = new("panda")
    seen.joints(5000, {**ARM, FINGER: 0.04})
    seen.joints(0, {**ARM, FINGER: 0.0})
    observation = seen.look(0)
    assert observation.has_end_effector and observation.gripper_closedness == 1.0


@pytest.mark.parametrize("sec", [0, -1])
def test_joint_states_and_pictures_without_a_time_are_passed_over(new, sec):
    seen = new("panda")
    seen.joints(0, {**ARM, FINGER: 0.04})
    msg = JointState(name=[*ARM, FINGER], position=[*ARM.values(), 0.0])
    msg.header.stamp.sec = sec
    seen.node._take_joints(msg)
    assert "expected a time" in seen.node.diagnose().message
    assert seen.look(0).has_end_effector  # what was known is not forgotten
    assert seen.node.trigger_activate() == SUCCESS
    picture = Image()
    picture.header.stamp.sec = sec
    seen.node._receiver("scene")(picture)
    assert seen.node._frames.accounts["scene"].refused == {"unstamped": 1}
    seen.node.trigger_deactivate()


def test_joints_that_are_named_otherwise_are_missed_by_name(new):
    seen = new("panda")
    seen.joints(0, {"joint1": 0.0, FINGER: 0.0})
    assert not seen.look(0).has_end_effector
    assert "joint state: lacks panda_joint1" in seen.node.diagnose().message


def test_joint_states_that_are_behind_the_pictures_are_told(new):
    """Each is good by itself, and yet none is of the time of a picture."""
    seen = new("panda")
    for ms in (0, 10):
        seen.joints(ms, {**ARM, FINGER: 0.0})
    assert not seen.look(110).has_end_effector
    seen.joints(20, {**ARM, FINGER: 0.0})
    told = seen.node.diagnose().message
    assert told.startswith("no end effector pose: no joint state as new as that")
    assert seen.look(15).has_end_effector
    assert seen.node.diagnose().message == "observing"


def test_of_two_that_publish_a_cameras_pictures_neither_is_believed(new):
    """Of another robot's camera, in the same domain under the same name, the arm would move."""
    seen = new(PANDA)
    node, others = seen.node, [rclpy.create_node(f"camera{number}") for number in range(2)]
    topic = node._topics["scene"]
    picture = Image(width=16, height=16, encoding="rgb8", step=48, data=bytes(768))
    taken = []
    node.active, node._worker.put = True, taken.append
    receive = node._receiver("scene")

    def look():
        picture.header.stamp = node.get_clock().now().to_msg()
        receive(picture)
        return len(taken)

    others[0].create_publisher(*topic)
    seen.until_publishers(topic.name, 1)
    assert look() == 1
    second = others[1].create_publisher(*topic)
    seen.until_publishers(topic.name, 2)
    assert look() == 1
    assert "/scene/image_raw has 2 publishers: end all but this robot's camera" in (
        node.diagnose().message
    )
    others[1].destroy_publisher(second)
    seen.until_publishers(topic.name, 1)
    assert look() == 2
    node.active = False
    for other in others:
        other.destroy_node()
