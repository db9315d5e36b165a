# SPDX-License-Identifier: Apache-2.0
"""From observation and instruction to end-effector delta: the node around a policy.

    ros2 run rt2_ros policy_node --ros-args -p policy:=rt2-tiny

What it does when is in `rt2_ros.policies.runner`; here are the wires.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from geometry_msgs.msg import Vector3
from rclpy.time import Time
from std_msgs.msg import String

from rt2_ros.msg import EndEffectorDelta, PolicyStatus
from rt2_ros.msg import Observation as ObservationMsg
from rt2_ros.nodes.base import BaseNode, Health, one_line, run
from rt2_ros.nodes.parameters import Parameter
from rt2_ros.nodes.topics import (
    ANSWER,
    END_EFFECTOR_DELTA,
    INSTRUCTION,
    OBSERVATION,
    POLICY_STATUS,
    QUESTION,
)
from rt2_ros.policies import Observation, load_policy
from rt2_ros.policies.base import pictures_of
from rt2_ros.policies.runner import PolicyRunner, State, Status, Step
from rt2_ros.stamps import stamp_ns


def to_observation(msg: ObservationMsg) -> Observation:
    """The policy's view of a message, pictures not copied; ValueError names what is broken."""
    if len(msg.camera_names) != len(msg.images):
        raise ValueError(
            f"observation: {len(msg.camera_names)} camera names, {len(msg.images)} images"
        )
    images = {}
    for name, image in zip(msg.camera_names, msg.images, strict=True):
        size = image.height * image.width * 3
        if image.encoding != "rgb8" or image.step != image.width * 3 or len(image.data) != size:
            raise ValueError(
                f"observation: image {name!r} is {image.encoding} {image.width}x{image.height}, "
                f"step {image.step}, {len(image.data)} bytes; expected rgb8 without padding"
            )
        pixels = np.frombuffer(image.data, np.uint8)
        images[name] = pixels.reshape(image.height, image.width, 3)
    state = None
    if msg.has_end_effector:
        tip = msg.end_effector_pose.position
        state = np.array([tip.x, tip.y, tip.z, msg.gripper_closedness])
    return Observation(images, "", state, stamp_ns(msg.header.stamp))


