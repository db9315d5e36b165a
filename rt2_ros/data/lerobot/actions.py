# SPDX-License-Identifier: Apache-2.0
"""What the numbers of a dataset's `action` column mean, and the action space that follows.

    ActionMeaning()                                        # as `rt2 demos` writes them
    ActionMeaning("absolute_ee", gripper=(0.08, 0.0))      # target poses, gripper as an opening
    ActionMeaning(columns=(0, 1, 2, 3, 4, 5, 7), gripper=(-1, 1))

Datasets do not say it, so the configuration must: a joint target read as a step in metres would be
learned without a complaint, and be dangerous on an arm.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from rt2_ros.actions import ActionSpace
from rt2_ros.actions.space import FILE_NAME, STATE_NAMES
from rt2_ros.data.faults import BadSample
from rt2_ros.data.lerobot import layout
from rt2_ros.data.lerobot.layout import INFO
from rt2_ros.data.lerobot.reader import Episodes

KINDS = ("delta_ee", "absolute_ee")
STILL = 1e-3  # of the way from open to closed; a gripper that moves less does not move
LEAST_WIDTH = 1e-3  # m or rad, of the range of a dimension that never moves

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ActionMeaning:
    """How to read a row of the action column.

    kind: delta_ee: step x, y, z in m and rotation vector in rad along the base frame's axes, from
        where the hand was in the picture; absolute_ee: the pose to go to, likewise, in the base
        frame.
    columns: which numbers of the action are these six and the gripper.
    gripper: the numbers that mean open and closed.
    pose: absolute_ee: which numbers of observation.state are the hand's pose in that form.
    step: s that one action of the model lasts, of which a dataset's frames are made together: so
        long a policy's decision lasts. 0: a frame is an action, as at 3 to 5 frames a second.
    """

    kind: str = "delta_ee"
    columns: tuple[int, ...] = tuple(range(7))
    gripper: tuple[float, float] = (0.0, 1.0)
    pose: tuple[int, ...] = tuple(range(6))
    step: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(
                f"action is {self.kind!r}; expected {' or '.join(KINDS)}: steps or poses of the "
                "end effector; joint targets must be turned into these first"
            )
        for name, count in (("columns", 7), ("gripper", 2), ("pose", 6)):
            value = tuple(getattr(self, name))
            if len(value) != count:
                raise ValueError(f"{name} is {value}; expected {count} numbers")
            object.__setattr__(self, name, value)
        if not 0 <= self.step < np.inf:
            raise ValueError(f"step is {self.step}; expected seconds, 0 or more")
        if self.gripper[0] == self.gripper[1]:
            raise ValueError(f"gripper is {self.gripper}; expected open and closed to differ")

    def steps(self, episodes: Episodes) -> Array:
        """All frames' actions (N, 8) in this project's order: terminate, the step, the gripper.

        Where an action lasts several frames, it goes where the last of them goes, with the gripper
        of the first, as a controller moves that first. It ends the episode where the first does:
        what comes with the end is not carried out.

        Raises:
            ValueError: a column that is meant is not there.
        """
        where = episodes.folder / INFO
        action = take(episodes, layout.ACTION, self.columns, where)
        ends = np.repeat(np.cumsum(episodes.lengths), episodes.lengths) - 1  # of each row's episode
        rows = np.arange(len(action))
        later = [np.minimum(rows + k, ends) for k in range(self.frames(episodes.info.fps))]
        if self.kind == "absolute_ee":
            pose, target = take(episodes, layout.STATE, self.pose, where), action[later[-1]]
            turn = _turn(pose[:, 3:], target[:, 3:6])
            moved = np.hstack([target[:, :3] - pose[:, :3], turn])
        else:
            moved = action[:, :6]
            for k, row in enumerate(later[1:], 1):
                inside = rows + k <= ends
                way = moved[:, :3] + action[row, :3]
                turn = _turn(-moved[:, 3:], action[row, 3:6])  # after the one before
                moved = np.where(inside[:, None], np.hstack([way, turn]), moved)
        opened, closed = self.gripper
        gripper = (action[:, 6:] - opened) / (closed - opened)
        return np.hstack([_last(episodes), moved, gripper])

    def frames(self, fps: float) -> int:
        """How many frames of a dataset one action lasts."""
        return max(1, round(self.step * fps))


def take(episodes: Episodes, name: str, columns: tuple[int, ...], where: Path) -> Array:
    """Some numbers of a column, of all frames; ValueError where the column has not so many."""
    values = episodes.column(name)
    if max(columns) >= values.shape[1]:
        raise ValueError(
            f"{where}: {name} has {values.shape[1]} numbers, expected more than {max(columns)}; "
            "say which ones are meant"
        )
    return values[:, list(columns)].astype(np.float64)


def _last(episodes: Episodes) -> Array:
    """(N, 1): 1 where the action ends the episode; its last one where the dataset does not say."""
    if layout.DONE in episodes.info.features:
        return episodes.column(layout.DONE).astype(np.float64)
    last = np.zeros((int(episodes.lengths.sum()), 1))
    last[np.cumsum(episodes.lengths) - 1] = 1.0
    return last


def _turn(before: Array, after: Array) -> Array:
    """Rotation vectors (N, 3), along the base frame's axes, that turn one into the other."""
    turn = Rotation.from_rotvec(after) * Rotation.from_rotvec(before).inv()
    return np.asarray(turn.as_rotvec())


