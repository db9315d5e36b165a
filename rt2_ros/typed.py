# SPDX-License-Identifier: Apache-2.0
"""A file's values as dataclasses, each checked against its field's annotation.

    build(Stage, {"name": "act", "learning_rate": "2e-5", ...}, "mine.yaml: stage act")
    # ValueError: mine.yaml: stage act: learning_rate is '2e-5'; expected a number ...

YAML tells types by looks, so a slip gives another type than was meant.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")
SIMPLE = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def misspelt(name: str, names: Iterable[str]) -> str:
    """Which of `names` a name seems to be meant for, "" if it is like none.

    >>> misspelt("brigde", ["bridge", "robot"])
    'bridge'
    """
    return next(iter(get_close_matches(name, list(names), 1, 0.8)), "")


def build(cls: type[T], values: Any, where: str) -> T:
    """A dataclass from a file's keys, and of its fields those that are dataclasses.

    where: the file and the place in it, for messages.

    Raises:
        ValueError: naming the place, the key, its value and what was expected.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} is {values!r}; expected a mapping")
    known = {f.name: f for f in fields(cast(Any, cls))}
    if unknown := sorted(set(values) - set(known), key=str):
        raise ValueError(
            f"{where}: unknown key {unknown[0]!r}; expected {', '.join(sorted(known))}"
        )
    for name, of in known.items():
        if name not in values and of.default is MISSING and of.default_factory is MISSING:
            raise ValueError(f"{where}: no key {name!r}; expected it")
    types = get_type_hints(cls)
    checked = {name: _checked(value, types[name], f"{where}: {name}")
               for name, value in values.items()}  # fmt: skip
    try:
        return cls(**checked)
    except ValueError as error:
        place, _, last = where.rpartition(": ")
        said = str(error).startswith(f"{last}:")  # by the error as well
        raise ValueError(f"{place if said else where}: {error}") from error


def _checked(value: Any, kind: Any, where: str) -> Any:
    """The value as its annotation says it: a mapping as the dataclass, a list as the tuple."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any or (is_dataclass(kind) and isinstance(value, cast(type, kind))):
        return value
    if is_dataclass(kind):
        return build(cast(type, kind), value, where)
    if kind in SIMPLE:
        return _simple(value, (kind,), where)
    if origin in (Union, UnionType):
        kinds = tuple(of for of in inner if of is not NoneType)
        if value is None and NoneType in inner:
            return None
        return _checked(value, kinds[0], where) if len(kinds) == 1 else _simple(value, kinds, where)
    if origin is tuple:
        many = inner[-1] is Ellipsis
        listed = isinstance(value, Sequence) and not isinstance(value, str)
        if not listed or not (many or len(value) == len(inner)):
            expected = "a list" if many else f"a list of {len(inner)}"
            raise ValueError(f"{where} is {value!r}; expected {expected}")
        kinds = (inner[0],) * len(value) if many else inner
        return tuple(
            _checked(of, kind, f"{where}[{n}]")
            for n, (of, kind) in enumerate(zip(value, kinds, strict=True))
        )
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is {value!r}; expected a mapping")
    return {
        _simple(name, (str,), f"{where}: a key"): _checked(of, inner[1], f"{where}: {name}")
        for name, of in value.items()
    }


def _simple(value: Any, kinds: tuple[Any, ...], where: str) -> Any:
    """The value, if it is of one of these types; a whole number is a number."""
    if isinstance(value, (bool, str)):
        fits = type(value) in kinds
    elif isinstance(value, int):
        fits = int in kinds or float in kinds
    else:
        fits = isinstance(value, float) and float in kinds and math.isfinite(value)
    if not fits:
        expected = " or ".join(SIMPLE[kind] for kind in kinds)
        raise ValueError(f"{where} is {value!r}; expected {expected}{_hint(value)}")
    return value


def _hint(value: Any) -> str:
    """What is wrong with a number that YAML takes for text."""
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return ""
    return "; to YAML this is text: write it with a point, as 2.0e-5" if number == number else ""
