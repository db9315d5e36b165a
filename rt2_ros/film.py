# SPDX-License-Identifier: Apache-2.0
"""What a run leaves to look at: a film and a contact sheet, both with words on the pictures.

with Film("out/demo/demo.mp4") as film:
    film.add(captioned(image, "pick up the banana", "0 127 255 127 127 127 127 255"), 1_500)
contact_sheet("out/demo/contact_sheet.png", [[tile, tile], [tile, tile]])
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageDraw, ImageFont

from rt2_ros.data.pictographs import FONTS

Image = NDArray[np.uint8]
MILLISECOND = Fraction(1, 1000)
BAND = 26  # px, height of a line of text
LETTERS = (15, 6)  # px, size of letters, and the least to which a long line is shrunk
CHINESE = re.compile(r"[\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef]+")
# Fonts with Chinese, as Debian's fonts-wqy-microhei (the smallest), fonts-wqy-zenhei,
# fonts-noto-cjk and fonts-droid-fallback call them.
CHINESE_FONTS = (
    "wqy-microhei.ttc", "wqy-zenhei.ttc", "NotoSansCJK-Regular.ttc", "DroidSansFallback*.ttf",
)  # fmt: skip


def captioned(image: Image, top: str, bottom: str = "") -> Image:
    """A copy of uint8 RGB (H, W, 3) with a line of text along its upper and lower edge.

    Chinese is written if one of CHINESE_FONTS is installed; else "(in Chinese)" stands for it.
    """
    picture = np.ascontiguousarray(image).copy()
    height, width = picture.shape[:2]
    for text, y in ((top, 0), (bottom, height - BAND)):
        if not text:
            continue
        text, file = " ".join(text.splitlines()), ""
        if CHINESE.search(text):
            file = _chinese_font()
            text = text if file else CHINESE.sub("(in Chinese)", text)
        size, least = LETTERS
        wide = _font(file, size).getlength(text)
        font = _font(file, max(least, int(size * min(1.0, (width - 16) / max(wide, 1)))))
        band = Pillow.fromarray(picture[y : y + BAND] // 4)
        ImageDraw.Draw(band).text((8, BAND // 2), text, "white", font, anchor="lm")
        picture[y : y + BAND] = band
    return picture


@cache
def _chinese_font() -> str:
    """The file of an installed font that has Chinese, "" if there is none."""
    found = (
        path
        for name in CHINESE_FONTS
        for folder in FONTS
        for path in folder.expanduser().rglob(name)
    )
    return str(next(found, ""))


@cache
def _font(file: str, size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """The font of a file, or of Pillow, at a size in px."""
    return ImageFont.truetype(file, size) if file else ImageFont.load_default(size)


class Film:
    """An H.264 file with a picture's own time as its time; a context manager."""

    def __init__(self, path: str | Path) -> None:
        import av  # here and not above: only films need it

        self._av = av
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._container: Any = av.open(str(self.path), "w")
        self._stream: Any = None
        self._last_ms = -1

    def __enter__(self) -> Film:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def add(self, image: Image, time_ms: int) -> None:
        """Append uint8 RGB (H, W, 3), even sizes; left out if not later than the last."""
        if time_ms <= self._last_ms:
            return
        if self._stream is None:
            self._stream = self._container.add_stream(
                "libx264", rate=30, options={"preset": "veryfast", "crf": "23", "threads": "1"}
            )
            self._stream.height, self._stream.width = image.shape[:2]
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = MILLISECOND
        frame = self._av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts, frame.time_base = time_ms, MILLISECOND
        self._last_ms = time_ms
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what is left; nothing happens the second time."""
        if self._container is None:
            return
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()
        self._container = None


def evenly(items: Sequence, count: int) -> list:
    """`count` items spread over all of them, first and last included."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def contact_sheet(path: str | Path, rows: Sequence[Sequence[Image]], gap: int = 6) -> None:
    """Write a PNG of rows of equally large uint8 RGB tiles; short rows are filled with white.

    Without any tile there is no file afterwards, nor one of an earlier run.
    """
    columns = max(map(len, rows), default=0)
    if not columns:
        Path(path).unlink(missing_ok=True)
        return
    height, width, _ = next(row[0] for row in rows if row).shape
    sheet = np.full(
        (len(rows) * (height + gap) + gap, columns * (width + gap) + gap, 3), 255, np.uint8
    )
    for r, row in enumerate(rows):
        for c, tile in enumerate(row):
            y, x = gap + r * (height + gap), gap + c * (width + gap)
            sheet[y : y + height, x : x + width] = tile
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR)):
        raise OSError(f"{path} could not be written")
