# SPDX-License-Identifier: Apache-2.0
"""Pictures of pictographs as a camera might have taken them: drawn, no simulator needed."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from rt2_ros.data.pictographs import Pictograph, render
from rt2_ros.data.samples import Thing, coordinate

DRAWN = 96  # px, the size at which pictographs are kept


def background(random: np.random.Generator, size: int) -> NDArray[np.uint8]:
    """Plain, graded or cloudy colour."""
    cells = int(random.choice([1, 2, 3, 6, 16]))
    spread = random.uniform(0, 50)
    base = random.uniform(20, 235, 3) + spread * random.normal(0, 1, (cells, cells, 3))
    smooth = cv2.INTER_NEAREST if random.random() < 0.2 else cv2.INTER_LINEAR
    grown = cv2.resize(np.clip(base, 0, 255), (size, size), interpolation=smooth)
    return np.asarray(grown, np.uint8).reshape(size, size, 3)


def spread(random: np.random.Generator, count: int, size: int) -> list[NDArray[np.float64]]:
    """Up to `count` centres, no two nearer than 30 pixels in a picture of 192."""
    centres: list[NDArray[np.float64]] = []
    for _ in range(count * 12):
        centre = random.uniform(0.08, 0.92, 2) * size
        if all(np.hypot(*(centre - other)) > 0.155 * size for other in centres):
            centres.append(centre)
        if len(centres) == count:
            break
    return centres


def paste(
    random: np.random.Generator,
    image: NDArray[np.uint8],
    what: Pictograph,
    centre: NDArray[np.float64],
) -> Thing:
    """Draw a pictograph, often on a plate, turned and tilted as a camera would see it on a
    table.
    """
    size = image.shape[0]
    edge = random.uniform(0.085, 0.21) * size  # px
    turn = random.normal(0, 0.25)
    tilt = random.uniform(0.6, 1.0)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * edge / 2
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    corners = corners @ rotation.T * [1.0, tilt]
    outline = (corners + centre).astype(np.float32)
    picture = render(what, DRAWN)
    # Shrunk first by area, so that small pictures are smooth like a camera's.
    side = int(np.clip(round(edge * 1.1), 8, DRAWN))
    small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
    plate = random.random() < 0.6
    margin = random.uniform(0.78, 0.95) if plate else 1.0
    if plate:
        colour = random.uniform(120, 255, 3) if random.random() < 0.5 else np.full(3, 240.0)
        cv2.fillConvexPoly(
            image, np.round(outline * 16).astype(np.int32), colour.tolist(), cv2.LINE_AA, 4
        )
        side_drop = np.array([0, random.uniform(0.2, 0.6) * edge])
        front = np.stack([outline[3], outline[2], outline[2] + side_drop, outline[3] + side_drop])
        cv2.fillConvexPoly(
            image, np.round(front * 16).astype(np.int32), (colour * 0.7).tolist(), cv2.LINE_AA, 4
        )
    source = np.array([[0, 0], [side, 0], [side, side]], np.float32)
    target = (outline - centre) * margin + centre
    matrix = cv2.getAffineTransform(source, target[:3].astype(np.float32))
    low = np.maximum(np.floor(target.min(0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(target.max(0)).astype(int) + 2, size)
    matrix[:, 2] -= low
    width, height = (high - low).tolist()
    if width > 0 and height > 0:
        patch = cv2.warpAffine(small, matrix, (width, height), flags=cv2.INTER_LINEAR)
        alpha = patch[..., 3:].astype(np.float32) / 255
        region = image[low[1] : high[1], low[0] : high[0]]
        region[:] = (region * (1 - alpha) + patch[..., :3] * alpha).astype(np.uint8)
    return Thing(what.name, coordinate(centre[0], size), coordinate(centre[1], size), outline)


def degrade(random: np.random.Generator, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Light, colour cast, blur and noise of an ordinary camera."""
    if random.random() < 0.3:
        image = np.asarray(cv2.GaussianBlur(image, (3, 3), random.uniform(0.3, 1.0)), np.uint8)
    gain = random.uniform(0.65, 1.2) * random.uniform(0.9, 1.1, 3)
    noise = random.normal(0, random.uniform(0, 6), (image.shape[0] // 2, image.shape[1] // 2))
    grains = noise.repeat(2, axis=0).repeat(2, axis=1)[..., None]
    return np.clip(image * gain + grains, 0, 255).astype(np.uint8)
