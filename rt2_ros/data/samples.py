# SPDX-License-Identifier: Apache-2.0
"""What training is made of: one picture, or several of a moment, with everything that is asked.

    Frame(image, (Query("where is the banana?", "131 87", "web"),), things)

Several queries share a picture because the picture is the dear part of a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NOTHING = -100  # where a patch shows no thing; what torch's cross-entropy leaves out
COORDINATES = 256  # a picture's width and height are spoken of as integers 0..255
# Around a place, u and v: what is too near for a thing to be put there (11.5 cm, the expert's
# CLEARANCE, in the middle of the simulated table as its camera sees it).
AROUND = 64, 55
MOST_AROUND = 3


@dataclass(frozen=True)
class Query:
    """One question and its answer.

    prompt: the whole prompt, as `rt2_ros.actions.prompts` writes it.
    answer: the text that the model should write.
    kind: "robot" or "web", what mixtures and loss weights go by.
    about: the name of the thing in the picture that it is about, "" for none.
    mention: what the prompt calls that thing.
    second: another thing that it is about, as (name, what the prompt calls it).
    given: how the answer begins, where that part is given and not asked for.
    ends: whether the answer ends here; False where only its beginning is asked for.
    """

    prompt: str
    answer: str
    kind: str
    about: str = ""
    mention: str = ""
    given: str = ""
    second: tuple[str, str] = ("", "")
    ends: bool = True

    def __post_init__(self) -> None:
        if self.kind not in ("robot", "web"):
            raise ValueError(f"Query.kind is {self.kind!r}; expected 'robot' or 'web'")
        if not self.answer.startswith(self.given):
            raise ValueError(f"Query.given is {self.given!r}; the answer is {self.answer!r}")


@dataclass(frozen=True)
class Thing:
    """One object in a picture: its pictograph's name, its centre (u, v) in 0..255, its outline in
    pixels (4, 2); on a table also whether it is flat, a card, and at which sides of it there is
    room, in the order of `rt2_ros.sim.expert.SIDES`.
    """

    name: str
    u: int
    v: int
    outline: NDArray[np.float32]
    flat: bool | None = None
    room: tuple[bool, ...] = ()


@dataclass(frozen=True)
class Frame:
    """One square RGB picture, what is asked of it, and what is where in it.

    image is None where questions need no picture: what to do in a state that words tell.
    others: further pictures, of other cameras, say, that every question is asked about as well; as
        large as the first.
    origin: where it was read, file and place in it, for messages; "" for what was made up.
    labelled: whether `things` are all that is to be seen; False where nobody said what is where.
    """

    image: NDArray[np.uint8] | None
    queries: tuple[Query, ...]
    things: tuple[Thing, ...]
    origin: str = ""
    labelled: bool = True
    others: tuple[NDArray[np.uint8], ...] = ()

    @property
    def pictures(self) -> tuple[NDArray[np.uint8], ...]:
        """All of them, in the order in which a model reads them."""
        return () if self.image is None else (self.image, *self.others)


def coordinate(pixel: float, size: int) -> int:
    """A position in pixels as an integer 0..255 over the picture's width or height."""
    return int(np.clip(pixel / size * COORDINATES, 0, COORDINATES - 1))


def patch_owners(things: Sequence[Thing], grid: int, size: int) -> NDArray[np.int64]:
    """Which thing each patch of a picture shows: (grid, grid), its index or NOTHING.

    It is the one whose outline, in pixels of a picture of `size`, covers most of the patch, and at
    least three tenths.
    """
    import cv2

    best = np.full((grid, grid), 0.3, np.float32)
    owner = np.full((grid, grid), NOTHING, np.int64)
    scale = 4 * grid / size
    for index, thing in enumerate(things):
        mask = np.zeros((4 * grid, 4 * grid), np.uint8)
        cv2.fillConvexPoly(mask, np.round(thing.outline * scale - 0.5).astype(np.int32), 1)
        share = mask.reshape(grid, 4, grid, 4).mean((1, 3))
        nearer = share >= best
        owner[nearer], best[nearer] = index, share[nearer]
    return owner


def patch_crowds(things: Sequence[Thing], grid: int) -> NDArray[np.int64]:
    """How many things have their centre around the middle of each patch: (grid, grid), MOST_AROUND
    for more. Beside a thing there is room where that is the only one.
    """
    across = (np.arange(grid) + 0.5) * COORDINATES / grid
    centres = np.array([(thing.u, thing.v) for thing in things], np.float64).reshape(-1, 2)
    away = (centres[:, None] - across[:, None]) / AROUND  # (things, grid, 2): of columns, of rows
    near = away[:, None, :, 0] ** 2 + away[:, :, None, 1] ** 2 < 1.0
    return np.minimum(near.sum(0), MOST_AROUND)
