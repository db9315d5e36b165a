# SPDX-License-Identifier: Apache-2.0
"""What leaves a run: checkpoints to be used, and what its workers are given."""

import dataclasses
import json
import multiprocessing
import os
import pickle
import runpy
import shutil
import sys

import numpy as np
import pytest
import torch
import yaml
from tiny_runs import SOURCES, tiny_config, tiny_run, tiny_stage
from transformers import AutoModelForImageTextToText

from rt2_ros.policies import load_policy
from rt2_ros.training import checkpoint, cli, engine
from rt2_ros.training.cli import export, in_all, main
from rt2_ros.training.config import Validation, load
from rt2_ros.training.data import Mixture, loader
from rt2_ros.training.rt1 import RT1TrainingConfig


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda module: module)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A checkpoint that a run has left."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch, "compile", lambda module: module)
        return tiny_run(tiny_config(tmp_path_factory.mktemp("run"))).run()


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_a_checkpoint_is_exported_whole_or_in_half_its_size(tmp_path, finished):
    whole, half = tmp_path / "whole", tmp_path / "half"
    export(finished, whole)
    export(finished, half, half=True)
    assert not (whole / "state.pt").exists()
    for folder in (finished, whole, half):  # as any file that this process makes
        made = (folder / "config.json").stat().st_mode
        assert (folder / "model.safetensors").stat().st_mode == made
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (whole, half)]
    assert sizes[0] / sizes[1] == pytest.approx(2, rel=0.05)
    weights = [AutoModelForImageTextToText.from_pretrained(f).state_dict() for f in (whole, half)]
    for name, exact in weights[0].items():
        assert weights[1][name].dtype == torch.float16
        assert torch.equal(weights[1][name], exact.half()), name
    policy = load_policy(str(half))
    assert policy.model.dtype == torch.float32  # what it computes in is not what it was kept in


def test_a_finished_run_is_exported_without_its_model_or_data(
    tmp_path, monkeypatch, capsys, finished
):
    """Which may need more memory than the machine at hand has."""
    config = dataclasses.replace(tiny_config(tmp_path), out=str(finished.parent))
    monkeypatch.setattr(cli, "read", lambda name: (None, {}))
    monkeypatch.setattr(cli, "load", lambda name: config)
    monkeypatch.setattr(engine, "Run", None)
    assert main(["--export", str(tmp_path / "mine")]) == 0
    assert "exported to" in capsys.readouterr().out
    assert names(tmp_path / "mine") == names(finished) - {"state.pt"}

    more = dataclasses.replace(config, stages=(*config.stages, tiny_stage(name="more")))
    assert engine.finished(more) is None
    best = shutil.copytree(finished, finished.with_name("best"))
    watched = dataclasses.replace(config, validation=Validation(every=1, batches=1, patience=1))
    assert engine.finished(watched) == best and engine.finished(config) == finished
    shutil.rmtree(best)
    assert engine.finished(dataclasses.replace(config, out=str(tmp_path))) is None


def test_weights_that_float16_cannot_hold_leave_what_was_there_whole(tmp_path):
    run = tiny_run(tiny_config(tmp_path / "run"))
    half = tmp_path / "half"
    export(run.run(), half, half=True)
    before = {path.name: path.read_bytes() for path in half.iterdir()}
    with torch.no_grad():
        run.recipe.objective.model.lm_head.weight[0, 0] = 1e6
    run.save()
    with pytest.raises(ValueError, match="does not fit float16"):
        export(run.checkpoint, half, half=True)
    assert {path.name: path.read_bytes() for path in half.iterdir()} == before
    assert names(tmp_path) == {"run", "half"}


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "before there was a list"])
def test_an_export_takes_an_older_ones_place_and_leaves_what_else_is_there(
    tmp_path, monkeypatch, finished, listed
):
    shipped = tmp_path / "shipped"
    export(finished, shipped)
    written = names(shipped)
    record = json.loads((shipped / "training.json").read_text())
    assert set(record["files"]) == written == names(finished) - {"state.pt"}
    gone = "merges.txt" if listed else "plan_form.json"
    (shipped / gone).write_text("of the older model")
    record["files"].append(gone)
    if not listed:
        del record["files"]
    (shipped / "training.json").write_text(json.dumps(record))
    own = {"README.md", "LICENSE.txt", "metrics.json", "adapter.safetensors", "chat.model"}
    for name in own:
        (shipped / name).write_text("a person's")
    (shipped / "films").mkdir()
    (shipped / "films" / "pick.mp4").write_bytes(b"film")
    with monkeypatch.context() as patched:  # a disk that is full
        patched.setattr(checkpoint.os, "replace", lambda *_: (_ for _ in ()).throw(OSError))
        with pytest.raises(OSError):
            export(finished, shipped)
    assert names(shipped) > written
    export(finished, shipped, half=True)
    assert names(shipped) == {*written, *own, "films"}
    assert all((shipped / name).read_text() == "a person's" for name in own)
    assert (shipped / "films" / "pick.mp4").read_bytes() == b"film"


def test_what_is_no_exported_checkpoint_is_left_alone(tmp_path, finished):
    """A folder of other things, one file, the checkpoint itself, and that of another run."""
    other, run, file = tmp_path / "other", tmp_path / "run", tmp_path / "file"
    other.mkdir()
    (other / "package.json").write_text("{}")
    shutil.copytree(finished, run)
    file.write_text("notes")
    for target in (other, file, finished, run):
        with pytest.raises(ValueError, match="expected a new folder or an exported checkpoint's"):
            export(finished, target)
    assert (finished / "state.pt").exists() and (run / "state.pt").exists()
    assert names(other) == {"package.json"} and file.read_text() == "notes"


