# SPDX-License-Identifier: Apache-2.0
"""The runner, with real tables in real processes: many at once, resumable, and hard to end."""

import os
import signal

import numpy as np
import pytest

from rt2_ros.evaluation import runner
from rt2_ros.evaluation.disturb import Disturbance
from rt2_ros.evaluation.runner import (
    Episode,
    ExpertPlayer,
    GuessPlayer,
    PolicyFailed,
    PolicyPlayer,
    episodes,
    play,
)
from rt2_ros.evaluation.runs import RunFolder, RunInfo
from rt2_ros.evaluation.suites import Case, Cell, load_suite
from rt2_ros.evaluation.tables import Begin, TableProcess, guess
from rt2_ros.policies import Decision, load_policy

SEEN = load_suite("seen")


def played(path, player, wanted, **options):
    titles = {episode.cell.title: "" for episode in wanted}
    with RunFolder.create(path, RunInfo.here(player.name, {}, titles, 4, 0)) as run:
        play(wanted, player, run, **{"processes": 2, "slots": 2, **options})
    return {record.key: record for record in RunFolder(path).records}


def without_time(records):
    kept = ("seed", "instruction", "success", "failure", "steps", "path_length", "held", "invalid")
    return {key: [getattr(record, name) for name in kept] for key, record in records.items()}


def test_the_expert_does_the_tasks_of_three_kinds_of_cells(tmp_path):
    wanted = [
        *episodes([SEEN], 2, 0),
        *(Episode(load_suite("emergent").cell(name), 0) for name in ("symbols", "people")),
        Episode(load_suite("unseen-environments").cell("hard"), 1),
        Episode(load_suite("robustness").cell("dropped-frames"), 3),
    ]
    records = played(tmp_path / "run", ExpertPlayer(), wanted)
    assert set(records) == {episode.key for episode in wanted}
    assert all(record.success and record.reached for record in records.values()), records
    assert records["emergent", "symbols", 0].skill == "near"
    assert records["seen", "", 0].held == 1  # while the fingers close
    dropped = records["robustness", "dropped-frames", 3]
    assert 2 < dropped.steps - len(dropped.latency_ms) <= dropped.held
    assert all(0.1 < record.path_length < 3 for record in records.values())


def test_who_guesses_does_as_well_as_chance_and_the_gripper_as_told(tmp_path):
    symbols, picks = (
        load_suite("emergent").cell("symbols"),
        load_suite("emergent").cell("reasoning"),
    )
    wanted = [Episode(symbols, seed) for seed in range(8)]
    wanted += [Episode(picks, seed) for seed in range(10, 18)]
    wanted.append(Episode(load_suite("gripper").cells[0], 0))
    records = played(tmp_path / "run", GuessPlayer(), wanted)
    assert records["gripper", "", 0].success
    done = [r.success for key, r in records.items() if key[1]]
    assert 0 < sum(done) < len(done)
    # It knows the object, and all cards are as far from it as the right one.
    assert sum(bool(r.reached) for key, r in records.items() if key[1] == "symbols") == 8
    for seed in range(100):
        scenario = symbols.scenario(seed)
        task = guess(scenario, np.random.default_rng(seed))
        assert task.object == scenario.task.object and task.kind == scenario.task.kind
        assert task.target in [p.name for p in scenario.layout if p.kind == "card"]


def test_the_same_seeds_give_the_same_episodes_however_they_are_shared_out(tmp_path):
    random = PolicyPlayer(load_policy("random"))
    wanted = episodes([SEEN], 4, 10)
    one = played(tmp_path / "one", random, wanted, processes=1, slots=1)
    many = played(tmp_path / "many", random, wanted, processes=2, slots=3)
    assert without_time(one) == without_time(many)
    assert len({record.path_length for record in one.values()}) == 4


class Stops(ExpertPlayer):
    """Fails after some decisions, as a server that dies does."""

    def __init__(self, after):
        self.left = after

    def decide(self, seen):
        self.left -= 1
        if self.left < 0:
            raise ConnectionError("the server is gone")
        return super().decide(seen)


def test_a_policy_that_fails_ends_the_run_and_what_was_finished_stays(tmp_path):
    wanted = episodes([SEEN], 4, 0)
    with pytest.raises(PolicyFailed, match="expert raised ConnectionError: the server is gone"):
        played(tmp_path / "run", Stops(14), wanted, processes=1, slots=1)
    kept = RunFolder(tmp_path / "run").records
    assert 0 < len(kept) < 4
    counted = Stops(10_000)
    records = played(tmp_path / "run", counted, wanted, processes=1, slots=1)
    assert len(records) == 4
    played_again = 10_000 - counted.left
    assert played_again == sum(len(r.latency_ms) for r in records.values()) - sum(
        len(r.latency_ms) for r in kept
    )
    whole = played(tmp_path / "whole", ExpertPlayer(), wanted, processes=1, slots=1)
    assert without_time(records) == without_time(whole)


def broken_cell():
    """A cell that no file could give: its thing has no picture, so it cannot be laid."""
    case = Case(("banana",), ("take it",), blocks=(1, 1))
    object.__setattr__(case, "objects", ("bananas",))
    return Cell("seen", "bad", (case,), Disturbance())


def test_one_crashed_episode_is_recorded_and_the_others_go_on(tmp_path):
    bad = broken_cell()
    wanted = [Episode(SEEN.cells[0], 0), Episode(bad, 0), Episode(SEEN.cells[0], 1)]
    records = played(tmp_path / "run", ExpertPlayer(), wanted, processes=1)
    crashed = records["seen", "bad", 0]
    assert (crashed.failure, crashed.success) == ("crashed", False)
    assert "banana" in crashed.error
    assert records["seen", "", 0].success and records["seen", "", 1].success


