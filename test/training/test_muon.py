# SPDX-License-Identifier: Apache-2.0
"""Muon in float32 takes torch's steps, and a CPU without bfloat16 is given no bfloat16."""

import pytest
import torch
from tiny_runs import tiny_config, tiny_run

from rt2_ros.models import bfloat16
from rt2_ros.training import parallel
from rt2_ros.training.muon import Float32Muon

CPU = torch.device("cpu")


def test_steps_are_those_of_torch_but_for_rounding():
    torch.manual_seed(0)
    shapes = [(24, 8), (8, 24), (16, 16)]
    ours, theirs = ([torch.nn.Parameter(torch.ones(s)) for s in shapes] for _ in range(2))
    settings = {"lr": 0.1, "weight_decay": 0.05}
    float32 = Float32Muon(ours, **settings)
    bfloat16 = torch.optim.Muon(theirs, adjust_lr_fn="match_rms_adamw", **settings)
    for _ in range(4):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        before = [a.detach().clone() for a in ours]
        float32.step()
        bfloat16.step()
        for a, b, was in zip(ours, theirs, before, strict=True):
            way = (a - was).norm()
            assert way > 0.1
            assert (a - b).norm() < 0.1 * way
            b.data.copy_(a)
    kept, known = (o.state_dict()["state"] for o in (float32, bfloat16))
    assert kept.keys() == known.keys() and kept[0].keys() == known[0].keys()


def test_a_matrix_without_a_gradient_stays():
    left = torch.nn.Parameter(torch.ones(3, 4))
    Float32Muon([left], lr=0.1).step()
    assert torch.equal(left, torch.ones(3, 4))


@pytest.mark.parametrize("has", [True, False])
def test_a_cpu_without_bfloat16_computes_in_float32(tmp_path, monkeypatch, has, capsys):
    monkeypatch.setattr(torch, "compile", lambda module: module)
    monkeypatch.setattr(bfloat16, "cpu_has_bfloat16", lambda: has)
    assert parallel.precision("bf16", CPU) == ("bf16" if has else "fp32")
    assert parallel.precision("fp32", CPU) == "fp32"
    assert parallel.precision("bf16", torch.device("cuda")) == "bf16"
    run = tiny_run(tiny_config(tmp_path, precision="bf16"))
    assert parallel.arithmetic(CPU, run.precision)._enabled is has
    assert isinstance(run.optimizers[0], Float32Muon) is not has
    assert ("this CPU has no bf16: fp32 instead" in capsys.readouterr().out) is not has
