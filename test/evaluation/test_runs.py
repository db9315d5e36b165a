# SPDX-License-Identifier: Apache-2.0
"""Run folders: going on after a kill, refusing what does not belong, pictures of episodes."""

import json
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from rt2_ros.evaluation.records import EpisodeRecord
from rt2_ros.evaluation.runs import CellInfo, RunFolder, RunInfo
from rt2_ros.evaluation.screen import RunScreen

FIRST = CellInfo("d1", 2, ("r1",), "2026-01-01T00:00:00+00:00")
CELLS = {"seen": FIRST, "seen/easy": replace(FIRST, tables="d2")}
INFO = RunInfo(
    "p", {"checkpoint": "a", "sizes": (1, 2)}, CELLS, 0, "in-process", "a machine"
)  # fmt: skip


def record(seed, policy="p", cell="", **changes):
    return EpisodeRecord(
        policy, "seen", cell, seed, "把香蕉拿起来", "pick", "banana", "", True, "", 9, 0.4, 2.0,
        0, 0, (3.0,), (0.5,), **changes,
    )  # fmt: skip


def test_episodes_outlive_the_folder_and_are_known_as_done(tmp_path):
    with RunFolder.create(tmp_path / "run", INFO) as run:
        assert run.done() == set()
        run.append(record(0))
        run.append(record(1, cell="easy"))
        other = RunFolder(tmp_path / "run")  # what was appended is there while it is written
        assert other.done() == {("seen", "", 0), ("seen", "easy", 1)}
    assert other.records == (record(0), record(1, cell="easy"))
    assert other.info == INFO


def test_an_unfinished_last_line_is_dropped_and_played_again(tmp_path):
    with RunFolder.create(tmp_path, INFO) as run:
        run.append(record(0))
        run.append(record(1))
    whole = (tmp_path / "episodes.jsonl").read_bytes()
    for cut in (1, 20, len(whole.splitlines()[1])):
        (tmp_path / "episodes.jsonl").write_bytes(whole[:-cut])
        assert RunFolder(tmp_path).done() == {("seen", "", 0)}
        assert (tmp_path / "episodes.jsonl").read_bytes() == whole[:-cut]  # reading cuts nothing
        with RunFolder.create(tmp_path, INFO) as run:
            assert run.done() == {("seen", "", 0)}
            run.append(record(1))
        assert (tmp_path / "episodes.jsonl").read_bytes() == whole


def test_what_an_error_says_is_printed_as_it_is(tmp_path, capsys):
    """Square brackets are no colours: "[/INST]" once ended an evaluation again and again."""
    crash = {
        "success": False,
        "failure": "crashed",
        "error": "no template for [/INST] in [enforce]",
    }
    with RunFolder.create(tmp_path / "run", INFO) as run, RunScreen(run, {record(0).key}) as screen:
        screen.show(replace(record(0), **crash))
    assert crash["error"] in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.parametrize(
    "change, words",
    [
        ({"policy": "q"}, "policy is 'p', not 'q'"),
        ({"config": {"checkpoint": "b"}}, "'checkpoint': 'b'"),
        ({"cells": {"new": FIRST, "seen": replace(FIRST, tables="d9")}}, "seen had other tables"),
        ({"seed": 7}, "seed is 0, not 7"),
        ({"mode": "ros"}, "mode is 'in-process', not 'ros'"),
        ({"machine": "another"}, "machine is 'a machine', not 'another'"),
    ],
)
def test_a_folder_of_other_settings_is_refused_by_name(tmp_path, change, words):
    RunFolder.create(tmp_path, INFO).close()
    with pytest.raises(ValueError, match="holds another run") as error:
        RunFolder.create(tmp_path, replace(INFO, **change))
    assert words in str(error.value)
    assert RunFolder(tmp_path).info == INFO


def test_more_cells_and_episodes_join_a_run(tmp_path):
    RunFolder.create(tmp_path, INFO).close()
    one, new = replace(FIRST, episodes=1), CellInfo("d3", 1, ("r2",), "2026-02-01T00:00:00+00:00")
    RunFolder.create(tmp_path, replace(INFO, cells={"seen": one, "new": new})).close()
    five = replace(FIRST, episodes=5)
    RunFolder.create(tmp_path, replace(INFO, cells={"seen": five})).close()
    assert RunFolder(tmp_path).info == replace(INFO, cells={**CELLS, "seen": five, "new": new})


def test_what_crashed_is_played_again_and_what_was_played_then_counts(tmp_path):
    crashed = EpisodeRecord.crashed("p", ("seen", "", 0), "no\nOpenGL")
    with RunFolder.create(tmp_path, INFO) as run:
        run.append(crashed)
        run.append(record(1))
    with RunFolder.create(tmp_path, INFO) as run:
        assert (run.records, run.done()) == ((crashed, record(1)), {("seen", "", 1)})
        run.append(record(0))
        with pytest.raises(ValueError, match="is in .* already"):
            run.append(crashed)
    assert RunFolder(tmp_path).records == (record(1), record(0))


