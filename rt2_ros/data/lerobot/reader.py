# SPDX-License-Identifier: Apache-2.0
"""Read a LeRobot dataset v3: any frame of any episode, at once.

    episodes = Episodes("out/demos")
    step = episodes.read(episode=3, frame=7, cameras=("observation.images.scene",))
    step.task, step.images["observation.images.scene"].shape, step.values["action"]
    # "grab the key", (192, 192, 3), array of 7

Numbers are in memory (a million frames of 20 numbers are 80 MB, shared by forked workers); pictures
are decoded when they are asked for, from the nearest key frame.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rt2_ros.data.faults import BadSample
from rt2_ros.data.lerobot import layout
from rt2_ros.data.lerobot.layout import DatasetInfo
from rt2_ros.data.lerobot.video import VideoReader


@dataclass(frozen=True, eq=False)
class Step:
    """One frame: what was seen, and the numbers of its row.

    images: camera -> uint8 RGB (H, W, 3); values: column -> (D,).
    """

    episode: int
    frame: int
    task: str
    images: dict[str, NDArray[np.uint8]]
    values: dict[str, NDArray[Any]]


@dataclass(frozen=True)
class _Film:
    """Where each episode's pictures are: a file, and from which second on."""

    files: tuple[str, ...]
    start: NDArray[np.float64]


