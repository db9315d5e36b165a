# SPDX-License-Identifier: Apache-2.0
"""From the bytes of a sensor_msgs image to an RGB array, or a reason why not. No ROS.

Example: a 2x1 `bgr8` picture whose rows are padded to 8 bytes, data `3 2 1 6 5 4 0 0`, is
`[[[1, 2, 3], [4, 5, 6]]]`.

cv_bridge would do the conversions too, but it comes only with a ROS distribution (it is not among
the wheels), rejects nothing that we must reject by a reason of its own (rows shorter than the
width, data shorter than the rows), and would make results depend on the machine. One decoder
everywhere is simpler: what is tested here is what runs on the robot.

Encodings are those of sensor_msgs/image_encodings.hpp. 16-bit pictures keep their upper eight bits;
Bayer mosaics are named as ROS names them, by the first two pixels of the first two rows, which
OpenCV names by the second row and column (ROS `rggb` is OpenCV's `BayerBG`).
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Bytes = bytes | bytearray | memoryview | array


class BadImage(ValueError):
    """A picture that cannot be used; the message says why."""


@dataclass(frozen=True)
class _Layout:
    channels: int
    dtype: type[np.generic]
    convert: int | None  # an OpenCV colour conversion to RGB; None: it is RGB already


_8, _16 = np.uint8, np.uint16
LAYOUTS = {
    "rgb8": _Layout(3, _8, None),
    "bgr8": _Layout(3, _8, cv2.COLOR_BGR2RGB),
    "rgba8": _Layout(4, _8, cv2.COLOR_RGBA2RGB),
    "bgra8": _Layout(4, _8, cv2.COLOR_BGRA2RGB),
    "mono8": _Layout(1, _8, cv2.COLOR_GRAY2RGB),
    "8UC1": _Layout(1, _8, cv2.COLOR_GRAY2RGB),
    "8UC3": _Layout(3, _8, cv2.COLOR_BGR2RGB),  # OpenCV's own order, as cv_bridge reads it
    "rgb16": _Layout(3, _16, None),
    "bgr16": _Layout(3, _16, cv2.COLOR_BGR2RGB),
    "mono16": _Layout(1, _16, cv2.COLOR_GRAY2RGB),
    "bayer_rggb8": _Layout(1, _8, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr8": _Layout(1, _8, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg8": _Layout(1, _8, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg8": _Layout(1, _8, cv2.COLOR_BayerGB2RGB),
}
MAX_SIDE = 16384  # pixels; a header that claims more is broken, not a camera


def decode(
    data: Bytes, *, height: int, width: int, encoding: str, step: int, is_bigendian: bool = False
) -> NDArray[np.uint8]:
    """Return the picture as RGB, uint8 of shape (height, width, 3).

    An `rgb8` picture is a view of `data` and is not copied; rows are `step` bytes apart.

    Raises:
        BadImage: unknown encoding, or sizes that do not agree.
    """
    layout = LAYOUTS.get(encoding)
    if layout is None:
        raise BadImage(f"encoding {encoding!r} is not supported; known: {', '.join(LAYOUTS)}")
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise BadImage(f"size {width}x{height} px; expected 1 to {MAX_SIDE} each")
    dtype = np.dtype(layout.dtype)
    row = width * layout.channels * dtype.itemsize
    if step < row:
        raise BadImage(f"step {step} bytes; {width} px of {encoding} need {row} bytes a row")
    pixels = np.frombuffer(data, np.uint8)
    if pixels.size != step * height:
        raise BadImage(
            f"{pixels.size} bytes of data; {height} rows of {step} bytes need {step * height}"
        )
    rows = pixels.reshape(height, step)[:, :row]
    if dtype.itemsize == 2:
        rows = (rows.view(">u2" if is_bigendian else "<u2") >> 8).astype(np.uint8)
    shape = (height, width) if layout.channels == 1 else (height, width, layout.channels)
    image = rows.reshape(shape)  # a view, unless the rows were padded
    if layout.convert is None:
        return image
    return np.asarray(cv2.cvtColor(image, layout.convert), np.uint8)


def decode_compressed(data: Bytes, format: str) -> NDArray[np.uint8]:
    """Return a JPEG or PNG picture as RGB, uint8 of shape (height, width, 3).

    Args:
        data: the file's bytes.
        format: as in sensor_msgs/CompressedImage; depth images are refused by it.

    Raises:
        BadImage: the bytes are no picture, or a depth picture.
    """
    if "compressedDepth" in format:
        raise BadImage(f"format {format!r} is a depth image; expected a colour one")
    raw = np.frombuffer(data, np.uint8)
    try:
        image = cv2.imdecode(raw, cv2.IMREAD_COLOR) if raw.size else None
    except cv2.error:
        image = None
    if image is None:
        raise BadImage(f"{raw.size} bytes with format {format!r} are not a JPEG or PNG picture")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
