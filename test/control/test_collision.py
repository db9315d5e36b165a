# SPDX-License-Identifier: Apache-2.0
import dataclasses
import struct

import numpy as np
import pytest
from numpy.testing import assert_allclose

from rt2_ros.control.collision import Collisions
from rt2_ros.control.pose import Pose
from rt2_ros.control.profile import RobotProfile

# Two bars of 1 m in a row, which turn about z, on a foot beside which stands a post.
ARM = """<robot name="bars">
  <link name="foot"><collision><origin xyz="-0.5 0 0"/>
    <geometry><box size="0.2 0.2 0.2"/></geometry></collision></link>
  <link name="one"><collision><origin xyz="0.5 0 0"/>
    <geometry><box size="0.9 0.1 0.1"/></geometry></collision></link>
  <link name="two"><collision><origin xyz="0.5 0 0"/>
    <geometry>{shape}</geometry></collision></link>
  <link name="tip"/>
  <joint name="a" type="revolute"><parent link="foot"/><child link="one"/><axis xyz="0 0 1"/>
    <limit lower="-3.2" upper="3.2" velocity="2" effort="1"/></joint>
  <joint name="b" type="revolute"><parent link="one"/><child link="two"/><axis xyz="0 0 1"/>
    <origin xyz="1 0 0"/><limit lower="-3.2" upper="3.2" velocity="2" effort="1"/></joint>
  <joint name="end" type="fixed"><parent link="two"/><child link="tip"/>
    <origin xyz="1 0 0"/></joint>
</robot>"""
BOX = '<box size="0.9 0.1 0.1"/>'


@pytest.fixture(scope="module")
def bars(profile):
    """Return a function that makes the Collisions of the bars, with changes to the profile."""

    def bars(shape=BOX, **changes):
        mine = dataclasses.replace(
            profile,
            base_frame="foot",
            tip_frame="tip",
            arm_joints=("a", "b"),
            gripper_joint="",
            gripper_controller="",
            gripper_command="none",
            home=(0.0, 0.0),
            joint_lower=(-3.1, -3.1),
            joint_upper=(3.1, 3.1),
            joint_velocity=(1.0, 1.0),
            joint_acceleration=(5.0, 5.0),
            workspace_max=(2.0, 2.0, 0.1),
            **{
                "collision_margin": 0.05,
                "workspace_min": (-2.0, -2.0, -0.1),
                "table_height": -0.2,
                **changes,
            },
        )
        return Collisions(ARM.format(shape=shape), mine)

    return bars


def way(*positions):
    return np.array(positions, dtype=float)


def test_neighbours_are_not_checked_and_all_others_are(bars):
    assert bars().pairs == [("foot", "two"), ("one", "table"), ("two", "table")]


def test_distances_are_those_of_the_drawing(bars):
    # The bar "two" from 1.05 m on, the post up to -0.4 m; bars 0.15 m above the table.
    assert_allclose(bars().distances(np.zeros(2)), [1.45, 0.15, 0.15], atol=1e-6)


def test_what_would_touch_is_named(bars):
    assert bars().check(way([0, 0], [1.5, 0], [2.2, 1.5], [0.0, 3.0])) == ""  # neighbours may
    assert bars().check(way([0, 0], [2.2, 1.5], [2.2, 2.5])) == "foot and two"
    assert bars().check(way([0, 0], [2.2, 2.5], [2.2, 1.5])) == "foot and two"


@pytest.mark.parametrize("margin", [0.02, 0.05])
def test_the_margin_is_kept(bars, margin):
    collisions = bars(collision_margin=margin)
    sweep = np.array([[2.2, b] for b in np.linspace(1.5, 2.5, 1000)])
    near = [collisions.distances(row)[0] < margin for row in sweep]
    first = int(np.argmax(near))
    assert 0 < first < 999
    assert collisions.check(sweep[:first]) == ""
    assert collisions.check(sweep[: first + 1]) == "foot and two"
    touching = Collisions.check(bars(collision_margin=1e-4), sweep[: first + 1])
    assert touching == ""


def test_what_touches_already_may_come_free_but_not_go_deeper(bars):
    edge, deep, free = [2.2, 2.45], [2.2, 2.5], [2.2, 1.5]
    collisions = bars()
    inside = collisions.distances(np.array(edge))[0], collisions.distances(np.array(deep))[0]
    assert inside[1] < inside[0] < 0
    assert collisions.check(way(deep, edge, free)) == ""
    assert collisions.check(way(edge, edge)) == ""
    assert collisions.check(way(edge, deep, free)) == "foot and two"


def test_a_keep_out_box_is_for_every_link(bars):
    box = ((0.6, 0.4, -0.1), (0.7, 0.5, 0.1))
    collisions = bars(keep_out=(box,))
    assert collisions.check(way([0, 0], [0.3, 0.5])) == ""
    assert collisions.check(way([0, 0], [0.6, 0.0])) == "one and keep_out 0"
    assert collisions.check(way([0, 0], [-0.5, 2.2])) == "two and keep_out 0"


def test_a_home_that_touches_the_table_or_a_keep_out_box_is_refused(bars):
    with pytest.raises(ValueError, match="home: two touches table"):
        bars(workspace_min=(-2, -2, 0.0), table_height=-0.04)
    with pytest.raises(ValueError, match="home: two touches keep_out 0"):
        bars(keep_out=(((1.5, -0.1, -0.1), (1.6, 0.1, 0.1)),))


