# SPDX-License-Identifier: Apache-2.0
"""Rows of WebDataset shards: tar files in which the files of one sample share a name.

    shard-000000.tar:  dogs/1.jpg  dogs/1.json  dogs/2.jpg  dogs/2.txt ...
    rows = TarRows("data/shard-*.tar")

A sample's key is its path up to the first dot of the file name; its picture is its one file with a
picture's ending; `.json` holds a row, `.txt` (or `.caption`) a caption.
Shards lie on this machine: they are listed once, headers only, and then read at random.
"""

from __future__ import annotations

import glob
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rt2_ros.data.faults import BadSample
from rt2_ros.data.rows import Row, decode

PICTURES = ("jpg", "jpeg", "png", "webp", "bmp")
CAPTIONS = ("txt", "caption")

# The last ending of a file, where it begins in the shard, and how long it is.
_Member = tuple[str, int, int]


class TarRows:
    """Samples of all shards that a pattern names."""

    def __init__(self, pattern: str | Path) -> None:
        """Pattern: one path or a glob pattern.

        Raises:
            ValueError: no shard, one that is no tar file, or none that holds a picture.
        """
        self._pattern = str(pattern)
        shards = sorted(glob.glob(self._pattern))
        if not shards:
            raise ValueError(f"{pattern}: there is no such shard")
        self._samples: list[tuple[str, list[_Member]]] = []
        for shard in shards:
            self._samples += [
                (shard, members)
                for members in _samples(shard)
                if any(ending in PICTURES for ending, _, _ in members)
            ]
        if not self._samples:
            raise ValueError(f"{pattern}: holds no picture ({', '.join(PICTURES)})")

    @property
    def name(self) -> str:
        """The pattern."""
        return self._pattern

    def __len__(self) -> int:
        """How many samples."""
        return len(self._samples)

    def read(self, index: int) -> Row:
        """One sample. Raises BadSample naming the shard and the sample."""
        shard, members = self._samples[index]
        values: dict[str, Any] = {}
        images = []
        try:
            with open(shard, "rb") as file:
                for ending, start, size in members:
                    file.seek(start)
                    data = file.read(size)
                    if len(data) < size:
                        raise BadSample(shard, f"ends within a .{ending} file", index)
                    if ending in PICTURES:
                        images.append(decode(data, shard, index))
                    elif ending == "json":
                        values.update(json.loads(data))
                    elif ending in CAPTIONS:
                        values["caption"] = data.decode("utf-8")
        except OSError as error:
            raise BadSample(shard, str(error.strerror), index) from error
        except (ValueError, TypeError) as error:
            if isinstance(error, BadSample):
                raise
            raise BadSample(shard, f"no JSON object or no UTF-8: {error}", index) from error
        if len(images) > 1:  # a mask, depth, a thumbnail: which is asked about is not said
            raise BadSample(shard, f"a sample has {len(images)} pictures; expected one", index)
        return Row(tuple(images), values)


def _samples(shard: str) -> Iterator[list[_Member]]:
    """The files of each sample: those that follow each other with the same key."""
    key, members = "", list[_Member]()
    try:
        with tarfile.open(shard, "r:") as tar:
            for info in tar:
                if not info.isfile():
                    continue
                path = Path(info.name)
                stem, _, ending = path.name.partition(".")
                here = str(path.parent / stem)
                if here != key and members:
                    yield members
                    members = []
                key = here
                members.append((ending.lower().rpartition(".")[2], info.offset_data, info.size))
    except FileNotFoundError:
        raise FileNotFoundError(f"{shard}: no such file") from None
    except tarfile.TarError as error:
        raise ValueError(f"{shard}: {error}; expected a tar file, not compressed") from error
    if members:
        yield members
