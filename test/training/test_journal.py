# SPDX-License-Identifier: Apache-2.0
"""What a run's log tells: of all steps, and of all processes."""

import pytest
from tiny_runs import break_off, log, losses, tiny_config, tiny_run, tiny_stage

from rt2_ros.training import parallel
from rt2_ros.training.data import Drawn
from rt2_ros.training.journal import Journal

pytestmark = pytest.mark.usefixtures("plain")


def test_a_line_tells_of_all_processes(tmp_path, monkeypatch):
    main, other = Journal(tmp_path, True, 2), Journal(tmp_path, False, 2)
    noted = [main._noted, other._noted]
    monkeypatch.setattr(parallel, "gathered", lambda processes, own: noted)
    drawn = [Drawn(None, ("mine", "vqa"), ()), Drawn(None, ("mine",), ())]
    main.step(7, 0.5, 1e-3, {"answer": 1.0}, drawn, 0.0, 2.0, [(2, 10), (1, 5)])
    other.step(7, 0.5, 1e-3, {"answer": 2.0, "web": 3.0}, drawn[1:] * 2, 0.0, 9.0, [(4, 25)])
    main.warn("left out: a", left_out=1)
    other.warn("left out: b", left_out=1)
    main.warn("the stage ends")
    main.write("act", 10)
    first, end, second, line = log(tmp_path)
    assert [w["warning"] for w in (first, end, second)] == [
        "left out: a", "the stage ends", "left out: b",
    ]  # fmt: skip
    assert (line["answer"], line["web"], line["left_out"]) == (1.5, 3.0, 2)
    assert (line["share/mine"], line["share/vqa"]) == (0.8, 0.2)
    assert (line["questions_per_second"], line["tokens_per_second"]) == (3.5, 20.0)
    main.write("act", 10)  # without a step there is nothing to tell
    assert len(log(tmp_path)) == 4
    with main.stage("act", {"mine": 0.9, "rare": 0.1}):
        main.step(8, 0.5, 1e-3, {"answer": 1.0}, drawn[1:], 0.0, 1.0, [(1, 1)])
        main.write("act", 11)
    assert (log(tmp_path)[-1]["share/rare"], log(tmp_path)[-1]["expected/rare"]) == (0.0, 0.1)


def test_the_last_steps_of_a_stage_are_told_and_counted_to_it(tmp_path):
    stages = (tiny_stage(name="read", steps=3), tiny_stage(steps=3))
    run = tiny_run(tiny_config(tmp_path, stages=stages, log_every=2))
    run.run()
    told = [(line["step"], line["stage"], line["pictures"]) for line in log(tmp_path)]
    assert told == [(2, "read", 8), (3, "read", 12), (4, "act", 16), (6, "act", 24)]


def test_a_run_that_goes_on_tells_what_one_tells_that_was_never_stopped(tmp_path):
    config = {"save_steps": 3, "log_every": 2}
    tiny_run(tiny_config(tmp_path / "whole", **config)).run()
    break_off(tiny_run(tiny_config(tmp_path / "broken", **config))).run()
    tiny_run(tiny_config(tmp_path / "broken", **config)).run()
    assert [*losses(tmp_path / "whole")] == [2, 3, 4, 6]
    assert losses(tmp_path / "broken") == losses(tmp_path / "whole")
