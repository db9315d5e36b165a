# SPDX-License-Identifier: Apache-2.0
"""Write robot episodes as a LeRobot dataset v3, so that nothing finished is ever lost.

    with EpisodeWriter("out/demos", fps=4, features=FEATURES, robot_type="panda") as writer:
        writer.add(Episode("pick up the key", {"observation.state": states, "action": actions,
                                               "observation.images.scene": images}))

Episodes are gathered into files of `per_file`. A file's numbers and films are written under another
name, moved into place, and only then named in `meta/info.json`: whatever stops the program, the
dataset is whole, and the next writer goes on behind the last episode that info.json tells of.
"""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rt2_ros.data.lerobot import layout
from rt2_ros.data.lerobot.layout import DatasetInfo, write_json
from rt2_ros.data.lerobot.reader import Episodes
from rt2_ros.data.lerobot.statistics import PictureStatistics, Statistics, describe
from rt2_ros.data.lerobot.video import VideoWriter

# Beside the layout: how often pictures of a file show each value; exact quantiles need it.
COUNTS_PATH = "meta/picture_counts/chunk-{chunk_index:03d}/file-{file_index:03d}.json"
_TASK_NAMES = "__index_level_0__"  # pandas' name of an index that has none


@dataclass(frozen=True, eq=False)
class Episode:
    """T frames of one task. columns: feature -> (T, D), or uint8 RGB (T, H, W, 3) of a camera;
    extra: further columns of the episodes' table, the same ones for each episode.
    """

    task: str
    columns: Mapping[str, NDArray[Any]]
    extra: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


