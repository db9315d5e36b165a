# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from rt2_ros.sim.model import FACE_SIZE, MAX_SLOTS
from rt2_ros.sim.tabletop import Tabletop
from rt2_ros.sim.world import HOME, Unstable


def hold(table: Tabletop, opening: float, seconds: float) -> None:
    """Let time pass, the arm where it is."""
    world = table.world
    world.set_arm_targets(world.joint_positions()[:7], opening)
    world.step(round(seconds / 0.002))


def test_friction_alone_holds_a_block_against_gravity(tabletop):
    tabletop.pose([0.5, 0, 0.3], 0, held="thing 1")
    hold(tabletop, 0.0, 3.0)
    block = tabletop.state().find("thing 1")
    assert block.grasped
    np.testing.assert_allclose(block.position, [0.5, 0, 0.305], atol=2e-3)
    assert tabletop.state().closedness == pytest.approx(0.375, abs=0.01)


def test_a_block_falls_when_the_fingers_open(tabletop):
    tabletop.pose([0.5, 0, 0.3], 0, held="thing 1")
    hold(tabletop, 0.08, 1.0)
    block = tabletop.state().find("thing 1")
    assert not block.grasped
    assert block.height == pytest.approx(0, abs=1e-3)


def test_a_held_block_stays_while_the_arm_moves_fast(tabletop):
    tabletop.pose([0.45, 0, 0.2], 0, held="thing 1")
    world, start = tabletop.world, tabletop.world.joint_positions()[:7]
    for turn in np.linspace(0, 0.6, 100):  # 0.6 rad in 0.4 s at 0.45 m: some 0.7 m/s
        world.set_arm_targets(start + [turn, 0, 0, 0, 0, 0, 0], 0.0)
        world.step(2)
    assert tabletop.state().find("thing 1").grasped


def test_blocks_rest_on_the_table(tabletop):
    before = tabletop.reset(3)
    hold(tabletop, 0.08, 2.0)
    for old, new in zip(before.objects, tabletop.state().objects, strict=True):
        np.testing.assert_allclose(new.position, old.position, atol=1e-4)


def test_the_arm_holds_still_against_gravity(tabletop):
    world = tabletop.world
    world.set_joints(HOME, 0.08)
    world.update()
    world.data.qvel[:7] = 1.0  # a push: it must not ring afterwards
    world.step(1500)
    np.testing.assert_allclose(world.joint_positions()[:7], HOME, atol=1e-6)
    np.testing.assert_allclose(world.joint_velocities(), 0, atol=1e-6)


def test_parked_objects_touch_nothing_and_stay(tabletop):
    tabletop.pose([0.5, 0, 0.3], 0.08)
    world = tabletop.world
    world.update()
    assert world.data.ncon == 0
    before = [world.object_pose("block", i)[0] for i in range(MAX_SLOTS)]
    world.step(500)
    for i, position in enumerate(before):
        np.testing.assert_allclose(world.object_pose("block", i)[0], position, atol=1e-9)


def test_fingers_mirror_each_other(tabletop):
    tabletop.pose([0.5, 0, 0.3], 0.08)
    hold(tabletop, 0.03, 0.5)
    left, right = tabletop.world.joint_positions()[7:]
    assert left == pytest.approx(0.015, abs=1e-3)
    assert right == pytest.approx(left, abs=1e-4)


def test_the_arm_moves_only_as_its_joints_allow(tabletop):
    world = tabletop.world
    world.set_joints(HOME, 0.08)
    world.set_arm_targets(np.full(7, 10.0), 1.0)
    world.step(1500)
    q = world.joint_positions()
    assert (q[:7] < np.array([2.9, 1.77, 2.9, -0.06, 2.9, 3.76, 2.9]) + 0.05).all()
    assert world.opening() <= 0.081


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda world: world.render("front"), "camera: 'front', expected one of scene, wrist"),
        (lambda world: world.place("ball", 0, [0, 0, 0], 0), "slot: 'ball' number 0, expected"),
        (lambda world: world.place("block", 99, [0, 0, 0], 0), "slot: 'block' number 99"),
        (
            lambda world: world.set_face("block", 0, np.zeros((2, 2, 3), np.uint8)),
            rf"picture: uint8 \(2, 2, 3\), expected uint8 \({FACE_SIZE}, {FACE_SIZE}, 3\)",
        ),
    ],
)
def test_what_is_not_there_is_named(tabletop, call, message):
    with pytest.raises(ValueError, match=message):
        call(tabletop.world)


def test_physics_that_became_unstable_says_so_once(tabletop, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a file where it stands
    tabletop.reset(seed=1)
    tabletop.world.step(10)
    contacts = tabletop.world.data.ncon
    tabletop.world.data.qvel[0] = 1e12
    with pytest.raises(Unstable, match=r"unstable after 0\.\d+ s: velocities are huge"):
        tabletop.world.step(10)
    tabletop.reset(seed=1)
    tabletop.world.step(10)
    assert tabletop.world.data.ncon == contacts  # what is not on the table lies aside as before
