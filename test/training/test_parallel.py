# SPDX-License-Identifier: Apache-2.0
"""Two processes learn what one does, by DDP and by FSDP, broken off and gone on with too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import break_off, log, losses, vlm_checkpoint, vlm_config, vlm_run, vlm_stage

TOGETHER = Path(__file__).with_name("together.py")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder of runs by two processes, and beside them `alone`, the same by one."""
    folder = tmp_path_factory.mktemp("runs")
    vlm_checkpoint(folder / "model")

    def alone(name):
        # One process with two batches to a step reads what two read, and does not forget to divide.
        stages = (vlm_stage(steps=6, batch_size=2, accumulate=2),)
        return vlm_run(vlm_config(folder / name, folder / "model", stages=stages, save_steps=3))

    for parallel in ("ddp", "fsdp"):
        break_off(alone(f"{parallel}/joined")).run()
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
        str(TOGETHER), str(folder),
    ]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    (folder / "said").write_text(done.stdout)
    for name in ("alone", "ddp/left", "fsdp/left"):
        alone(name).run()
    return folder


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_learn_what_one_does(runs, parallel):
    together, alone = (
        load_file(runs / name / "checkpoint" / "model.safetensors")
        for name in (f"{parallel}/whole", "alone")
    )
    start = load_file(runs / "model" / "model.safetensors")
    assert together.keys() == alone.keys() == start.keys()
    moved = max(float((alone[name] - start[name]).abs().max()) for name in start)
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, atol=moved * 0.02, rtol=0)
    # The gradient's norm, over all parts of all processes, is the same at every step.
    for step, (_, norm) in losses(runs / "alone").items():
        assert losses(runs / parallel / "whole")[step][1] == pytest.approx(norm, rel=1e-3)
    # And the log tells of the pictures of both.
    shares = [
        [line.get("share/colour", 0.0) for line in log(runs / of) if "answer" in line]
        for of in (f"{parallel}/whole", "alone")
    ]
    assert shares[0] == shares[1] and len(set(shares[0])) > 1


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_processes_go_on_as_if_they_had_not_been_stopped(runs, parallel):
    whole, broken = (losses(runs / parallel / name) for name in ("whole", "broken"))
    assert sorted(broken) == [1, 2, 3, 4, 5, 6]
    assert broken == whole


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_look_at_what_is_kept_out_changes_nothing(runs, parallel):
    whole, watched = (losses(runs / parallel / name) for name in ("whole", "watched"))
    assert sum("validation" in line for line in log(runs / parallel / "watched")) == 3
    assert watched == whole


@pytest.mark.parametrize("name", ["ddp/joined", "fsdp/joined", "ddp/left", "fsdp/left"])
def test_a_run_goes_on_with_another_number_of_processes(runs, name):
    """One process made three of six steps and two the others, or two made them and then one."""
    weights, alone = (
        load_file(runs / of / "checkpoint" / "model.safetensors") for of in (name, "alone")
    )
    start = load_file(runs / "model" / "model.safetensors")
    moved = max(float((alone[key] - start[key]).abs().max()) for key in start)
    for key, value in alone.items():
        torch.testing.assert_close(weights[key], value, atol=moved * 0.02, rtol=0)
    went = losses(runs / name)
    for step, (_, norm) in losses(runs / "alone").items():
        assert went[step][1] == pytest.approx(norm, rel=1e-3)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_weights_that_no_step_uses_stay_as_they_are(runs, parallel):
    """And hinder neither a step nor, without a state of the optimizer, going on."""
    weights = load_file(runs / parallel / "spare" / "checkpoint" / "model.safetensors")
    assert weights["spare"].tolist() == [1, 1, 1]
    whole, spare = (losses(runs / parallel / name) for name in ("whole", "spare"))
    assert sorted(spare) == sorted(whole)
    for step, found in whole.items():
        assert spare[step] == pytest.approx(found, rel=1e-4)


def test_one_of_two_processes_exports(runs):
    assert (runs / "said").read_text().count("exported to") == 1
    shipped, finished = runs / "shipped", runs / "exported" / "checkpoint"
    assert [path.name for path in runs.iterdir() if "shipped" in path.name] == ["shipped"]
    assert {p.name for p in shipped.iterdir()} == {p.name for p in finished.iterdir()} - {
        "state.pt"
    }
    weights, own = (load_file(folder / "model.safetensors") for folder in (shipped, finished))
    assert all(torch.equal(weights[name], own[name]) for name in own)
