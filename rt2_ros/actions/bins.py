# SPDX-License-Identifier: Apache-2.0
"""Continuous values as integers 0..255 and back, in the three ways that published models use.

Example, range -1..1:

    scheme   -1    0   +1   bin 127 means
    rt2       0  127  255   -0.0039   nearest of 256 levels, ties to the lower (RT-2's 256 bins)
    rt1       0  127  255   -0.0039   truncated (RT-1's action_tokenizer.py)
    openvla   0  127  255    0.0      numpy.digitize over 256 edges, 255 centres (OpenVLA)

`rt2` and `rt1` go back by the same line; truncation is off by up to a whole bin, nearest by half.
OpenVLA's bin 255 is reached only by the very top of the range and means the same as bin 254.
All functions are element-wise: arrays broadcast, low and high in the unit of the values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

BINS = 256
SCHEMES = ("rt2", "rt1", "openvla")

_OPENVLA_EDGES = np.linspace(-1.0, 1.0, BINS)
_OPENVLA_CENTRES = (_OPENVLA_EDGES[:-1] + _OPENVLA_EDGES[1:]) / 2.0


def to_bins(
    values: ArrayLike, low: ArrayLike, high: ArrayLike, scheme: str = "rt2"
) -> NDArray[np.uint8]:
    """Bins of values, clipped to low..high first; ValueError for a value that is not finite."""
    values = np.asarray(values, dtype=np.float64)
    if not np.all(np.isfinite(values)):
        raise ValueError(f"values: {values.tolist()} holds a value that is not finite")
    unit = _unit(values, np.asarray(low, np.float64), np.asarray(high, np.float64))
    if scheme == "rt2":
        bins = np.ceil(unit * (BINS - 1) - 0.5)
    elif scheme == "rt1":
        bins = np.floor(unit * (BINS - 1))
    elif scheme == "openvla":
        bins = np.digitize(unit * 2.0 - 1.0, _OPENVLA_EDGES) - 1
    else:
        raise unknown_scheme(scheme)
    return np.clip(bins, 0, BINS - 1).astype(np.uint8)


def from_bins(
    bins: ArrayLike, low: ArrayLike, high: ArrayLike, scheme: str = "rt2"
) -> NDArray[np.float64]:
    """The values that bins mean; ValueError for a bin that is not an integer in 0..255."""
    bins = checked_bins(bins).astype(np.int64)
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    if scheme in ("rt2", "rt1"):
        unit = bins / (BINS - 1)
    elif scheme == "openvla":
        unit = (_OPENVLA_CENTRES[np.minimum(bins, BINS - 2)] + 1.0) / 2.0
    else:
        raise unknown_scheme(scheme)
    return np.clip(low + unit * (high - low), low, high)


def checked_bins(bins: ArrayLike) -> NDArray[np.uint8]:
    """The same bins as uint8, refused unless every one is an integer in 0..255."""
    array = np.asarray(bins)
    if array.dtype.kind not in "iu":
        raise ValueError(f"bins: {bins!r}, expected integers")
    if array.size and (array.min() < 0 or array.max() > BINS - 1):
        raise ValueError(f"bins: {array.tolist()}, expected integers in 0..255")
    return array.astype(np.uint8)


def unknown_scheme(scheme: object) -> ValueError:
    """The error for a scheme that is none of `SCHEMES`."""
    return ValueError(f"scheme: {scheme!r}, expected one of {', '.join(SCHEMES)}")


def _unit(values: NDArray, low: NDArray, high: NDArray) -> NDArray[np.float64]:
    """Where the clipped values lie between low (0) and high (1)."""
    return (np.clip(values, low, high) - low) / (high - low)
