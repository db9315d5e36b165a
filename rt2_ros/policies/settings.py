# SPDX-License-Identifier: Apache-2.0
"""Settings of a model's policy, looked at before anything is loaded: what is wrong is named.

check("mine", {"threads": "two"}, {"threads": COUNT})
# ValueError: policy mine: threads is 'two'; expected a whole number, 1 or more
chosen_device("mine", None)                   # "cuda" where there is one, else "cpu"
chosen_dtype("mine", None, "cpu")             # "float32"
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rt2_ros.models.bfloat16 import has_bfloat16, has_float16

DTYPES = ("float32", "bfloat16", "float16")


class Kind(NamedTuple):
    """What a setting may be."""

    words: str
    types: tuple[type, ...]
    least: int | None = None


TEXT = Kind("text", (str,))
PATH = Kind("a folder or a hub id", (str, Path))
COUNT = Kind("a whole number, 1 or more", (int,), 1)
NUMBER = Kind("a number, 0 or more", (int, float), 0)
LIST = Kind("a list", (list, tuple))


def check(name: str, config: Mapping[str, Any], keys: Mapping[str, Kind]) -> dict[str, Any]:
    """What is set of the keys; ValueError names one that is unknown or no such thing."""
    unknown = sorted(set(config) - set(keys))
    if unknown:
        raise ValueError(f"policy {name}: unknown key {unknown[0]!r}; expected {', '.join(keys)}")
    settings = {key: value for key, value in config.items() if value is not None}
    for key, value in settings.items():
        kind = keys[key]
        fits = isinstance(value, kind.types) and not isinstance(value, bool)
        if not fits or (kind.least is not None and not kind.least <= value < float("inf")):
            raise ValueError(f"policy {name}: {key} is {value!r}; expected {kind.words}")
    return settings


def chosen_device(name: str, given: str | None) -> str:
    """Where to compute; ValueError if this machine has no such device."""
    if given is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if reason := _missing(given):
        raise ValueError(f"policy {name}: device is {given!r}; {reason}")
    return given


def _missing(given: str) -> str:
    """Why this machine has no such device, "" if it has."""
    kind, _, index = given.partition(":")
    if kind == "cpu":
        return ""
    if kind != "cuda" or (index and not index.isdigit()):
        return "expected cpu, cuda or cuda:N"
    if not torch.cuda.is_available():
        return "this machine has no GPU that torch can use; expected cpu"
    count = torch.cuda.device_count()
    return "" if int(index or 0) < count else f"this machine has {count}, counted from 0"


def chosen_dtype(name: str, given: str | None, device: str) -> str:
    """What to compute in on that device; a warning says what one that has no such loses."""
    cpu = torch.device(device).type == "cpu"
    kind = given or ("float32" if cpu else "bfloat16")
    if kind not in DTYPES:
        raise ValueError(f"policy {name}: dtype is {kind!r}; expected {', '.join(DTYPES)}")
    has = {"bfloat16": has_bfloat16, "float16": has_float16}.get(kind)
    if has is None or has(torch.device(device)):
        return kind
    if cpu:
        warnings.warn(
            f"policy {name}: this CPU has no {kind}; decisions take several times longer than in "
            "float32",
            stacklevel=2,
        )
        return kind
    warnings.warn(
        f"policy {name}: this GPU has no bfloat16; float16 instead, which has less range",
        stacklevel=2,
    )
    return "float16"
