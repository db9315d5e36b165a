# SPDX-License-Identifier: Apache-2.0
"""Sources that read files, as a training configuration names them.

sources:
  table:    {type: lerobot, path: out/demos}
  panda:    {type: lerobot, path: data/panda, action: absolute_ee, frame: panda_link0,
             gripper: [0.08, 0.0], state: [0, 1, 2, 7]}  # x, y, z in m, closedness 0..1
  vqa:      {type: jsonl, path: data/vqa.jsonl}
  captions: {type: hf, path: data/captions, columns: {caption: text}}
  shards:   {type: webdataset, path: "data/shard-*.tar"}
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence

from rt2_ros.actions import ActionSpace
from rt2_ros.actions.space import STATE_NAMES
from rt2_ros.data.lerobot.actions import STILL, ActionMeaning
from rt2_ros.data.lerobot.source import LeRobotSource
from rt2_ros.data.robot import SIZE
from rt2_ros.data.rows import CAPTION, MOST_QUERIES, HuggingFaceRows, JsonLines, Rows, RowSource
from rt2_ros.data.tars import TarRows

HOLDOUT = 0.05
FAST = 6.0  # frames a second, above which one is too short for an action
LITTLE = 0.15  # of it; one that holds something thick has gone further


def lerobot(
    path: str, *, held_out: bool = False, action: str = "delta_ee",
    columns: Sequence[int] = tuple(range(7)), gripper: Sequence[float] | None = None,
    pose: Sequence[int] = tuple(range(6)), space: str = "", frame: str = "",
    state: Sequence[int] = (), camera: str | Sequence[str] = "", size: int = SIZE,
    holdout: float = HOLDOUT, tolerance: float | None = None, step: float = 0.0,
) -> LeRobotSource:  # fmt: skip
    """Robot episodes; see ActionMeaning and LeRobotSource. space: an action_space.json to use.

    gripper: the numbers that mean open and closed. If it is not given, 0 and 1, and refused where
        the data's move over less than half of that, metres, more likely, or beyond it: -1 to 1.
        Given, that is a warning.
    state: numbers of observation.state that prompts tell, taken as they are: x, y, z of the tip in
        m and closedness 0..1 is what a policy is told. Where the last seems to be something else,
        a warning says so.
    step: s that one action lasts; see ActionMeaning.
    """
    opened, closed = gripper or (0.0, 1.0)
    source = LeRobotSource(
        path, split="val" if held_out else "train", holdout=holdout, camera=camera, size=size,
        meaning=ActionMeaning(action, tuple(columns), (opened, closed), tuple(pose), step),
        space=ActionSpace.load(space) if space else None, frame=frame, state=state,
        tolerance=tolerance,
    )  # fmt: skip
    fps = source.episodes.info.fps
    if not step and fps > FAST:
        warnings.warn(
            f"{path}: an action is a step of {1 / fps:.3f} s, as it has {fps:g} frames "
            "a second and the source no `step`; expected about as long as a robot's "
            "`chunk_duration`, as with `step: 0.3`: told shorter ones, an arm is as much slower",
            stacklevel=2,
        )
    least, most = source.gripper
    if STILL < most - least < 0.5 or least < -STILL or most > 1 + STILL:
        ends = sorted(opened + (closed - opened) * share for share in (least, most))
        message = (
            f"{path}: the gripper's numbers are {ends[0]:g} to {ends[1]:g}, {most - least:.0%} of "
            f"the way from open to closed where gripper is [{opened:g}, {closed:g}]; expected half "
            "of it at least, and none beyond"
        )
        if gripper is None:
            raise ValueError(f"{message}: say which numbers mean open and closed")
        warnings.warn(message, stacklevel=2)
    if len(source.space.state_low) == len(STATE_NAMES):
        least, most = source.closedness
        if STILL < most - least < LITTLE or least < -STILL or most > 1 + STILL:
            warnings.warn(
                f"{path}: the last number of the state is {least:g} to {most:g}; expected how far "
                "the gripper is closed, 0 to 1, as a policy is told it: `gripper` is for actions "
                "alone",
                stacklevel=2,
            )
    return source


def jsonl(path: str, *, images: str = "", held_out: bool = False, size: int = SIZE,
          queries: int = MOST_QUERIES, caption: str = CAPTION,
          holdout: float = HOLDOUT) -> RowSource:  # fmt: skip
    """Questions or captions in a JSONL file, pictures beside it or in the folder `images`."""
    return _rows(JsonLines(path, images), held_out, size, queries, caption, holdout)


def hugging_face(path: str, *, split: str = "train", columns: Mapping[str, str] | None = None,
                 held_out: bool = False, size: int = SIZE, queries: int = MOST_QUERIES,
                 caption: str = CAPTION, holdout: float = HOLDOUT) -> RowSource:  # fmt: skip
    """Questions or captions in a Hugging Face dataset."""
    rows = HuggingFaceRows(path, split, columns)
    return _rows(rows, held_out, size, queries, caption, holdout)


def webdataset(path: str, *, held_out: bool = False, size: int = SIZE,
               queries: int = MOST_QUERIES, caption: str = CAPTION,
               holdout: float = HOLDOUT) -> RowSource:  # fmt: skip
    """Questions or captions in tar shards."""
    return _rows(TarRows(path), held_out, size, queries, caption, holdout)


def _rows(rows: Rows, held_out: bool, size: int, queries: int, caption: str,
          holdout: float) -> RowSource:  # fmt: skip
    return RowSource(
        rows, size=size, queries=queries, caption=caption, holdout=holdout, held_out=held_out
    )


FILES: dict[str, Callable[..., LeRobotSource | RowSource]] = {
    "lerobot": lerobot, "jsonl": jsonl, "hf": hugging_face, "webdataset": webdataset,
}  # fmt: skip
