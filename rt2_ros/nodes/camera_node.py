# SPDX-License-Identifier: Apache-2.0
"""From cameras and joint states to observations: what a policy may look at, at one moment.

    ros2 run rt2_ros camera_node --ros-args -p "cameras:=['scene']" \\
        -r scene/image_raw:=/camera/color/image_raw

An observation goes out for each new set of pictures taken in step, cut to the central square and
scaled, with the end effector's pose at the moment of the oldest picture. Which pictures belong
together is decided in `frames`, what their bytes mean in `decoding`; here are the wires.
"""

from __future__ import annotations

import sys
import threading
import time
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.time import Time
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String

from rt2_ros.control.history import GRIPPER_AGE, JointHistory, NotInHistory
from rt2_ros.control.kinematics import Kinematics
from rt2_ros.data.images import square
from rt2_ros.msg import Observation
from rt2_ros.nodes.base import BaseNode, Health, one_line, run
from rt2_ros.nodes.decoding import BadImage, decode, decode_compressed
from rt2_ros.nodes.frames import FrameSets, Limits
from rt2_ros.nodes.parameters import Parameter, words
from rt2_ros.nodes.robot import ROBOT, load_robot, pose_msg
from rt2_ros.nodes.topics import (
    JOINT_STATES_IN,
    OBSERVATION,
    ROBOT_DESCRIPTION,
    camera_compressed,
    camera_image,
)
from rt2_ros.stamps import stamp_ns

FrameSet = dict[str, tuple[int, Any]]  # camera -> (stamp in ns, image message)


def rgb(msg: Image | CompressedImage) -> NDArray[np.uint8]:
    """Return a message's picture as RGB, uint8 (height, width, 3); BadImage says why not."""
    if isinstance(msg, CompressedImage):
        return decode_compressed(msg.data, msg.format)
    return decode(
        msg.data,
        height=msg.height,
        width=msg.width,
        encoding=msg.encoding,
        step=msg.step,
        is_bigendian=bool(msg.is_bigendian),
    )


def image_msg(image: NDArray[np.uint8]) -> Image:
    """Return an RGB picture, uint8 (height, width, 3), as an rgb8 message without a header.

    The bytes go in as an array.array: assigning a NumPy array would be converted item by item.
    """
    height, width, _ = image.shape
    data = array("B")
    data.frombytes(np.ascontiguousarray(image).data)
    return Image(height=height, width=width, encoding="rgb8", step=3 * width, data=data)


