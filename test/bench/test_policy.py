# SPDX-License-Identifier: Apache-2.0
import json
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rt2_ros.bench import policy
from rt2_ros.paths import config_path
from rt2_ros.policies import Decision, Observation


def test_it_measures_the_default_model_and_writes_figures_and_a_page(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(policy, "BATCHES", (1, 8))
    monkeypatch.setattr(policy, "IMAGE_SIDES", (96, 192))
    monkeypatch.setattr(policy, "PROMPTS", (16,))
    file = tmp_path / "policy.json"
    arguments = ["--repeats", "4", "--threads", "1", "--json", str(file), "--docs", str(tmp_path)]
    assert policy.main(arguments) == 0
    found = json.loads(file.read_text())
    assert found["same_tokens"] is True
    assert found["stages"].keys() == {"prepare", "vision", "prefill", "decode"}
    assert found["floor"].keys() == {"vision", "prefill", "decode"}
    assert found["floor_ratio"] == pytest.approx(
        found["ours_ms"]["p50"] / sum(found["floor"].values()), abs=0.02
    )
    assert found["forwards"]["ours"] < found["forwards"]["no_guesses"]
    assert found["dtype"] == "float32" and found["peak_memory_mb"] > 0
    assert found["numbers"].keys() - {"int8"} == {"float32", "bfloat16"}
    first = found["numbers"]["float32"]
    assert (first["times"], first["same"]) == (1.0, 1.0)
    assert found["batch"].keys() == {"1", "8"}
    assert found["costs"]["image"].keys() == {"96", "192"}
    page = (tmp_path / "performance.md").read_text()
    assert "the same tokens" in page and "The larger shapes were not measured" in page
    assert f"| rt2_ros | {found['ours_ms']['p50']:.1f} ms |" in page
    assert (tmp_path / "performance.png").read_bytes().startswith(b"\x89PNG")
    assert "OpenVLA 7B" in capsys.readouterr().out
    found |= {"floor": {}, "floor_ratio": None}  # of a model whose patches are not known
    policy.performance.write(found, tmp_path)
    assert "floor of this machine" in page
    assert "floor of this machine" not in (tmp_path / "performance.md").read_text()


@pytest.mark.parametrize("other", [[5, 6, 2], [5, 7, 2]])
def test_tokens_are_compared_and_not_what_they_read_as(monkeypatch, other):
    clock = [0.0]

    def decide(seconds, tokens):
        def infer(_):
            clock[0] += seconds
            return Decision.invalid("none", text="0 1", tokens=tokens)

        return infer

    fake = SimpleNamespace(
        name="fake", forwards=0, model=torch.nn.Linear(1, 1), infer=decide(2, [5, 6, 2]),
        infer_without_guesses=decide(4, other), infer_by_generate=decide(8, [5, 6, 2]),
    )  # fmt: skip
    fake.model.device, fake.model.dtype = torch.device("meta"), torch.float32
    seen = Observation({"scene": np.zeros((4, 4, 3), np.uint8)}, "stop")
    monkeypatch.setattr(policy, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(policy, "episode", lambda *_: [seen] * 6)
    monkeypatch.setattr(policy, "_floor", lambda *_: ({}, policy.Machine("none", 1, 1)))
    monkeypatch.setattr(policy, "batches", lambda *_: {})
    found = policy.measure(fake, 3, 0)
    assert found["same_tokens"] == (other == [5, 6, 2])
    assert (found["speedup_vs_generate"], found["speedup_no_guesses"]) == (4, 2)
    assert found["ours_ms"] == {"p50": 2000, "p99": 2000}


def test_other_numbers_are_measured_on_as_many_threads(monkeypatch):
    before, threads = torch.get_num_threads(), []
    monkeypatch.setattr(policy, "measure", lambda *_: {"same_tokens": True})
    monkeypatch.setattr(policy, "floors", lambda _: {})
    monkeypatch.setattr(policy, "numbers", lambda *_: threads.append(torch.get_num_threads()))
    monkeypatch.setattr(policy.performance, "show", lambda _: None)
    try:
        assert policy.main(["--threads", "3"]) == 0
    finally:
        torch.set_num_threads(before)
    assert threads == [3]


def test_numbers_are_called_what_they_are_and_memory_is_told_last(tmp_path, monkeypatch):
    file = tmp_path / "half.yaml"
    settings = config_path("policies", "rt2-tiny.yaml").read_text()
    file.write_text(f"{settings}\ndtype: bfloat16\n")
    before, told = torch.get_num_threads(), []

    def numbers(policies, *_):
        told.append({name: policy.kind_of(one.model) for name, one in policies.items()})
        told.append(torch.get_num_threads())

    monkeypatch.setattr(policy, "measure", lambda *_: {"same_tokens": True})
    monkeypatch.setattr(policy, "floors", lambda _: {})
    monkeypatch.setattr(policy, "numbers", numbers)
    monkeypatch.setattr(policy, "peak_memory", lambda _: told.append("memory") or 1.0)
    monkeypatch.setattr(policy.performance, "show", lambda _: None)
    monkeypatch.setattr(policy.os, "sched_getaffinity", lambda _: {0, 2, 5})
    try:
        assert policy.main(["--policy", str(file)]) == 0
    finally:
        torch.set_num_threads(before)
    kinds = {"bfloat16": "bfloat16"} | ({"int8": "int8"} if find_spec("torchao") else {})
    assert told == [kinds, 3, "memory"]


def test_figures_of_a_gpu_stay_in_the_docs(tmp_path):
    given, docs = tmp_path / "measured.json", tmp_path / "docs"
    given.write_text('{"device": "H200"}')
    assert policy.gpu_figures(None, None) is policy.gpu_figures(None, docs) is None
    assert policy.gpu_figures(given, docs) == {"device": "H200"}
    given.unlink()
    assert policy.gpu_figures(None, docs) == {"device": "H200"}
    with pytest.raises(FileNotFoundError, match="measured.json"):
        policy.gpu_figures(given, docs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--repeats", "3"], "--repeats is 3; expected 4 or more"),
        (["--bandwidth", "100"], "--bandwidth and --tflops go together"),
        (["--policy", "hold"], "type vlm is measured"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        policy.main(arguments)


def test_floors_of_a_machine_that_is_given():
    machine = policy.Machine("given", 2e12, 1e15)
    found = policy.floors({"given": machine})["paligemma-3b"]["given"]
    # By hand: vision 0.41 + 0.21, prefill 1.98 + 1.17, and seven times 1.98 to read the rest.
    assert found["floor_ms"] == pytest.approx(17.7, abs=0.1)
    assert found["floor_guessed_ms"] == pytest.approx(3.77 + 2 * 2.0, abs=0.1)
