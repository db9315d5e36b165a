# SPDX-License-Identifier: Apache-2.0
"""Pictures into mp4 files and back, one picture at a time.

    with VideoWriter(path, fps=4) as film:
        film.add(image)                       # uint8 RGB (H, W, 3)
    VideoReader().read(path, seconds=2.25)    # the picture at that time

A key frame every second picture: reading any picture decodes two at most.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from rt2_ros.data.faults import BadSample

KEY_EVERY = 2  # pictures
ENCODING = {"preset": "veryfast", "tune": "fastdecode", "crf": "20", "bf": "0", "threads": "1"}
OPEN_FILES = 16  # of a reader at once
# Files that a parent process had open when it forked: to close them here would wait, for ever, for
# threads that only the parent has.
_INHERITED: list[Any] = []
NEAR = 8  # pictures ahead of the last one that are decoded through rather than sought


class VideoWriter:
    """An H.264 file at a constant rate; a context manager."""

    def __init__(self, path: str | Path, fps: float) -> None:
        self._container: Any = av.open(str(path), "w", format="mp4")
        self._tick = 1 / Fraction(fps).limit_denominator(1001)
        self._stream: Any = None
        self.frames = 0

    def add(self, image: NDArray[np.uint8]) -> None:
        """Append uint8 RGB (H, W, 3), sizes even and always the same."""
        if self._stream is None:
            height, width = image.shape[:2]
            if height % 2 or width % 2:
                raise ValueError(f"image: {width}x{height}, expected even sizes, for H.264")
            options = {**ENCODING, "g": str(KEY_EVERY)}
            self._stream = self._container.add_stream("libx264", rate=1 / self._tick)
            self._stream.options = options
            self._stream.width, self._stream.height = width, height
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = self._tick
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts, frame.time_base = self.frames, self._tick
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def close(self) -> None:
        """Write what is left; nothing happens the second time."""
        if self._container is None:
            return
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()
        self._container = None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _OpenVideo:
    """One file, where it has been read to."""

    def __init__(self, path: Path, frame: int | None) -> None:
        self.container: Any = av.open(str(path))
        streams: Any = self.container.streams.video
        if not streams:
            self.container.close()
            raise BadSample(path, "holds no film", frame)
        self.stream = streams[0]
        self.stream.thread_type = "NONE"  # a data worker has one core
        self.stream.codec_context.thread_count = 1
        # Damage is an error: by itself FFmpeg conceals it, and gives what it made up as a picture.
        # AV1 has no redundancy that would show it.
        self.stream.codec_context.options = {"err_detect": "explode+aggressive"}
        self.step = 1 / (self.stream.average_rate * self.stream.time_base)  # ticks of a picture
        self.start = self.stream.start_time or 0
        self._frames: Iterator[Any] = iter(())
        self._last: Any = None  # the frame decoded last

    def frame(self, seconds: float) -> Any:
        """The frame shown at that time; None where the film does not reach it."""
        want = self.start + round(seconds / float(self.stream.time_base))
        half = float(self.step) / 2
        last = self._last.pts if self._last is not None else None
        if last is None or not last - half < want < last + NEAR * float(self.step):
            self.container.seek(want, stream=self.stream, backward=True)
            self._frames, self._last = iter(self.container.decode(self.stream)), None
        elif abs(last - want) < half:
            return self._last
        for frame in self._frames:
            if frame.pts is None:
                continue
            self._last = frame
            if abs(frame.pts - want) < half:
                return frame
            if frame.pts > want:
                break
        return None

    def close(self) -> None:
        self.container.close()


class VideoReader:
    """Random access to pictures of many files, of which the ones used last stay open.

    It may cross to another process, forked or spawned: files are opened in the one that reads.
    """

    def __init__(self, open_files: int = OPEN_FILES) -> None:
        if open_files < 1:
            raise ValueError(f"open_files is {open_files}, expected at least 1")
        self._most = open_files
        self._open: OrderedDict[Path, _OpenVideo] = OrderedDict()
        self._owner = os.getpid()

    def read(self, path: str | Path, seconds: float, frame: int | None = None) -> NDArray[np.uint8]:
        """The picture at a time: uint8 RGB (H, W, 3).

        frame: its number, for the message.

        Raises:
            BadSample: the file is missing or corrupt, or has no such picture.
        """
        path = Path(path)
        if self._owner != os.getpid():
            _INHERITED.append(self._open)
            self._open, self._owner = OrderedDict(), os.getpid()
        try:
            video, found = self._find(path, seconds, frame)
        except FileNotFoundError:
            raise BadSample(path, "no such file", frame) from None
        except (FFmpegError, OSError) as error:
            raise BadSample(path, f"cannot be decoded at {seconds:g} s: {error}", frame) from error
        if found is None:
            video.close()
            raise BadSample(path, f"has no picture at {seconds:g} s", frame)
        self._open[path] = video
        if len(self._open) > self._most:
            self._open.popitem(last=False)[1].close()
        return found.to_ndarray(format="rgb24", threads=1)  # to wake others costs more than to work

    def _find(self, path: Path, seconds: float, frame: int | None) -> tuple[_OpenVideo, Any]:
        """The film and its picture at a time, None where it has none.

        Whether a picture can be had must not depend on the one read before: where damage lies
        between them it is sought once more, in the film opened anew.
        """
        if (video := self._open.pop(path, None)) is not None:
            try:
                return video, video.frame(seconds)
            except FFmpegError:
                video.close()
        video = _OpenVideo(path, frame)
        return video, video.frame(seconds)

    def __getstate__(self) -> dict[str, Any]:
        return {"_most": self._most, "_open": OrderedDict(), "_owner": -1}
