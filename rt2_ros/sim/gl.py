# SPDX-License-Identifier: Apache-2.0
"""Headless OpenGL for the simulator's cameras: EGL where it works, else OSMesa.

>>> context = make_context(640, 480)  # or GLUnavailable, naming the apt packages
>>> context.make_current()

`MUJOCO_GL=egl` or `MUJOCO_GL=osmesa` forces one of the two; other values have no say here.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any

BACKENDS = ("egl", "osmesa")
_EGL_LIBRARIES = ("libEGL.so.1", "libEGL.so")
_OSMESA_LIBRARIES = ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so")
_EGL_PLATFORM_DEVICE = 0x313F
HINT = (
    "cameras need an off-screen OpenGL library: "
    "`apt install libegl1 libegl-mesa0` (EGL) or `apt install libosmesa6` (OSMesa)"
)


class GLUnavailable(RuntimeError):
    """Neither EGL nor OSMesa can make an off-screen context on this machine."""


def _load(names: tuple[str, ...]) -> ctypes.CDLL | None:
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _egl_problem() -> str | None:
    """None when some EGL device initialises, else the reason why none does."""
    egl = _load(_EGL_LIBRARIES)
    if egl is None:
        return "libEGL.so.1 not found"
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    handle = ctypes.c_void_p

    def function(name: str, result: Any, *arguments: Any) -> Any:
        address = egl.eglGetProcAddress(name.encode())
        return ctypes.CFUNCTYPE(result, *arguments)(address) if address else None

    query = function(
        "eglQueryDevicesEXT", ctypes.c_uint, ctypes.c_int,
        ctypes.POINTER(handle), ctypes.POINTER(ctypes.c_int),
    )  # fmt: skip
    display_of = function(
        "eglGetPlatformDisplayEXT", handle, ctypes.c_uint, handle, ctypes.c_void_p
    )
    if query is None or display_of is None:
        return "EGL has no device platform"
    devices, count = (handle * 16)(), ctypes.c_int(0)
    if not query(16, devices, ctypes.byref(count)) or count.value == 0:
        return "EGL lists no device"
    initialize = egl.eglInitialize
    initialize.argtypes = (handle, ctypes.c_void_p, ctypes.c_void_p)
    for device in devices[: count.value]:
        display = display_of(_EGL_PLATFORM_DEVICE, device, None)
        if display and initialize(display, None, None):
            return None
    return f"none of {count.value} EGL devices initialises"


def _osmesa_problem() -> str | None:
    return None if _load(_OSMESA_LIBRARIES) is not None else "libOSMesa.so.8 not found"


def find_backend() -> str:
    """'egl' or 'osmesa': the one that MUJOCO_GL asks for, else the first that works here."""
    wanted = os.environ.get("MUJOCO_GL", "").strip().lower()
    problems = []
    for name, problem_of in zip(BACKENDS, (_egl_problem, _osmesa_problem), strict=True):
        if wanted in BACKENDS and wanted != name:
            continue
        problem = problem_of()
        if problem is None:
            return name
        problems.append(f"{name}: {problem}")
    raise GLUnavailable(f"no OpenGL backend ({'; '.join(problems)}); {HINT}")


def make_context(width: int, height: int) -> Any:
    """Make an off-screen GL context (`make_current()`, `free()`) for pictures up to this size."""
    backend = find_backend()
    # MuJoCo and PyOpenGL both read these when their GL half is first used.
    os.environ["MUJOCO_GL"] = backend
    os.environ.setdefault("PYOPENGL_PLATFORM", backend)
    try:
        if backend == "egl":
            from mujoco.egl import GLContext
        else:
            from mujoco.osmesa import GLContext
        return GLContext(width, height)
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        raise GLUnavailable(f"{backend} gives no OpenGL context ({error}); {HINT}") from error
