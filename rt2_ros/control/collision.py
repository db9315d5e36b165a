# SPDX-License-Identifier: Apache-2.0
"""Whether the arm would touch itself, the table or a keep-out box, by the URDF's collision shapes.

>>> collisions = Collisions(urdf, profile)
>>> collisions.check(np.array([profile.home, folded]))  # joint positions (m, n) along a way
'panda_link2 and panda_hand'

Pinocchio's collision library (coal) does the geometry: some 30 µs for one position of a Panda of
primitives. What the gripper holds is not known here.
"""

from __future__ import annotations

import os
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

import coal
import numpy as np
import pinocchio as pin
from scipy.spatial import ConvexHull

from rt2_ros.control.kinematics import locked_joints, read_urdf
from rt2_ros.control.pose import Array

if TYPE_CHECKING:
    from rt2_ros.control.profile import RobotProfile

if getattr(pin, "CollisionGeometry", None) is not coal.CollisionGeometry:
    raise ImportError(
        f"pinocchio {pin.__version__} is built with another collision library than coal; expected "
        "one that is: sudo apt update && sudo apt install ros-jazzy-pinocchio ros-jazzy-coal"
    )

_SLACK = 1e-4  # m, by which links that are too near already may come nearer: rounding
_TABLE = "table"
_FLAT, _PLATE = 1e-4, 1e-3  # m: what is flatter counts as a plate of that thickness


class Collisions:
    """Which links may not come near which others, for the arm of a profile with its gripper open.

    Shapes are checked in pairs: links of the arm among each other and with those fixed to its base,
    except neighbours; every moving link with the table (a half space at `table_height`) and with
    each keep-out box. Meshes count as their convex hulls. Links that overlap with the arm at home
    are drawn so and left out, and so is the first one on its table. Not safe to share between
    threads.
    """

    def __init__(self, urdf: str, profile: RobotProfile, margins: bool = True) -> None:
        """Read the URDF (XML text).

        ValueError if a mesh cannot be read, there is no shape, or the arm at home touches the table
        or a keep-out box.

        margins: False takes only what touches for too near.
        """
        model, xml = read_urdf(urdf)
        shapes = _shapes(model, xml)
        neutral = _with_open_gripper(model, xml, profile)
        locked = locked_joints(model, profile.arm_joints)
        model, (shapes,) = pin.buildReducedModel(model, [shapes], locked, neutral)
        if not any(shape.parentJoint for shape in shapes.geometryObjects):
            raise ValueError(
                "robot_description: no <collision> shape on a moving link; "
                "set self_collision: false to go without"
            )
        self._model, self._data = model, model.createData()
        self._shapes = shapes
        self.left_out: list[tuple[str, str]] = []  # links that overlap at home, and are not checked
        _add_surroundings(model, shapes, profile)
        _add_pairs(model, shapes)
        self._margins = self._choose_margins(profile)
        self._results = shapes.createData()
        if not margins:
            self._margins = np.zeros(len(self._margins))
        for request, margin in zip(self._results.collisionRequests, self._margins, strict=True):
            request.security_margin = margin

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Names of the links (or things) of each pair of shapes that is checked."""
        return [self._names(i) for i in range(len(self._shapes.collisionPairs))]

    def check(self, q: Array) -> str:
        """Return what comes too near on a way of joint positions (m, n) in rad, "" if nothing does.

        What is too near in the first row already may stay so, but not come nearer.
        """
        if self._touching(q[0]):
            return self._check_leaving(q)
        for row in q[1:]:
            if self._touching(row):
                results = self._results.collisionResults
                return self._words(next(i for i, r in enumerate(results) if r.isCollision()))
        return ""

    def distances(self, q: Array) -> Array:
        """Return the distance (pairs,) in m of each pair, below 0 where they overlap."""
        pin.computeDistances(self._model, self._data, self._shapes, self._results, np.asarray(q))
        return np.array([result.min_distance for result in self._results.distanceResults])

    def _touching(self, q: Array) -> bool:
        return bool(
            pin.computeCollisions(self._model, self._data, self._shapes, self._results, q, True)
        )

    def _check_leaving(self, q: Array) -> str:
        allowed = np.minimum(self.distances(q[0]), self._margins) - _SLACK
        for row in q[1:]:
            nearer = self.distances(row) < allowed
            if nearer.any():
                return self._words(int(np.argmax(nearer)))
        return ""

    def _choose_margins(self, profile: RobotProfile) -> Array:
        """Return the margin (pairs,) in m of each pair, having dropped those that touch at home.

        It is collision_margin, but no more than half of what there is between links at home, and
        between table and tip where the workspace ends.
        """
        home = np.array(profile.home)
        self._results = self._shapes.createData()
        pairs, distances = list(self._shapes.collisionPairs), self.distances(home)
        self._shapes.removeAllCollisionPairs()
        margins = []
        floor = (profile.workspace_min[2] - profile.table_height) / 2
        for pair, distance in zip(pairs, distances, strict=True):
            link, other = (self._shapes.geometryObjects[i] for i in (pair.first, pair.second))
            if distance <= 0:
                if other.parentFrame == 0 and link.parentJoint > 1:
                    raise ValueError(f"home: {self._name(link)} touches {other.name}")
                if other.parentFrame != 0:
                    self.left_out.append((self._name(link), self._name(other)))
                continue
            self._shapes.addCollisionPair(pair)
            margin = min(profile.collision_margin, distance / 2)
            margins.append(min(margin, floor) if other.name == _TABLE else margin)
        return np.array(margins)

    def _names(self, index: int) -> tuple[str, str]:
        pair, shapes = self._shapes.collisionPairs[index], self._shapes.geometryObjects
        first, second = (self._name(shapes[i]) for i in (pair.first, pair.second))
        return first, second

    def _words(self, index: int) -> str:
        return " and ".join(self._names(index))

    def _name(self, shape: pin.GeometryObject) -> str:
        """Return the link that a shape belongs to, or its own name if it is none of the robot's."""
        if shape.parentFrame == 0:
            return str(shape.name)
        return str(self._model.frames[shape.parentFrame].name)


