# SPDX-License-Identifier: Apache-2.0
"""The physical world and its cameras: a thin, typed handle on MuJoCo's model and data.

>>> world = World()
>>> world.set_joints(HOME, opening=0.08)
>>> world.place("block", 0, [0.5, 0.0, 0.025], yaw=0.1)
>>> world.set_arm_targets(HOME, opening=0.0); world.step(100)      # 0.2 s of physics
>>> world.render("scene", 640, 480).shape                          # the first picture opens OpenGL
(480, 640, 3)
"""

from __future__ import annotations

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rt2_ros.paths import config_path
from rt2_ros.sim import model
from rt2_ros.sim.camera import CameraPose, scene_camera
from rt2_ros.sim.pictures import Pictures

Array = NDArray[np.float64]

HOME = np.array([0, -np.pi / 4, 0, -3 * np.pi / 4, 0, np.pi / 2, np.pi / 4])
MAX_OPENING = 0.08  # m between the fingertips
_PARKED = np.array([-3.0, 0.0, 2.0])  # m; behind the robot, where no camera looks

_UNSTABLE = {
    mujoco.mjtWarning.mjWARN_BADQPOS: "positions are no numbers",
    mujoco.mjtWarning.mjWARN_BADQVEL: "velocities are huge or no numbers",
    mujoco.mjtWarning.mjWARN_BADQACC: "accelerations are huge or no numbers",
}


class Unstable(RuntimeError):
    """The simulated world is not what it was: nothing that comes after it counts."""


def yaw_quaternion(yaw: float) -> Array:
    """Quaternion (w, x, y, z) of a turn by `yaw` (rad) about the vertical."""
    return np.array([np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)])


