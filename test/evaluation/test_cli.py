# SPDX-License-Identifier: Apache-2.0
"""`rt2 eval`: a run, its figures, its page; going on; bad input."""

import json

import pytest

from rt2_ros.evaluation.cli import chosen_suites, main
from rt2_ros.evaluation.runs import RunFolder
from rt2_ros.evaluation.suites import load_suite, suite_names
from rt2_ros.paths import share_dir
from rt2_ros.policies import load_policy
from rt2_ros.policies.hold import HoldPolicy


def test_the_command_writes_figures_that_others_rely_on_and_goes_on(tmp_path, capsys):
    path = tmp_path / "figures.json"
    common = ["--policy", "hold", "--out", str(tmp_path), "--seed", "5", "--json", str(path)]
    assert main([*common, "--episodes", "2"]) == 0
    figures = json.loads(path.read_text())
    assert figures["success_rate"] == 0.0 and figures["episodes"] == 2
    assert figures["failures"] == {"never moved": 2}
    assert {"low", "high"} <= set(figures) and set(figures["cells"]) == {"seen"}
    page = (tmp_path / "hold" / "report.html").read_text()
    assert "hold" in page and "never moved" in page
    before = (tmp_path / "hold" / "episodes.jsonl").read_bytes()
    assert main([*common, "--episodes", "2"]) == 0  # nothing is left to play
    assert (tmp_path / "hold" / "episodes.jsonl").read_bytes() == before
    assert "2/2" in capsys.readouterr().out
    assert main([*common, "--episodes", "1", "--suite", "emergent/symbols"]) == 0
    figures = json.loads(path.read_text())  # of what was asked for; each cell's are all there
    assert figures["episodes"] == 1 and len(figures["log"]) == 3
    assert set(figures["cells"]) == {"seen", "emergent/symbols"}


def test_several_runs_are_reported_side_by_side(tmp_path):
    for policy in ("hold", "expert"):
        arguments = ["--policy", policy, "--episodes", "2", "--out", str(tmp_path)]
        assert main(arguments) == 0
    assert len(RunFolder(tmp_path / "expert").records) == 2
    path = tmp_path / "both.json"
    runs = [str(tmp_path / "expert"), str(tmp_path / "hold")]
    assert main(["--report", *runs, "--json", str(path)]) == 0
    first, second = json.loads(path.read_text())["runs"]
    assert (first["success_rate"], second["success_rate"]) == (1.0, 0.0)
    page = (tmp_path / "expert" / "report.html").read_text()
    assert "hold" in page and "McNemar" in page


