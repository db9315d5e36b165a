# SPDX-License-Identifier: Apache-2.0
"""An answer's text becomes exactly one valid action, or an explicit invalid result with the reason.

    "0 127 140 118 127 127 127 255"        -> Parsed(action=Action(...), bins=[0 127 ...])
    "Plan: apple. Action: 0 127 140 ..."   -> the same, plan "apple"
    "0 127 140 118 127 127 127"            -> Parsed(action=None, reason="7 integers, expected 8")

The language is `[Plan: <text without a colon> Action:] <integers>`, the integers in plain decimal
with white space between. Nothing is rounded, completed, or taken for the nearest valid thing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rt2_ros.actions.prompts import ACTION, PLAN
from rt2_ros.actions.space import Action, ActionSpace

_INTEGER = re.compile(r"0|[1-9][0-9]{0,2}")


@dataclass(frozen=True)
class Parsed:
    """One valid action, or none and why not.

    bins: (8,) uint8, given just where `action` is; plan: as written, without its full stop;
    reason: empty where valid.
    """

    action: Action | None
    bins: NDArray[np.uint8] | None
    plan: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        if (self.action is None) != (self.bins is None) or (self.action is None) != bool(
            self.reason
        ):
            raise ValueError("Parsed: expected an action and its bins, or a reason and neither")

    @property
    def valid(self) -> bool:
        """Whether there is an action."""
        return self.action is not None


def parse(text: str, space: ActionSpace) -> Parsed:
    """Read a whole answer in the terms of a space (OpenVLA's has no terminate: 7 integers)."""
    plan, rest, reason = _split_plan(text)
    if reason:
        return Parsed(None, None, plan, reason)
    words = rest.split()
    if not words:
        return Parsed(None, None, plan, "no integers" if plan else "empty answer")
    values = []
    for word in words:
        if not _INTEGER.fullmatch(word) or int(word) > 255:
            return Parsed(None, None, plan, f"{_short(word)} is not an integer in 0..255")
        values.append(int(word))
    allowed = space.allowed_bins()
    if len(values) != len(allowed):
        return Parsed(None, None, plan, f"{len(values)} integers, expected {len(allowed)}")
    for name, value, choices in zip(space.written, values, allowed, strict=True):
        if value not in choices:
            reason = f"{name} is {value}, expected {choices[0]}..{choices[-1]}"
            return Parsed(None, None, plan, reason)
    missing = len(space.names) - len(space.written)  # OpenVLA never says that it is done
    bins = np.array([0] * missing + values, dtype=np.uint8)
    bins.flags.writeable = False
    return Parsed(space.from_bins(bins), bins, plan)


def _split_plan(text: str) -> tuple[str, str, str]:
    """The plan, what follows it, and why that is not to be had."""
    text = text.strip()
    if not text.startswith(PLAN):
        return "", text, f"'{ACTION}' without '{PLAN}' before it" if ACTION in text else ""
    plan, *rest = text[len(PLAN) :].split(ACTION)
    if len(rest) != 1:
        return _tidied(plan), "", f"'{ACTION}' {len(rest)} times after '{PLAN}', expected once"
    if ":" in plan:
        return _tidied(plan), "", f"a colon in the plan {_short(plan.strip())}"
    return _tidied(plan), rest[0], ""


def _tidied(plan: str) -> str:
    return " ".join(plan.split()).removesuffix(".").rstrip()


def _short(text: str, limit: int = 40) -> str:
    return repr(text if len(text) <= limit else text[:limit] + "...")
