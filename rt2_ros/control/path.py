# SPDX-License-Identifier: Apache-2.0
"""What joint limits alone cannot tell of a trajectory: where the tip and the links get to on it.

>>> path = PathCheck(profile, kinematics, collisions)
>>> path.excess(chunk)  # may be travelled if it takes 1.7 times as long
1.7
>>> path.excess(into_the_table)
Traceback (most recent call last):
rt2_ros.control.trajectory.NoTrajectory: panda_hand and table would touch

A trajectory is looked at in samples; the margins cover what lies between two of them.
"""

from __future__ import annotations

import numpy as np

from rt2_ros.control.collision import Collisions
from rt2_ros.control.kinematics import Kinematics
from rt2_ros.control.pose import Array, Pose
from rt2_ros.control.profile import PATH_TOLERANCE, RobotProfile
from rt2_ros.control.trajectory import Chunk, NoTrajectory

_ROUNDING = 0.001  # m by which a way that begins outside may go further out
_SAMPLE_PERIOD = 0.04  # s between samples,
_SAMPLE_WAY = 0.03  # or rad of the joint that moves most,
_FEWEST, _MOST = 8, 40  # and never fewer nor, for time alone, more than that
_SPEED_MARGIN = 1.02  # for the speed and the acceleration between two samples
_LOOKS = 8  # at the tip on its way, whether it keeps to the line,
_ASIDE, _SHARE_ASIDE = 0.01, 0.25  # m, or share of the way, by which it may be off it,
_TURNED = 0.1  # and rad that it may turn beyond what was asked
_SLOWEST = 0.1  # share of the speed that is left close to a singularity


