# SPDX-License-Identifier: Apache-2.0
"""The page of results: rows are replaced by key, policies compared on the same episodes alone."""

import json
from dataclasses import replace

import pytest

from rt2_ros.evaluation import paper
from rt2_ros.evaluation.metrics import Difference, Rate, newcombe
from rt2_ros.evaluation.page import p_value, points, render, update_results
from rt2_ros.evaluation.questions import Answers
from rt2_ros.evaluation.records import LOST, EpisodeRecord
from rt2_ros.evaluation.results import Ablation, Arm, CellResult, Results
from rt2_ros.evaluation.runs import CellInfo, RunFolder, RunInfo


def run_of(
    folder, policy, outcomes, instruction="pick up the key", first=0, mode="in-process",
    revisions=("r1",), started="2026-01-01T10:00:00+00:00", lacks=0, tables="", weights="",
    **settings,
):  # fmt: skip
    """outcomes: (suite, cell) -> "0110"; lacks: how many more were asked for."""
    cells = {
        "/".join(filter(None, cell)): CellInfo(tables, len(bits) + lacks, revisions, started)
        for cell, bits in outcomes.items()
    }
    info = RunInfo(policy, {"digest": weights, **settings}, cells, first, mode, "a machine")
    with RunFolder.create(folder, info) as run:
        for (suite, cell), bits in outcomes.items():
            for seed, bit in enumerate(bits, first):
                failure = "" if bit == "1" else "timeout" if seed % 2 else "missed grasp"
                run.append(
                    EpisodeRecord(
                        policy, suite, cell, seed, instruction, "pick", "key", "", bit == "1",
                        failure, 9, 0.4, 2.0, 0, 0, (), (),
                    )
                )  # fmt: skip
    return run


def lines(path, start):
    return [line for line in path.read_text().splitlines() if line.startswith(start)]


SEEN, EASY = ("seen", ""), ("unseen-objects", "easy")


def test_what_a_policy_did_with_other_weights_is_left_out(tmp_path):
    page = tmp_path / "results.md"
    answered = Answers("p", {"where": "10"}, "same", 0, "", "r1", "2026-01-01", "one")
    update_results(page, [run_of(tmp_path / "a", "p", {SEEN: "11", EASY: "11"}, weights="one")])
    update_results(page, [run_of(tmp_path / "q", "q", {SEEN: "10"}, weights="three")], [answered])
    update_results(page, [run_of(tmp_path / "b", "p", {EASY: "10"}, weights="one")])
    assert "| seen |  | 100% (34 to 100) | 50% (9 to 91) |" in page.read_text()
    update_results(page, [run_of(tmp_path / "c", "p", {EASY: "00"}, weights="two")])
    told = page.read_text()
    assert "| seen |  |  | 50% (9 to 91) |" in told  # q's alone
    assert "| unseen-objects | easy | 0% (0 to 66) |  |" in told
    assert not lines(page, "| p | 2 |")  # nor answers
    update_results(page, answers=[replace(answered, outcomes={"where": "00"}, weights="two")])
    assert lines(page, "| p | 2 | 0%")


def test_so_is_what_it_did_with_other_settings(tmp_path):
    page = tmp_path / "results.md"
    update_results(page, [run_of(tmp_path / "a", "p", {SEEN: "11"}, smoothing=6.0, device="cpu")])
    update_results(page, [run_of(tmp_path / "b", "p", {EASY: "10"}, smoothing=6.0, device="cuda")])
    assert lines(page, "| p | seen |")
    update_results(page, [run_of(tmp_path / "c", "p", {EASY: "10"}, smoothing=2.0, device="cpu")])
    assert not lines(page, "| p | seen |") and lines(page, "| p | unseen-objects |")


def test_what_was_played_on_tables_of_yesterday_is_not_taken(tmp_path):
    page, present = tmp_path / "results.md", {"seen": "new", "unseen-objects/easy": "new"}
    update_results(page, [run_of(tmp_path / "a", "q", {SEEN: "10"}, tables="new")])
    old = run_of(tmp_path / "b", "p", {SEEN: "11", EASY: "11"}, tables="old")
    update_results(page, [old], present=present)
    assert lines(page, "| q | seen |") and not lines(page, "| p |")


