# SPDX-License-Identifier: Apache-2.0
"""Checkpoints in Hugging Face layout with what belongs to them, written so that a kill leaves the
old one whole.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, ProcessorMixin

from rt2_ros.actions import ActionSpace, PlanForm
from rt2_ros.actions.space import FILE_NAME, STATE_NAMES
from rt2_ros.data import digests, split
from rt2_ros.models.rt1 import RT1
from rt2_ros.provenance import git_revision

STATE_FILE = "state.pt"
RECORD_FILE = "training.json"
# What is kept of each.
SITTING = ("config", "split", "held_out", "revision", "steps", "pictures")


def save(
    folder: Path, model: PreTrainedModel | RT1, processor: ProcessorMixin | None,
    space: ActionSpace,
    record: dict[str, Any],
    state: dict[str, Any] | None = None,
    weights: Mapping[str, torch.Tensor] | None = None,
    form: PlanForm | None = None,
) -> None:  # fmt: skip
    """Write model, processor, action_space.json, training.json, plan_form.json where plans have a
    form, and, for a resumable run, state.pt.

    The folder appears whole or not at all: everything goes to a neighbour folder first.
    weights: the model's, where they are not those that it holds (parts of it lie elsewhere).
    """
    with replacing(folder) as new:
        if weights is None:
            model.save_pretrained(new)
        else:
            assert isinstance(model, PreTrainedModel)
            model.save_pretrained(new, state_dict=dict(weights))
        if processor is not None:
            processor.save_pretrained(new)
        space.save(new / FILE_NAME)
        if form is not None:
            form.save(new)
        record = {**record, **code()}
        (new / RECORD_FILE).write_text(json.dumps(record, indent=1) + "\n")
        if state is not None:
            torch.save(state, new / STATE_FILE)


@cache
def code() -> dict[str, Any]:
    """What code makes a model: what it holds out, and its revision. Read once, when a run begins:
    a commit or a change of a suite meanwhile is not of this process.
    """
    return {
        "split": split.digest(), "held_out": digests.held_out(), "revision": git_revision(),
    }  # fmt: skip


@contextlib.contextmanager
def replacing(folder: Path, aside: str = "{}") -> Iterator[Path]:
    """A new neighbour folder that takes a folder's place when all is in it.

    A kill leaves the old one whole, or where `recover` finds it; so does an error. What the
    neighbours NAME.new and NAME.old held is lost.

    aside: NAME, with the folder's for {}.
    """
    new, old = (folder.with_name(aside.format(folder.name) + end) for end in (".new", ".old"))
    recover(folder, aside)
    for path in (new, old):
        shutil.rmtree(path, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    for path in new.glob("*.safetensors"):  # which that library writes for nobody else to read
        path.chmod(new.stat().st_mode & 0o666)
    if folder.exists():
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def sittings(folder: Path | None, config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What made the checkpoint in a folder, if there is one, before a run with `config` goes on
    with it.

    Settings of each sitting, what it held out and its revision, oldest first, with the steps and
    pictures at its end. The last one is left out where this run is the same sitting, broken off.
    """
    own = {"config": json.loads(json.dumps(config)), **code()}
    if folder is None or not (folder / RECORD_FILE).exists():
        return []
    record = json.loads((folder / RECORD_FILE).read_text())
    last = {key: record[key] for key in SITTING if key in record}
    same = all(last.get(key) == value for key, value in own.items())
    return [*record.get("sittings", []), *([] if same else [last])]


def check_spaces(folder: Path, main: ActionSpace, spaces: Mapping[str, ActionSpace]) -> None:
    """Refuse to go on with a checkpoint if the bins of its robots meant something else: ranges that
    are a dataset's quantiles change with each episode that is added.

    main: the one that the checkpoint speaks; spaces: those of all robot sources, by their names.

    Raises:
        ValueError: naming the source, what differs, and the way out.
    """
    file, record = folder / FILE_NAME, folder / RECORD_FILE
    known = json.loads(record.read_text()).get("action_spaces", {})
    pairs = [(f"{file}", ActionSpace.load(file), main)]
    for name in spaces.keys() & known.keys():
        where = f"{record}, action_spaces, {name}"
        pairs.append((where, ActionSpace(**known[name]), spaces[name]))
    for where, before, now in pairs:
        if different := _different(before, now):
            raise ValueError(
                f"{where}: {'; '.join(different)}: what was learned would mean other actions. To "
                "go on copy it to a file beside the data and set the source's `space` to that "
                "(and `tolerance: .inf` where its ranges were quantiles); or choose another --out"
            )


def _different(before: ActionSpace, now: ActionSpace) -> list[str]:
    """What is not the same but for rounding; a folder's name may be another."""
    found = []
    for name in (f.name for f in fields(before) if f.name != "name"):
        old, new = getattr(before, name), getattr(now, name)
        if name == "state_names" and new == STATE_NAMES:
            continue  # older checkpoints call what a policy is told as their dataset does
        ranges = name.endswith(("low", "high")) and len(old) == len(new)
        if not (np.allclose(old, new, rtol=1e-6, atol=1e-9) if ranges else old == new):
            found.append(f"{name} was {old} and is {new}")
    return found


def changed(folder: Path, config: Mapping[str, Any], done: int) -> list[str]:
    """The settings by which what a checkpoint has learned was learned otherwise.

    done: how many stages; one that goes on goes on as it is configured now.
    """
    before = json.loads((folder / RECORD_FILE).read_text())["config"]
    own = json.loads(json.dumps(config))
    for settings in (before, own):
        settings["stages"] = settings["stages"][:done]
    return [name for name in ("stages", "sources", "model") if before.get(name) != own.get(name)]


def recover(folder: Path, aside: str = "{}") -> None:
    """Put the previous folder back where a kill fell between the two renames of `replacing`."""
    old = folder.with_name(aside.format(folder.name) + ".old")
    if not folder.exists() and old.exists():
        os.replace(old, folder)
