# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from rt2_ros.control.kinematics import Kinematics, Unreachable
from rt2_ros.control.pose import Pose

# a (m), d (m), alpha (rad): the Panda by the modified (Craig) convention, and its flange and hand.
DH = (
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -np.pi / 2),
    (0.0, 0.316, np.pi / 2),
    (0.0825, 0.0, np.pi / 2),
    (-0.0825, 0.384, -np.pi / 2),
    (0.0, 0.0, np.pi / 2),
    (0.088, 0.0, np.pi / 2),
    (0.0, 0.107 + 0.1034, 0.0),
)
TWO_LINKS = """<robot name="two">
  <link name="world"/><link name="base"/><link name="one"/><link name="two"/><link name="tip"/>
  <joint name="stand" type="fixed"><parent link="world"/><child link="base"/>
    <origin xyz="0 0 5" rpy="0 0 1.5707963267948966"/></joint>
  <joint name="a" type="continuous"><parent link="base"/><child link="one"/><axis xyz="0 0 1"/>
    <limit velocity="2" effort="1"/></joint>
  <joint name="b" type="revolute"><parent link="one"/><child link="two"/><axis xyz="0 0 1"/>
    <origin xyz="1 0 0"/><limit lower="-3" upper="3" velocity="2" effort="1"/></joint>
  <joint name="end" type="fixed"><parent link="two"/><child link="tip"/>
    <origin xyz="1 0 0"/></joint>
</robot>"""

unit = st.floats(0.0, 1.0)


def dh_forward(q):
    """Return the tip's transform (4, 4) by multiplying the table out."""
    transform = np.eye(4)
    for (a, d, alpha), theta in zip(DH, [*q, -np.pi / 4], strict=True):
        ca, sa, ct, st_ = np.cos(alpha), np.sin(alpha), np.cos(theta), np.sin(theta)
        transform = transform @ [
            [ct, -st_, 0, a],
            [st_ * ca, ct * ca, -sa, -d * sa],
            [st_ * sa, ct * sa, ca, d * ca],
            [0, 0, 0, 1],
        ]
    return transform


@given(st.lists(unit, min_size=7, max_size=7))
def test_panda_urdf_agrees_with_its_dh_table(kinematics, shares):
    q = kinematics.lower + np.array(shares) * (kinematics.upper - kinematics.lower)
    expected, pose = dh_forward(q), kinematics.forward(q)
    assert_allclose(pose.position, expected[:3, 3], atol=1e-6)
    assert_allclose(pose.rotation, expected[:3, :3], atol=1e-6)


@given(st.lists(unit, min_size=7, max_size=7), st.integers(0, 6))
def test_jacobian_is_the_derivative_of_the_pose(kinematics, shares, joint):
    q = kinematics.lower + np.array(shares) * (kinematics.upper - kinematics.lower)
    small = np.zeros(7)
    small[joint] = 1e-6
    translation, rotation = kinematics.forward(q).delta_to(kinematics.forward(q + small))
    expected = np.concatenate((translation, rotation)) / 1e-6
    assert_allclose(kinematics.jacobian(q)[:, joint], expected, atol=1e-5)


@settings(max_examples=200)
@given(st.floats(0.35, 0.65), st.floats(-0.25, 0.25), st.floats(0.02, 0.35), st.floats(-0.5, 0.5))
def test_inverse_reaches_the_whole_table_within_the_limits(profile, kinematics, x, y, z, yaw):
    hand_down = Pose([0, 0, 0], np.diag([1.0, -1.0, -1.0]))
    target = hand_down.compose_delta([x, y, z], [0, 0, yaw])
    q = kinematics.inverse(target, seed=profile.home)
    translation, rotation = kinematics.forward(q).delta_to(target)
    assert np.linalg.norm(translation) < 1e-5
    assert np.linalg.norm(rotation) < 1e-4
    assert (profile.joint_lower <= q).all()
    assert (q <= profile.joint_upper).all()


def test_inverse_of_where_the_arm_is_moves_nothing(kinematics, start):
    assert_allclose(kinematics.inverse(kinematics.forward(start), seed=start), start)


def test_inverse_says_how_far_off_an_unreachable_target_is(kinematics, start):
    with pytest.raises(Unreachable, match="target not reachable: .* mm, .* rad off") as caught:
        kinematics.inverse(Pose([2.0, 0.0, 0.3], np.diag([1.0, -1.0, -1.0])), seed=start)
    assert caught.value.position_error > 1.0
    assert (kinematics.lower <= caught.value.q).all()
    assert (caught.value.q <= kinematics.upper).all()


def test_base_frame_need_not_be_the_root_and_joints_may_be_continuous():
    arm = Kinematics(TWO_LINKS, ["a", "b"], "base", "tip")
    assert_allclose(arm.forward([0.0, np.pi / 2]).position, [1, 1, 0], atol=1e-12)
    assert_allclose(arm.jacobian([0.0, np.pi / 2])[:3], [[-1, -1], [1, 0], [0, 0]], atol=1e-12)
    position, twist = arm.motion([0.0, np.pi / 2], [1.0, 0.0])
    assert_allclose(position, [1, 1, 0], atol=1e-12)
    assert_allclose(twist, [-1, 1, 0, 0, 0, 1], atol=1e-12)
    assert_allclose(arm.forward([100 * np.pi, 0.0]).position, [2, 0, 0], atol=1e-9)


def test_a_joint_that_moves_base_and_tip_alike_need_not_be_named():
    arm = Kinematics(TWO_LINKS, ["b"], "one", "tip")  # on a lift, say
    assert_allclose(arm.forward([np.pi / 2]).position, [1, 1, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("urdf", "joints", "base", "tip", "message"),
    [
        ("no xml", ["a"], "base", "tip", "robot_description: not XML"),
        ("<model/>", ["a"], "base", "tip", "root element <model>, expected <robot>"),
        (
            TWO_LINKS,
            ["a", "elbow"],
            "base",
            "tip",
            "joint 'elbow': not in the URDF, which has a, b",
        ),
        (TWO_LINKS, ["b", "a"], "base", "tip", "expected in the URDF's order"),
        (TWO_LINKS, ["a", "b"], "foot", "tip", "frame 'foot': not in the URDF, which has world"),
        (TWO_LINKS, ["a", "b"], "base", "hand", "frame 'hand': not in the URDF"),
        (TWO_LINKS, ["a", "b"], "one", "tip", "base frame 'one': moves with a"),
        (TWO_LINKS, ["a"], "base", "tip", "joint 'b': moves tip in base, expected it among a"),
        (TWO_LINKS, ["b"], "world", "tip", "joint 'a': moves tip in world, expected it among b"),
    ],
)
def test_names_what_the_urdf_lacks(urdf, joints, base, tip, message):
    with pytest.raises(ValueError, match=message):
        Kinematics(urdf, joints, base, tip)


def test_limits_can_only_become_narrower():
    arm = Kinematics(TWO_LINKS, ["a", "b"], "base", "tip")
    arm.narrow([-1, -1], [1, 1])
    assert_allclose(arm.upper, [1, 1])
    with pytest.raises(ValueError, match=r"b: limits -1 \.\. 2 rad, expected within -1 \.\. 1"):
        arm.narrow([-1, -1], [1, 2])
