# SPDX-License-Identifier: Apache-2.0
"""How an episode went: one record, one line of JSON.

    record = EpisodeRecord(
        policy="rt2-tiny", suite="unseen-objects", cell="easy", seed=17,
        instruction="pick up the kiwi", skill="pick", object="kiwi fruit", target="",
        success=False, failure="missed grasp", steps=60, path_length=0.71, sim_seconds=12.0,
        held=2, invalid=1, latency_ms=(31.0, ...), confidence=(0.83, ...),
    )

A record is checked when it is made and when it is read, so figures are never of nonsense.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any

import numpy as np

from rt2_ros.sim.tasks import Judge, Task

FAILURES = (*Judge.FAILURES, "crashed")
# Fields that files of before them lack.
LATER = frozenset({"reached", "base", "tables", "weights", "settings", "start_minutes", "trained"})
# How the error of an episode begins that says nothing of the policy.
LOST = "its process ended with"
Key = tuple[str, str, int]  # suite, cell, seed
STRIP = re.compile(r"strips/[\w. -]+\.jpg")
PLAIN = re.compile(r"[\w. -]*")  # what suites and cells may be called: files are named by them
# What a field may be, by its annotation, and as what it is kept; NumPy's numbers are welcome.
_KINDS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "str": (str, str),
    "bool": ((bool, np.bool_), bool),
    "bool | None": (
        (bool, np.bool_, type(None)),
        lambda value: None if value is None else bool(value),
    ),
    "int": (Integral, int),
    "float": (Real, float),
    "tuple[float, ...]": ((tuple, list), lambda values: tuple(map(float, values))),
}


def cell_title(suite: str, cell: str) -> str:
    """What a cell is called: "unseen-objects/easy", or the suite's name where it has one cell."""
    return f"{suite}/{cell}" if cell else suite


@dataclass(frozen=True)
class EpisodeRecord:
    """How one episode went.

    suite, cell, seed: which episode; cell is "" where a suite has one ("seen"), else for example
        "easy" of "unseen-objects". The same three are the same table for every policy.
    skill, object, target: what was asked ("pick", "red apple", ""), by the names of the world.
    failure: "" for a success, else one of FAILURES.
    steps: actions taken or held. held: those in which the arm held, for want of a valid decision
        or because the controller refused the delta. invalid: decisions without an action.
    path_length: way of the fingertips, m. sim_seconds: duration on the simulator's clock.
    reached: whether the hand was where the task begins (over the thing, or where a push of it
        begins) and stayed; None where there is none (open, close), or nobody looked.
    latency_ms, confidence: of each decision; the policy's own time, and 0..1.
    error: one line for a crashed episode. strip: picture of it, relative to the run's folder.
    """

    policy: str
    suite: str
    cell: str
    seed: int
    instruction: str
    skill: str
    object: str
    target: str
    success: bool
    failure: str
    steps: int
    path_length: float
    sim_seconds: float
    held: int
    invalid: int
    latency_ms: tuple[float, ...]
    confidence: tuple[float, ...]
    error: str = ""
    strip: str = ""
    reached: bool | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            accepted, plain = _KINDS[str(field.type)]
            value = getattr(self, field.name)
            self._expect(field.name, isinstance(value, accepted), str(field.type))
            object.__setattr__(self, field.name, plain(value))
        crashed = self.failure == "crashed"  # perhaps before anything was asked
        named = ["policy", "suite", *([] if crashed else ["skill"])]
        if not crashed and self.skill not in Task.GRIPPER:
            named.append("object")
        for name in named:
            self._expect(name, bool(getattr(self, name)), "a name")
        for name in ("suite", "cell"):
            self._expect(name, PLAIN.fullmatch(getattr(self, name)) is not None, "a plain name")
        if self.success:
            self._expect("failure", self.failure == "", "'' for a success")
            self._expect("reached", self.reached is not False, "True for a success")
        else:
            self._expect("failure", self.failure in FAILURES, f"one of {', '.join(FAILURES)}")
        inside = not self.strip or STRIP.fullmatch(self.strip) is not None
        self._expect("strip", inside, "'' or strips/NAME.jpg, as it is shown to others")
        self._expect("error", bool(self.error) == crashed, "one line for a crash, else ''")
        self._expect("error", "\n" not in self.error, "one line")
        for name in ("seed", "steps", "path_length", "sim_seconds", "held", "invalid"):
            value = getattr(self, name)
            self._expect(name, math.isfinite(value) and value >= 0, "finite and >= 0")
        self._expect("held", self.held <= self.steps, f"at most steps = {self.steps}")
        decisions = len(self.latency_ms)
        self._expect("invalid", self.invalid <= decisions, f"at most {decisions} decisions")
        possible = all(math.isfinite(ms) and ms >= 0 for ms in self.latency_ms)
        self._expect("latency_ms", possible, "each finite and >= 0")
        self._expect("confidence", all(0.0 <= c <= 1.0 for c in self.confidence), "each in 0..1")

    @classmethod
    def crashed(
        cls, policy: str, key: Key, error: str, *, latency_ms: Sequence[float] = (),
        confidence: Sequence[float] = (), invalid: int = 0,
    ) -> EpisodeRecord:  # fmt: skip
        """One that could not be played to its end; error: why."""
        suite, cell, seed = key
        return cls(
            policy=policy, suite=suite, cell=cell, seed=seed, instruction="", skill="", object="",
            target="", success=False, failure="crashed", steps=0, path_length=0.0, sim_seconds=0.0,
            held=0, invalid=invalid, latency_ms=tuple(latency_ms), confidence=tuple(confidence),
            error=" ".join(error.split())[:300],
        )  # fmt: skip

    @property
    def lost(self) -> bool:
        """Whether it ended with its process, which says nothing of it."""
        return self.error.startswith(LOST)

    def _expect(self, name: str, condition: bool, expected: str) -> None:
        if not condition:
            value = getattr(self, name)
            raise ValueError(f"EpisodeRecord.{name} is {value!r}; expected {expected}")

    @property
    def key(self) -> Key:
        """Which episode this is."""
        return self.suite, self.cell, self.seed

    @property
    def title(self) -> str:
        """Of its cell: "unseen-objects/easy"."""
        return cell_title(self.suite, self.cell)


def checked_fields(known: Any, kind: type, where: str) -> dict[str, Any]:
    """A JSON object that has just the fields of a dataclass, to make one of; of LATER, what it has.

    Raises:
        ValueError: fields lack or are unknown; names them and `where` they were read.
    """
    names = {f.name for f in fields(kind)}
    needed = names - LATER
    if not isinstance(known, dict) or not needed <= set(known) <= names:
        found = set(known) if isinstance(known, dict) else {type(known).__name__}
        missing = ", ".join(sorted(needed - found)) or "none"
        unknown = ", ".join(sorted(found - names)) or "none"
        raise ValueError(f"{where}: {kind.__name__} lacks {missing}; unknown: {unknown}")
    return known
