# SPDX-License-Identifier: Apache-2.0
"""How a scene looks in each suite: table, light and camera, plain or as no demonstration had them.

>>> draw_look(np.random.default_rng(7), "patterns").pattern.shape
(256, 256, 3)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rt2_ros.sim.camera import DISTANCE, ELEVATION, LOOK_AT, CameraPose, scene_camera
from rt2_ros.sim.patterns import PATTERNS, draw_pattern
from rt2_ros.sim.scene import Appearance

# plain: as in the demonstrations. colours, patterns: other table and light. moved: another camera
# pose. elsewhere: another camera pose, table and light.
LOOKS = ("plain", "colours", "patterns", "moved", "elsewhere")


def draw_look(random: np.random.Generator, look: str) -> Appearance:
    """Draw one look.

    Demonstrations draw each channel of the table from 0.2..0.85, ambient light from 0.45 +- 0.12,
    the lamp from 0.5 +- 0.2, and move the camera by up to 2 % of its distance and 1.5 degrees.
    All else is outside of that: `colours` have a channel of at most 0.15, with ambient light of
    0.28 or 0.6 and a lamp of 0.2 or 0.8; `moved` is 4 to 6 % and 2.5 to 4 degrees, `elsewhere` 7 to
    10 % and 5 to 8 degrees.

    Raises:
        ValueError: look is none of LOOKS.
    """
    appearance = Appearance.random(random, 0.0)
    if look == "plain":
        return appearance
    if look == "moved":
        return replace(appearance, camera=_camera(random, (2.5, 4.0), (0.04, 0.06)))
    if look == "colours":
        return _light(random, replace(appearance, table=_vivid(random)))
    pattern = draw_pattern(random, str(random.choice(PATTERNS)))
    appearance = _light(random, replace(appearance, table=np.ones(3), pattern=pattern))
    if look == "patterns":
        return appearance
    if look == "elsewhere":
        return replace(appearance, camera=_camera(random, (5.0, 8.0), (0.07, 0.10)))
    raise ValueError(f"look: {look!r}, expected one of {', '.join(LOOKS)}")


def _vivid(random: np.random.Generator) -> np.ndarray:
    """A saturated colour (3,): one channel high, one low, the third anywhere."""
    channels = np.array([random.uniform(0.8, 1.0), random.uniform(0.0, 0.15), random.uniform(0, 1)])
    return random.permutation(channels)


def _light(random: np.random.Generator, appearance: Appearance) -> Appearance:
    """Brighter or darker, from another side."""
    angle = random.uniform(0, 2 * np.pi)
    return replace(
        appearance,
        ambient=float(random.choice([0.28, 0.6])),
        lamp=float(random.choice([0.2, 0.8])),
        lamp_direction=np.array([1.2 * np.cos(angle), 1.2 * np.sin(angle), -1.0]),
    )


def _camera(
    random: np.random.Generator, degrees: tuple[float, float], share: tuple[float, float]
) -> CameraPose:
    """The scene camera turned and moved by an amount in these bounds, in each direction."""

    def amount(low: float, high: float) -> float:
        return float(random.uniform(low, high) * random.choice([-1, 1]))

    return scene_camera(
        LOOK_AT,
        DISTANCE * (1 + amount(*share)),
        float(ELEVATION) + np.radians(amount(*degrees)),
        np.radians(amount(*degrees)),
        np.radians(amount(*degrees) / 2),
    )