def space_of(
    episodes: Episodes, steps: Array, *, frame: str = "",
    state: tuple[int, ...] = (),
) -> ActionSpace:  # fmt: skip
    """The dataset's own action_space.json; else 1 % to 99 % of what its actions are.

    steps: what `ActionMeaning.steps` gave. frame: the base frame, which only that file tells.
    state: numbers of observation.state that the prompt shall tell; four are x, y, z of the tip and
        how far the gripper is closed, whatever the dataset calls them.

    Raises:
        ValueError: the frame is not said, or no row has finite numbers.
    """
    path = episodes.folder / FILE_NAME
    if path.is_file():
        return ActionSpace.load(path)
    if not frame:
        raise ValueError(f"{path}: no such file; expected it, or a `frame` that actions are in")
    where = episodes.folder / INFO
    low, high = _range(steps[:, 1:7], f"{where}: {layout.ACTION}")
    state_low, state_high = np.zeros(0), np.zeros(0)
    names: tuple[str, ...] = STATE_NAMES
    if state:
        values = take(episodes, layout.STATE, state, where)
        state_low, state_high = _range(values, f"{where}: {layout.STATE}")
        if len(state) != len(STATE_NAMES):
            known = episodes.info.features[layout.STATE].get("names")
            names = tuple(str(known[i]) if isinstance(known, list) else f"state{i}" for i in state)
    return ActionSpace(
        name=episodes.folder.resolve().name,
        low=(0.0, *low.tolist(), 0.0),
        high=(1.0, *high.tolist(), 1.0),
        frame=frame,
        state_names=names,
        state_low=tuple(state_low.tolist()),
        state_high=tuple(state_high.tolist()),
    )


def _range(values: Array, where: str) -> tuple[Array, Array]:
    """Low and high of each column, of all frames: stats.json may hold means over episodes. Those
    that are not finite are bad samples, and told when they are drawn.
    """
    values = values[np.isfinite(values).all(1)]
    if not len(values):
        raise ValueError(f"{where} has no row of finite numbers; expected one at least")
    low, high = np.quantile(values, (0.01, 0.99), axis=0)
    thin = high - low < LEAST_WIDTH
    middle = (low + high) / 2
    low, high = (
        np.where(thin, middle + sign * LEAST_WIDTH, end) for sign, end in ((-1, low), (1, high))
    )
    return low, high


def check_range(step: Array, space: ActionSpace, file: str, frame: int, tolerance: float) -> None:
    """Refuse a step (8,) that is not finite or lies too far outside the space.

    file, frame: where it is, for the message.
    tolerance: how far outside is still taken, and clipped, as a share of the range's width.

    Raises:
        BadSample: naming the dimension, its value and the range.
    """
    low, high = np.asarray(space.low), np.asarray(space.high)
    slack = tolerance * (high - low)
    slack[0], slack[7] = 1e-6, STILL  # flag; gripper, as a sensor rounds its ends
    inside = (step >= low - slack) & (step <= high + slack)  # False where it is not a number
    if not inside.all():
        i = int(np.argmin(inside))
        raise BadSample(
            file,
            f"action {space.names[i]} is {step[i]:g} {space.units[i]}, expected {low[i]:g} to "
            f"{high[i]:g} of action space {space.name!r}",
            frame,
        )