def test_an_episode_that_was_lost_with_its_process_is_to_be_played(tmp_path):
    page = tmp_path / "results.md"
    info = run_of(tmp_path / "a", "p", {SEEN: "11"}, lacks=1).info
    for error, missing in ((f"{LOST} signal 9", 1), ("ValueError: physics", 0)):
        with RunFolder.create(tmp_path / "a", info) as run:
            run.append(EpisodeRecord.crashed("p", (*SEEN, 2), error))
            update_results(page, [run])
            assert run.missing(SEEN) == missing
            assert bool(lines(page, "| p | seen |  | 67%")) is not bool(missing)


@pytest.mark.parametrize(
    "other", ["p (ros)", "p-language-blind", "p-without-plan-image-blind", "pq"]
)
def test_so_is_what_these_did_in_another_way(tmp_path, other):
    page, name = tmp_path / "results.md", other.removesuffix(" (ros)")
    mode = "in-process" if name == other else "ros"
    update_results(page, [run_of(tmp_path / "a", "p", {SEEN: "11"}, weights="one")])
    update_results(page, [run_of(tmp_path / "b", name, {SEEN: "10"}, mode=mode, weights="one")])
    assert lines(page, f"| {other} | seen |")
    update_results(page, [run_of(tmp_path / "c", "p", {EASY: "00"}, weights="two")])
    assert bool(lines(page, f"| {other} | seen |")) is (other == "pq")


def test_who_was_measured_first_stays_first(tmp_path):
    page = tmp_path / "results.md"
    update_results(page, [run_of(tmp_path / "a", "p", {SEEN: "11"}, weights="one")])
    update_results(page, [run_of(tmp_path / "b", "q", {SEEN: "10"})])
    update_results(page, [run_of(tmp_path / "c", "p", {SEEN: "01"}, weights="two")])
    assert lines(page, "| suite | cell | p | q |") and "p and another policy" in page.read_text()


def test_a_row_for_each_policy_and_cell_replaced_by_a_newer_run(tmp_path):
    page = tmp_path / "docs" / "results.md"
    update_results(page, [run_of(tmp_path / "a", "p", {EASY: "1100", SEEN: "1111"})])
    update_results(page, [run_of(tmp_path / "b", "q", {SEEN: "0000"})])
    later = {"revisions": ("r2", "r3"), "started": "2026-02-01T00:00:00+00:00"}
    update_results(page, [run_of(tmp_path / "c", "p", {SEEN: "01"}, first=4, **later)])
    details = page.read_text().partition("## Every measurement")[2].splitlines()
    assert details[7:] == [
        "| p | seen |  | 50% | 9% to 91% | 2 |  | 4 to 5 | 1 missed grasp | r2, r3 | 2026-02-01 |",
        "| q | seen |  | 0% | 0% to 49% | 4 |  | 0 to 3 | 2 missed grasp, 2 timeout | r1 "
        "| 2026-01-01 |",
        "| p | unseen-objects | easy | 50% | 15% to 85% | 4 |  | 0 to 3 "
        "| 1 missed grasp, 1 timeout | r1 | 2026-01-01 |",
    ]
    assert lines(page, "| seen |  | 50%") == ["| seen |  | 50% (9 to 91) | 0% (0 to 49) |"]
    (easy,) = lines(page, "| unseen-objects | easy | 5")
    assert easy == "| unseen-objects | easy | 50% (15 to 85) |  |"
    assert "never by hand" in page.read_text()
    known = json.loads(page.with_suffix(".json").read_text())["cells"]
    assert [(r["policy"], r["suite"], r["outcomes"]) for r in known] == [
        ("p", "unseen-objects", "1100"), ("p", "seen", "01"), ("q", "seen", "0000"),
    ]  # fmt: skip


def test_a_cell_that_was_not_played_to_its_end_replaces_nothing(tmp_path):
    page = tmp_path / "results.md"
    update_results(page, [run_of(tmp_path / "a", "p", {SEEN: "10", EASY: "11"})])
    before = page.read_text()
    update_results(page, [run_of(tmp_path / "b", "p", {SEEN: "111"}, lacks=1)])
    assert page.read_text() == before
    update_results(page, [run_of(tmp_path / "c", "p", {SEEN: "1111"})])
    assert lines(page, "| seen |  | 100%") and lines(page, "| unseen-objects | easy | 100%")


