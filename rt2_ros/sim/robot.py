# SPDX-License-Identifier: Apache-2.0
"""The simulated arm as ros2_control shows it: joint states out, joint trajectories in.

Behaves as joint_trajectory_controller does with `interpolate_from_desired_state`: a new trajectory
replaces the old one at once and starts from the motion that was wanted at that moment.

>>> robot = SimulatedRobot(world)
>>> robot.follow_arm([(0.3, q_target, np.zeros(7))])
>>> robot.follow_gripper([(0.3, [0.0], [0.0])])
>>> robot.advance(0.3)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rt2_ros.control.trajectory import Chunk
from rt2_ros.sim.model import ARM_JOINTS, FINGER_JOINTS, TIMESTEP
from rt2_ros.sim.world import World

Array = NDArray[np.float64]
Points = Sequence[tuple[float, ArrayLike, ArrayLike]]  # s from start, positions, velocities

_STEPS = 2  # physics steps for one update of the servos' targets: 250 Hz


class SimulatedRobot:
    """Plays trajectories on a World, and measures its joints. Not safe to share between threads."""

    joint_names = (*ARM_JOINTS, *FINGER_JOINTS)

    def __init__(self, world: World) -> None:
        self.world = world
        self.reset()

    def reset(self) -> None:
        """Drop all trajectories and hold the joints where they are."""
        q = self.world.joint_positions()
        self._arm = _Follower(q[:7])
        self._gripper = _Follower(q[7:8])

    def follow_arm(self, points: Points) -> None:
        """Replace the arm's trajectory: positions (7,) in rad, velocities (7,) in rad/s.

        Raises:
            ValueError: times that do not increase, a last velocity that is not 0, wrong sizes.
        """
        self._arm.start(self.world.time, points)

    def follow_gripper(self, points: Points) -> None:
        """Replace the gripper's trajectory: panda_finger_joint1 (1,) in m, its velocity in m/s."""
        self._gripper.start(self.world.time, points)

    def positions(self) -> Array:
        """(9,), in the order of `joint_names`: rad, the last two m."""
        return self.world.joint_positions()

    def velocities(self) -> Array:
        """(9,), in the order of `joint_names`: rad/s, the last two m/s."""
        return self.world.joint_velocities()

    def advance(self, seconds: float) -> None:
        """Let physics run for that long, the servos following the trajectories."""
        left = round(seconds / TIMESTEP)
        while left > 0:
            count = min(_STEPS, left)
            q, velocity = self._arm.sample(self.world.time)
            finger, _ = self._gripper.sample(self.world.time)
            self.world.set_arm_targets(q, 2 * float(finger[0]), velocity)
            self.world.step(count)
            left -= count


class _Follower:
    """One trajectory controller: the motion that it wants at any time."""

    def __init__(self, q: Array) -> None:
        self._rest = q.copy(), np.zeros(len(q))
        self._chunk: Chunk | None = None
        self._start = 0.0

    def start(self, time: float, points: Points) -> None:
        q, velocity = self.sample(time)
        rows = [(0.0, q, velocity), *points]
        if any(np.shape(row[i]) != q.shape for row in rows for i in (1, 2)):
            raise ValueError(f"points: expected {len(q)} positions and velocities in each")
        positions = np.array([row[1] for row in rows], dtype=np.float64)
        velocities = np.array([row[2] for row in rows], dtype=np.float64)
        self._chunk = Chunk(np.array([row[0] for row in rows], float), positions, velocities)
        self._start = time
        self._rest = positions[-1], np.zeros(len(q))

    def sample(self, time: float) -> tuple[Array, Array]:
        if self._chunk is None or time - self._start >= self._chunk.duration:
            return self._rest
        return self._chunk.sample(time - self._start)