class EpisodeWriter:
    """Appends episodes to a folder; a context manager, at whose end the last file is written."""

    def __init__(
        self, folder: str | Path, *, fps: float, features: Mapping[str, Mapping[str, Any]],
        robot_type: str, validation: int = 0, per_file: int = 100,
    ) -> None:  # fmt: skip
        """Open a folder, new or written by a writer with the same arguments.

        features: the columns besides LeRobot's own, in info.json's form.
        validation: how many of the first episodes are the split "val", the rest being "train".

        Raises:
            ValueError: the folder holds a dataset of another kind.
        """
        if per_file < 1 or validation < 0:
            raise ValueError(
                f"per_file is {per_file}, validation {validation}; expected >= 1 and >= 0"
            )
        self.folder = Path(folder)
        self._validation, self._per_file = validation, per_file
        self._info = DatasetInfo(
            fps,
            {**{name: _described(f, fps) for name, f in features.items()}, **layout.COMMON},
            robot_type=robot_type,
        )
        self._tasks: dict[str, int] = {}
        self._waiting: list[Episode] = []
        self._numbers: dict[str, list[NDArray[Any]]] = {k: [] for k in self._measured}
        self._pictures = {k: PictureStatistics() for k in self._info.cameras}
        self._files = 0
        if (self.folder / layout.INFO).exists():
            self._go_on()

    @property
    def _columns(self) -> tuple[str, ...]:
        """Features that are no pictures, without LeRobot's own."""
        skip = {*self._info.cameras, *layout.COMMON}
        return tuple(name for name in self._info.features if name not in skip)

    @property
    def _measured(self) -> tuple[str, ...]:
        """Those that statistics are told of: not text."""
        text = "string"
        return tuple(k for k in self._columns if self._info.features[k]["dtype"] != text)

    @property
    def episodes(self) -> int:
        """How many there are, those that wait for their file included."""
        return self._info.total_episodes + len(self._waiting)

    def add(self, episode: Episode) -> None:
        """Append an episode; ValueError names the column that is not as the features say."""
        self._check(episode)
        self._waiting.append(episode)
        if len(self._waiting) >= self._per_file:
            self.flush()

    def flush(self) -> None:
        """Write what waits as a file of its own."""
        if not self._waiting:
            return
        chunk, number = divmod(self._files, self._info.chunks_size)
        staged = self.folder / ".part"
        shutil.rmtree(staged, ignore_errors=True)
        tasks = dict(self._tasks)
        for episode in self._waiting:
            tasks.setdefault(episode.task, len(tasks))
        pictures = {}
        for camera in self._info.cameras:
            path = staged / self._info.file(layout.VIDEO_PATH, chunk, number, camera)
            pictures[camera] = self._write_video(path, camera)
        counts = {k: {"counts": p.counts.tolist(), "pictures": p.pictures}
                  for k, p in pictures.items()}  # fmt: skip
        write_json(staged / self._info.file(COUNTS_PATH, chunk, number), counts)
        _write_table(staged / self._info.file(layout.DATA_PATH, chunk, number), self._data(tasks))
        table = self._episode_table(chunk, number)
        _write_table(staged / self._info.file(layout.EPISODES_PATH, chunk, number), table)
        for path in sorted(p for p in staged.rglob("*") if p.is_file()):
            target = self.folder / path.relative_to(staged)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        shutil.rmtree(staged)
        self._publish(tasks, pictures)

    def _publish(self, tasks: dict[str, int], pictures: dict[str, PictureStatistics]) -> None:
        """Name in the dataset's meta files what was moved into place; info.json comes last. Until
        then nothing here is changed: an interrupted one is done again as a whole.
        """
        columns = {
            name: known + [self._flat(e, name) for e in self._waiting]
            for name, known in self._numbers.items()
        }
        seen = copy.deepcopy(self._pictures)
        for camera, counted in pictures.items():
            seen[camera].merge(counted)
        total = self.episodes
        frames = self._info.total_frames + sum(map(len, self._waiting))
        first = min(self._validation, total)
        splits = {"train": f"{first}:{total}", **({"val": f"0:{first}"} if first else {})}
        _write_table(self.folder / layout.TASKS, _task_table(tasks))
        numbers = {k: describe(np.concatenate(v)) for k, v in columns.items()}
        films = {k: s.describe() for k, s in seen.items()}
        write_json(self.folder / layout.STATS, {**numbers, **films})
        info = replace(
            self._info, total_episodes=total, total_frames=frames, total_tasks=len(tasks),
            splits=splits,
        )  # fmt: skip
        self._waiting = []  # before they are in: once there, they must not be written again
        info.save(self.folder)
        self._info, self._tasks, self._numbers, self._pictures = info, tasks, columns, seen
        self._files += 1

    def _check(self, episode: Episode) -> None:
        wanted = {*self._columns, *self._info.cameras}
        if set(episode.columns) != wanted:
            raise ValueError(f"columns: {sorted(episode.columns)}, expected {sorted(wanted)}")
        for name, values in episode.columns.items():
            shape = tuple(self._info.features[name]["shape"])
            if len(values) != len(episode) or not len(values):
                raise ValueError(f"{name}: {len(values)} frames, expected {len(episode)}, > 0")
            found = values.shape[1:] or (1,)
            if found != shape:
                raise ValueError(f"{name}: frames of shape {found}, expected {shape}")
            if name in self._measured and not np.isfinite(values).all():
                frame = int(np.argmin(np.isfinite(values).reshape(len(values), -1).all(1)))
                raise ValueError(f"{name}, frame {frame}: {values[frame]} is not finite")

    def _write_video(self, path: Path, camera: str) -> PictureStatistics:
        """The film of the waiting episodes, one behind the other."""
        path.parent.mkdir(parents=True, exist_ok=True)
        counted = PictureStatistics()
        with VideoWriter(path, self._info.fps) as film:
            for episode in self._waiting:
                for image in episode.columns[camera]:
                    film.add(image)
                counted.add(episode.columns[camera])
        return counted

    def _flat(self, episode: Episode, name: str) -> NDArray[Any]:
        """A column of an episode as (T, D), in the type that it is kept in."""
        kind = self._info.features[name]["dtype"]
        values = episode.columns[name].astype(object if kind == "string" else kind)
        return values.reshape(len(values), -1)

    def _data(self, tasks: dict[str, int]) -> pa.Table:
        """Every frame of the waiting episodes as a row."""
        lengths = [len(episode) for episode in self._waiting]
        columns: dict[str, pa.Array] = {}
        for name in self._columns:
            feature = self._info.features[name]
            values = np.concatenate([self._flat(e, name) for e in self._waiting])
            width = values.shape[1]
            flat = pa.array(values.ravel())
            single = tuple(feature["shape"]) == (1,)
            columns[name] = flat if single else pa.FixedSizeListArray.from_arrays(flat, width)
        frame = np.concatenate([np.arange(n) for n in lengths])
        own = {
            layout.TIME: (frame / self._info.fps).astype(np.float32),
            layout.FRAME: frame,
            layout.EPISODE: np.repeat(self._info.total_episodes + np.arange(len(lengths)), lengths),
            layout.INDEX: self._info.total_frames + np.arange(len(frame)),
            layout.TASK: np.repeat([tasks[e.task] for e in self._waiting], lengths),
        }
        return pa.table({**columns, **{k: pa.array(v) for k, v in own.items()}})

    def _episode_table(self, chunk: int, number: int) -> pa.Table:
        """One row for each waiting episode."""
        rows, start, seconds = [], self._info.total_frames, 0.0
        for index, episode in enumerate(self._waiting):
            length = len(episode)
            until = seconds + length / self._info.fps
            row: dict[str, Any] = {
                "episode_index": self._info.total_episodes + index, "tasks": [episode.task],
                "length": length, "dataset_from_index": start, "dataset_to_index": start + length,
                "data/chunk_index": chunk, "data/file_index": number,
                "meta/episodes/chunk_index": chunk, "meta/episodes/file_index": number,
                **episode.extra,
            }  # fmt: skip
            for camera in self._info.cameras:
                where = {"chunk_index": chunk, "file_index": number,
                         "from_timestamp": seconds, "to_timestamp": until}  # fmt: skip
                row |= {f"videos/{camera}/{key}": value for key, value in where.items()}
            for name, statistics in self._episode_statistics(episode).items():
                row |= {f"stats/{name}/{key}": statistics[key] for key in layout.STATISTICS}
            rows.append(row)
            start, seconds = start + length, until
        return pa.Table.from_pylist(rows)

    def _episode_statistics(self, episode: Episode) -> dict[str, Statistics]:
        result = {name: describe(self._flat(episode, name)) for name in self._measured}
        for camera in self._info.cameras:
            counted = PictureStatistics()
            counted.add(episode.columns[camera])
            result[camera] = counted.describe()
        return result

    def _go_on(self) -> None:
        """Take up what an earlier writer left; what it did not finish is written over."""
        before = DatasetInfo.load(self.folder)
        where = self.folder / layout.INFO
        for name in ("fps", "robot_type"):
            if getattr(before, name) != getattr(self._info, name):
                raise ValueError(
                    f"{where}: {name} is {getattr(before, name)!r}, expected "
                    f"{getattr(self._info, name)!r}; choose another folder"
                )
        shapes = [
            {k: (f["dtype"], tuple(f["shape"])) for k, f in info.features.items()}
            for info in (before, self._info)
        ]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{where}: features are {shapes[0]}, expected {shapes[1]}")
        first = len(before.split("val")) if "val" in before.splits else 0
        if first != min(self._validation, before.total_episodes):
            raise ValueError(
                f"{where}: {first} episodes are for validation, expected {self._validation}"
            )
        found = Episodes(self.folder)
        for name in self._measured:
            self._numbers[name].append(found.column(name))
        self._files = found.files
        for file in range(found.files):
            chunk, number = divmod(file, self._info.chunks_size)
            path = self.folder / self._info.file(COUNTS_PATH, chunk, number)
            counts = json.loads(path.read_text(encoding="utf-8"))
            for camera, counted in self._pictures.items():
                counted.merge(PictureStatistics(**counts[camera]))
        self._info, self._tasks = before, {task: i for i, task in enumerate(found.tasks)}

    def __enter__(self) -> EpisodeWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.flush()


