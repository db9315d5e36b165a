# SPDX-License-Identifier: Apache-2.0
"""The Panda's profile and kinematics, and rigs on which to try the controller."""

from dataclasses import replace

import numpy as np
import pytest

from rt2_ros.bench.rig import PERIOD, Rig
from rt2_ros.control.pose import Pose
from rt2_ros.control.profile import RobotProfile
from rt2_ros.control.trajectory import Chunk
from rt2_ros.paths import config_path


class PacedRig(Rig):
    """An arm whose time goes by at its own pace, moved as a trajectory controller moves it: each
    trajectory goes on from the motion that is wanted at that moment.
    """

    pace = 1.0

    def apply(self, command):
        if command is not None and command.chunk is not None:
            chunk = command.chunk
            positions = np.vstack((self.q, chunk.positions[1:]))
            velocities = np.vstack((self.velocity, chunk.velocities[1:]))
            command = replace(command, chunk=Chunk(chunk.times, positions, velocities))
        return super().apply(command)

    def run(self, seconds, **options):
        for _ in range(round(seconds / PERIOD)):
            self.chunk_time += (1 - self.pace) * PERIOD
            super().run(PERIOD, **options)


@pytest.fixture(scope="session")
def profile():
    return RobotProfile.load(config_path("robots", "panda.yaml"))


@pytest.fixture(scope="session")
def urdf():
    return config_path("robots", "panda.urdf").read_text()


@pytest.fixture(scope="session")
def kinematics(profile, urdf):
    return profile.kinematics(urdf)


@pytest.fixture(scope="session")
def collisions(profile, urdf):
    return profile.collisions(urdf)


@pytest.fixture(scope="session")
def start(profile, kinematics):
    """Joint positions with the hand down over the middle of the table."""
    pose = Pose(np.array([0.5, 0.0, 0.25]), np.diag([1.0, -1.0, -1.0]))
    return kinematics.inverse(pose, seed=profile.home)


@pytest.fixture(scope="session")
def new_rig(profile, kinematics, collisions, start):
    """Return a function that makes a Rig at `start`; session-wide, for property tests."""

    def make(armed=True, q=start, parts=True):
        return Rig(profile, kinematics, collisions, armed, q, parts)

    return make


@pytest.fixture
def rig_with(profile, kinematics, collisions, start):
    """Return a function that makes a Rig with an instruction, 1, and changes to the profile."""

    def rig_with(parts=True, **changes):
        rig = Rig(replace(profile, **changes), kinematics, collisions, q=start, parts=parts)
        rig.instruct()
        return rig

    return rig_with


@pytest.fixture
def rig(new_rig):
    """Return an armed arm with an instruction, 1."""
    rig = new_rig()
    rig.instruct()
    return rig


@pytest.fixture
def paced(profile, kinematics, collisions, start):
    """Return a function that makes an arm with an instruction, 1, at a pace of its own."""

    def paced(pace, parts=True):
        rig = PacedRig(profile, kinematics, collisions, q=start, parts=parts)
        rig.pace = pace
        rig.instruct()
        return rig

    return paced
