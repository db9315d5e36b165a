# SPDX-License-Identifier: Apache-2.0
"""What an evaluation leaves: a folder with one line for each episode, which can be gone on with.

    info = RunInfo.here("rt2-tiny", {"checkpoint": "models/rt2-tiny"}, {"seen": digest}, 100, 0)
    with RunFolder.create("out/eval/rt2-tiny", info) as run:
        for key in keys:                # (suite, cell, seed)
            if key not in run.done():
                run.append(EpisodeRecord(...))

    out/eval/rt2-tiny/
      run.json          which policy, tables, seeds; which machine, revision, time
      episodes.jsonl    an EpisodeRecord a line, flushed one by one
      strips/ videos/   pictures of some episodes

A kill at any instant loses the episode being played and no other: an unfinished last line is
dropped, and the episode played again, as is one that crashed. A folder is of one policy and one set
of settings; others are refused by name. More cells and more episodes of each may join it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from rt2_ros import provenance
from rt2_ros.evaluation.paper import Cell
from rt2_ros.evaluation.records import EpisodeRecord, Key, cell_title, checked_fields
from rt2_ros.evaluation.strips import film_strip

MODES = ("in-process", "ros")


class Keyed(Protocol):
    """An episode, played or to be played."""

    @property
    def key(self) -> Key:
        """Which episode it is."""


E = TypeVar("E", bound=Keyed)

# Of a policy's configuration what changes nothing of what it does; weights have a digest of theirs.
ELSEWHERE = ("checkpoint", "digest", "device", "threads")


@dataclass(frozen=True)
class CellInfo:
    """What a run was asked to play in a cell.

    tables: digest of them (suites.Cell).
    episodes: how many; their seeds are the run's and those that follow.
    revisions: of this code, oldest first; several where it was gone on with after a change.
    started: ISO 8601, UTC.
    """

    tables: str
    episodes: int
    revisions: tuple[str, ...]
    started: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "revisions", tuple(self.revisions))
        for name, good, expected in (
            ("episodes", self.episodes >= 1, ">= 1"),
            ("revisions", bool(self.revisions), "at least one"),
        ):
            if not good:
                raise ValueError(f"CellInfo.{name} is {getattr(self, name)!r}; expected {expected}")


@dataclass(frozen=True)
class RunInfo:
    """What was evaluated, how and where.

    config: what makes the policy what it is (checkpoint and its digest, options); JSON.
    cells: by title.
    seed: of the first episode of each cell.
    """

    policy: str
    config: Mapping[str, Any]
    cells: Mapping[str, CellInfo]
    seed: int
    mode: str
    machine: str

    def __post_init__(self) -> None:
        # As a file gives it back, so that a run that is read equals the one that was written.
        object.__setattr__(self, "config", json.loads(json.dumps(dict(self.config))))
        object.__setattr__(self, "cells", dict(self.cells))
        for name, good, expected in (
            ("policy", bool(self.policy), "a name"),
            ("cells", bool(self.cells), "at least one"),
            ("seed", self.seed >= 0, ">= 0"),
            ("mode", self.mode in MODES, f"one of {', '.join(MODES)}"),
        ):
            if not good:
                raise ValueError(f"RunInfo.{name} is {getattr(self, name)!r}; expected {expected}")

    @classmethod
    def here(
        cls, policy: str, config: Mapping[str, Any], tables: Mapping[str, str], episodes: int,
        seed: int, mode: str = "in-process",
    ) -> RunInfo:  # fmt: skip
        """A run that starts now, on this machine, with the code as it is; tables: a digest for each
        cell's title.
        """
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        revisions = (provenance.git_revision(),)
        cells = {title: CellInfo(each, episodes, revisions, now) for title, each in tables.items()}
        return cls(policy, config, cells, seed, mode, provenance.machine())

    @property
    def settings(self) -> str:
        """Digest of the policy's settings: not of its weights, nor of where they lie or compute."""
        elsewhere = ELSEWHERE if self.config.get("digest") else ELSEWHERE[1:]
        what = {key: value for key, value in self.config.items() if key not in elsewhere}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]

    def difference(self, other: RunInfo) -> str:
        """The settings in which another run differs, in words; "" where it may go on with this one.

        Code revision and time may differ: going on after a change of the code is noted in
        run.json, not refused. So may which cells are played, and how often.
        """
        names = ("policy", "config", "seed", "mode", "machine")
        different = [
            f"{name} is {getattr(self, name)!r}, not {getattr(other, name)!r}"
            for name in names
            if getattr(self, name) != getattr(other, name)
        ]
        for title, cell in self.cells.items():
            if title in other.cells and other.cells[title].tables != cell.tables:
                different.append(f"{title} had other tables: its suite has been changed since")
        return "; ".join(different)

    def joined(self, other: RunInfo, done: Set[tuple[str, int]]) -> RunInfo:
        """What this run becomes where another one that does not differ goes on with it.

        done: title and seed of what needs not be played. A cell of which there is nothing left to
        play stays as it is.
        """
        cells = dict(self.cells)
        for title, new in other.cells.items():
            old = cells.setdefault(title, new)
            seeds = range(other.seed, other.seed + new.episodes)
            if any((title, seed) not in done for seed in seeds):
                cells[title] = replace(
                    old, episodes=max(old.episodes, new.episodes),
                    revisions=tuple(dict.fromkeys((*old.revisions, *new.revisions))),
                )  # fmt: skip
        return replace(self, cells=cells)


