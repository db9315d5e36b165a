# SPDX-License-Identifier: Apache-2.0
"""What lies on the table and how it looks: plain data, drawn at random per seed.

>>> rng = np.random.default_rng(7)
>>> [p.name for p in random_layout(rng, ["banana", "red apple", "hammer"])]
['banana', 'red apple', 'hammer']
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rt2_ros.sim.camera import DISTANCE, ELEVATION, LOOK_AT, CameraPose, scene_camera
from rt2_ros.sim.model import HALF_SIZES, MAX_SLOTS

Array = NDArray[np.float64]

# Where objects' centres and the hand may be at the start, in m, base frame.
AREA_LOW, AREA_HIGH = np.array([0.42, -0.17]), np.array([0.68, 0.17])
MIN_DISTANCE = 0.085  # m between centres: room for a finger
APART = 0.16  # m at least between a thing and where it is to be put
MAX_YAW = 0.3  # rad
START_CENTRE, START_SPREAD = np.array([0.45, 0.0, 0.20]), np.array([0.08, 0.15, 0.06])
COUNTS = (3, 6)  # objects in a random scene


class Placement(NamedTuple):
    """An object to lay on the table: its centre (3,) in m; yaw in rad; kind 'block' or 'card'."""

    name: str
    position: tuple[float, float, float] | Array
    yaw: float = 0.0
    kind: str = "block"


@dataclass(frozen=True, eq=False)
class Appearance:
    """How the world looks. Colours are RGB in 0..1."""

    table: Array = field(default_factory=lambda: np.array([0.62, 0.58, 0.52]))
    blocks: Array = field(default_factory=lambda: np.full((MAX_SLOTS, 3), 0.75))
    face: Array = field(default_factory=lambda: np.ones(3))  # behind the pictographs
    ambient: float = 0.45
    lamp: float = 0.5
    lamp_direction: Array = field(default_factory=lambda: np.array([-0.2, 0.1, -1.0]))
    camera: CameraPose = field(default_factory=scene_camera)
    pattern: NDArray[np.uint8] | None = None  # of the table top, (TABLE_SIZE, TABLE_SIZE, 3)

    def __post_init__(self) -> None:
        for name, shape in (("table", (3,)), ("blocks", (MAX_SLOTS, 3)), ("face", (3,))):
            colour = np.asarray(getattr(self, name), dtype=np.float64)
            if colour.shape != shape or not ((colour >= 0) & (colour <= 1)).all():
                raise ValueError(f"{name}: {colour.tolist()}, expected shape {shape} in 0..1")

    @classmethod
    def random(cls, rng: np.random.Generator, strength: float = 1.0) -> Appearance:
        """Draw light, colours and a camera jitter; at `strength` 0 only the blocks' colours vary.

        At 1 the camera moves by up to 2 % of its distance and 1.5 degrees in each of its angles.
        """
        if not 0.0 <= strength <= 1.0:
            raise ValueError(f"strength: {strength}, expected 0..1")
        blocks = rng.uniform(0.15, 0.95, (MAX_SLOTS, 3))
        shake = rng.uniform(-1.0, 1.0, 16) * strength
        table = np.array([0.62, 0.58, 0.52])
        table = table + strength * (rng.uniform(0.2, 0.85, 3) - table)
        face = 1.0 - strength * np.array([0.08, 0.08, 0.08]) * rng.uniform(0.0, 1.0, 3)
        angle = np.radians(1.5)
        camera = scene_camera(
            np.asarray(LOOK_AT) + 0.008 * shake[0:3],
            DISTANCE * (1.0 + 0.02 * shake[3]),
            ELEVATION + angle * shake[4],
            angle * shake[5],
            angle * shake[6],
        )
        return cls(
            table=table,
            blocks=blocks,
            face=face,
            ambient=0.45 + 0.12 * float(shake[7]),
            lamp=0.5 + 0.2 * float(shake[8]),
            lamp_direction=np.array([-0.2 + 0.5 * shake[9], 0.1 + 0.5 * shake[10], -1.0]),
            camera=camera,
        )


def rest_height(kind: str) -> float:
    """Height in m of the centre of an object of this kind that lies on the table."""
    if kind not in HALF_SIZES:
        raise ValueError(f"kind: {kind!r}, expected one of {', '.join(HALF_SIZES)}")
    return HALF_SIZES[kind][2]


def random_layout(
    rng: np.random.Generator,
    names: Sequence[str],
    kinds: Sequence[str] | None = None,
    apart: float = 0.0,
    several: int = 1,
) -> tuple[Placement, ...]:
    """Lay the named objects on the table, at least 8.5 cm apart.

    kinds: one for each name; all blocks if None.
    apart: m at least between the first and each of the next `several`.
    """
    kinds = ["block"] * len(names) if kinds is None else list(kinds)
    if len(kinds) != len(names):
        raise ValueError(f"kinds: {len(kinds)}, expected {len(names)}, one for each name")
    if len(names) > MAX_SLOTS:
        raise ValueError(f"objects: {len(names)}, expected at most {MAX_SLOTS}")
    while True:
        centres: list[list[float]] = []
        for _ in range(200):
            centre = rng.uniform(AREA_LOW, AREA_HIGH).tolist()
            if all(math.dist(centre, other) >= MIN_DISTANCE for other in centres):
                centres.append(centre)
            if len(centres) == len(names):
                first, *others = centres[: 1 + several]
                if any(math.dist(first, other) < apart for other in others):
                    break  # lay them all anew
                yaws = rng.uniform(-MAX_YAW, MAX_YAW, len(names))
                return tuple(
                    Placement(name, np.array([*centre, rest_height(kind)]), float(yaw), kind)
                    for name, kind, centre, yaw in zip(names, kinds, centres, yaws, strict=True)
                )


def random_start(rng: np.random.Generator) -> Array:
    """Where the fingertips are at the start, (3,) in m; the hand points down."""
    return START_CENTRE + START_SPREAD * rng.uniform(-1.0, 1.0, 3)


def draw_face(picture: NDArray[np.uint8], background: ArrayLike, size: int) -> NDArray[np.uint8]:
    """Lay an RGBA picture (n, n, 4) on a plain face, margin 5 %: uint8 (size, size, 3)."""
    import cv2

    if picture.ndim != 3 or picture.shape[2] != 4 or picture.dtype != np.uint8:
        raise ValueError(f"picture: {picture.dtype} {picture.shape}, expected uint8 RGBA (n, n, 4)")
    margin = round(0.05 * size)
    inner = size - 2 * margin
    if picture.shape[:2] != (inner, inner):
        resized = cv2.resize(picture, (inner, inner), interpolation=cv2.INTER_AREA)
        picture = np.asarray(resized, dtype=np.uint8)
    face = np.empty((size, size, 3), dtype=np.float32)
    face[:] = 255.0 * np.asarray(background)
    alpha = picture[..., 3:].astype(np.float32) / 255.0
    middle = face[margin : margin + inner, margin : margin + inner]
    middle += alpha * (picture[..., :3] - middle)
    return np.rint(face).astype(np.uint8)
