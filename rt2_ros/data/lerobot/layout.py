# SPDX-License-Identifier: Apache-2.0
"""Where things lie in a LeRobot dataset v3, and what `meta/info.json` says of it.

    info = DatasetInfo.load("out/demos")
    info.fps, info.cameras                # 4.0, ("observation.images.scene",)
    info.file(info.video_path, 0, 3, "observation.images.scene")
                                          # videos/observation.images.scene/chunk-000/file-003.mp4

The layout is that of https://github.com/huggingface/lerobot (CODEBASE_VERSION "v3.0").
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VERSION = "v3.0"
INFO, STATS, TASKS = "meta/info.json", "meta/stats.json", "meta/tasks.parquet"
EPISODES_FOLDER = "meta/episodes"
_FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
EPISODES_PATH = f"{EPISODES_FOLDER}/{_FILE}.parquet"
DATA_PATH = f"data/{_FILE}.parquet"
VIDEO_PATH = f"videos/{{video_key}}/{_FILE}.mp4"
CHUNK_SIZE = 1000  # files in a folder at most

STATE, JOINTS, ACTION = "observation.state", "observation.joint_positions", "action"
DONE, TASK, EPISODE, FRAME, INDEX, TIME = (
    "next.done", "task_index", "episode_index", "frame_index", "index", "timestamp",
)  # fmt: skip
# Columns that every dataset has.
COMMON: dict[str, dict[str, Any]] = {
    TIME: {"dtype": "float32", "shape": [1], "names": None},
    **{
        name: {"dtype": "int64", "shape": [1], "names": None}
        for name in (FRAME, EPISODE, INDEX, TASK)
    },
}
STATISTICS = ("min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99")


def camera_key(name: str) -> str:
    """'scene' -> 'observation.images.scene'; a whole key stays as it is."""
    return name if "." in name else f"observation.images.{name}"


@dataclass(frozen=True)
class DatasetInfo:
    """meta/info.json, checked.

    features: column -> {"dtype", "shape", "names", ...}; splits: name -> "first:last" episodes, the
    last not included.
    """

    fps: float
    features: Mapping[str, Mapping[str, Any]]
    total_episodes: int = 0
    total_frames: int = 0
    total_tasks: int = 0
    robot_type: str | None = None
    splits: Mapping[str, str] = field(default_factory=dict)
    chunks_size: int = CHUNK_SIZE
    data_path: str = DATA_PATH
    video_path: str | None = VIDEO_PATH
    codebase_version: str = VERSION

    def __post_init__(self) -> None:
        if self.codebase_version != VERSION:
            raise ValueError(
                f"codebase_version is {self.codebase_version!r}, expected {VERSION!r}; lerobot "
                "converts older ones: python -m lerobot.datasets.v30.convert_dataset_v21_to_v30"
            )
        if not self.fps > 0:
            raise ValueError(f"fps is {self.fps}, expected > 0")
        for name, feature in self.features.items():
            missing = {"dtype", "shape"} - set(feature)
            if missing:
                raise ValueError(f"features.{name}: no {sorted(missing)[0]}")
        for name in ("total_episodes", "total_frames"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 0")
        if self.cameras and not self.video_path:
            raise ValueError(f"video_path is none, expected one for {self.cameras[0]}")
        for name in self.splits:
            self.split(name)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Columns that are films."""
        return tuple(k for k, feature in self.features.items() if feature["dtype"] == "video")

    def split(self, name: str) -> range:
        """Episodes of a split. Raises ValueError naming what there is."""
        try:
            first, _, last = self.splits[name].partition(":")
            episodes = range(int(first), int(last))
        except KeyError:
            raise ValueError(
                f"splits: no {name!r}, there are {', '.join(self.splits) or 'none'}"
            ) from None
        except (ValueError, AttributeError):
            raise ValueError(
                f"splits.{name} is {self.splits[name]!r}, expected 'first:last'"
            ) from None
        if not 0 <= episodes.start <= episodes.stop <= self.total_episodes:
            raise ValueError(
                f"splits.{name} is {self.splits[name]!r}, expected episodes of "
                f"0:{self.total_episodes}"
            )
        return episodes

    def file(self, template: str | None, chunk: int, number: int, camera: str = "") -> str:
        """A path from one of the templates, relative to the dataset's folder."""
        assert template is not None  # checked when it was made
        return template.format(chunk_index=chunk, file_index=number, video_key=camera)

    def save(self, folder: Path) -> None:
        """Write meta/info.json, all of it or nothing."""
        content = {
            "codebase_version": self.codebase_version, "robot_type": self.robot_type,
            "total_episodes": self.total_episodes, "total_frames": self.total_frames,
            "total_tasks": self.total_tasks, "chunks_size": self.chunks_size,
            "data_files_size_in_mb": 100, "video_files_size_in_mb": 200,
            "fps": int(self.fps) if self.fps == int(self.fps) else self.fps,
            "splits": dict(self.splits), "data_path": self.data_path,
            "video_path": self.video_path, "features": dict(self.features),
        }  # fmt: skip
        write_json(folder / INFO, content)

    @classmethod
    def load(cls, folder: str | Path) -> DatasetInfo:
        """Read meta/info.json; ValueError or FileNotFoundError naming file and field."""
        path = Path(folder) / INFO
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; expected a LeRobot dataset {VERSION}")
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(raw, dict):
                raise ValueError("expected a JSON object")
            known = [name for name in cls.__dataclass_fields__ if name in raw]
            return cls(**{name: raw[name] for name in known})
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from error


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file in one step: whoever reads sees the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    part.replace(path)