def test_going_on_with_changed_code_is_noted_where_something_is_left_to_play(tmp_path):
    later = CellInfo("d1", 2, ("r2",), "2026-01-02T00:00:00+00:00")
    with RunFolder.create(tmp_path, INFO) as run:
        for seed in (0, 1):
            run.append(record(seed))
        run.append(EpisodeRecord.crashed("p", ("seen", "easy", 0), "no OpenGL"))
        run.append(record(1, cell="easy"))
    cells = {"seen": later, "seen/easy": replace(later, tables="d2")}
    RunFolder.create(tmp_path, replace(INFO, cells=cells)).close()
    told = RunFolder(tmp_path).info.cells
    assert told == {**CELLS, "seen/easy": replace(CELLS["seen/easy"], revisions=("r1", "r2"))}


def test_a_cell_lacks_what_was_asked_for_and_did_not_end(tmp_path):
    with RunFolder.create(tmp_path, INFO) as run:
        run.append(record(1))
        run.append(EpisodeRecord.crashed("p", ("seen", "easy", 0), "no OpenGL"))
        run.append(record(1, cell="easy"))
        assert [run.missing(cell) for cell in (("seen", ""), ("seen", "easy"))] == [1, 0]
        assert {cell: len(records) for cell, records in run.cells().items()} == {
            ("seen", ""): 1, ("seen", "easy"): 2,
        }  # fmt: skip
        assert run.crashed() == {("seen", "easy", 0)}


def test_what_does_not_belong_is_not_written(tmp_path):
    with RunFolder.create(tmp_path, INFO) as run:
        run.append(record(0))
        with pytest.raises(ValueError, match="is in .* already"):
            run.append(record(0))
        with pytest.raises(ValueError, match="'q'; this run is of 'p'"):
            run.append(record(1, policy="q"))
        with pytest.raises(ValueError, match="of seen/hard; this run has seen, seen/easy"):
            run.append(record(1, cell="hard"))
        with pytest.raises(ValueError, match="another process is writing"):
            RunFolder.create(tmp_path, INFO)
    with pytest.raises(ValueError, match="open for reading"):
        RunFolder(tmp_path).append(record(1))
    assert RunFolder(tmp_path).records == (record(0),)


def test_a_writer_that_was_killed_locks_nobody_out(tmp_path):
    code = (
        "import os, sys; from rt2_ros.evaluation.runs import *; "
        "run = RunFolder.create(sys.argv[1], RunFolder(sys.argv[1]).info); os.kill(os.getpid(), 9)"
    )
    RunFolder.create(tmp_path, INFO).close()
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == -9
    with RunFolder.create(tmp_path, INFO) as run:
        run.append(record(0))


def test_damage_is_named_with_file_and_line(tmp_path):
    with pytest.raises(ValueError, match="no evaluation run: it has no run.json"):
        RunFolder(tmp_path)
    with RunFolder.create(tmp_path, INFO) as run:
        run.append(record(0))
    lines = tmp_path / "episodes.jsonl"
    good = lines.read_text()
    for bad, words in (
        ("{\n", "jsonl:2: not JSON"),
        (good, "jsonl:2: episode .* is there twice"),
        (good.replace('"seed": 0', '"seed": -1'), "jsonl:2: EpisodeRecord.seed is -1"),
        (good.replace('"policy": "p"', '"policy": "q"'), "jsonl:2: .*policy is 'q'"),
        (good.replace('"cell": ""', '"cell": "hard"'), "jsonl:2: .*of seen/hard; this run has"),
    ):
        lines.write_text(good + bad)
        with pytest.raises(ValueError, match=words):
            RunFolder(tmp_path)
    known = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(known | {"mode": "guessed"}))
    with pytest.raises(ValueError, match="RunInfo.mode is 'guessed'"):
        RunFolder(tmp_path)
    del known["cells"]["seen"]["started"]
    (tmp_path / "run.json").write_text(json.dumps(known))
    with pytest.raises(ValueError, match="run.json: seen: CellInfo lacks started"):
        RunFolder(tmp_path)


def test_a_run_that_starts_here_knows_machine_and_revision():
    info = RunInfo.here("p", {}, {"seen": "d"}, 1, 0)
    (cell,) = info.cells.values()
    assert info.machine.endswith(" cores") and cell.revisions[0] and cell.tables == "d"
    assert info.mode == "in-process" and cell.started.endswith("+00:00")


def test_pictures_of_an_episode_are_named_by_it(tmp_path):
    with RunFolder.create(tmp_path, INFO) as run:
        frames = [np.zeros((64, 64, 3), np.uint8)] * 2
        name = run.save_strip(frames, ["a", "b"], ("seen", "delay 1 s", 17))
    assert name == "strips/seen-delay_1_s-000017.jpg"
    assert cv2.imread(str(tmp_path / name)).shape[1] == 2 * 160 + 4
    assert run.video_path(("seen", "", 1)) == tmp_path / "videos/seen-000001.mp4"
    assert (tmp_path / "videos").is_dir()
