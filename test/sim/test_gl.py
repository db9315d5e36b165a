# SPDX-License-Identifier: Apache-2.0
import os
import subprocess
import sys

import numpy as np
import pytest

from rt2_ros.sim import gl
from rt2_ros.sim.tabletop import Tabletop

NOWHERE = ("libNoSuchThing.so.1",)


def test_with_neither_library_the_error_names_the_packages(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(gl, "_EGL_LIBRARIES", NOWHERE)
    monkeypatch.setattr(gl, "_OSMESA_LIBRARIES", NOWHERE)
    with pytest.raises(gl.GLUnavailable) as error:
        gl.make_context(64, 48)
    text = str(error.value)
    assert "\n" not in text
    for package in ("libegl1", "libegl-mesa0", "libosmesa6", "libEGL.so.1", "libOSMesa.so.8"):
        assert package in text


def test_osmesa_is_taken_where_egl_is_missing(monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(gl, "_EGL_LIBRARIES", NOWHERE)
    monkeypatch.setattr(gl, "_OSMESA_LIBRARIES", ("libc.so.6",))
    assert gl.find_backend() == "osmesa"


def test_the_environment_can_choose(monkeypatch):
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setattr(gl, "_OSMESA_LIBRARIES", ("libc.so.6",))
    assert gl.find_backend() == "osmesa"
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setattr(gl, "_EGL_LIBRARIES", NOWHERE)
    with pytest.raises(gl.GLUnavailable, match="egl: libEGL.so.1 not found"):
        gl.find_backend()


@pytest.mark.parametrize("backend", gl.BACKENDS)
def test_each_backend_that_is_here_draws_the_same(backend):
    names = gl._EGL_LIBRARIES if backend == "egl" else gl._OSMESA_LIBRARIES
    if gl._load(names) is None:
        pytest.skip(f"no {backend} on this machine")
    code = (
        "import numpy as np; from rt2_ros.sim.tabletop import Tabletop;"
        "table = Tabletop(pictures=lambda name: np.full((8, 8, 4), 255, np.uint8));"
        "table.reset(1, ['a', 'b', 'c'], count=3);"
        "print(round(float(table.render().mean())))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "PYOPENGL_PLATFORM"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "MUJOCO_GL": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    table = Tabletop(pictures=lambda name: np.full((8, 8, 4), 255, np.uint8))
    table.reset(1, ["a", "b", "c"], count=3)
    assert abs(int(done.stdout) - float(table.render().mean())) < 3
    assert done.stderr == ""