def test_links_that_are_drawn_into_each_other_are_left_out(bars):
    """A bar "two" that is so long that it lies in the foot's post from the start."""
    long = '<box size="4.0 0.1 0.1"/>'
    found = bars(long)
    assert found.pairs == [("one", "table"), ("two", "table")]
    assert found.left_out == [("foot", "two")]


def test_pairs_that_are_near_at_home_get_half_that_as_margin(bars):
    collisions = bars(workspace_min=(-2, -2, 0.0), table_height=-0.06)  # the bars 10 mm above
    assert_allclose(collisions.distances(np.zeros(2))[1:], 0.01, atol=1e-6)
    assert collisions.check(way([0, 0], [1, 1])) == ""


def stl(size):
    """Return a binary STL of a box of that size (3,) around the origin."""
    x, y, z = np.array(size) / 2
    c = [(i * x, j * y, k * z) for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)]
    faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    triangles = [t for a, b, d, e in faces for t in ((a, b, d), (a, d, e))]
    body = b"".join(
        struct.pack("<12fH", 0, 0, 0, *(v for i in triangle for v in c[i]), 0)
        for triangle in triangles
    )
    return bytes(80) + struct.pack("<I", len(triangles)) + body


def test_a_mesh_counts_as_its_convex_hull(bars, tmp_path, monkeypatch):
    folder = tmp_path / "share" / "mine"
    folder.mkdir(parents=True)
    (folder / "bar.stl").write_bytes(stl((0.9, 0.1, 0.1)))
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    of_mesh = bars('<mesh filename="package://mine/bar.stl"/>')
    for q in ([0, 0], [1.0, 2.0], [2.2, 1.5]):
        assert_allclose(of_mesh.distances(np.array(q)), bars().distances(np.array(q)), atol=1e-5)
    assert of_mesh.check(way([0, 0], [2.2, 2.5])) == "foot and two"


def test_a_flat_mesh_counts_as_a_thin_plate(bars, tmp_path):
    """The library would end the process, and with it what brakes the arm."""
    (tmp_path / "plate.stl").write_bytes(stl((0.9, 0.1, 0.0)))
    plate = bars(f'<mesh filename="file://{tmp_path}/plate.stl"/>')
    thin = bars('<box size="0.9 0.1 0.001"/>')
    for q in ([0, 0], [1.0, 2.0], [2.2, 1.5]):
        assert_allclose(plate.distances(np.array(q)), thin.distances(np.array(q)), atol=1e-5)


@pytest.mark.parametrize("file", ["package://nowhere/bar.stl", "file:///nowhere/bar.stl"])
def test_a_mesh_that_is_not_there_is_refused_with_what_to_do(bars, file):
    with pytest.raises(ValueError, match="mesh cannot be read .*nowhere.* or set self_collision"):
        bars(f'<mesh filename="{file}"/>')


def test_without_shapes_there_is_nothing_to_promise(profile, urdf):
    bare = urdf.replace("<collision", "<!--").replace("</collision>", "-->")
    bare = bare.replace("<!-- name=", "<!--")
    with pytest.raises(ValueError, match="no <collision> shape on a moving link"):
        Collisions(bare, profile)
    assert dataclasses.replace(profile, self_collision=False).collisions(bare) is None


def test_the_panda_is_free_all_over_its_table(profile, kinematics, collisions):
    down = np.diag([1.0, -1.0, -1.0])
    low, high = np.array(profile.workspace_min), np.array(profile.workspace_max)
    for share in np.random.default_rng(0).uniform(size=(200, 3)):
        place = low + share * (high - low) * [0.8, 1.0, 0.6]
        q = kinematics.inverse(Pose(place, down), profile.home)
        assert collisions.check(np.array([profile.home, q])) == ""


def test_the_pandas_tilted_hand_and_its_elbow_stay_off_the_table(kinematics, collisions, start):
    low = kinematics.forward(start).compose_delta([0, 0, -0.235], [0, 0, 0])
    upright = kinematics.inverse(low, start)
    tilted = kinematics.inverse(low.compose_delta([0, 0, 0], [0.9, 0, 0]), start)
    assert collisions.check(np.array([start, upright])) == ""
    assert collisions.check(np.array([start, tilted])).endswith(" and table")
    elbow = np.array([0.0, 1.6, 0.0, -0.6, 0.0, 2.5, 0.0])
    assert collisions.check(np.array([start, elbow])).endswith(" and table")


def test_the_pandas_fingers_are_open(profile, urdf, collisions):
    """At 0.1 m from the hand's middle the fingers end; 0.04 m each they are apart."""
    names = [pair for pair in collisions.pairs if "finger" in pair[0] + pair[1]]
    assert ("panda_link0", "panda_leftfinger") in names
    assert ("panda_leftfinger", "panda_rightfinger") not in names
    closed = RobotProfile.from_dict({**dataclasses.asdict(profile), "gripper_open": 0.01})
    home = np.array(profile.home)
    index = collisions.pairs.index(("panda_link5", "panda_leftfinger"))
    assert collisions.distances(home)[index] != closed.collisions(urdf).distances(home)[index]
