# SPDX-License-Identifier: Apache-2.0
"""The bench of large models, with a small one on a CPU in a GPU's place."""

import json

import pytest
import torch

from rt2_ros.bench import gpu, gpu_report, performance, shapes


@pytest.fixture
def measured(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "BATCHES", (1, 8))
    monkeypatch.setattr(gpu, "PICTURES", 2)
    file = tmp_path / "gpu.json"
    device = torch.device("cpu")
    gpu.measure([shapes.tiny(96)], device, 1, 0, file, torch.float32)
    return json.loads(file.read_text())


def test_it_measures_a_shape_and_writes_what_docs_take_in(measured, tmp_path, capsys):
    (figures,) = measured["shapes"]
    assert gpu.right(figures), figures["errors"]
    assert figures["same_tokens"] and figures["same_answers"] == 1 and figures["gap"] == 0
    assert figures["answers_in_float32"] > 1  # or it would say nothing
    assert figures["stages"].keys() == figures["floor"].keys() == {"vision", "prefill", "decode"}
    assert figures["batch"].keys() == figures["batch_floor"].keys() == {"1", "8"}
    assert figures["floor_ms"] == pytest.approx(sum(figures["floor"].values()), abs=0.01)
    assert figures["lost"] == {"everything": "no static caches"}
    gpu_report.show(measured)
    assert "the same tokens as `generate` in float32" in " ".join(capsys.readouterr().out.split())
    note = next(iter(gpu_report.notes({**measured, "repeats": 20, "generated": 6})))
    assert "; 20 decisions of each kind, 6 by `generate`, in turn." in note
    assert measured["generated"] == 1
    titles = [title for title, _, rows in gpu_report.tables(measured) if rows]
    assert titles[:2] == ["One decision", "Where the time goes"]


def test_what_fails_is_reported_and_the_rest_is_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "BATCHES", (1, 8))
    monkeypatch.setattr(gpu, "PICTURES", 2)

    def fail(*_):
        raise RuntimeError("CUDA error: an illegal memory access")

    monkeypatch.setattr(gpu, "measured", fail)
    some = [shapes.tiny(96), shapes.tiny(96)]
    result = gpu.measure(some, torch.device("cpu"), 1, 0, None, torch.float32)
    for figures in result["shapes"]:
        assert figures["errors"].keys() == {"floors"}
        assert not gpu.right(figures)
        assert "ours_ms" in figures and figures["same_tokens"]
    assert any("floors failed: RuntimeError: CUDA" in line for line in gpu_report.notes(result))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shapes", "gpt-9"], "--shapes names 'gpt-9'; expected some of paligemma-3b"),
        (["--repeats", "0"], "--repeats is 0"),
        ([], "no GPU that torch can use"),
    ],
)
def test_bad_arguments_and_a_machine_without_a_gpu_are_named(arguments, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=message):
        gpu.main(arguments)


def test_a_wrong_token_is_far_from_the_best_one(monkeypatch):
    bench = gpu._Bench(shapes.tiny(96), torch.device("cpu"), torch.float32, 1, 0)
    monkeypatch.setattr(gpu, "PICTURES", 1)
    bench.build()
    (answer,) = bench._ours(1, 0)
    assert bench._gap(bench.given[0], answer.tokens) == 0
    wrong = list(answer.tokens)
    wrong[3] = 1000 + (wrong[3] - 1000 + 128) % 256
    assert bench._gap(bench.given[0], wrong) > gpu.NEAR


def test_the_plot_has_a_panel_for_the_gpu(measured, tmp_path):
    result = {
        "stages": {"vision": 1.0}, "floor": {"vision": 0.5}, "batch": {"1": 2.0, "8": 1.0},
        "gpu": measured,
    }  # fmt: skip
    performance.plot(result, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