class RunFolder:
    """A run on disk. `RunFolder(path)` reads one; `RunFolder.create` writes, as a context manager.

    Reading a folder that another process writes to is fine: what is finished is seen.
    """

    def __init__(self, path: str | Path) -> None:
        """Read run.json and all episodes.

        Raises:
            ValueError: no run, or a line of it is damaged; names file, line and what is wrong.
        """
        self.path = Path(path)
        self._file: IO[bytes] | None = None
        try:
            known = json.loads(self._run_json.read_text())
        except FileNotFoundError:
            raise ValueError(f"{self.path} is no evaluation run: it has no run.json") from None
        except json.JSONDecodeError as error:
            raise ValueError(f"{self._run_json}: not JSON: {error}") from None
        self.info = _read_info(known, str(self._run_json))
        self._records = _read_episodes(self._episodes_jsonl, self.info)

    @classmethod
    def create(cls, path: str | Path, info: RunInfo) -> RunFolder:
        """Start a run, or go on with it where the folder has one of the same settings.

        Raises:
            ValueError: the folder is of another policy or other settings, which are named; or
                another process is writing to it.
        """
        path = Path(path)
        path.mkdir(parents=True, exist_ok=True)
        if not (path / "run.json").exists():
            write_whole(path / "run.json", _written(info))
        run = cls(path)
        different = run.info.difference(info)
        if different:
            raise ValueError(f"{path} holds another run: {different}; choose another --name")
        run._open()
        done = {(record.title, record.seed) for record in run.records if not record.error}
        joined = run.info.joined(info, done)
        if joined != run.info:
            run.info = joined
            write_whole(run._run_json, _written(joined))
        return run

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def records(self) -> tuple[EpisodeRecord, ...]:
        """All episodes that have ended, in that order, but for those lost with their process."""
        return tuple(record for record in self._records.values() if not record.lost)

    def cells(self) -> dict[Cell, list[EpisodeRecord]]:
        """The same by cell."""
        found: dict[Cell, list[EpisodeRecord]] = {}
        for record in self.records:
            found.setdefault((record.suite, record.cell), []).append(record)
        return found

    def missing(self, cell: Cell) -> int:
        """How many episodes of a cell have not ended that were asked for, or were lost with their
        process. Those that end first are the short ones: figures of a cell are of all of them.
        """
        first, count = self.info.seed, self.info.cells[cell_title(*cell)].episodes
        ended = {record.key for record in self.records}
        return sum((*cell, seed) not in ended for seed in range(first, first + count))

    def done(self) -> set[Key]:
        """(suite, cell, seed) of all finished episodes; what crashed is to be played again."""
        return {key for key, record in self._records.items() if not record.error}

    def crashed(self) -> set[Key]:
        """(suite, cell, seed) of what crashed."""
        return set(self._records) - self.done()

    def left(self, wanted: Iterable[E]) -> list[E]:
        """Of some episodes those to be played; what crashed before last, as it may always do so."""
        done, crashed = self.done(), self.crashed()
        return sorted((e for e in wanted if e.key not in done), key=lambda e: e.key in crashed)

    def append(self, record: EpisodeRecord) -> None:
        """Write one episode; it outlives this process from here on. It may replace a crashed one.

        Raises:
            ValueError: of another policy or cell, or there already.
        """
        if self._file is None:
            raise ValueError(f"{self.path} is open for reading; write by RunFolder.create")
        _expect_own(record, self.info)
        before = self._records.get(record.key)
        if before is not None and not before.error:
            raise ValueError(f"episode {record.key} is in {self.path} already")
        line = json.dumps(asdict(record), ensure_ascii=False, allow_nan=False)
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        self._records.pop(record.key, None)
        self._records[record.key] = record

    def save_strip(
        self, frames: Sequence[NDArray[np.uint8]], captions: Sequence[str], key: Key
    ) -> str:
        """Write frames of an episode side by side, small; what EpisodeRecord.strip then names.

        frames, captions: as strips.film_strip takes them.

        Returns:
            The picture's path relative to the folder, "strips/seen-000017.jpg".
        """
        path = self._picture("strips", key, ".jpg")
        film_strip(frames, captions).save(path, quality=80)
        return str(path.relative_to(self.path))

    def video_path(self, key: Key) -> Path:
        """Where an episode's film belongs; its folder is made."""
        return self._picture("videos", key, ".mp4")

    def close(self) -> None:
        """Let others write; nothing happens the second time."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def _run_json(self) -> Path:
        return self.path / "run.json"

    @property
    def _episodes_jsonl(self) -> Path:
        return self.path / "episodes.jsonl"

    def _picture(self, folder: str, key: Key, suffix: str) -> Path:
        suite, cell, seed = key
        name = "-".join(filter(None, (suite, cell, f"{seed:06d}"))).replace(" ", "_")
        path = self.path / folder / (name + suffix)
        path.parent.mkdir(exist_ok=True)
        return path

    def _open(self) -> None:
        """Take the file for this process alone, cut an unfinished line off, and read it again."""
        file = open(self._episodes_jsonl, "ab")  # noqa: SIM115 - close() does
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise ValueError(f"{self.path}: another process is writing to this run") from None
        self._file = file
        whole = self._episodes_jsonl.read_bytes()
        os.truncate(self._episodes_jsonl, whole.rfind(b"\n") + 1)
        self._records = _read_episodes(self._episodes_jsonl, self.info)


def _read_info(known: Any, where: str) -> RunInfo:
    """run.json; ValueError names it and what is wrong."""
    values = checked_fields(known, RunInfo, where)
    cells = {
        title: CellInfo(**checked_fields(cell, CellInfo, f"{where}: {title}"))
        for title, cell in values["cells"].items()
    }
    return RunInfo(**{**values, "cells": cells})


def _written(info: RunInfo) -> str:
    return json.dumps(asdict(info), indent=1, ensure_ascii=False) + "\n"


def write_whole(path: Path, text: str) -> None:
    """Replace a file at once: a kill leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    os.replace(new, path)


def _expect_own(record: EpisodeRecord, info: RunInfo) -> None:
    """ValueError for an episode that is none of the run's."""
    if record.policy != info.policy:
        raise ValueError(
            f"EpisodeRecord.policy is {record.policy!r}; this run is of {info.policy!r}"
        )
    if record.title not in info.cells:
        raise ValueError(f"EpisodeRecord of {record.title}; this run has {', '.join(info.cells)}")


def _read_episodes(path: Path, info: RunInfo) -> dict[Key, EpisodeRecord]:
    records: dict[Key, EpisodeRecord] = {}
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    for number, line in enumerate(lines[:-1], 1):  # after the last line end: nothing, or a part
        where = f"{path}:{number}"
        try:
            known = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{where}: not JSON: {error}") from None
        try:
            record = EpisodeRecord(**checked_fields(known, EpisodeRecord, where))
            _expect_own(record, info)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        before = records.pop(record.key, None)
        if before is not None and not before.error:
            raise ValueError(f"{where}: episode {record.key} is there twice")
        records[record.key] = record
    return records
