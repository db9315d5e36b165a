# SPDX-License-Identifier: Apache-2.0
"""Pictures of the world by OpenGL, without shadows: those cost more than all the rest on a CPU."""

from __future__ import annotations

import weakref

import mujoco
import numpy as np
from numpy.typing import NDArray

from rt2_ros.sim import gl


class Pictures:
    """One OpenGL context for one model; use it from the thread that made it."""

    def __init__(self, m: mujoco.MjModel) -> None:
        self._context = gl.make_context(int(m.vis.global_.offwidth), int(m.vis.global_.offheight))
        # At exit, before Python is too far gone for it.
        self._free = weakref.finalize(self, self._context.free)
        self._context.make_current()
        self._mjr = mujoco.MjrContext(m, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._mjr)
        self._scene = mujoco.MjvScene(m, maxgeom=200)
        for flag in (
            mujoco.mjtRndFlag.mjRND_SHADOW,
            mujoco.mjtRndFlag.mjRND_REFLECTION,
            mujoco.mjtRndFlag.mjRND_SKYBOX,
            mujoco.mjtRndFlag.mjRND_HAZE,
        ):
            self._scene.flags[flag] = False
        self._option = mujoco.MjvOption()
        self._view = mujoco.MjvCamera()
        self._view.type = mujoco.mjtCamera.mjCAMERA_FIXED

    def take(
        self,
        m: mujoco.MjModel,
        d: mujoco.MjData,
        camera: int,
        size: tuple[int, int],
        stale: set[int],
    ) -> NDArray[np.uint8]:
        """Return the picture of a camera, uint8 RGB (height, width, 3).

        size: width and height. stale: textures that changed since the last picture.
        """
        width, height = size
        limit = int(m.vis.global_.offwidth), int(m.vis.global_.offheight)
        if not (0 < width <= limit[0] and 0 < height <= limit[1]):
            raise ValueError(
                f"picture size: {width}x{height}, expected at most {limit[0]}x{limit[1]}"
            )
        self._context.make_current()
        for texture in stale:
            mujoco.mjr_uploadTexture(m, self._mjr, texture)
        self._view.fixedcamid = camera
        every = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(m, d, self._option, None, self._view, every, self._scene)
        rectangle = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(rectangle, self._scene, self._mjr)
        picture = np.empty((height, width, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(picture, None, rectangle, self._mjr)
        return np.ascontiguousarray(picture[::-1])

    def close(self) -> None:
        """Give the context back."""
        self._context.make_current()
        self._mjr.free()
        self._free()