def test_neighbours_of_an_export_stay(tmp_path, monkeypatch, finished):
    mine, old, new = (tmp_path / name for name in ("mine", "mine.old", "mine.new"))
    for folder in (old, new):
        export(finished, folder)
        (folder / "README.md").write_text(folder.name)
    for _ in range(2):  # first without an older one, of which mine.old might be taken for
        export(finished, mine)
        assert names(tmp_path) == {"mine", "mine.old", "mine.new"}
        assert "README.md" not in names(mine)
        assert all((folder / "README.md").read_text() == folder.name for folder in (old, new))
    (mine / "README.md").write_text("mine")
    replace = os.replace

    def killed(source, target):
        if target == mine:  # between the two renames
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint.os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            export(finished, mine)
    assert not mine.exists()
    export(finished, mine)
    assert names(tmp_path) == {"mine", "mine.old", "mine.new"}
    assert (mine / "README.md").read_text() == "mine"


def test_workers_get_what_packs_a_batch_without_the_model(tmp_path):
    run = tiny_run(tiny_config(tmp_path / "run"))
    sent = pickle.dumps(run.recipe.pack)
    assert len(sent) < 2e6 < sum(p.nbytes for p in run.recipe.objective.parameters())
    frame = SOURCES["colour"](np.random.default_rng(0))
    assert torch.equal(pickle.loads(sent)([frame]).ids, run.recipe.pack([frame]).ids)


def test_an_rt1_is_not_exported_in_half(tmp_path, capsys):
    assert main(["--config", "rt1-small", "--export", str(tmp_path), "--half"]) == 2
    assert "--half: an RT-1 is small" in capsys.readouterr().err


def test_workers_that_are_not_forked_make_the_same_batches(tmp_path, monkeypatch):
    """As after a GPU was used, which forked workers would inherit."""
    pack = tiny_run(tiny_config(tmp_path)).recipe.pack
    mixture = Mixture(SOURCES, {"colour": 0.5, "talk": 0.5}, pack, batch_size=2, seed=5)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    batches = loader(mixture, workers=1)
    for number in range(2):
        made, expected = next(batches), mixture.draw(number)
        assert made.sources == expected.sources
        assert torch.equal(made.batch.pixels, expected.batch.pixels)
        assert torch.equal(made.batch.ids, expected.batch.ids)


def test_workers_end_before_those_of_the_next_stage_begin(tmp_path, monkeypatch):
    """Forked from a process that still had them, these would say that they cannot end those."""
    alive = []

    def counted(mixture, workers):
        batches = loader(mixture, workers)
        alive.append(len(multiprocessing.active_children()))
        return batches

    monkeypatch.setattr(engine, "loader", counted)
    stages = tuple(tiny_stage(name=name, steps=2) for name in ("read", "act", "more"))
    tiny_run(tiny_config(tmp_path, stages=stages, workers=1)).run()
    assert alive == [1, 1, 1]


@pytest.mark.parametrize(
    ("config", "name"), [("rt2-tiny", "minutes"), ("rt1-small", "cpu_minutes")]
)
def test_a_run_of_other_minutes_keeps_its_stages_shares(config, name):
    stages = (RT1TrainingConfig.load if config == "rt1-small" else load)(config).stages
    shorter = in_all(stages, name, 8.0)
    before, after = ([getattr(stage, name) for stage in found] for found in (stages, shorter))
    assert sum(after) == pytest.approx(8.0)
    assert [a / b for a, b in zip(after, before, strict=True)] == pytest.approx(
        [8.0 / sum(before)] * len(before)
    )
    assert [dataclasses.replace(s, **{name: 1.0}) for s in stages] == [
        dataclasses.replace(s, **{name: 1.0}) for s in shorter
    ]


@pytest.mark.parametrize("config", ["rt2-tiny", "rt1-small"])
def test_minutes_that_cannot_be_are_refused(tmp_path, capsys, config):
    assert main(["--config", config, "--out", str(tmp_path), "--minutes", "0"]) == 2
    assert "--minutes 0: expected above 0" in capsys.readouterr().err


def test_a_stage_of_steps_has_no_minutes(tmp_path):
    stages = tiny_config(tmp_path).stages
    with pytest.raises(ValueError, match=f"--minutes: stage {stages[0].name} lasts steps"):
        in_all(stages, "minutes", 8.0)


def test_what_torchrun_starts_tells_of_bad_input_in_one_line(tmp_path, monkeypatch, capsys):
    stage = {"name": "act", "steps": 1, "learning_rate": 1e-3, "shares": {"mine": 1}}
    sources = {"mine": {"type": "lerobot", "path": str(tmp_path / "nowhere")}}
    config = {"type": "tiny", "out": str(tmp_path / "out"), "sources": sources, "stages": [stage]}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setattr(sys, "argv", ["cli", "--config", str(tmp_path / "mine.yaml")])
    monkeypatch.delitem(sys.modules, "rt2_ros.training.cli")
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("rt2_ros.training.cli", run_name="__main__")
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rt2: ") and "nowhere" in line