class PolicyNode(BaseNode):
    """Loads the policy on configure; callbacks only store, one worker thread infers."""

    PARAMETERS = (
        Parameter(
            "policy",
            "rt2-tiny",
            "Name of a file in config/policies, path of such a file, or folder of a checkpoint.",
        ),
        Parameter(
            "max_observation_age",
            0.5,
            "Older observations are not decided upon; the policy then holds.",
            unit="s",
            low=0.05,
            high=10.0,
        ),
        Parameter(
            "max_rate",
            10.0,
            "Most decisions per second; a slower policy decides as fast as it can.",
            unit="Hz",
            low=0.1,
            high=100.0,
        ),
    )

    def __init__(self, name: str = "policy_node", **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        # Not managed, and not torn down: a failed configure must still be able to say so.
        self._status_out = self.create_publisher(*POLICY_STATUS)
        self._policy_name = self._frame = ""
        self._pictures = 1  # that the policy looks at
        self._cameras: list[str] = []  # of the newest observation
        self._stages: dict[str, float] = {}  # s, of the newest decision, as in PolicyStatus
        self._publish_status(Status())

    def _setup(self) -> None:
        try:
            policy = load_policy(self.value("policy"))
        except Exception as error:
            self._publish_status(Status(State.FAULT, reason=one_line(error)))
            raise
        self._policy_name = policy.name
        self._stages = {}
        self._latency: Mapping[str, float] = {}  # s by stage, of the newest decision
        self._frame, self._pictures = policy.action_space.frame, pictures_of(policy)
        self._delta_out = self.publish(END_EFFECTOR_DELTA)
        self._answer_out = self.publish(ANSWER, always=True)
        self._runner = PolicyRunner(
            policy,
            on_step=self._publish_step,
            on_status=self._publish_status,
            on_answer=lambda text: self._answer_out.publish(String(data=text)),
            now_ns=self.now_ns,
            max_observation_age=self.value("max_observation_age"),
            max_rate=self.value("max_rate"),
        )
        self.at_teardown(self._forget)
        self.subscribe(OBSERVATION, self._observe)
        self.subscribe(INSTRUCTION, self._instruct)
        self.subscribe(QUESTION, self._ask)
        self._runner.start()
        self.every(0.1, self._runner.tick)
        self.every(1.0, lambda: self._publish_status(self._runner.status))

    def _forget(self) -> None:
        if not self._runner.stop():
            self.get_logger().warning(
                f"policy {self._policy_name} still computes; its model stays in memory until then"
            )
        gc.collect()  # recordings of a model refer to it, and the next one may be loaded at once
        self._policy_name, self._stages = "", {}
        self._publish_status(Status())

    def _stop(self) -> None:
        self._runner.instruct("")

    def _instruct(self, msg: String) -> None:
        if self.active:
            self._runner.instruct(msg.data)
        elif msg.data.strip():
            self.complain(f"instruction not taken, as the node is inactive: {msg.data!r}")

    def _ask(self, msg: String) -> None:
        if self.active:
            self._runner.ask(msg.data)
        else:
            self._answer_out.publish(String(data="no answer: the policy node is inactive"))

    def _observe(self, msg: ObservationMsg) -> None:
        if crowd := self.crowd(OBSERVATION, "this robot's camera_node"):
            self.complain(crowd)
            self._runner.blind(crowd)  # of another robot's pictures the arm would move
            return
        try:
            observation = to_observation(msg)
        except ValueError as error:
            self.get_logger().warning(one_line(error), throttle_duration_sec=5.0)
            return
        self._runner.observe(observation)
        if (cameras := [*observation.images]) != self._cameras:
            self._cameras = cameras
            seen, others = cameras[: self._pictures], cameras[self._pictures :]
            if others:
                self.get_logger().warning(
                    f"the policy looks at {', '.join(map(repr, seen))}: "
                    f"{', '.join(map(repr, others))} will not be looked at"
                )

    def _publish_step(self, step: Step) -> None:
        begun = time.perf_counter()
        decision, action = step.decision, step.decision.action
        self._latency = decision.latency
        assert action is not None  # the runner's promise: a step is a valid decision
        msg = EndEffectorDelta(
            instruction_id=step.instruction_id,
            step=step.step,
            translation=Vector3(**dict(zip("xyz", action.translation.tolist(), strict=True))),
            rotation=Vector3(**dict(zip("xyz", action.rotation.tolist(), strict=True))),
            gripper_closedness=action.gripper,
            terminate=action.terminate,
            bins=decision.bins,
            confidence=decision.confidence,
            plan=decision.plan,
            inference=step.inference_s,
        )
        msg.header.stamp = Time(nanoseconds=step.stamp_ns).to_msg()
        msg.header.frame_id = self._frame
        msg.latency = (self.now_ns() - step.stamp_ns) / 1e9
        self._delta_out.publish(msg)
        prepare = decision.latency.get("prepare", 0.0)
        self._stages = {
            "prepare": prepare,
            "inference": max(0.0, step.inference_s - prepare),
            "publish": time.perf_counter() - begun,
            "age": max(0.0, (self.now_ns() - step.stamp_ns) / 1e9),
        }

    def _publish_status(self, status: Status) -> None:
        msg = PolicyStatus(
            state=int(status.state),
            policy=self._policy_name,
            instruction=status.instruction,
            instruction_id=status.instruction_id,
            reason=status.reason,
            rate=status.rate,
            decisions=status.decisions,
            invalid=status.invalid,
            **self._stages,
        )
        msg.header.stamp = self.get_clock().now().to_msg()
        self._status_out.publish(msg)

    def diagnose(self) -> Health:
        """State, rate, counts, and where the newest decision's time went.

        A warning while it holds, an error in FAULT.
        """
        status = self._runner.status
        figures = {
            "policy": self._policy_name,
            "frame": self._frame,
            "pictures": self._pictures,
            "state": status.state.name,
            "rate": f"{status.rate:.1f} Hz",
            "decisions": status.decisions,
            "invalid": status.invalid,
            **{stage: f"{1e3 * took:.1f} ms" for stage, took in self._latency.items()},
        }
        if status.state == State.FAULT:
            return Health.error(status.reason, **figures)
        if status.state == State.HOLDING:
            return Health.warn(status.reason, **figures)
        return Health(message=status.reason or status.state.name.lower(), values=figures)


def main(argv: list[str] | None = None) -> int:
    """Run the node to its end."""
    return run(PolicyNode, argv)


if __name__ == "__main__":
    sys.exit(main())
