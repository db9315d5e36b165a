# SPDX-License-Identifier: Apache-2.0
"""What the eight integers of an action mean: names, ranges, units, frame and binning.

A checkpoint brings its own, as `action_space.json` beside the weights; nothing guesses one:

    {"name": "rt2-tiny", "frame": "panda_link0", "scheme": "rt2",
     "low":  [0, -0.1, -0.1, -0.1, -0.25, -0.25, -0.25, 0],
     "high": [1,  0.1,  0.1,  0.1,  0.25,  0.25,  0.25, 1]}

With it, bins 0 127 255 127 127 127 127 255 mean: do not terminate, move 0.1 m along the frame's y,
close the gripper. `terminate` is a flag, bin 0 or 1, and is never scaled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rt2_ros.actions import bins as binning

ACTION_NAMES = ("terminate", "dx", "dy", "dz", "drx", "dry", "drz", "gripper")
ACTION_UNITS = ("1", "m", "m", "m", "rad", "rad", "rad", "1")
STATE_NAMES = ("x", "y", "z", "gripper")
FILE_NAME = "action_space.json"


@dataclass(frozen=True, eq=False)
class Action:
    """A step of the end effector in an action space's frame, from where it was in the image.

    terminate: the task is done; translation: (3,) m; rotation: (3,) rad, a rotation vector, both
    along the frame's axes; gripper: 0 open .. 1 closed.
    """

    terminate: bool
    translation: NDArray[np.float64]
    rotation: NDArray[np.float64]
    gripper: float

    def __post_init__(self) -> None:
        if not isinstance(self.terminate, (bool, np.bool_)):
            raise ValueError(f"Action.terminate: {self.terminate!r}, expected True or False")
        object.__setattr__(self, "terminate", bool(self.terminate))
        for name in ("translation", "rotation"):
            vector = np.array(getattr(self, name), dtype=np.float64)
            if vector.shape != (3,) or not np.all(np.isfinite(vector)):
                raise ValueError(f"Action.{name}: {vector.tolist()}, expected 3 finite numbers")
            vector.flags.writeable = False
            object.__setattr__(self, name, vector)
        gripper = float(self.gripper)
        if not 0.0 <= gripper <= 1.0:
            raise ValueError(f"Action.gripper: {gripper}, expected 0 (open) to 1 (closed)")
        object.__setattr__(self, "gripper", gripper)

    def vector(self) -> NDArray[np.float64]:
        """(8,): terminate 0 or 1, dx, dy, dz in m, drx, dry, drz in rad, gripper."""
        return np.array([self.terminate, *self.translation, *self.rotation, self.gripper], float)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Action):
            return NotImplemented
        return bool(np.array_equal(self.vector(), other.vector()))

    def __hash__(self) -> int:
        return hash(self.vector().tobytes())


@dataclass(frozen=True)
class ActionSpace:
    """Ranges and meaning of the eight dimensions, and of the robot state in the prompt, if any.

    low, high: (8,) in `units`. Values outside are clipped when they are turned into bins.
    gripper_positive: what a larger gripper value does in this checkpoint, 'closes' (here) or
    'opens' (OpenVLA's data); `Action.gripper` is 1 closed either way. The gripper's range may be
    wider than 0..1 (OpenVLA's -1..1); what lies outside 0..1 then counts as the nearer end.
    state_low, state_high: (S,) for `state_names`; empty where the prompt has no state.
    """

    name: str
    low: tuple[float, ...]
    high: tuple[float, ...]
    frame: str
    scheme: str = "rt2"
    names: tuple[str, ...] = ACTION_NAMES
    units: tuple[str, ...] = ACTION_UNITS
    gripper_positive: str = "closes"
    state_names: tuple[str, ...] = STATE_NAMES
    state_low: tuple[float, ...] = field(default=())
    state_high: tuple[float, ...] = field(default=())

    def __post_init__(self) -> None:
        for name in ("name", "frame"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise ValueError(f"ActionSpace.{name}: {value!r}, expected a non-empty string")
        if self.scheme not in binning.SCHEMES:
            raise ValueError(f"ActionSpace.{binning.unknown_scheme(self.scheme)}")
        if self.gripper_positive not in ("closes", "opens"):
            raise ValueError(
                f"ActionSpace.gripper_positive: {self.gripper_positive!r}, expected closes or opens"
            )
        for name, expected in (("names", ACTION_NAMES), ("units", ACTION_UNITS)):
            value = tuple(getattr(self, name))
            if value != expected:
                raise ValueError(f"ActionSpace.{name}: {value}, expected {expected}")
            object.__setattr__(self, name, value)
        self._check_range("low", "high", len(ACTION_NAMES))
        if (self.low[0], self.high[0]) != (0.0, 1.0):
            raise ValueError(
                f"ActionSpace.low, high of terminate: {self.low[0]}, {self.high[0]}, expected 0, 1"
            )
        if self.low[-1] > 0.0 or self.high[-1] < 1.0:
            raise ValueError(
                f"ActionSpace.low, high of gripper: {self.low[-1]}, {self.high[-1]}, "
                "expected a range that holds 0..1"
            )
        object.__setattr__(self, "state_names", tuple(self.state_names))
        if self.has_state:
            self._check_range("state_low", "state_high", len(self.state_names))

    def _check_range(self, low_name: str, high_name: str, size: int) -> None:
        for name in (low_name, high_name):
            values = _floats(getattr(self, name), f"ActionSpace.{name}")
            if len(values) != size:
                raise ValueError(f"ActionSpace.{name}: {len(values)} values, expected {size}")
            object.__setattr__(self, name, values)
        low, high = getattr(self, low_name), getattr(self, high_name)
        if not all(a < b for a, b in zip(low, high, strict=True)):
            raise ValueError(
                f"ActionSpace.{low_name}: {low}, expected each below {high_name} {high}"
            )

    @property
    def has_state(self) -> bool:
        """Whether the prompt tells the robot's state."""
        return bool(self.state_low) or bool(self.state_high)

    @property
    def written(self) -> tuple[str, ...]:
        """The dimensions that the model writes, in order: OpenVLA has no terminate."""
        return self.names[1:] if self.scheme == "openvla" else self.names

    def allowed_bins(self) -> tuple[range, ...]:
        """For each written dimension, the bins that it may take."""
        return tuple(range(2 if n == "terminate" else binning.BINS) for n in self.written)

    def to_bins(self, action: Action) -> NDArray[np.uint8]:
        """(8,) bins of an action, clipped to the ranges; terminate is bin 0 or 1."""
        vector = action.vector()
        if self.gripper_positive == "opens":
            vector[-1] = 1.0 - vector[-1]
        result = binning.to_bins(vector, self.low, self.high, self.scheme)
        result[0] = action.terminate
        return result

    def from_bins(self, bins: ArrayLike) -> Action:
        """The action that (8,) bins mean; ValueError unless there are 8 and terminate is 0 or 1."""
        bins = binning.checked_bins(bins)
        if bins.shape != (len(self.names),):
            raise ValueError(f"bins: shape {bins.shape}, expected ({len(self.names)},)")
        if bins[0] > 1:
            raise ValueError(f"bins: terminate is {bins[0]}, expected 0 or 1")
        vector = binning.from_bins(bins, self.low, self.high, self.scheme)
        gripper = min(max(float(vector[-1]), 0.0), 1.0)
        if self.gripper_positive == "opens":
            gripper = 1.0 - gripper
        return Action(bool(bins[0]), vector[1:4], vector[4:7], gripper)

    def state_bins(self, state: ArrayLike) -> NDArray[np.uint8]:
        """(S,) bins of a robot state given in the units of `state_low`, clipped to the range."""
        if not self.has_state:
            raise ValueError(f"action space {self.name!r} has no state_low, state_high")
        state = np.asarray(state, dtype=np.float64)
        if state.shape != (len(self.state_names),):
            raise ValueError(f"state: shape {state.shape}, expected ({len(self.state_names)},)")
        return binning.to_bins(state, self.state_low, self.state_high, "rt2")

    def save(self, path: str | Path) -> None:
        """Write the space as JSON to a file, or to `action_space.json` in a folder."""
        content = asdict(self)
        if not self.has_state:
            content = {k: v for k, v in content.items() if not k.startswith("state_")}
        _file(path).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> ActionSpace:
        """Read what `save` wrote; ValueError or FileNotFoundError naming file and field."""
        file = _file(path)
        if not file.is_file():
            raise FileNotFoundError(
                f"{file}: no such file; a checkpoint needs its action space beside the weights"
            )
        try:
            content: Any = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise ValueError("expected a JSON object")
            known = {f.name for f in fields(cls)}
            if unknown := sorted(set(content) - known):
                raise ValueError(f"unknown fields {unknown}, expected among {sorted(known)}")
            if missing := sorted({"name", "low", "high", "frame"} - set(content)):
                raise ValueError(f"missing fields {missing}")
            return cls(**content)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{file}: {error}") from error


def _file(path: str | Path) -> Path:
    path = Path(path)
    return path / FILE_NAME if path.is_dir() else path


def _floats(values: Sequence[float], name: str) -> tuple[float, ...]:
    try:
        result = tuple(float(v) for v in values)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: {values!r}, expected numbers") from None
    if not all(math.isfinite(v) for v in result):
        raise ValueError(f"{name}: {result}, expected finite numbers")
    return result
