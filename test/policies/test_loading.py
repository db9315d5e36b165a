# SPDX-License-Identifier: Apache-2.0
"""A checkpoint is in memory once: read in place where its numbers are kept as they are."""

import json
import shutil
import subprocess
import sys
from unittest.mock import MagicMock

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from huggingface_hub.errors import (
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)

from rt2_ros.data.robot import SPACE
from rt2_ros.models.tiny import build_model, build_processor
from rt2_ros.policies import Observation, load_policy
from rt2_ros.policies.checkpoint import _file

MEASURE = """
import json, sys
import numpy as np
from rt2_ros.policies import Observation, load_policy

def held(kind):  # MB: VmHWM, all of it at most; RssAnon, without what is mapped from files
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith(kind)).split()[1]) / 1024

seen = Observation({"scene": np.zeros((192, 192, 3), np.uint8)}, "pick up the apple", np.zeros(4))
load_policy("rt2-tiny").infer(seen)  # what is there without any large checkpoint
before, own = held("VmHWM"), held("RssAnon")
decision = load_policy(sys.argv[1], dtype="bfloat16", plan="none").infer(seen)
print(json.dumps({"grown": held("VmHWM") - before, "reason": decision.reason, "own": own}))
"""


def checkpoint(folder, seed):
    processor = build_processor()
    build_model(processor, hidden=96, text_layers=1, seed=seed).save_pretrained(folder)
    processor.save_pretrained(folder)
    SPACE.save(folder / "action_space.json")
    return folder


@pytest.mark.parametrize(
    ("failure", "offline", "found"),
    [
        (LocalEntryNotFoundError("connection lost\nmore"), True, None),
        (LocalEntryNotFoundError("connection lost\nmore"), False, OSError),
        (RemoteEntryNotFoundError("404", response=MagicMock()), False, None),
        (RepositoryNotFoundError("connection lost", response=MagicMock()), False, OSError),
        (ConnectionError("connection lost"), False, OSError),
    ],
)
def test_a_connection_that_is_lost_is_no_file_that_is_not_there(
    monkeypatch, failure, offline, found
):
    def download(*_, **__):
        raise failure

    for place in (huggingface_hub, transformers.utils.hub):
        monkeypatch.setattr(place, "hf_hub_download", download)
        monkeypatch.setattr(place, "is_offline_mode", lambda: offline)
    if found is None:
        assert _file("own/model", "plan_form.json") is None
        return
    with pytest.raises(OSError, match="'own/model' is .* its plan_form.json was .*: connection l"):
        _file("own/model", "plan_form.json")
    if isinstance(failure, LocalEntryNotFoundError):  # when it was asked before, there was none
        absent = huggingface_hub._CACHED_NO_EXIST
        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: absent)
        assert _file("own/model", "plan_form.json") is None


def test_all_of_a_hubs_checkpoint_is_of_one_commit(tmp_path, monkeypatch):
    """New weights with old ranges would scale every motion wrongly."""
    cached = checkpoint(tmp_path / "models--own--model" / "snapshots" / "0123abc", 0)
    asked = []

    def download(repo, name, revision=None):
        asked.append((name, revision))
        if (cached / name).is_file():
            return str(cached / name)
        raise RemoteEntryNotFoundError("no such file", response=MagicMock())

    def cached_file(cls, name, *given, revision=None, **more):
        asked.append((cls.__name__, revision))
        return kept[cls](str(cached), *given, **more)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    kept = {
        cls: cls.from_pretrained
        for cls in (transformers.AutoProcessor, transformers.AutoModelForImageTextToText)
    }
    for cls in kept:
        monkeypatch.setattr(cls, "from_pretrained", classmethod(cached_file))
    assert load_policy("rt2-tiny", checkpoint="own/model", look_every=1).action_space == SPACE
    (first, newest), *others = asked
    assert (first, newest) == ("action_space.json", None) and len(others) == 5
    assert {revision for _, revision in others} == {"0123abc"}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_weights_that_are_written_over_while_in_use_decide_nothing(tmp_path, dtype):
    seen = Observation({"scene": np.zeros((192, 192, 3), np.uint8)}, "hold", np.zeros(4))
    other = checkpoint(tmp_path / "other", 1) / "model.safetensors"
    folder = checkpoint(tmp_path / "own", 0)
    policy = load_policy(str(folder), dtype=dtype)
    before = policy.infer(seen).text
    shutil.copy(other, tmp_path / "new")
    (tmp_path / "new").replace(folder / "model.safetensors")  # another file: nothing changes
    assert policy.infer(seen).text == before
    (folder / "model.safetensors").unlink()
    assert policy.infer(seen).text == before

    folder = checkpoint(tmp_path / "own", 0)
    policy = load_policy(str(folder), dtype=dtype)
    weight = policy.model.get_input_embeddings().weight
    was = weight.clone()
    shutil.copyfile(other, folder / "model.safetensors")
    if dtype == "bfloat16":  # not those of the file
        assert policy.infer(seen).text and torch.equal(weight, was)
        return
    assert not torch.equal(weight, was)
    for ask in (policy.infer, policy.infer_by_generate, lambda _: policy.answer(seen.image, "?")):
        with pytest.raises(RuntimeError, match="safetensors was written to while its weights"):
            ask(seen)
    assert load_policy(str(folder)).infer(seen).action is not None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_large_checkpoint_takes_little_more_than_its_weights(tmp_path):
    processor = build_processor()
    model = build_model(processor, hidden=768, vision_layers=8, text_layers=8)
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    SPACE.save(tmp_path / "action_space.json")
    weights = (tmp_path / "model.safetensors").stat().st_size / 2**20
    assert weights > 230
    del model
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, timeout=200
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["reason"] == ""
    assert found["grown"] < 1.2 * weights
    # The default model and everything that it needs. PyTorch's libraries come to it, 140 to 270 MB:
    # any process shares them, and as much of them counts as the page cache maps at once.
    assert found["own"] < 450
