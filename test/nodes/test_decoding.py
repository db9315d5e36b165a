# SPDX-License-Identifier: Apache-2.0
"""Bytes of a picture in, exact RGB out, or a reason."""

from array import array

import cv2
import numpy as np
import pytest

from rt2_ros.nodes.decoding import LAYOUTS, BadImage, decode, decode_compressed

# One row, two pixels, as RGB.
RGB = [[[1, 2, 3], [4, 5, 6]]]


def read(values, encoding, *, width=2, height=1, step=None, dtype=np.uint8, **flags):
    data = np.asarray(values, dtype).tobytes()
    return decode(
        data, height=height, width=width, encoding=encoding, step=step or len(data), **flags
    ).tolist()


@pytest.mark.parametrize(
    ("encoding", "values"),
    [
        ("rgb8", [1, 2, 3, 4, 5, 6]),
        ("bgr8", [3, 2, 1, 6, 5, 4]),
        ("8UC3", [3, 2, 1, 6, 5, 4]),
        ("rgba8", [1, 2, 3, 255, 4, 5, 6, 0]),
        ("bgra8", [3, 2, 1, 255, 6, 5, 4, 0]),
    ],
)
def test_colour_encodings(encoding, values):
    assert read(values, encoding) == RGB


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_is_repeated(encoding):
    assert read([7, 9], encoding) == [[[7, 7, 7], [9, 9, 9]]]


@pytest.mark.parametrize(
    ("encoding", "values", "expected"),
    [
        ("mono16", [0x0700, 0x09FF], [[[7, 7, 7], [9, 9, 9]]]),
        ("rgb16", [0x0100, 0x0200, 0x03FF, 0x0400, 0x0500, 0x0600], RGB),
        ("bgr16", [0x0300, 0x0200, 0x0100, 0x0600, 0x0500, 0x0400], RGB),
    ],
)
def test_sixteen_bits_keep_the_upper_eight(encoding, values, expected):
    assert read(values, encoding, dtype="<u2") == expected


@pytest.mark.parametrize("encoding", ["bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8"])
def test_bayer_mosaic_of_one_colour_gives_that_colour(encoding):
    colour = dict(zip("rgb", (200, 100, 50), strict=True))
    first, second = encoding[6:8], encoding[8:10]
    rows = [
        [colour[first[x % 2]] if y % 2 == 0 else colour[second[x % 2]] for x in range(6)]
        for y in range(6)
    ]
    image = np.asarray(read(rows, encoding, width=6, height=6, step=6))
    assert (image == (200, 100, 50)).all()


@pytest.mark.parametrize(
    ("encoding", "row"),
    [("rgb8", [1, 2, 3, 4, 5, 6]), ("bgra8", [3, 2, 1, 0, 6, 5, 4, 0])],
)
def test_padding_at_the_end_of_rows_is_left_out(encoding, row):
    padded = [*row, 99, 99]
    assert read([padded, padded], encoding, height=2, step=len(padded)) == RGB * 2


def test_padding_of_sixteen_bit_rows_may_be_odd():
    row = np.array([0x0700, 0x0900], "<u2").tobytes() + b"\x63"
    image = decode(row * 2, height=2, width=2, encoding="mono16", step=5)
    assert image[:, :, 0].tolist() == [[7, 9], [7, 9]]


def test_the_order_of_bytes_is_that_of_samples_of_two():
    """Drivers of OAK cameras set the flag for pictures of single bytes, where it means nothing."""
    row = np.array([0x0700, 0x0900], ">u2").tobytes()
    image = decode(row, height=1, width=2, encoding="mono16", step=4, is_bigendian=True)
    assert image[:, :, 0].tolist() == [[7, 9]]
    data = bytes([1, 2, 3, 4, 5, 6])
    image = decode(data, height=1, width=2, encoding="rgb8", step=6, is_bigendian=True)
    assert image.ravel().tolist() == [1, 2, 3, 4, 5, 6]


def test_an_rgb_picture_is_not_copied():
    data = array("B", [1, 2, 3, 4, 5, 6])
    image = decode(data, height=1, width=2, encoding="rgb8", step=6)
    data[0] = 77
    assert image[0, 0, 0] == 77


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"encoding": "yuv422"}, "encoding 'yuv422' is not supported; known: rgb8, bgr8"),
        ({"encoding": ""}, "encoding '' is not supported"),
        ({"step": 5}, "step 5 bytes; 2 px of rgb8 need 6 bytes a row"),
        ({"height": 2}, "6 bytes of data; 2 rows of 6 bytes need 12"),
        ({"height": 0}, "size 2x0 px; expected 1 to 16384"),
        ({"width": 100_000}, "size 100000x1 px; expected 1 to 16384"),
    ],
)
def test_refusals_say_why(changes, reason):
    arguments = dict(height=1, width=2, encoding="rgb8", step=6) | changes
    with pytest.raises(BadImage, match=reason):
        decode(bytes(6), **arguments)


@pytest.mark.parametrize("encoding", LAYOUTS)
def test_every_encoding_yields_the_same_shape(encoding):
    size = 4 * 6 * LAYOUTS[encoding].channels * np.dtype(LAYOUTS[encoding].dtype).itemsize
    image = decode(bytes(size), height=4, width=6, encoding=encoding, step=size // 4)
    assert image.shape == (4, 6, 3) and image.dtype == np.uint8


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_compressed_pictures(suffix):
    rgb = np.zeros((16, 24, 3), np.uint8)
    rgb[:, :] = (200, 100, 50)
    ok, data = cv2.imencode(suffix, rgb[:, :, ::-1])
    assert ok
    image = decode_compressed(data.tobytes(), suffix[1:])
    assert image.shape == (16, 24, 3)
    assert np.abs(image.astype(int) - rgb).max() <= (0 if suffix == ".png" else 3)


@pytest.mark.parametrize(
    ("data", "format", "reason"),
    [
        (b"", "jpeg", "0 bytes with format 'jpeg' are not"),
        (b"nonsense", "jpeg", "8 bytes with format 'jpeg' are not"),
        (b"", "16UC1; compressedDepth png", "is a depth image"),
    ],
)
def test_broken_compressed_pictures(data, format, reason):
    with pytest.raises(BadImage, match=reason):
        decode_compressed(data, format)
