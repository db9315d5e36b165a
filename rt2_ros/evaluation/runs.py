# SPDX-License-Identifier: Apache-2.0
"""What an evaluation leaves: a folder with one line for each episode, which can be gone on with.

    info = RunInfo.here("rt2-tiny", {"checkpoint": "models/rt2-tiny"}, cells, 100, 0)
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
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from rt2_ros import provenance
from rt2_ros.evaluation.records import EpisodeRecord, Key, checked_fields
from rt2_ros.evaluation.strips import film_strip

MODES = ("in-process", "ros")


@dataclass(frozen=True)
class RunInfo:
    """What was evaluated, how and where.

    config: what makes the policy what it is (checkpoint and its digest, options); JSON.
    cells: title -> digest of the tables (suites.Cell).
    episodes: in each cell, at most; their seeds are `seed` and those that follow.
    revisions: of this code, oldest first; several where a run was gone on with after a change.
    started: ISO 8601, UTC.
    """

    policy: str
    config: Mapping[str, Any]
    cells: Mapping[str, str]
    episodes: int
    seed: int
    mode: str
    machine: str
    revisions: tuple[str, ...]
    started: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "revisions", tuple(self.revisions))
        # As a file gives it back, so that a run that is read equals the one that was written.
        object.__setattr__(self, "config", json.loads(json.dumps(dict(self.config))))
        object.__setattr__(self, "cells", dict(self.cells))
        for name, good, expected in (
            ("policy", bool(self.policy), "a name"),
            ("cells", bool(self.cells), "at least one"),
            ("episodes", self.episodes >= 1, ">= 1"),
            ("seed", self.seed >= 0, ">= 0"),
            ("mode", self.mode in MODES, f"one of {', '.join(MODES)}"),
            ("revisions", bool(self.revisions), "at least one"),
        ):
            if not good:
                raise ValueError(f"RunInfo.{name} is {getattr(self, name)!r}; expected {expected}")

    @classmethod
    def here(
        cls, policy: str, config: Mapping[str, Any], cells: Mapping[str, str], episodes: int,
        seed: int, mode: str = "in-process",
    ) -> RunInfo:  # fmt: skip
        """A run that starts now, on this machine, with the code as it is."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return cls(
            policy, config, cells, episodes, seed, mode,
            provenance.machine(), (provenance.git_revision(),), now,
        )  # fmt: skip

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
        for title, digest in self.cells.items():
            if other.cells.get(title, digest) != digest:
                different.append(f"{title} had other tables: its suite has been changed since")
        return "; ".join(different)

    def joined(self, other: RunInfo) -> RunInfo:
        """What this run becomes where another one that does not differ goes on with it."""
        return replace(
            self, cells={**self.cells, **other.cells}, episodes=max(self.episodes, other.episodes),
            revisions=tuple(dict.fromkeys((*self.revisions, *other.revisions))),
        )  # fmt: skip


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
        self.info = RunInfo(**checked_fields(known, RunInfo, str(self._run_json)))
        self._records = _read_episodes(self._episodes_jsonl, self.info.policy)

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
            _write_whole(path / "run.json", info)
        run = cls(path)
        different = run.info.difference(info)
        if different:
            raise ValueError(f"{path} holds another run: {different}; choose another --name")
        run._open()
        joined = run.info.joined(info)
        if joined != run.info:
            run.info = joined
            _write_whole(run._run_json, joined)
        return run

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def records(self) -> tuple[EpisodeRecord, ...]:
        """All episodes that have ended, in that order."""
        return tuple(self._records.values())

    def done(self) -> set[Key]:
        """(suite, cell, seed) of all finished episodes; what crashed is to be played again."""
        return {key for key, record in self._records.items() if not record.error}

    def append(self, record: EpisodeRecord) -> None:
        """Write one episode; it outlives this process from here on. It may replace a crashed one.

        Raises:
            ValueError: of another policy, or there already.
        """
        if self._file is None:
            raise ValueError(f"{self.path} is open for reading; write by RunFolder.create")
        if record.policy != self.info.policy:
            raise ValueError(
                f"EpisodeRecord.policy is {record.policy!r}; this run is of {self.info.policy!r}"
            )
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
        self._records = _read_episodes(self._episodes_jsonl, self.info.policy)


def _write_whole(path: Path, info: RunInfo) -> None:
    """Replace run.json at once: a kill leaves the old one or the new one."""
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(asdict(info), indent=1, ensure_ascii=False) + "\n")
    os.replace(new, path)


def _read_episodes(path: Path, policy: str) -> dict[Key, EpisodeRecord]:
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
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        if record.policy != policy:
            raise ValueError(f"{where}: of policy {record.policy!r}; this run is of {policy!r}")
        before = records.pop(record.key, None)
        if before is not None and not before.error:
            raise ValueError(f"{where}: episode {record.key} is there twice")
        records[record.key] = record
    return records
