# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a sample, or with what is to be done with it, said so that a person finds it.

BadSample("out/demos/videos/.../file-000.mp4", "no picture could be decoded", frame=37)
# out/demos/videos/.../file-000.mp4, frame 37: no picture could be decoded
"""

from __future__ import annotations

from pathlib import Path


class BadSample(ValueError):
    """A sample that cannot be learned from. file: where it is; frame: which one there, if any."""

    def __init__(self, file: str | Path, reason: str, frame: int | None = None) -> None:
        self.file, self.reason, self.frame = str(file), reason, frame
        where = self.file if frame is None else f"{self.file}, frame {frame}"
        super().__init__(f"{where}: {reason}")

    def __reduce__(self) -> tuple[type[BadSample], tuple[str, str, int | None]]:
        """What crosses to the main process from a worker: the parts, not the joined message."""
        return BadSample, (self.file, self.reason, self.frame)


class BadSetting(ValueError):
    """A setting that does not fit the data, as a sample shows. The sample is not to blame: to leave
    it out would bend the data to the setting.
    """