class World:
    """One tabletop. Positions in m, base frame; joints in rad; `opening` in m between the tips."""

    def __init__(self, urdf: str | None = None) -> None:
        """Compile the world; `urdf` is XML text, the shipped Panda's if None."""
        self.urdf = (
            config_path("robots", "panda.urdf").read_text(encoding="utf-8")
            if urdf is None
            else urdf
        )
        self.model = model.build(self.urdf)
        self.data = mujoco.MjData(self.model)
        m = self.model
        joints = [m.joint(name) for name in (*model.ARM_JOINTS, *model.FINGER_JOINTS)]
        self._q = np.array([int(j.qposadr[0]) for j in joints])
        self._v = np.array([int(j.dofadr[0]) for j in joints])
        self._tip = m.body(model.TIP_FRAME).id
        self._camera_ids = {name: m.camera(name).id for name in ("scene", "wrist")}
        self._finger_bodies = [m.body(name).id for name in model.FINGERS]
        self._slots = {
            (kind, i): m.body(model.slot_name(kind, i)).id
            for kind, count in model.SLOTS.items()
            for i in range(count)
        }
        self._stale_textures: set[int] = set()
        self._gl: Pictures | None = None
        self.set_scene_camera(scene_camera())
        self.set_joints(HOME, MAX_OPENING)
        for kind, i in self._slots:
            self.park(kind, i)
        self.update()

    # The arm

    @property
    def time(self) -> float:
        """Simulated time in s."""
        return float(self.data.time)

    def joint_positions(self) -> Array:
        """(9,): seven arm joints in rad, two finger joints in m."""
        return self.data.qpos[self._q].copy()

    def joint_velocities(self) -> Array:
        """(9,): rad/s and m/s."""
        return self.data.qvel[self._v].copy()

    def opening(self) -> float:
        """Distance between the fingertips in m, 0 to 0.08."""
        return float(self.data.qpos[self._q[7:]].sum())

    def tip_pose(self) -> tuple[Array, Array]:
        """Position (3,) and rotation (3, 3) of panda_hand_tcp."""
        d = self.data
        return d.xpos[self._tip].copy(), d.xmat[self._tip].reshape(3, 3).copy()

    def set_joints(self, q: ArrayLike, opening: float) -> None:
        """Put the arm at q (7,) at once, at rest, held there; for laying the table only."""
        self.data.qpos[self._q[:7]] = q
        self.data.qpos[self._q[7:]] = opening / 2
        self.data.qvel[self._v] = 0.0
        self.set_arm_targets(q, opening)

    def set_arm_targets(
        self, q: ArrayLike, opening: float, velocity: ArrayLike | None = None
    ) -> None:
        """Say what the servos follow: q (7,) in rad, moving at (7,) rad/s, and the opening in m."""
        self.data.ctrl[:7] = q
        if velocity is not None:
            self.data.ctrl[:7] += model.SERVO_LAG * np.asarray(velocity)
        self.data.ctrl[7:] = min(max(opening, 0.0), MAX_OPENING) / 2

    # Objects

    def place(self, kind: str, index: int, position: ArrayLike, yaw: float) -> None:
        """Put a slot's object, at rest, with its centre at `position` (3,)."""
        self._put(self._slot(kind, index), np.asarray(position), yaw_quaternion(yaw), 0.0)

    def park(self, kind: str, index: int) -> None:
        """Take a slot's object away: out of view, weightless and touching nothing."""
        slot = self._slot(kind, index)
        aside = np.array([0.0, 0.2 * index, 0.0 if kind == "block" else 0.3])
        self._put(slot, _PARKED + aside, yaw_quaternion(0.0), 1.0)

    def object_pose(self, kind: str, index: int) -> tuple[Array, Array]:
        """Centre (3,) and quaternion (4,), w first, of a slot's object."""
        slot = self._slot(kind, index)
        return self.data.xpos[slot].copy(), self.data.xquat[slot].copy()

    def set_face(self, kind: str, index: int, picture: NDArray[np.uint8]) -> None:
        """Give a slot's top face a picture: uint8 (FACE_SIZE, FACE_SIZE, 3)."""
        self._slot(kind, index)
        self._set_picture(model.slot_name(kind, index), picture, model.FACE_SIZE)

    def set_table(self, pattern: NDArray[np.uint8] | None) -> None:
        """Cover the table top with a pattern, uint8 (TABLE_SIZE, TABLE_SIZE, 3), or None for plain.

        Its colours are multiplied by the table's.
        """
        side = model.TABLE_SIZE
        if pattern is None:
            pattern = np.full((side, side, 3), 255, np.uint8)
        self._set_picture("table", pattern, side)

    def _set_picture(self, name: str, picture: NDArray[np.uint8], side: int) -> None:
        if picture.shape != (side, side, 3) or picture.dtype != np.uint8:
            raise ValueError(
                f"picture: {picture.dtype} {picture.shape}, expected uint8 ({side}, {side}, 3)"
            )
        texture = self.model.texture(name).id
        start = int(self.model.tex_adr[texture])
        self.model.tex_data[start : start + 3 * side * side] = picture.ravel()
        self._stale_textures.add(texture)

    def set_colour(self, geom: str, rgb: ArrayLike) -> None:
        """Colour of 'table', 'floor' or a slot's body such as 'block0': (3,) in 0..1."""
        self.model.geom(geom).rgba[:3] = rgb

    def touching(self, kind: str, index: int) -> tuple[bool, bool]:
        """Whether the left and the right finger touch a slot's object now."""
        slot = self._slot(kind, index)
        touched = [False, False]
        bodies = self.model.geom_bodyid[self.data.contact.geom]
        for pair in bodies:
            if slot in pair:
                for side, finger in enumerate(self._finger_bodies):
                    touched[side] |= finger in pair
        return touched[0], touched[1]

    # Physics

    def step(self, count: int = 1) -> None:
        """Advance physics by `count` steps of 2 ms.

        Raises Unstable where forces grew beyond all bounds: MuJoCo then begins anew, everything
        where the model has it, and says so in a file at most.
        """
        before = self.time
        mujoco.mj_step(self.model, self.data, count)
        for kind, what in _UNSTABLE.items():
            if self.data.warning[kind].number:
                self.data.warning[kind].number = 0
                raise Unstable(f"physics became unstable after {before:.3f} s: {what}")

    def update(self) -> None:
        """Bring poses, contacts and cameras in line with positions just set; time stands still."""
        mujoco.mj_forward(self.model, self.data)

    def update_poses(self) -> None:
        """Like `update`, for pictures only: no contacts, no forces."""
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)

    # Cameras

    def set_scene_camera(self, pose: CameraPose) -> None:
        """Move the scene camera."""
        index = self._camera_ids["scene"]
        axes = pose.rotation * np.array([1.0, -1.0, -1.0])  # MuJoCo: right, up, backward
        quaternion = np.empty(4)
        mujoco.mju_mat2Quat(quaternion, axes.ravel())
        self.model.cam_pos[index] = pose.position
        self.model.cam_quat[index] = quaternion
        self.model.cam_fovy[index] = pose.fovy

    def camera_pose(self, name: str) -> CameraPose:
        """Where the camera 'scene' or 'wrist' is now. Raises ValueError for other names."""
        index = self._camera(name)
        axes = self.data.cam_xmat[index].reshape(3, 3) * np.array([1.0, -1.0, -1.0])
        return CameraPose(self.data.cam_xpos[index].copy(), axes, float(self.model.cam_fovy[index]))

    def set_light(self, ambient: float, lamp: float, direction: ArrayLike) -> None:
        """Brightness of ambient light and lamp, 0..1, and the way (3,) the lamp shines."""
        self.model.vis.headlight.ambient[:] = ambient
        self.model.light_diffuse[0] = lamp
        self.model.light_dir[0] = np.asarray(direction) / np.linalg.norm(direction)

    def render(self, camera: str, width: int = 640, height: int = 480) -> NDArray[np.uint8]:
        """Picture of the camera 'scene' or 'wrist': uint8 RGB (height, width, 3), at most 640x480.

        Raises:
            GLUnavailable: this machine has no off-screen OpenGL.
        """
        index = self._camera(camera)
        if self._gl is None:
            self._gl = Pictures(self.model)
            self._stale_textures.clear()  # a new context takes all textures with it
        picture = self._gl.take(self.model, self.data, index, (width, height), self._stale_textures)
        self._stale_textures.clear()
        return picture

    def close(self) -> None:
        """Give OpenGL back; a later `render` opens it again."""
        if self._gl is not None:
            self._gl.close()
            self._gl = None

    def _camera(self, name: str) -> int:
        if name not in self._camera_ids:
            raise ValueError(f"camera: {name!r}, expected one of {', '.join(self._camera_ids)}")
        return self._camera_ids[name]

    def _slot(self, kind: str, index: int) -> int:
        if (kind, index) not in self._slots:
            have = ", ".join(f"{n} of kind {k}" for k, n in model.SLOTS.items())
            raise ValueError(f"slot: {kind!r} number {index}, expected one of {have}")
        return self._slots[kind, index]

    def _put(self, body: int, position: Array, quaternion: Array, weightless: float) -> None:
        q, v = int(self.model.body(body).jntadr[0]), int(self.model.body(body).dofadr[0])
        q = int(self.model.jnt_qposadr[q])
        self.data.qpos[q : q + 3] = position
        self.data.qpos[q + 3 : q + 7] = quaternion
        self.data.qvel[v : v + 6] = 0.0
        self.model.body_gravcomp[body] = weightless
