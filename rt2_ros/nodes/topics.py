# SPDX-License-Identifier: Apache-2.0
"""Every topic of the graph: its name, its type and its quality of service, in one place.

A node makes its publishers and subscriptions from these, so that two ends cannot disagree:

    pub = node.create_publisher(*OBSERVATION)          # Topic unpacks to (type, name, qos)
    sub = node.create_subscription(*OBSERVATION.to(callback))

Names are relative: a namespace or a remapping moves a whole robot. The profiles are:

==================  ===========  ================  =====  ==========================================
profile             reliability  durability        depth  why
==================  ===========  ================  =====  ==========================================
SENSOR              best effort  volatile          5      a late picture is worth nothing
NEWEST              best effort  volatile          1      only the newest observation is looked at
COMMAND             reliable     volatile          1      commands arrive, and are never replayed
MOTION              reliable     volatile          1      the same, within 0.5 s or not at all
LATCHED             reliable     transient local   1      a latecomer learns the present state
QUEUE               reliable     volatile          10     nothing of a conversation is lost
==================  ===========  ================  =====  ==========================================

A reliable message that could not be delivered is sent again, seconds later where a process stood
still or a network was away. Of a motion that would be unsafe: the arm has come to rest meanwhile,
and a brake that arrives then moves it. So MOTION has a lifespan.

`instruction` is volatile on purpose: `ros2 topic pub` offers volatile, and a latched subscription
would never match it. The accepted instruction is republished, latched, in `policy_status`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from rt2_ros.msg import ControllerStatus, EndEffectorDelta, Observation, PolicyStatus, SceneState


def _profile(*, reliable: bool, latched: bool, depth: int) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


SENSOR = _profile(reliable=False, latched=False, depth=5)
NEWEST = _profile(reliable=False, latched=False, depth=1)
COMMAND = _profile(reliable=True, latched=False, depth=1)
MOTION = _profile(reliable=True, latched=False, depth=1)
MOTION.lifespan = Duration(seconds=0.5)
LATCHED = _profile(reliable=True, latched=True, depth=1)
QUEUE = _profile(reliable=True, latched=False, depth=10)
# Joint states arrive at 100 Hz and more; a node busy for half a second must not get gaps.
JOINTS_IN = _profile(reliable=False, latched=False, depth=50)


class Topic(NamedTuple):
    """What `create_publisher` wants, in its order."""

    type: Any
    name: str
    qos: QoSProfile

    def to(
        self, callback: Callable[[Any], None]
    ) -> tuple[Any, str, Callable[[Any], None], QoSProfile]:
        """Return what `create_subscription` wants, in its order."""
        return self.type, self.name, callback, self.qos


# From the robot (ros2_control or the simulator)
# (offered reliable, as joint_state_broadcaster does; asked best effort, which every driver matches)
JOINT_STATES = Topic(JointState, "joint_states", QUEUE)
JOINT_STATES_IN = Topic(JointState, "joint_states", JOINTS_IN)
ROBOT_DESCRIPTION = Topic(String, "robot_description", LATCHED)

# The line from picture to motion
OBSERVATION = Topic(Observation, "observation", NEWEST)
INSTRUCTION = Topic(String, "instruction", COMMAND)
END_EFFECTOR_DELTA = Topic(EndEffectorDelta, "end_effector_delta", COMMAND)
POLICY_STATUS = Topic(PolicyStatus, "policy_status", LATCHED)
CONTROLLER_STATUS = Topic(ControllerStatus, "controller_status", LATCHED)

# The same model, free text
QUESTION = Topic(String, "question", QUEUE)
ANSWER = Topic(String, "answer", QUEUE)

# The simulator's ground truth, for verdicts; no policy reads it
SCENE_STATE = Topic(SceneState, "scene_state", COMMAND)

# Heard by MoveIt wherever it executes; "stop" stops
TRAJECTORY_EXECUTION_EVENT = Topic(String, "trajectory_execution_event", COMMAND)

# Global by convention
DIAGNOSTICS = Topic(DiagnosticArray, "/diagnostics", QUEUE)
CLOCK = Topic(Clock, "/clock", NEWEST)

# Services, private to their node
ARM_SERVICE = "~/arm"  # std_srvs/SetBool, controller_node
STOP_SERVICE = "~/stop"  # std_srvs/Trigger, controller_node
HOME_SERVICE = "~/home"  # std_srvs/Trigger, controller_node
RESET_SERVICE = "~/reset"  # std_srvs/Trigger, simulator_node


def camera_image(camera: str) -> Topic:
    """Raw pictures of a camera: `scene` -> `scene/image_raw`."""
    return Topic(Image, f"{camera}/image_raw", SENSOR)


def camera_compressed(camera: str) -> Topic:
    """Compressed pictures, named as image_transport does: `scene/image_raw/compressed`."""
    return Topic(CompressedImage, f"{camera}/image_raw/compressed", SENSOR)


def camera_info(camera: str) -> Topic:
    """Intrinsics of a camera: `scene` -> `scene/camera_info`."""
    return Topic(CameraInfo, f"{camera}/camera_info", SENSOR)


def joint_trajectory(controller: str) -> Topic:
    """Commands of an arm's joint_trajectory_controller: `panda_arm_controller/joint_trajectory`."""
    return Topic(JointTrajectory, f"{controller}/joint_trajectory", MOTION)


def gripper_trajectory(controller: str) -> Topic:
    """The same of a gripper's: it must get where it is taken to be, even if late."""
    return Topic(JointTrajectory, f"{controller}/joint_trajectory", COMMAND)
