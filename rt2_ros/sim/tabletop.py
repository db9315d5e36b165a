# SPDX-License-Identifier: Apache-2.0
"""The tabletop: named objects under an arm, laid anew per seed, seen and measured.

>>> table = Tabletop(names=["banana", "red apple", "hammer", "teapot"])
>>> table.reset(seed=7, objects=["banana"])  # same seed, same scene; it holds a banana
>>> table.state().find("banana").position
>>> table.pose([0.5, 0.0, 0.12], 0.08, [("banana", (0.55, 0.05, 0.025), 0.1)])  # no physics
>>> picture, pixel = table.render("scene", 640, 480), table.project([0.55, 0.05, 0.05])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rt2_ros.control.kinematics import Kinematics
from rt2_ros.control.pose import Pose
from rt2_ros.sim import scene
from rt2_ros.sim.model import ARM_JOINTS, FACE_SIZE, HALF_SIZES, MAX_SLOTS, TIP_FRAME
from rt2_ros.sim.scene import Appearance, Placement
from rt2_ros.sim.world import HOME, MAX_OPENING, World

Array = NDArray[np.float64]
Pictures = Callable[[str], NDArray[np.uint8]]  # name -> uint8 RGBA (n, n, 4)

HAND_DOWN = np.diag([1.0, -1.0, -1.0])
GRASP_HEIGHT = 0.020  # m, fingertips above the table when they take a block
_SQUEEZE = 0.0006  # m that the fingers sink into what they hold
_SETTLE_STEPS = 25


@dataclass(frozen=True, eq=False)
class ObjectState:
    """An object: centre (3,) in m, quaternion (4,) x, y, z, w; grasped: both fingers touch it."""

    name: str
    kind: str
    position: Array
    quaternion: Array
    grasped: bool

    @property
    def height(self) -> float:
        """Metres above where it would lie on the table."""
        return float(self.position[2]) - self.half_height

    @property
    def half_height(self) -> float:
        """Metres from its centre to its top."""
        return scene.rest_height(self.kind)


@dataclass(frozen=True, eq=False)
class TabletopState:
    """Ground truth of the whole table, base frame."""

    time: float  # s
    seed: int
    objects: tuple[ObjectState, ...]
    tcp: Pose
    opening: float  # m between the fingertips
    joints: Array  # (9,) rad, the last two m

    @property
    def closedness(self) -> float:
        """0 = open, 1 = closed."""
        return 1.0 - self.opening / MAX_OPENING

    @property
    def vector(self) -> Array:
        """(4,): fingertips x, y, z in m and closedness; what a policy is given as its state."""
        return np.array([*self.tcp.position, self.closedness])

    @property
    def held(self) -> str | None:
        """Name of the object between the fingers, if any."""
        return next((o.name for o in self.objects if o.grasped), None)

    def find(self, name: str) -> ObjectState:
        """Return the object of that name. Raises KeyError naming those that are there."""
        for candidate in self.objects:
            if candidate.name == name:
                return candidate
        raise KeyError(f"no {name!r} on the table, which has {[o.name for o in self.objects]}")


def pictograph(name: str) -> NDArray[np.uint8]:
    """Return the picture of a pictograph by its name, RGBA."""
    from rt2_ros.data.pictographs import by_name, render

    return render(by_name(name), FACE_SIZE - 2 * round(0.05 * FACE_SIZE))


class Tabletop:
    """A world with named objects. One instance serves any number of scenes, compiled once."""

    def __init__(
        self, names: Sequence[str] = (), pictures: Pictures = pictograph, urdf: str | None = None
    ) -> None:
        """Set the table.

        names: what random scenes draw their objects from.
        pictures: gives an object's picture by its name.
        urdf: the arm, XML text; the shipped Panda if None.
        """
        self.world = World(urdf)
        self.names = tuple(names)
        self.kinematics = Kinematics(
            self.world.urdf, ARM_JOINTS, "panda_link0", TIP_FRAME, posture=HOME
        )
        self.seed = 0
        self._pictures = pictures
        self._objects: list[tuple[str, str, int]] = []  # name, kind, slot index
        self._faces: dict[tuple[str, int], tuple[str, bytes]] = {}
        self._moved = False  # positions were set and not yet followed by physics

    def reset(
        self,
        seed: int,
        objects: Sequence[str] = (),
        count: int | None = None,
        jitter: float = 0.0,
    ) -> TabletopState:
        """Lay a random scene: the same for the same arguments.

        objects: names that must be there; others are drawn from `self.names`.
        count: how many objects in all; 3 to 6 by the seed if None, and never fewer than `objects`.
        jitter: strength 0..1 of the randomised light, colours and camera.
        """
        rng = np.random.default_rng(seed)
        drawn = int(rng.integers(scene.COUNTS[0], scene.COUNTS[1] + 1))
        total = max(drawn if count is None else count, len(objects))
        others = [name for name in self.names if name not in objects]
        if total - len(objects) > len(others):
            raise ValueError(
                f"count: {total} objects, expected at most {len(objects) + len(others)}, "
                "the names given"
            )
        extra = rng.permutation(len(others))[: total - len(objects)]
        layout = scene.random_layout(rng, [*objects, *(others[i] for i in extra)])
        start = scene.random_start(rng)
        return self.lay(seed, layout, start, Appearance.random(rng, jitter))

    def lay(
        self,
        seed: int,
        layout: Sequence[Placement],
        start: ArrayLike,
        appearance: Appearance,
        opening: float = MAX_OPENING,
    ) -> TabletopState:
        """Lay a scene that is given in full, let it settle, and start its clock at 0.

        seed: what the scene is known by. start: fingertips (3,) in m. opening: m between them.

        Raises:
            Unreachable: the arm cannot get to `start`.
        """
        self.pose(start, opening, layout, appearance=appearance)
        self.seed = seed
        self.world.step(_SETTLE_STEPS)
        self.world.data.time = 0.0
        self.world.update()
        self._moved = False
        return self.state()

    def pose(
        self,
        tcp_position: ArrayLike,
        opening: float,
        objects: Iterable[Placement | tuple] = (),
        held: str | None = None,
        appearance: Appearance | None = None,
        rotation: ArrayLike = HAND_DOWN,
    ) -> Array:
        """Put hand and objects anywhere at once, without physics; returns the arm's joints (7,).

        tcp_position: fingertips (3,) in m.
        rotation: (3, 3) of the hand, which points down by default.
        opening: m between the fingertips; with `held`, the fingers close on that block instead.
        objects: placements, or tuples (name, position, yaw).
        held: name of one more block, that is in the hand as the expert takes it.
        appearance: leaves light, colours and camera as they are if None.

        Raises:
            Unreachable: the arm cannot get there.
        """
        target = Pose(np.asarray(tcp_position), np.asarray(rotation))
        q = self.kinematics.inverse(target, HOME)
        placements = [Placement(*placement) for placement in objects]
        if held is not None:
            half = HALF_SIZES["block"]
            opening = 2 * half[1] - _SQUEEZE
            centre = target.position + target.rotation @ np.array([0, 0, GRASP_HEIGHT - half[2]])
            turn = float(np.arctan2(target.rotation[1, 0], target.rotation[0, 0]))
            placements.append(Placement(held, centre, turn))
        names = [placement.name for placement in placements]
        if len(set(names)) < len(names):
            raise ValueError(f"objects: {names}, expected each name once")
        if appearance is not None:
            self._dress(appearance)
        self.world.set_joints(q, opening)
        self._lay(placements)
        self.world.update_poses()
        self._moved = True
        return q

    def state(self) -> TabletopState:
        """Ground truth now."""
        if self._moved:
            self.world.update()  # contacts
            self._moved = False
        states = []
        for name, kind, index in self._objects:
            position, (w, x, y, z) = self.world.object_pose(kind, index)
            grasped = all(self.world.touching(kind, index))
            states.append(ObjectState(name, kind, position, np.array([x, y, z, w]), grasped))
        return TabletopState(
            self.world.time,
            self.seed,
            tuple(states),
            Pose(*self.world.tip_pose()),
            self.world.opening(),
            self.world.joint_positions(),
        )

    def render(
        self, camera: str = "scene", width: int = 640, height: int = 480
    ) -> NDArray[np.uint8]:
        """Picture of camera 'scene' or 'wrist': uint8 RGB (height, width, 3).

        At 480x480 the scene camera gives exactly the central square of its 640x480 picture.
        """
        return self.world.render(camera, width, height)

    def project(
        self, points: ArrayLike, camera: str = "scene", width: int = 640, height: int = 480
    ) -> Array:
        """Pixels (..., 2) as (u, v) of points (..., 3) in m, base frame, in such a picture."""
        return self.world.camera_pose(camera).project(points, width, height)

    def close(self) -> None:
        """Give OpenGL back."""
        self.world.close()

    def _dress(self, appearance: Appearance) -> None:
        world = self.world
        world.set_colour("table", appearance.table)
        if appearance.pattern is not None or self._patterned:
            world.set_table(appearance.pattern)
        self._patterned = appearance.pattern is not None
        for index, colour in enumerate(appearance.blocks):
            for kind in HALF_SIZES:
                world.set_colour(f"{kind}{index}", colour)
        world.set_light(appearance.ambient, appearance.lamp, appearance.lamp_direction)
        world.set_scene_camera(appearance.camera)
        self._background = appearance.face

    def _lay(self, placements: Sequence[Placement]) -> None:
        free = {kind: 0 for kind in HALF_SIZES}
        self._objects = []
        for name, position, yaw, kind in placements:
            scene.rest_height(kind)  # checks the kind
            index = free[kind]
            free[kind] += 1
            self.world.place(kind, index, position, yaw)
            self._paint(kind, index, name)
            self._objects.append((name, kind, index))
        for kind, used in free.items():  # all: after a new beginning of physics none is parked
            for index in range(used, MAX_SLOTS):
                self.world.park(kind, index)

    def _paint(self, kind: str, index: int, name: str) -> None:
        background = self._background
        key = name, background.tobytes()
        if self._faces.get((kind, index)) != key:
            picture = scene.draw_face(self._pictures(name), background, FACE_SIZE)
            self.world.set_face(kind, index, picture)
            self._faces[kind, index] = key

    _background: Array = np.ones(3)
    _patterned = False
