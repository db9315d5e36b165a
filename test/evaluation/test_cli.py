# SPDX-License-Identifier: Apache-2.0
"""`rt2 eval`: a run, its figures, its page; going on; bad input."""

import json

import pytest

from rt2_ros.evaluation.cli import main
from rt2_ros.evaluation.runs import RunFolder


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
    assert not (tmp_path / "xarm").exists()


def test_a_run_of_other_settings_is_not_mixed_in(tmp_path, capsys):
    for seed, status in (("0", 0), ("7", 2)):
        arguments = ["--policy", "expert", "--episodes", "1", "--seed", seed]
        assert main([*arguments, "--out", str(tmp_path), "--name", "mine"]) == status
    assert "seed is 0, not 7" in capsys.readouterr().err
