# SPDX-License-Identifier: Apache-2.0
"""Records of episodes: what they refuse, and NumPy's numbers in them."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from rt2_ros.evaluation.records import FAILURES, EpisodeRecord, checked_fields

GOOD = dict(
    policy="p", suite="unseen-objects", cell="easy", seed=3, instruction="pick up the kiwi",
    skill="pick", object="kiwi fruit", target="", success=True, failure="", steps=40,
    path_length=0.5, sim_seconds=8.0, held=2, invalid=1, latency_ms=(30.0, 31.0),
    confidence=(0.5, 1.0),
)  # fmt: skip


def test_numbers_of_numpy_become_plain_ones_that_json_takes():
    record = EpisodeRecord(
        **GOOD
        | {"success": np.bool_(True), "steps": np.int64(40), "path_length": np.float32(0.5)}
        | {"latency_ms": [np.float32(30.0), 31]}
    )
    assert record == EpisodeRecord(**GOOD)
    again = EpisodeRecord(**json.loads(json.dumps(asdict(record))))
    assert again == record and again.latency_ms == (30.0, 31.0)
    assert record.key == ("unseen-objects", "easy", 3)


@pytest.mark.parametrize(
    "field, value",
    [
        ("policy", ""), ("suite", ""), ("suite", "a\nb"), ("cell", "a/b"), ("skill", ""),
        ("object", ""), ("seed", -1), ("seed", 1.5), ("seed", "1"), ("success", 1),
        ("failure", "timeout"), ("steps", -1), ("path_length", float("nan")),
        ("sim_seconds", float("inf")), ("held", 41), ("invalid", 3), ("latency_ms", (-1.0,)),
        ("latency_ms", 30.0), ("confidence", (1.1,)), ("error", "crashed"), ("reached", 1),
    ],
)  # fmt: skip
def test_a_field_that_cannot_be_is_named_with_its_value(field, value):
    with pytest.raises(ValueError, match=f"EpisodeRecord.{field} is ") as error:
        EpisodeRecord(**GOOD | {field: value})
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("failure", ["", "exploded", "crashed"])  # a crash needs an error
def test_a_failure_has_a_known_class(failure):
    with pytest.raises(ValueError, match="failure|error"):
        EpisodeRecord(**GOOD | {"success": False, "failure": failure})


def test_who_did_a_task_reached_its_thing_and_old_lines_do_not_say_so():
    assert EpisodeRecord(**GOOD).reached is None
    good = EpisodeRecord(**GOOD)
    old = {name: value for name, value in asdict(good).items() if name != "reached"}
    assert EpisodeRecord(**checked_fields(old, EpisodeRecord, "an old line")) == good
    assert EpisodeRecord(**GOOD | {"reached": np.bool_(True)}).reached is True
    with pytest.raises(ValueError, match="reached is False; expected True for a success"):
        EpisodeRecord(**GOOD | {"reached": False})


def test_every_class_of_failure_is_taken_and_a_crash_may_know_no_task():
    for failure in FAILURES[:-1]:
        EpisodeRecord(**GOOD | {"success": False, "failure": failure})
    crash = {"failure": "crashed", "error": "RuntimeError: lost", "skill": "", "object": ""}
    assert EpisodeRecord(**GOOD | {"success": False} | crash).error == "RuntimeError: lost"


@pytest.mark.parametrize(
    "known, message",
    [({"policy": "p"}, "lacks cell"), (GOOD, "lacks error, strip;"),
     (asdict(EpisodeRecord(**GOOD)) | {"a": 1}, "unknown: a"),
     ([1], "unknown: list")],
)  # fmt: skip
def test_json_of_other_fields_is_refused_by_name(known, message):
    with pytest.raises(ValueError, match=f"line 4: EpisodeRecord.*{message}"):
        checked_fields(known, EpisodeRecord, "line 4")
