# SPDX-License-Identifier: Apache-2.0
"""The Panda's profile and kinematics, and an arm on which to try the controller's commands."""

import numpy as np
import pytest

from rt2_ros.control.arm import ArmController
from rt2_ros.control.pose import Pose
from rt2_ros.control.profile import RobotProfile
from rt2_ros.control.safety import Delta
from rt2_ros.paths import config_path

PERIOD = 0.01  # s between joint states and ticks


class Rig:
    """An ArmController and an arm that follows its trajectories exactly, on one made-up clock.

    commands: every (time, joint positions then, joint velocities then, Command) that came out.
    """

    def __init__(self, profile, kinematics, collisions, armed=True, q=None):
        self.time = 100.0
        self.profile, self.kinematics = profile, kinematics
        self.arm = ArmController(
            profile, kinematics, collisions, clock=lambda: self.time, armed=armed
        )
        self.q = np.array(profile.home if q is None else q)
        self.velocity = np.zeros(7)
        self.finger = profile.gripper_open
        self.chunk, self.chunk_time = None, 0.0
        self.commands = []
        self.step = 0
        self.run(0.05)

    @property
    def now_ns(self):
        return round(self.time * 1e9)

    @property
    def tip(self):
        return self.kinematics.forward(self.q)

    @property
    def moving(self):
        return bool(np.abs(self.velocity).max() > 1e-9)

    def apply(self, command):
        if command is None:
            return None
        self.commands.append((self.time, self.q, self.velocity, command))
        if command.chunk is not None:
            self.chunk, self.chunk_time = command.chunk, self.time
        if command.gripper is not None:
            self.finger = command.gripper
        return command

    def run(self, seconds, joint_states=True):
        for _ in range(round(seconds / PERIOD)):
            self.time += PERIOD
            if self.chunk is not None:
                self.q, self.velocity = self.chunk.sample(self.time - self.chunk_time)
            if joint_states:
                names = ["other", *reversed(self.profile.arm_joints), self.profile.gripper_joint]
                positions = [1.0, *reversed(self.q), self.finger]
                self.apply(self.arm.on_joint_state(self.now_ns, names, positions))
            self.apply(self.arm.tick(self.now_ns))

    def instruct(self, text="pick up the apple", instruction_id=1):
        self.apply(self.arm.on_instruction(text))
        return self.apply(self.arm.on_policy_status(instruction_id, text))

    def delta(self, translation=(0.0, 0.0, 0.0), **changes):
        self.step += 1
        fields = {
            "stamp_ns": self.now_ns,
            "frame_id": self.profile.base_frame,
            "instruction_id": self.arm.instruction_id,
            "step": self.step,
            "translation": translation,
            "rotation": (0.0, 0.0, 0.0),
            "gripper": 0.0,
        }
        return Delta(**{**fields, **changes})

    def send(self, delta):
        return self.apply(self.arm.on_delta(delta, self.now_ns))

    def move(self, *translation, **changes):
        return self.send(self.delta(translation, **changes))


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

    def make(armed=True, q=start):
        return Rig(profile, kinematics, collisions, armed, q)

    return make


@pytest.fixture
def rig(new_rig):
    """Return an armed arm with an instruction, 1."""
    rig = new_rig()
    rig.instruct()
    return rig
