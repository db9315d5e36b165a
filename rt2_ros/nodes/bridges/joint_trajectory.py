# SPDX-License-Identifier: Apache-2.0
"""Stream short trajectories to a joint_trajectory_controller, as it behaves on Jazzy.

A new trajectory replaces the old one at once. Each of ours goes from the arm's motion as it is to
rest, as some points with velocities between which the controller interpolates by cubics; so what it
executes is what was checked. Set `interpolate_from_desired_state: true` on the controller: it then
starts from where it was going, not from where the drives lag behind.
"""

from __future__ import annotations

from rt2_ros.control.command import Command
from rt2_ros.nodes import topics
from rt2_ros.nodes.bridges.base import POLL_PERIOD, Bridge, trajectory_msg
from rt2_ros.nodes.bridges.controllers import Controllers
from rt2_ros.nodes.bridges.gripper import make_gripper


class JointTrajectoryBridge(Bridge):
    """Publishes chunks to `<arm_controller>/joint_trajectory`."""

    PARTS = True

    def start(self) -> None:
        """Make the publisher, the gripper and the look at controller_manager."""
        profile = self.profile
        self._topic = topics.joint_trajectory(profile.arm_controller)
        # Always, for a brake that was not heard: of an inactive controller nothing else comes.
        self._out = self.node.publish(self._topic, always=True)
        self._name = self.node.resolve_topic_name(self._topic.name)
        self._listened, self._writers = False, 1
        self._gripper = make_gripper(self.node, profile, self.gripper_refused)
        self._controllers = Controllers(self.node, profile, self.armed)
        self._sent = 0
        self.node.every(POLL_PERIOD, self._look)
        self._look()

    def send(self, command: Command) -> None:
        """Publish the chunk, and the gripper's position."""
        if command.chunk is not None:
            self._sent += 1
            self._out.publish(trajectory_msg(self.profile.arm_joints, command.chunk.points()))
        if command.gripper is not None:
            self._gripper.send(command.gripper)

    def problem(self) -> str:
        """Nobody listens, somebody else commands the arm as well, or controllers are missing,
        inactive or of other joints.
        """
        if not self._listened:
            return f"nobody listens on {self._name}: start the arm's controllers"
        if self._writers > 1:
            return f"{self._name} has {self._writers} publishers: end what else commands the arm"
        return self._controllers.problem() or self._gripper.problem()

    def hold(self, reason: str) -> None:
        """Do nothing more: the brake that was sent ends at rest."""

    def figures(self) -> dict[str, object]:
        """Trajectories sent, and what controllers and gripper say."""
        return {"trajectories": self._sent} | self._controllers.figures() | self._gripper.figures()

    def _look(self) -> None:
        self._listened = self._out.get_subscription_count() > 0
        self._writers = self.node.count_publishers(self._name)