class PathCheck:
    """Judges trajectories by a profile's workspace, speeds, singularities and collisions.

    Where the arm is beyond a limit already (it was pushed, or the profile is narrow) it may come
    back, but not go further.
    """

    def __init__(
        self, profile: RobotProfile, kinematics: Kinematics, collisions: Collisions | None
    ) -> None:
        self._kinematics, self._collisions = kinematics, collisions
        self._low, self._high = np.array(profile.workspace_min), np.array(profile.workspace_max)
        self._boxes = np.array(profile.keep_out).reshape(-1, 2, 3)
        self._slow, self._stop = profile.singularity_slow, profile.singularity_stop
        self._speeds = np.array([profile.max_linear_speed, profile.max_angular_speed])
        self._accelerations = np.array(
            [profile.max_linear_acceleration, profile.max_angular_acceleration]
        )
        self._duration = profile.chunk_duration
        self._joint_speeds = np.array(profile.joint_velocity)

    def excess(self, chunk: Chunk) -> float:
        """Return how many times too fast a trajectory is; up to 1 it may be travelled as it is.

        Raises NoTrajectory, with a code for counters, for one that must not be at any speed.
        """
        q, velocity, acceleration = _samples(chunk)
        position, twist, change = self._kinematics.along(q, velocity, acceleration)
        self._refuse_place(position)
        share = self._share_of_speed(q)
        speed = np.linalg.norm(twist.reshape(-1, 2, 3), axis=2) / self._speeds
        joints = np.abs(velocity) / self._joint_speeds
        fastest = np.maximum(speed.max(axis=1), np.where(share < 1, joints.max(axis=1), 0.0))
        force = np.linalg.norm(change.reshape(-1, 2, 3), axis=2) / self._accelerations
        # The speed at the start is what it is.
        worst = max(float((fastest / share)[1:].max()), float(np.sqrt(force.max())))
        worst *= _SPEED_MARGIN
        if share.min() < 1:  # short motions are slowed as well, not only those at full speed
            worst = max(worst, self._duration / (chunk.duration * float(share.min())))
        if worst <= 1:
            self._refuse_contact(q)
        return worst

    def is_free(self, chunk: Chunk) -> bool:
        """Return whether nothing is in the way of a trajectory, however fast it is."""
        q, velocity, acceleration = _samples(chunk)
        try:
            self._refuse_place(self._kinematics.along(q, velocity, acceleration)[0])
            self._refuse_contact(q)
        except NoTrajectory:
            return False
        return True

    def condition(self, chunk: Chunk) -> float:
        """Return the largest condition number of the Jacobian [m; rad] at the chunk's points."""
        return float(self._kinematics.conditions(chunk.positions).max())

    def refuse_detour(self, chunk: Chunk, goal: Pose) -> None:
        """Raise NoTrajectory where the tip swings far from the line to its goal, or turns far more
        than asked: joints that have a long way to go take it along.

        What the speed that it begins with carries it aside is not counted.
        """
        q, velocity, _ = chunk.samples(_LOOKS + 1)[1:]
        poses = [self._kinematics.forward(row) for row in q]
        start, twist = poses[0], self._kinematics.motion(q[0], velocity[0])[1]
        step, turn = start.delta_to(goal)
        speed = np.linalg.norm(twist.reshape(2, 3), axis=1)
        # A cubic goes on for 4/27 of its time; one that brakes first, for its braking distance.
        carried = np.maximum(0.15 * speed * chunk.duration, speed**2 / self._accelerations)
        way = float(np.linalg.norm(step))
        aside = max(_ASIDE, _SHARE_ASIDE * way) + carried[0]
        beyond = float(np.linalg.norm(turn)) + _TURNED + carried[1]
        for pose in poses:
            done = pose.position - start.position
            share = np.clip(done @ step / max(way**2, 1e-12), 0.0, 1.0)
            off = float(np.linalg.norm(done - share * step))
            turned = float(np.linalg.norm(start.delta_to(pose)[1]))
            if off > aside or turned > beyond:
                raise NoTrajectory(
                    f"the way there swings {off:.3f} m aside and turns {turned:.2f} rad", "detour"
                )

    def _refuse_place(self, position: Array) -> None:
        outside = np.maximum(self._low - position, position - self._high).max(axis=1)
        if outside.max() > max(outside[0] + _ROUNDING, PATH_TOLERANCE):
            raise NoTrajectory(
                f"the way there leaves the workspace by {outside.max():.3f} m", "workspace"
            )
        depths = self._depths(position)
        deeper = (depths > np.maximum(depths[0], -PATH_TOLERANCE)).any(axis=0)
        if deeper.any():
            raise NoTrajectory(f"keep-out box {int(np.argmax(deeper))} is in the way", "keep-out")

    def _refuse_contact(self, q: Array) -> None:
        contact = "" if self._collisions is None else self._collisions.check(q)
        if contact:
            raise NoTrajectory(f"{contact} would touch", "collision")

    def _depths(self, position: Array) -> Array:
        """Return how deep places (m, 3) are in each box, (m, boxes) in m; below 0 outside."""
        place = position[:, None]
        return np.minimum(place - self._boxes[:, 0], self._boxes[:, 1] - place).min(axis=2)

    def _share_of_speed(self, q: Array) -> Array:
        """Return the share (m,) of every speed that is left; NoTrajectory into a singularity.

        From full speed at singularity_slow down to a tenth at singularity_stop, as MoveIt Servo
        slows down between its two thresholds.
        """
        conditions = self._kinematics.conditions(q)
        if conditions.max() > max(conditions[0] * (1 + 1e-6), self._stop):
            raise NoTrajectory(
                f"a singularity is in the way: condition number {conditions.max():.0f}, at most "
                f"{self._stop:g}",
                "singularity",
            )
        left = (self._stop - conditions) / (self._stop - self._slow)
        return np.clip(left, _SLOWEST, 1.0)


def _samples(chunk: Chunk) -> tuple[Array, Array, Array]:
    """Return positions, velocities, accelerations (m, n) along a trajectory."""
    way = float(np.abs(np.diff(chunk.positions, axis=0)).sum(axis=0).max())
    by_time = min(int(np.ceil(chunk.duration / _SAMPLE_PERIOD)), _MOST)
    count = max(by_time, int(np.ceil(way / _SAMPLE_WAY)), _FEWEST) + 1
    return chunk.samples(count)[1:]