def test_the_same_run_again_changes_nothing(tmp_path):
    page = tmp_path / "results.md"
    run = run_of(tmp_path / "a", "p", {SEEN: "10", EASY: "11"})
    update_results(page, [run])
    before = page.read_text(), page.with_suffix(".json").read_text()
    update_results(page, [RunFolder(tmp_path / "a")])
    assert (page.read_text(), page.with_suffix(".json").read_text()) == before


def test_policies_are_compared_on_the_same_episodes_alone(tmp_path):
    page = tmp_path / "results.md"
    runs = [
        run_of(tmp_path / "p", "p", {SEEN: "111111110", EASY: "1111"}),
        run_of(tmp_path / "q", "q", {SEEN: "001000001", EASY: "1111"}),
        run_of(tmp_path / "r", "r", {SEEN: "0000"}),  # the first four
        run_of(tmp_path / "s", "s", {SEEN: "000000000"}, instruction="lift the key"),
    ]
    update_results(page, runs)
    compared = page.read_text().partition("## Compared")[2].partition("## ")[0].splitlines()
    assert compared[-3:] == [
        "| seen |  | +7 −1, p = 0.07 | +4 −0 of 4, p = 0.125 |  |",
        "| unseen-objects | easy | +0 −0, p = 1 |  |  |", "",
    ]  # fmt: skip
    assert "p and another policy" in compared[2]


def test_what_was_done_on_other_tables_is_left_out(tmp_path):
    page = tmp_path / "results.md"
    update_results(page, [run_of(tmp_path / "p", "p", {SEEN: "11", EASY: "11"}, tables="1")])
    update_results(page, [run_of(tmp_path / "q", "q", {SEEN: "00"}, tables="1")])
    assert "| seen |  | +2 −0" in page.read_text()
    update_results(page, [run_of(tmp_path / "r", "q", {SEEN: "00"}, tables="2")])
    assert not lines(page, "| p | seen |") and lines(page, "| p | unseen-objects |")
    assert lines(page, "| q | seen |") and "+2 −0" not in page.read_text()


def test_results_that_cannot_be_shown_are_not_written(tmp_path):
    page = tmp_path / "results.md"
    before = Answers("start", {"what": "1"}, "these", 0, "", "r1", "2026-01-01")
    after = replace(before, policy="co", questions="others")
    arm = Arm("co", "start", {"web": 1.0}, True, 1, 1, (), after)
    with pytest.raises(ValueError, match="were not asked the same questions"):
        update_results(page, ablation=Ablation(1.0, 0, "a machine", before, (arm,)))
    assert not page.exists() and not page.with_suffix(".json").exists()


def test_a_crash_counts_as_a_failure_in_a_comparison(tmp_path):
    page = tmp_path / "results.md"
    runs = [run_of(tmp_path / "p", "p", {SEEN: "111"}), run_of(tmp_path / "q", "q", {SEEN: "1"})]
    with RunFolder.create(tmp_path / "q", runs[1].info) as run:
        crash = dict(success=False, failure="crashed", error="lost", instruction="")
        run.append(replace(run.records[0], seed=1, **crash))
        run.append(replace(run.records[0], seed=2))
    update_results(page, [runs[0], run])
    assert "| seen |  | +1 −0, p = 1 |" in page.read_text()
    known = json.loads(page.with_suffix(".json").read_text())["cells"]
    assert known[1]["episodes"][4:8] == "----" and len(known[1]["episodes"]) == 12


def test_the_gap_needs_seen_and_all_that_is_unseen(tmp_path):
    page = tmp_path / "results.md"
    unseen = {cell: "1" if cell == EASY else "00" for cell in paper.UNSEEN}
    runs = [
        run_of(tmp_path / "p", "p", {SEEN: "1" * 10, **unseen}),
        run_of(tmp_path / "q", "q", {SEEN: "1", EASY: "1"}),
        run_of(tmp_path / "r", "r", unseen),
    ]
    update_results(page, runs)
    gaps = page.read_text().partition("## Generalisation gap")[2].partition("## ")[0]
    assert gaps.splitlines()[-2] == f"| p | 100% | 9% | {points(newcombe(10, 10, 1, 11))} |"
    assert "| q |" not in gaps and "| r |" not in gaps