class Episodes:
    """A dataset's folder, open for reading."""

    def __init__(
        self, folder: str | Path, cameras: Sequence[str] | None = None, extra: Sequence[str] = ()
    ) -> None:
        """Open it.

        cameras: columns of pictures that will be read; all if None.
        extra: further columns of the episodes' table that are wanted.

        Raises:
            ValueError, FileNotFoundError: naming the file and what is wrong with it.
        """
        self.folder = Path(folder)
        self.info = DatasetInfo.load(self.folder)
        known = self.info.cameras
        self.cameras = known if cameras is None else tuple(map(layout.camera_key, cameras))
        for camera in self.cameras:
            if camera not in known:
                raise ValueError(
                    f"{self.folder / layout.INFO}: no video {camera!r}; there are "
                    f"{', '.join(known) or 'none'}"
                )
        self.tasks = _tasks(self.folder / layout.TASKS)
        self.statistics = _statistics(self.folder / layout.STATS)
        table = self._episode_table(extra)
        self.extra = {name: table[name] for name in extra}
        self.first = np.asarray(table["dataset_from_index"], np.int64)
        self.lengths = np.asarray(table["dataset_to_index"], np.int64) - self.first
        data = list(zip(table["data/chunk_index"], table["data/file_index"], strict=True))
        self.files = len(set(data))
        self._films = {camera: self._film(table, camera) for camera in self.cameras}
        self._data_files = tuple(self.info.file(self.info.data_path, *place) for place in data)
        self._columns, self._row = self._read_data(sorted(set(data)))
        self._videos = VideoReader()

    def __len__(self) -> int:
        """How many episodes."""
        return len(self.lengths)

    def column(self, name: str) -> NDArray[Any]:
        """A column of all frames, episode by episode: (N, D)."""
        try:
            return self._columns[name]
        except KeyError:
            raise ValueError(
                f"{self.folder / layout.INFO}: no column {name!r}; there are "
                f"{', '.join(self._columns)}"
            ) from None

    def row(self, episode: int, frame: int) -> int:
        """Which row of a column belongs to a frame of an episode; IndexError if there is none."""
        if not (0 <= episode < len(self) and 0 <= frame < self.lengths[episode]):
            raise IndexError(f"episode {episode}, frame {frame}: not in {self.folder}")
        return int(self._row[episode]) + frame

    def data_file(self, episode: int) -> Path:
        """The parquet file that holds an episode's numbers."""
        return self.folder / self._data_files[episode]

    def text(self, name: str, episode: int, frame: int) -> str:
        """A column of text in one frame."""
        return str(self.column(name)[self.row(episode, frame), 0])

    def task(self, episode: int, frame: int) -> str:
        """What was to be done."""
        index = int(self._columns[layout.TASK][self.row(episode, frame), 0])
        if not 0 <= index < len(self.tasks):
            raise BadSample(
                self.folder / layout.TASKS,
                f"episode {episode}: task {index}, expected 0..{len(self.tasks) - 1}",
                frame,
            )
        return self.tasks[index]

    def image(self, camera: str, episode: int, frame: int) -> NDArray[np.uint8]:
        """What a camera saw: uint8 RGB (H, W, 3). Raises BadSample naming file and frame."""
        film = self._films[camera]
        seconds = float(film.start[episode] + self._columns[layout.TIME][
            self.row(episode, frame), 0
        ])  # fmt: skip
        number = round(seconds * self.info.fps)
        return self._videos.read(self.folder / film.files[episode], seconds, number)

    def read(self, episode: int, frame: int, cameras: Sequence[str] | None = None) -> Step:
        """One frame with the pictures of `cameras` (all that were opened if None)."""
        row = self.row(episode, frame)
        wanted = self.cameras if cameras is None else cameras
        return Step(
            episode, frame, self.task(episode, frame),
            {camera: self.image(camera, episode, frame) for camera in wanted},
            {name: values[row] for name, values in self._columns.items()},
        )  # fmt: skip

    def _episode_table(self, extra: Sequence[str]) -> dict[str, list[Any]]:
        """The episodes' rows that info.json counts, in order, without their statistics."""
        folder = self.folder / layout.EPISODES_FOLDER
        paths = sorted(folder.glob("*/*.parquet"))
        if not paths and self.info.total_episodes:
            raise FileNotFoundError(f"{folder}: no parquet file, expected one at least")
        wanted = ["episode_index", "dataset_from_index", "dataset_to_index", "data/chunk_index",
                  "data/file_index", *extra]  # fmt: skip
        for camera in self.cameras:
            wanted += [f"videos/{camera}/{key}" for key in _FILM]
        columns: dict[str, list[Any]] = {name: [] for name in wanted}
        for path in paths:
            table = _read_table(path, wanted)
            for name in wanted:
                columns[name] += table[name].to_pylist()
        total = self.info.total_episodes
        order = np.argsort(columns["episode_index"], kind="stable")[:total]
        if [columns["episode_index"][i] for i in order] != list(range(total)):
            raise ValueError(f"{folder}: expected one row for each episode 0..{total - 1}")
        return {name: [values[i] for i in order] for name, values in columns.items()}

    def _film(self, table: dict[str, list[Any]], camera: str) -> _Film:
        chunks, numbers, start = (table[f"videos/{camera}/{key}"] for key in _FILM)
        files = tuple(
            self.info.file(self.info.video_path, chunk, number, camera)
            for chunk, number in zip(chunks, numbers, strict=True)
        )
        return _Film(files, np.asarray(start, np.float64))

    def _read_data(
        self, files: Sequence[tuple[int, int]]
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
        """All columns of numbers, ordered by episode and frame, and each episode's first row."""
        names = [
            name
            for name, feature in self.info.features.items()
            if feature["dtype"] not in ("video", "image")
        ]
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
        for chunk, number in files:
            path = self.folder / self.info.file(self.info.data_path, chunk, number)
            table = _read_table(path, names)
            for name in names:
                text = self.info.features[name]["dtype"] == "string"
                parts[name].append(_numbers(table[name], path, name, text))
        columns = {
            name: np.concatenate(part) if part else np.zeros((0, 1)) for name, part in parts.items()
        }
        if not files:
            return columns, np.zeros(0, np.int64)
        episode, frame = (columns[key][:, 0] for key in (layout.EPISODE, layout.FRAME))
        order = np.lexsort((frame, episode))
        order = order[episode[order] < len(self)]
        columns = {name: values[order] for name, values in columns.items()}
        lengths = np.bincount(columns[layout.EPISODE][:, 0], minlength=len(self))
        if not np.array_equal(lengths, self.lengths):
            wrong = int(np.argmax(lengths != self.lengths))
            raise ValueError(
                f"{self.folder / 'data'}: episode {wrong} has {lengths[wrong]} frames, expected "
                f"{self.lengths[wrong]}"
            )
        return columns, np.concatenate([[0], np.cumsum(lengths)[:-1]])


_FILM = ("chunk_index", "file_index", "from_timestamp")


def _read_table(path: Path, columns: Sequence[str]) -> pa.Table:
    try:
        return pq.read_table(path, columns=list(columns), partitioning=None)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error


def _numbers(column: pa.ChunkedArray, path: Path, name: str, text: bool) -> NDArray[Any]:
    """A column as (N, D); in one of text what is not there is empty."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    rows = len(array)
    while isinstance(array, (pa.ListArray, pa.LargeListArray, pa.FixedSizeListArray)):
        array = array.flatten()
    if text:
        array = array.cast(pa.string()).fill_null("")
    values = array.to_numpy(zero_copy_only=False)
    if array.null_count or (rows and len(values) % rows):
        raise ValueError(f"{path}: column {name}: expected as many numbers in each row")
    return values.reshape(rows, -1)


def _tasks(path: Path) -> tuple[str, ...]:
    """The tasks' texts by their number."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    table = pq.read_table(path)
    text = [name for name in table.column_names if name != "task_index"]
    if "task_index" not in table.column_names or len(text) != 1:
        raise ValueError(f"{path}: columns {table.column_names}, expected task_index and the text")
    texts = dict(zip(table["task_index"].to_pylist(), table[text[0]].to_pylist(), strict=True))
    if sorted(texts) != list(range(len(texts))):
        raise ValueError(f"{path}: task_index is {sorted(texts)}, expected 0..{len(texts) - 1}")
    return tuple(texts[index] for index in range(len(texts)))


def _statistics(path: Path) -> dict[str, Any]:
    """stats.json; empty where a dataset has none."""
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