def _described(feature: Mapping[str, Any], fps: float) -> dict[str, Any]:
    """A feature with what LeRobot says of a film."""
    if feature.get("dtype") != "video":
        return dict(feature)
    height, width, channels = feature["shape"]
    return {
        **feature,
        "info": {
            "video.height": height, "video.width": width, "video.channels": channels,
            "video.codec": "h264", "video.pix_fmt": "yuv420p", "video.is_depth_map": False,
            "video.fps": int(fps) if fps == int(fps) else fps, "has_audio": False,
        },
    }  # fmt: skip


def _task_table(tasks: Mapping[str, int]) -> pa.Table:
    """Tasks as LeRobot reads them: a pandas table whose index is the text."""
    names = sorted(tasks, key=tasks.__getitem__)
    table = pa.table({"task_index": [tasks[name] for name in names], _TASK_NAMES: names})
    kinds = {"task_index": ("int64", "int64"), _TASK_NAMES: ("unicode", "object")}
    pandas = {
        "index_columns": [_TASK_NAMES],
        "column_indexes": [],
        "columns": [
            {"name": None if name == _TASK_NAMES else name, "field_name": name,
             "pandas_type": kinds[name][0], "numpy_type": kinds[name][1], "metadata": None}
            for name in table.column_names
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__}, "pandas_version": "2.0",
    }  # fmt: skip
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def _write_table(path: Path, table: pa.Table) -> None:
    """Write a parquet file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    pq.write_table(table, part)
    part.replace(path)