def test_the_node_graph_is_measured_apart(tmp_path):
    page = tmp_path / "results.md"
    update_results(page, [run_of(tmp_path / "a", "p", {SEEN: "1"})])
    update_results(page, [run_of(tmp_path / "b", "p", {SEEN: "1"}, mode="ros")])
    assert len(lines(page, "| p | seen |")) == len(lines(page, "| p (ros) | seen |")) == 1


def test_the_papers_figures_are_there_and_say_what_they_are():
    page = render(Results())
    assert "| unseen-objects | hard | 43 | 62 | 76 |" in page
    assert "| unseen | average | 32 | 62 | 62 |" in page
    assert "real robots, other tasks: not comparable in absolute terms" in page
    for section in ("Compared", "Generalisation", "Web questions", "Ablation"):
        assert f"## {section}" not in page


START = Answers("start", {"where": "1111", "what": "10"}, "same", 0, "", "r1", "2026-01-01")
AFTER = replace(START, policy="co", outcomes={"where": "0111", "what": "11"}, before="start")


def cell(suite, name, outcomes):
    digests = "0000" * len(outcomes)
    return CellResult("co", suite, name, outcomes, digests, "0 to 9", {}, "r1", "2026-01-01")


def test_answers_stand_beside_cells_and_tell_what_is_kept(tmp_path):
    page = tmp_path / "results.md"
    update_results(page, [run_of(tmp_path / "a", "p", {SEEN: "10"})])
    update_results(page, answers=[START, replace(AFTER, outcomes={"where": "0000", "what": "00"})])
    update_results(page, answers=[AFTER])  # newer ones of the same policy
    update_results(page, [run_of(tmp_path / "b", "q", {SEEN: "11"})])
    told = page.read_text().partition("## Web questions")[2].partition("## ")[0].splitlines()
    head, line, start, co = [row for row in told if row.startswith("|")]
    assert head == "| policy | questions | right | where | what | kept of | share kept |"
    assert line == "|---|---|---|---|---|---|---|"
    assert start == "| start | 6 | 83% (44 to 97) | 100% (51 to 100) | 50% (9 to 91) |  |  |"
    # 5 of 6 before and after, one lost and one won: 1, times exp(1.96 sqrt(2 / 25)) either way.
    assert co.endswith("| 75% (30 to 95) | 100% (34 to 100) | start | 100 (57 to 174) |")
    assert lines(page, "| p | seen |") and lines(page, "| q | seen |")


def test_answers_to_other_questions_are_not_compared(tmp_path):
    page = tmp_path / "results.md"
    update_results(page, answers=[START, replace(AFTER, questions="others")])
    (row,) = lines(page, "| co |")
    assert row.endswith("| start |  |")


