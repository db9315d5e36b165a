# SPDX-License-Identifier: Apache-2.0
import mujoco
import numpy as np
import pytest

from rt2_ros.control.kinematics import Kinematics
from rt2_ros.paths import config_path
from rt2_ros.sim import model
from rt2_ros.sim.world import HOME, World

URDF = config_path("robots", "panda.urdf").read_text(encoding="utf-8")
HALF_PI = np.pi / 2
# a, d in m, alpha in rad of the modified Denavit-Hartenberg table, one row for each joint.
DH = (
    (0, 0.333, 0), (0, 0, -HALF_PI), (0, 0.316, HALF_PI), (0.0825, 0, HALF_PI),
    (-0.0825, 0.384, -HALF_PI), (0, 0, HALF_PI), (0.088, 0, HALF_PI),
)  # fmt: skip
LOWER = (-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973)
UPPER = (2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973)


def link(a, d, alpha, theta):
    """Craig's transform from link i-1 to link i."""
    ca, sa, c, s = np.cos(alpha), np.sin(alpha), np.cos(theta), np.sin(theta)
    return np.array(
        [[c, -s, 0, a], [s * ca, c * ca, -sa, -d * sa], [s * sa, c * sa, ca, d * ca], [0, 0, 0, 1]]
    )


def fingertips(q):
    pose = np.eye(4)
    for row, theta in zip(DH, q, strict=True):
        pose = pose @ link(*row, theta)
    return pose @ link(0, 0.107 + 0.1034, 0, -np.pi / 4)


@pytest.fixture(scope="module")
def kinematics():
    return Kinematics(URDF, model.ARM_JOINTS, "panda_link0", "panda_hand_tcp")


@pytest.mark.parametrize("seed", range(5))
def test_urdf_and_physics_agree_with_the_denavit_hartenberg_table(kinematics, seed):
    q = np.random.default_rng(seed).uniform(LOWER, UPPER)
    expected = fingertips(q)
    pose = kinematics.forward(q)
    np.testing.assert_allclose(pose.position, expected[:3, 3], atol=1e-9)
    np.testing.assert_allclose(pose.rotation, expected[:3, :3], atol=1e-9)
    world = World()
    world.set_joints(q, 0.08)
    world.update_poses()
    position, rotation = world.tip_pose()
    np.testing.assert_allclose(position, expected[:3, 3], atol=1e-6)  # single precision input
    np.testing.assert_allclose(rotation, expected[:3, :3], atol=1e-6)


def test_at_home_the_hand_points_down(kinematics):
    pose = kinematics.forward(HOME)
    np.testing.assert_allclose(pose.position, [0.3069, 0, 0.4869], atol=1e-4)
    np.testing.assert_allclose(pose.rotation, np.diag([1, -1, -1]), atol=1e-9)


def test_limits_are_the_pandas(kinematics):
    np.testing.assert_allclose(kinematics.lower, LOWER)
    np.testing.assert_allclose(kinematics.upper, UPPER)
    np.testing.assert_allclose(kinematics.velocity, [2.175] * 4 + [2.61] * 3)


def test_nothing_is_welded():
    compiled = model.build(URDF)
    assert compiled.neq == 1
    assert compiled.eq_type[0] == mujoco.mjtEq.mjEQ_JOINT  # the finger mirror
    joints = [
        compiled.joint(int(compiled.eq_obj1id[0])).name,
        compiled.joint(int(compiled.eq_obj2id[0])).name,
    ]
    assert sorted(joints) == ["panda_finger_joint1", "panda_finger_joint2"]
    assert compiled.nmocap == 0
    assert compiled.ntendon == 0


def test_no_shadows_and_no_meshes():
    compiled = model.build(URDF)
    assert not compiled.light_castshadow.any()
    assert compiled.nmesh == 0


@pytest.mark.parametrize(
    ("urdf", "message"),
    [
        ("hello", "no <robot> element"),
        ("<robot name='x'><link></robot>", "MuJoCo cannot read it"),
        ("<robot name='x'><link name='a'/></robot>", "lacks joint panda_joint1"),
    ],
)
def test_a_urdf_that_will_not_do_is_named(urdf, message):
    with pytest.raises(ValueError, match=message):
        model.build(urdf)