def test_where_every_episode_crashes_the_run_ends_and_says_why(tmp_path):
    bad = broken_cell()
    with pytest.raises(RuntimeError, match="every episode crashes: .*banana"):
        played(tmp_path / "run", ExpertPlayer(), [Episode(bad, seed) for seed in range(20)])
    assert not RunFolder(tmp_path / "run").done()  # all of them are to be played again


def test_what_always_crashes_does_not_keep_others_from_being_played(tmp_path):
    broken = [Episode(broken_cell(), seed) for seed in range(7)]
    wanted = [*broken, Episode(SEEN.cells[0], 0)]
    first = [wanted[-1], *broken]
    assert len(played(tmp_path / "run", ExpertPlayer(), first, processes=1, slots=1)) == 8
    more = [*wanted, Episode(SEEN.cells[0], 1)]
    for _ in range(2):  # to the end, and again where nothing else is left
        records = played(tmp_path / "run", ExpertPlayer(), more, processes=1, slots=1)
        assert len(records) == 9 and records["seen", "", 1].success
        assert sum(record.failure == "crashed" for record in records.values()) == 7


def test_more_tables_than_a_policy_can_keep_apart_are_refused(tmp_path):
    with pytest.raises(ValueError, match="processes: 200 of 6 tables, expected at most 1024"):
        played(tmp_path, ExpertPlayer(), episodes([SEEN], 1, 0), processes=200, slots=6)


def test_two_files_of_one_name_are_not_mixed(tmp_path):
    path = tmp_path / "seen.yaml"
    path.write_text("cells: [{objects: [banana], blocks: 1, phrases: take it}]")
    with pytest.raises(ValueError, match=f"{path} and .*seen.yaml both have seen; expected"):
        episodes([SEEN, load_suite(str(path))], 1, 0)


class KillsTables(ExpertPlayer):
    """Kills a process of tables once, in mid-episode, as a lack of memory does."""

    def __init__(self, killed, at=4):
        self.killed, self.decided, self.at = killed, 0, at

    def decide(self, seen):
        self.decided += 1
        if self.decided == self.at:
            os.kill(self.killed[0]._process.pid, signal.SIGKILL)
        return super().decide(seen)


# With the last, more episodes are lost than may crash before any has ended.
@pytest.mark.parametrize(("at", "hopeless"), [(4, 6), (2, 2)])
def test_a_table_process_that_dies_costs_its_own_episodes_only(tmp_path, monkeypatch, at, hopeless):
    started = []
    start = TableProcess.__init__

    def remember(self, *arguments):
        start(self, *arguments)
        started.append(self)

    monkeypatch.setattr(TableProcess, "__init__", remember)
    monkeypatch.setattr(runner, "HOPELESS", hopeless)
    wanted = episodes([SEEN], 4, 0)
    records = played(tmp_path / "run", KillsTables(started, at), wanted, processes=1, slots=2)
    assert 2 <= len(records) <= 3 and len(started) == 2
    assert all(record.success for record in records.values())
    told = (tmp_path / "run" / "episodes.jsonl").read_text()  # what is lost is told, and no figure
    assert told.count("its process ended with signal 9") == 4 - len(records)


def test_a_process_that_dies_while_it_sends_is_gone_as_any_other(tmp_path):
    tables = TableProcess(6, 480)  # its pictures do not fit into a pipe
    try:
        cell = SEEN.cells[0]
        tables.send([(slot, Begin(cell, slot, "")) for slot in range(6)])
        assert tables._connection.poll(60)  # it has begun to send
        os.kill(tables._process.pid, signal.SIGKILL)
        tables._process.join()
        with pytest.raises(EOFError):
            tables.receive()
    finally:
        tables.close()


def test_an_invalid_policy_moves_nothing_and_its_failure_leaves_a_strip(tmp_path):
    class Invalid(ExpertPlayer):
        def decide(self, seen):
            assert all(s.image.shape == (192, 192, 3) for _, s in seen)
            return [Decision.invalid("nothing") for _ in seen]

    records = played(tmp_path / "run", Invalid(), episodes([SEEN], 1, 4))
    record = records["seen", "", 4]
    assert (record.success, record.failure, record.reached) == (False, "never moved", False)
    assert record.invalid == record.held == record.steps == 40
    assert record.path_length < 0.01 and record.confidence == ()
    assert (tmp_path / "run" / record.strip).stat().st_size > 1000


def test_a_slow_policy_is_late_and_the_arm_still_arrives_or_holds(tmp_path):
    suite = load_suite("robustness")
    wanted = [Episode(suite.cell(f"delay-{s}s"), 0) for s in ("0.5", "0.75", "1")]
    records = played(tmp_path / "run", ExpertPlayer(), wanted)
    assert records["robustness", "delay-0.5s", 0].success
    assert records["robustness", "delay-0.75s", 0].path_length > 0.05
    late = records["robustness", "delay-1s", 0]  # beyond the controller's time-to-live
    assert late.failure == "limit hit" and late.held == late.steps and late.path_length < 0.01


def test_only_test_seeds_are_played():
    with pytest.raises(ValueError, match="seeds 99999 to 100000"):
        episodes([SEEN], 2, 99_999)
    assert [e.seed for e in episodes([SEEN], 3, 5)] == [5, 6, 7]
    assert np.all([e.cell.title == "seen" for e in episodes([SEEN], 3, 5)])