def _shapes(model: pin.Model, xml: str) -> pin.GeometryModel:
    """Return the URDF's collision shapes; package:// is looked for as ROS does."""
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    folders = [str(Path(prefix, "share")) for prefix in prefixes if prefix]
    try:
        shapes = pin.buildGeomFromUrdfString(
            model, xml, pin.GeometryType.COLLISION, package_dirs=folders
        )
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"robot_description: a collision mesh cannot be read ({' '.join(str(error).split())}); "
            "source the workspace that has it, or set self_collision: false to go without"
        ) from None
    for shape in shapes.geometryObjects:
        if isinstance(shape.geometry, coal.BVHModelBase):
            shape.geometry = _hull(shape.geometry)
    return shapes


def _hull(mesh: coal.BVHModelBase) -> coal.ConvexBase:
    """The convex hull of a mesh; of one that is flat, of a plate of a millimetre, as there is no
    hull. Not by coal: ROS's has been built without Qhull.
    """
    points = np.array(mesh.vertices())
    _, sizes, axes = np.linalg.svd(points - points.mean(axis=0), full_matrices=False)
    for axis in axes[sizes < _FLAT]:
        points = np.concatenate([points + _PLATE / 2 * axis, points - _PLATE / 2 * axis])
    hull = ConvexHull(points)
    used, numbers = np.unique(hull.simplices, return_inverse=True)
    corners, faces = coal.StdVec_Vec3s(), coal.StdVec_Triangle()
    corners.extend(list(points[used]))
    for face, normal in zip(numbers.reshape(-1, 3), hull.equations[:, :3], strict=True):
        a, b, c = (points[used[number]] for number in face)
        outward = np.dot(np.cross(b - a, c - a), normal) > 0
        faces.append(coal.Triangle(*map(int, face if outward else face[::-1])))
    return coal.Convex(corners, faces)


def _with_open_gripper(model: pin.Model, xml: str, profile: RobotProfile) -> Array:
    """Return the whole robot's neutral positions, with the gripper open: it is widest so."""
    q = pin.neutral(model)
    opened = {profile.gripper_joint: profile.gripper_open}
    for joint in ET.fromstring(xml).iter("joint"):
        mimic = joint.find("mimic")
        if mimic is not None and mimic.get("joint") == profile.gripper_joint:
            share = float(mimic.get("multiplier", 1.0)) * profile.gripper_open
            opened[str(joint.get("name"))] = share + float(mimic.get("offset", 0.0))
    for name, position in opened.items():
        if model.existJointName(name):
            q[model.joints[model.getJointId(name)].idx_q] = position
    return q


def _add_surroundings(model: pin.Model, shapes: pin.GeometryModel, profile: RobotProfile) -> None:
    base = model.frames[model.getFrameId(profile.base_frame)].placement

    def add(name: str, placement: pin.SE3, shape: coal.CollisionGeometry) -> None:
        shapes.addGeometryObject(pin.GeometryObject(name, 0, 0, base * placement, shape))

    table = coal.Halfspace(np.array([0.0, 0.0, 1.0]), 0.0)
    add(_TABLE, pin.SE3(np.eye(3), np.array([0.0, 0.0, profile.table_height])), table)
    for number, box in enumerate(profile.keep_out):
        low, high = np.array(box)
        add(f"keep_out {number}", pin.SE3(np.eye(3), (low + high) / 2), coal.Box(high - low))


def _add_pairs(model: pin.Model, shapes: pin.GeometryModel) -> None:
    """Pair all shapes of links that can move against each other and are no neighbours."""
    parents = list(model.parents)
    for i, first in enumerate(shapes.geometryObjects):
        for j, second in enumerate(shapes.geometryObjects[i + 1 :], i + 1):
            a, b = sorted((first.parentJoint, second.parentJoint))
            surroundings = 0 in (first.parentFrame, second.parentFrame)
            neighbours = a == parents[b] and not surroundings
            if a != b and not neighbours:
                shapes.addCollisionPair(pin.CollisionPair(i, j))