class CameraNode(BaseNode):
    """Callbacks keep the newest frames and joint states; one worker makes the observation."""

    PARAMETERS = (
        ROBOT,
        Parameter(
            "cameras",
            ["scene"],
            "Names; camera NAME is read from NAME/image_raw, which can be remapped.",
        ),
        Parameter(
            "transport",
            "raw",
            "Message type of the pictures: Image, or CompressedImage on NAME/image_raw/compressed.",
            choices=("raw", "compressed"),
        ),
        Parameter(
            "image_size",
            192,
            "Side of the square pictures in the observation; the policy's input size is best.",
            unit="px",
            low=16,
            high=2048,
        ),
        Parameter(
            "max_image_age",
            0.5,
            "Pictures that arrive later than this after their stamp are refused.",
            unit="s",
            low=0.02,
            high=10.0,
        ),
        Parameter(
            "sync_tolerance",
            0.05,
            "Pictures of several cameras belong together if their stamps lie within this.",
            unit="s",
            low=0.001,
            high=1.0,
        ),
        Parameter(
            "camera_timeout",
            5.0,
            "A camera without a picture for so long is reported as missing.",
            unit="s",
            low=0.1,
            high=60.0,
        ),
        Parameter(
            "joint_wait",
            0.03,
            "How long a picture waits for the joint state that follows it.",
            unit="s",
            low=0.0,
            high=0.5,
        ),
    )

    def __init__(self, name: str = "camera_node", **kwargs: Any) -> None:
        super().__init__(name, **kwargs)

    def _setup(self) -> None:
        self._profile = load_robot(self.value("robot"))
        cameras = words(self.value("cameras"))
        limits = Limits(
            max_age_ns=round(self.value("max_image_age") * 1e9),
            tolerance_ns=round(self.value("sync_tolerance") * 1e9),
        )
        self._frames: FrameSets[Any] = FrameSets(cameras, limits)
        self._size = self.value("image_size")
        self._joint_wait = self.value("joint_wait")
        self._timeout = self.value("camera_timeout")
        profile = self._profile
        # Apart, as a gripper may speak in messages of its own, more seldom, or not exist.
        self._joints = JointHistory(profile.arm_joints)
        self._gripper = JointHistory((profile.gripper_joint,)) if profile.gripper_joint else None
        self._joints_changed = threading.Condition()
        self._kinematics: Kinematics | None = None
        self._model_problem = f"no message on {self._resolved(ROBOT_DESCRIPTION.name)} yet"
        self._joint_problem = f"no message on {self._resolved(JOINT_STATES_IN.name)} yet"
        self._gripper_problem = ""
        self._pose_problem = ""  # why the newest observation has no pose of the hand
        self._observations = 0
        self._stages: dict[str, float] = {}  # s, of the newest observation
        self._reported: dict[str, int] = {}  # refusals per camera at the last diagnostics
        self._given = 0  # sets of pictures at the last diagnostics
        self._since = dict.fromkeys(cameras, time.monotonic())  # last sign of life
        self._missing: set[str] = set()

        self._out = self.publish(OBSERVATION)
        self._worker = self.work(self._observe)
        topic = camera_image if self.value("transport") == "raw" else camera_compressed
        self._topics = {camera: topic(camera) for camera in cameras}
        for camera in cameras:
            self.subscribe(self._topics[camera], self._receiver(camera))
        self.subscribe(JOINT_STATES_IN, self._take_joints)
        self.subscribe(ROBOT_DESCRIPTION, self._take_model)
        self.every(min(0.5, self._timeout / 2), self._look_for_missing)

    def _start(self) -> None:
        self._since = dict.fromkeys(self._since, time.monotonic())

    def _resolved(self, name: str) -> str:
        return self.resolve_topic_name(name)

    # Callbacks: they store, no more

    def _receiver(self, camera: str) -> Callable[[Any], None]:
        def receive(msg: Any) -> None:
            self._since[camera] = time.monotonic()
            if camera in self._missing:
                self._missing.discard(camera)
                self.get_logger().info(f"camera {camera!r}: pictures arrive again")
            if not self.active:
                return
            if crowd := self.crowd(self._topics[camera], "this robot's camera"):
                account = self._frames.accounts[camera]
                account.received += 1
                account.refuse("of several", crowd)
                return
            stamp = stamp_ns(msg.header.stamp)
            frames = self._frames.add(camera, stamp, self.now_ns(), msg)
            if frames is not None:
                self._worker.put(frames)

        return receive

    def _take_joints(self, msg: JointState) -> None:
        with self._joints_changed:
            self._joint_problem = self._note(self._joints, msg, self._joint_problem)
            if self._gripper is not None:
                self._gripper_problem = self._note(self._gripper, msg, self._gripper_problem)
            self._joints_changed.notify()

    def _note(self, history: JointHistory, msg: JointState, problem: str) -> str:
        """Add a joint state to a history that it is about; return what is wrong with it by now."""
        stamp = stamp_ns(msg.header.stamp)
        try:
            newest, _ = history.newest()
            if set(history.joint_names).isdisjoint(msg.name):
                return problem  # of another part of the robot
            if 0 < stamp < newest - 1_000_000_000:  # the clock was set back
                history.clear()
        except NotInHistory:
            pass
        try:
            history.add(stamp, msg.name, msg.position)
        except ValueError as error:
            return one_line(error)
        return ""

    def _take_model(self, msg: String) -> None:
        try:
            self._kinematics = self._profile.kinematics(msg.data)
            self._model_problem = ""
        except ValueError as error:
            self._kinematics = None
            self._model_problem = (
                f"{self._resolved(ROBOT_DESCRIPTION.name)} does not fit robot "
                f"{self._profile.name!r}: {one_line(error)}; correct the URDF or set `robot`"
            )
            self.get_logger().error(self._model_problem)

    # The worker

    def _observe(self, frames: FrameSet) -> None:
        images, begun = [], time.perf_counter()
        for camera, (_, msg) in frames.items():
            try:
                images.append(image_msg(square(rgb(msg), self._size)))
            except BadImage as error:
                self._frames.accounts[camera].refuse("broken", one_line(error))
                return
        seen = time.perf_counter()
        stamp_ns = min(stamp for stamp, _ in frames.values())
        stamp = Time(nanoseconds=stamp_ns).to_msg()
        msg = Observation(camera_names=list(frames), images=images)
        msg.header.stamp = stamp
        msg.header.frame_id = self._profile.base_frame
        for image, (own_ns, source) in zip(images, frames.values(), strict=True):
            image.header.stamp = Time(nanoseconds=own_ns).to_msg()
            image.header.frame_id = source.header.frame_id
        try:
            self._add_pose(msg, stamp_ns)
        except NotInHistory as error:
            self._pose_problem = one_line(error)
        else:
            self._pose_problem = ""
        posed = time.perf_counter()
        self._out.publish(msg)
        sent = time.perf_counter()
        self._stages = {"pictures": seen - begun, "pose": posed - seen, "publish": sent - posed}
        self._observations += 1

    def _add_pose(self, msg: Observation, stamp_ns: int) -> None:
        """Write into an observation where arm and hand were; NotInHistory says what is missing."""
        q = self._joints_at(stamp_ns)
        msg.joint_state.header.stamp = msg.header.stamp
        msg.joint_state.name = list(self._joints.joint_names)
        msg.joint_state.position = q.tolist()
        if self._gripper is not None:
            finger = self._gripper_at(self._gripper, stamp_ns)
            msg.joint_state.name.append(self._profile.gripper_joint)
            msg.joint_state.position.append(finger)
            msg.gripper_closedness = self._profile.gripper_closedness(finger)
        if (kinematics := self._kinematics) is not None:  # else there is a _model_problem
            msg.has_end_effector = True
            msg.end_effector_pose = pose_msg(kinematics.forward(q))

    def _joints_at(self, stamp_ns: int) -> NDArray[np.float64]:
        """Return the arm's positions (n,) at a time, waiting a little for the newest."""
        deadline = time.monotonic() + self._joint_wait
        with self._joints_changed:
            while True:
                try:
                    return self._joints.at(stamp_ns)
                except NotInHistory:
                    try:
                        too_early = self._joints.newest()[0] < stamp_ns
                    except NotInHistory:
                        too_early = False  # no joint states at all: nothing to wait for
                    left = deadline - time.monotonic()
                    if not too_early or left <= 0:
                        raise
                self._joints_changed.wait(left)

    def _gripper_at(self, gripper: JointHistory, stamp_ns: int) -> float:
        """Return the position of gripper_joint at a time."""
        with self._joints_changed:
            try:
                return float(gripper.near(stamp_ns, GRIPPER_AGE)[0])
            except NotInHistory as error:
                raise NotInHistory(f"gripper: {error}") from error

    # Health

    def _look_for_missing(self) -> None:
        if not self.active:
            return
        for camera, since in self._since.items():
            if camera not in self._missing and time.monotonic() - since > self._timeout:
                self._missing.add(camera)
                self.get_logger().error(self._missing_text(camera))

    def _missing_text(self, camera: str) -> str:
        topic = self._topics[camera]
        name = self._resolved(topic.name)
        wanted = f"sensor_msgs/msg/{topic.type.__name__}"
        offered = {info.topic_type for info in self.get_publishers_info_by_topic(name)}
        if not offered:
            hint = f"nobody publishes it: start the camera's driver, or remap {topic.name}"
        elif wanted not in offered:
            hint = f"it carries {', '.join(sorted(offered))}: set `transport` or `cameras`"
        else:
            hint = "its publisher is silent: look at the camera's driver"
        return f"camera {camera!r}: no picture on {name} for {self._timeout:g} s; {hint}"

    def diagnose(self) -> Health:
        """Missing cameras are errors; refusals since the last look and a missing model warnings.

        Tells where the newest observation's time went: in decoding and scaling its pictures, in
        waiting for the joint state behind them and the hand's pose, and in sending it.
        """
        figures: dict[str, object] = {"observations": self._observations}
        figures |= {stage: f"{1e3 * took:.1f} ms" for stage, took in self._stages.items()}
        refused = []
        for camera, account in self._frames.accounts.items():
            figures[f"{camera}: received"] = account.received
            for kind, count in sorted(account.refused.items()):
                figures[f"{camera}: {kind}"] = count
            total = sum(account.refused.values())
            if total > self._reported.get(camera, 0):
                refused.append(f"camera {camera!r}: {account.last_reason}")
            self._reported[camera] = total
        if self._frames.given == self._given and self._frames.problem:
            refused.append(self._frames.problem)
        self._given = self._frames.given
        figures["overtaken"] = self._worker.dropped
        for camera in sorted(self._missing):
            return Health.error(self._missing_text(camera), **figures)
        if refused:
            for text in refused:
                self.complain(text)
            return Health.warn("; ".join(refused), **figures)
        for problem in (
            self._model_problem,
            self._joint_problem,
            self._gripper_problem,
            self._pose_problem,
        ):
            if problem:
                return Health.warn(f"no end effector pose: {problem}", **figures)
        return Health(message="observing", values=figures)


def main(argv: list[str] | None = None) -> int:
    """Run the node to its end."""
    return run(CameraNode, argv)


if __name__ == "__main__":
    sys.exit(main())
