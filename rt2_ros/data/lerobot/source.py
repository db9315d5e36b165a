# SPDX-License-Identifier: Apache-2.0
"""Recorded robot episodes as training samples.

    source = LeRobotSource("out/demos")
    frame = source(np.random.default_rng(7))
    frame.queries[0].prompt   # "Q: what action should the robot take to grab the key? ... A:"
    frame.queries[0].answer   # "0 127 127 103 127 127 127 0"

Where the dataset has a column of text "plan", the answer begins with it, if it is not empty there:
"Plan: key 38 109. Action: 0 127 ...".

Each source has an action space of its own: several robots can be in one mixture, and the model
learns them with the same 256 tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rt2_ros.actions import Action, ActionSpace, action_prompt, answer_text
from rt2_ros.actions.space import FILE_NAME
from rt2_ros.data.faults import BadSample
from rt2_ros.data.images import square
from rt2_ros.data.lerobot import layout
from rt2_ros.data.lerobot.actions import ActionMeaning, check_range, space_of, take
from rt2_ros.data.lerobot.reader import Episodes
from rt2_ros.data.robot import SIZE
from rt2_ros.data.samples import Frame, Query

PLAN = "plan"  # a column of text
ROUNDING = 1e-5  # of a range, that single precision may lie outside


class LeRobotSource:
    """Frames of a dataset's split, each with its instruction and the action that was taken.

    plans: whether its answers begin with one. size: of the pictures, px.
    """

    def __init__(
        self, folder: str | Path, *, split: str = "train", holdout: float = 0.05,
        camera: str | Sequence[str] = "", size: int = SIZE, meaning: ActionMeaning | None = None,
        space: ActionSpace | None = None, frame: str = "", state: Sequence[int] = (),
        tolerance: float | None = None,
    ) -> None:  # fmt: skip
        """Open a dataset.

        split: "train" or "val", as info.json tells ("validation" is "val"); where it tells none,
            the last `holdout` of the episodes for training, or of all, are it.
        camera: the one whose picture is asked about, the first if none is named; or several, all
            of whose pictures are, in this order.
        size: of the pictures, px.
        space: action space, if the dataset's own is not wanted. frame, state: see space_of.
        tolerance: how far outside the space an action may be, as a share of its width, to be taken
            and clipped; nothing beyond rounding for a space that was given, any for one of
            quantiles.

        Raises:
            ValueError, FileNotFoundError: naming the file and what is wrong.
        """
        if split not in ("train", "val"):
            raise ValueError(f"split is {split!r}; expected 'train' or 'val'")
        if not 0 <= holdout <= 1:
            raise ValueError(f"holdout is {holdout}; expected 0..1")
        named = [camera] if isinstance(camera, str) and camera else [*camera]
        if len({*map(layout.camera_key, named)}) < len(named):
            raise ValueError(f"camera is {named}; expected each once")
        self.episodes = Episodes(folder, named or None)
        if not self.episodes.cameras:
            raise ValueError(f"{self.episodes.folder / layout.INFO}: no video, expected one")
        self._cameras = self.episodes.cameras[: max(1, len(named))]
        meaning = meaning or ActionMeaning()
        self._steps = meaning.steps(self.episodes)
        given = space is not None or (self.episodes.folder / FILE_NAME).is_file()
        self.space = space or space_of(self.episodes, self._steps, frame=frame, state=tuple(state))
        self._tolerance = tolerance if tolerance is not None else ROUNDING if given else math.inf
        self._state = tuple(state) or tuple(range(len(self.space.state_low)))
        if len(self._state) != len(self.space.state_low):
            raise ValueError(
                f"state is {self._state}; action space {self.space.name!r} tells "
                f"{len(self.space.state_low)} numbers"
            )
        self.size = size
        self.plans = PLAN in self.episodes.info.features
        chosen = self._split(split, holdout)
        ends = np.cumsum(self.episodes.lengths[chosen.start : chosen.stop])
        if not len(chosen):
            raise ValueError(f"{self.episodes.folder}: no episode is in the split {split!r}")
        self._first_episode, self._ends = chosen.start, ends

    def _split(self, split: str, holdout: float) -> range:
        """The episodes of a split."""
        info = self.episodes.info
        kept = next((name for name in ("val", "validation") if name in info.splits), "")
        if kept:
            chosen, other = (
                info.split(name) if name in info.splits or name == split else range(0)
                for name in ((kept, "train") if split == "val" else ("train", kept))
            )
            if max(chosen.start, other.start) < min(chosen.stop, other.stop):
                raise ValueError(
                    f"{self.episodes.folder / layout.INFO}: splits train and {kept} share episodes"
                )
            return chosen
        told = "train" in info.splits
        whole = info.split("train") if told else range(len(self.episodes))
        first = len(whole) - math.ceil(holdout * len(whole))
        return whole[:first] if split == "train" else whole[first:]

    @property
    def statistics(self) -> dict[str, dict]:
        """Of actions and states, as stats.json tells them; what a checkpoint keeps."""
        told = self.episodes.statistics
        return {name: told[name] for name in (layout.ACTION, layout.STATE) if name in told}

    @property
    def pictures(self) -> int:
        """How many of a frame, one of each camera that it reads."""
        return len(self._cameras)

    @property
    def gripper(self) -> tuple[float, float]:
        """The least and the most that it is closed in the dataset; 0 is open, 1 closed."""
        return _ends(self._steps[:, 7])

    @property
    def closedness(self) -> tuple[float, float]:
        """The least and the most of the last number that its prompts tell of the state, which a
        policy will be told as how far the gripper is closed.
        """
        where = self.episodes.folder / layout.INFO
        return _ends(take(self.episodes, layout.STATE, self._state, where)[:, -1])

    @property
    def count(self) -> int:
        """How many frames the split has."""
        return int(self._ends[-1])

    def locate(self, index: int) -> tuple[int, int]:
        """Episode and frame in it of one of the split's frames."""
        if not 0 <= index < self.count:
            raise IndexError(f"frame {index}: expected 0..{self.count - 1}")
        place = int(np.searchsorted(self._ends, index, side="right"))
        before = int(self._ends[place - 1]) if place else 0
        return self._first_episode + place, index - before

    def __call__(self, random: np.random.Generator) -> Frame:
        """Any frame of the split."""
        return self.frame(int(random.integers(self.count)))

    def frame(self, index: int) -> Frame:
        """One of the split's frames.

        Raises:
            BadSample: naming file and frame.
        """
        episode, number = self.locate(index)
        where = f"{self.episodes.data_file(episode)}, episode {episode}"
        query = self._query(episode, number, where)
        image, *others = (
            square(self.episodes.image(camera, episode, number), self.size)
            for camera in self._cameras
        )
        origin = f"{where}, frame {number}"
        return Frame(image, (query,), (), origin, labelled=False, others=tuple(others))

    def _query(self, episode: int, number: int, where: str) -> Query:
        episodes = self.episodes
        row = episodes.row(episode, number)
        step = self._steps[row]
        check_range(step, self.space, where, number, self._tolerance)
        gripper = float(np.clip(step[7], 0.0, 1.0))
        action = Action(bool(step[0] > 0.5), step[1:4], step[4:7], gripper)
        task = episodes.task(episode, number)
        bins = None
        try:
            if self.space.has_state:
                state = episodes.column(layout.STATE)[row]
                bins = self.space.state_bins(state[list(self._state)])
            plan = episodes.text(PLAN, episode, number).strip() or None if self.plans else None
            return Query(
                action_prompt(task, bins), answer_text(self.space.to_bins(action), plan), "robot"
            )
        except ValueError as error:
            raise BadSample(where, str(error), number) from error


def _ends(values: NDArray[np.float64]) -> tuple[float, float]:
    """The least and the most of what is finite: what is not is a bad sample, and told as one."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if len(finite) else (math.nan, math.nan)