def test_films_are_made_on_request(tmp_path):
    arguments = ["--policy", "expert", "--episodes", "1", "--out", str(tmp_path), "--videos"]
    assert main(arguments) == 0
    film = tmp_path / "expert" / "videos" / "seen-000000.mp4"
    assert film.stat().st_size > 5000


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--policy", "rt3"], "rt3"),
        (["--policy", "hold", "--episodes", "0"], "at least one"),
        (["--policy", "hold", "--seed", "1000000"], "test seeds"),
        (["--policy", "hold", "--suite", "unseeen"], "no suite 'unseeen'; there are seen"),
        (["--policy", "expert", "--blind", "image"], "--blind"),
        (["--policy", "hold", "--processes", "0"], "--processes is 0"),
        (["--policy", "rt2-tiny", "--ros", "--blind", "image"], "--ros"),
        (["--policy", "hold", "--ros", "--suite", "robustness"], "robustness/noise"),
        (["--report", "nowhere"], "nowhere"),
        (["--policy", "hold", "--suite", "emergent/symbol"], "no cell 'symbol'; it has 'symbols'"),
        (["--policy", "hold", "--suite", "emergen/symbols"], "no suite 'emergen'"),
        (["--policy", "hold", "--without-plan"], "writes no plans anyway"),
        (["--policy", "expert", "--without-plan"], "the expert is no model"),
        (["--policy", "guess", "--ros"], "expert and guess"),
        (["--policy", "hold", "--questions", "0"], "at least one"),
        (["--policy", "hold", "--questions", "5", "--suite", "seen"], "nothing of how to play"),
        (["--policy", "hold", "--questions", "5", "--before", "hold"], "both policies are called"),
        (["--policy", "hold", "--before", "sweep"], "expected --questions N"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, arguments, message, capsys):
    assert main([*arguments, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1


def test_a_policy_for_another_arm_is_refused_before_anything_is_played(tmp_path, capsys):
    path = tmp_path / "xarm.yaml"
    path.write_text("type: hold\nframe: link_base\n")
    assert main(["--policy", str(path), "--out", str(tmp_path)]) == 2
    assert "frame 'link_base'; expected 'panda_link0'" in capsys.readouterr().err


def test_a_policy_that_looks_at_two_cameras_is_refused_for_there_is_one(tmp_path, capsys):
    path = tmp_path / "two.yaml"
    path.write_text(f"type: vlm\ncheckpoint: {share_dir() / 'models' / 'rt2-tiny'}\npictures: 2\n")
    for where in ([], ["--ros"]):
        assert main(["--policy", str(path), "--out", str(tmp_path), *where]) == 2
        assert "policy two: it looks at 2 pictures; expected 1" in capsys.readouterr().err
    assert not (tmp_path / "two").exists() and not (tmp_path / "two-ros").exists()


def test_a_run_of_other_settings_is_not_mixed_in(tmp_path, capsys):
    for seed, status in (("0", 0), ("7", 2)):
        arguments = ["--policy", "expert", "--episodes", "1", "--seed", seed]
        assert main([*arguments, "--out", str(tmp_path), "--name", "mine"]) == status
    assert "seed is 0, not 7" in capsys.readouterr().err


def test_more_is_played_into_the_same_run_and_a_cell_that_is_named_twice_once(tmp_path):
    arguments = ["--policy", "hold", "--out", str(tmp_path), "--suite", "emergent/symbols"]
    assert main([*arguments, "--episodes", "1"]) == 0
    more = ["--episodes", "2", "--suite", "seen", "--suite", "emergent/symbols"]
    assert main([*arguments, *more]) == 0
    run = RunFolder(tmp_path / "hold")
    assert {record.key for record in run.records} == {
        (suite, cell, seed)
        for suite, cell in (("seen", ""), ("emergent", "symbols"))
        for seed in (0, 1)
    }
    assert {cell.episodes for cell in run.info.cells.values()} == {2}


def test_other_tables_and_other_weights_are_another_run(tmp_path, monkeypatch, capsys):
    suite, model = tmp_path / "mine.yaml", tmp_path / "model"
    cell = "cells: [{name: a, objects: [banana], others: [key], blocks: %d, phrases: take it}]"
    model.mkdir()
    policy = tmp_path / "mine-policy.yaml"
    policy.write_text(f"type: hold\nframe: panda_link0\ncheckpoint: {model}\n")
    hold = load_policy("hold")
    monkeypatch.setattr(HoldPolicy, "from_config", lambda name, config: hold)
    arguments = ["--policy", str(policy), "--episodes", "1", "--out", str(tmp_path)]
    for blocks, weights, message in (
        (2, b"old", ""), (2, b"old", ""), (1, b"old", "mine/a had other tables"),
        (2, b"new", "digest"),
    ):  # fmt: skip
        suite.write_text(cell % blocks)
        (model / "model.safetensors").write_bytes(weights)
        assert main([*arguments, "--suite", str(suite)]) == (2 if message else 0)
        assert message in capsys.readouterr().err


def test_one_cell_of_a_suite(tmp_path):
    arguments = ["--policy", "hold", "--episodes", "1", "--out", str(tmp_path)]
    cells = ["--suite", "emergent/symbols", "--suite", "unseen-objects/hard"]
    assert main([*arguments, *cells]) == 0
    run = RunFolder(tmp_path / "hold")
    assert {record.key for record in run.records} == {
        ("emergent", "symbols", 0), ("unseen-objects", "hard", 0),
    }  # fmt: skip
    assert list(run.info.cells) == ["emergent/symbols", "unseen-objects/hard"]


def test_questions_are_asked_before_and_after_and_written_to_the_results(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "answers.json"
    arguments = ["--policy", "hold", "--before", "sweep", "--questions", "6"]
    assert main([*arguments, "--json", str(path), "--results"]) == 0
    before, after = json.loads(path.read_text())
    assert (before["policy"], after["policy"], after["before"]) == ("sweep", "hold", "sweep")
    assert before["questions"] == after["questions"]
    assert sum(map(len, after["outcomes"].values())) == 6
    page = (tmp_path / "docs" / "results.md").read_text()
    assert "## Web questions" in page and "| hold | 6 | 0% (0 to 39) |" in page
    assert "held-back web questions" in capsys.readouterr().out


def test_a_model_without_its_plans_is_measured_under_a_name_of_its_own(tmp_path, monkeypatch):
    from rt2_ros.policies import registry, vlm

    told = []

    class Silent:
        """Notes what the model was asked to do."""

        @staticmethod
        def from_config(name, settings):
            told.append(settings["plan"])
            policy = registry.load_policy("hold")
            policy.name = name
            return policy

    monkeypatch.setattr(vlm, "VlmPolicy", Silent)
    arguments = ["--policy", "rt2-tiny", "--episodes", "1", "--out", str(tmp_path)]
    assert main([*arguments, "--without-plan"]) == 0
    run = RunFolder(tmp_path / "rt2-tiny-without-plan")
    assert (run.info.policy, run.info.config["plan"]) == ("rt2-tiny-without-plan", "none")
    assert told == ["none"]


def test_all_suites_are_chosen_by_one_word():
    assert chosen_suites(["all"]) == [load_suite(name) for name in suite_names()]