def test_an_ablation_is_a_table_of_groups_and_replaced_whole(tmp_path):
    page = tmp_path / "results.md"
    unseen = {each: "0" for each in paper.UNSEEN} | {EASY: "10"}
    cells = (
        cell("seen", "", "11110"), *(cell(*each, done) for each, done in unseen.items()),
        cell("emergent", "symbols", "01"), cell("emergent", "reasoning", "0001"),
    )  # fmt: skip
    fewer = (cell("seen", "", "01000"), *cells[1:])
    none = replace(AFTER, policy="scratch", outcomes={"where": "0000", "what": "00"})
    arms = (
        Arm("scratch", "", {"robot": 1.0}, True, 70, 1120, fewer, none, "", "r0"),
        Arm(
            "co", "start", {"web": 0.4, "robot": 0.6}, False, 60, 960, cells, AFTER, "", "r0-dirty"
        ),
    )
    update_results(page, ablation=Ablation(30, 0, "a machine", START, arms))
    update_results(page, ablation=Ablation(20, 0, "a machine", START, arms))
    update_results(page, [run_of(tmp_path / "a", "p", {SEEN: "10"})])
    told = page.read_text().partition("## Ablation")[2].partition("## ")[0]
    assert "Measured on 2026-01-01 at r1, trained at r0, r0-dirty, by the recipe" in told
    assert "co also lacks what plans are learned by" in told and "scratch also" not in told
    assert "20 minutes each on\na machine, seed 0" in told and "30" not in told.splitlines()[2]
    assert "![Ablation](ablation.png)" in told
    rows = [line for line in told.splitlines() if line.startswith("| ")]
    # No mean of a part of emergent.
    assert rows[-2:] == [
        "| model | seen | unseen | emergent | reasoning |",
        "| scratch | +3 −0, p = 0.25 | +0 −0, p = 1 |  | +0 −0, p = 1 |",
    ]
    assert rows[1:-2] == [
        "| start |  |  |  |  |  |  | 83% (44 to 97) of 6 |  |  |",
        "| scratch | random weights | robot 1 | 20% (4 to 62) of 5 | 14% (3 to 51) of 7 "
        "|  | 25% (5 to 70) of 4 | 0% (0 to 39) of 6 | 0 (0 to 47) | 70 |",
        "| co | start | web 0.4, robot 0.6, no plans | 80% (38 to 96) of 5 | 14% (3 to 51) of 7 "
        "|  | 25% (5 to 70) of 4 | 83% (44 to 97) of 6 | 100 (57 to 174) | 60 |",
    ]
    looked = [replace(arm, cells=tuple(replace(c, reached="10") for c in cells)) for arm in arms]
    update_results(page, ablation=Ablation(20, 0, "a machine", START, (arms[0], looked[1])))
    told = page.read_text().partition("the right thing was reached:")[2].partition("## ")[0]
    rows = [line for line in told.splitlines() if line.startswith("| ")]
    assert rows[:3] == [
        "| model | seen | unseen | emergent | reasoning |", "| scratch |  |  |  |  |",
        "| co | 50% (9 to 91) of 2 | 50% (25 to 75) of 12 |  | 50% (9 to 91) of 2 |",
    ]  # fmt: skip


def test_an_ablation_on_tables_of_before_says_so(tmp_path):
    page = tmp_path / "results.md"
    played = replace(cell("seen", "", "1"), tables="before")
    arm = Arm("co", "start", {"web": 1.0}, True, 1, 1, (played,), AFTER)
    for tables, told in (("before", False), ("after", True)):
        update_results(
            page, ablation=Ablation(1, 0, "a machine", START, (arm,)), present={"seen": tables}
        )
        assert ("The tables have been changed since" in page.read_text()) == told


def test_damaged_results_are_refused_and_kept(tmp_path):
    page, data = tmp_path / "results.md", tmp_path / "results.json"
    run = run_of(tmp_path / "a", "p", {SEEN: "1"})
    cells = '{"cells": [{"a": 1}], "answers": [], "ablation": null}'
    for bad, message in (
        ("{", "not JSON"), ("[]", "Results lacks"), ("{}", "Results lacks ablation"),
        (cells, "CellResult lacks"),
    ):  # fmt: skip
        data.write_text(bad)
        with pytest.raises(ValueError, match=f"results.json.*{message}"):
            update_results(page, [run])
        assert data.read_text() == bad and not page.exists()


def test_words_of_figures():
    assert points(Difference(0.117, -0.021, 0.25)) == "12 (−2 to 25)"
    assert [p_value(p) for p in (1.0, 0.0625, 0.05, 0.001, 0.0004)] == [
        "= 1", "= 0.062", "= 0.05", "= 0.001", "< 0.001",
    ]  # fmt: skip


def test_seeds_with_holes_are_told(tmp_path):
    info = RunInfo.here("p", {}, {"seen": ""}, 10, 0)
    with RunFolder.create(tmp_path, info) as run:
        for seed in (7, 0, 1, 2, 9):
            run.append(
                EpisodeRecord("p", "seen", "", seed, "i", "pick", "key", "", seed < 2,
                              "" if seed < 2 else "dropped", 1, 0, 0, 0, 0, (), ())
            )  # fmt: skip
    result = CellResult.of(run.info, run.records)
    assert (result.seeds, result.outcomes) == ("0 to 2, 7, 9", "11000")
    assert result.reached == "" and not result.reach.episodes  # nobody looked
    looked = [replace(r, reached=None if r.seed == 9 else r.seed < 3) for r in run.records]
    result = CellResult.of(run.info, looked)
    assert (result.reached, result.reach) == ("1110-", Rate(3, 4))
