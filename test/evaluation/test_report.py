# SPDX-License-Identifier: Apache-2.0
"""The page: it stands alone, says the figures that it should, and shows failures in pictures."""

import re
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest

from rt2_ros.evaluation import paper, report
from rt2_ros.evaluation.metrics import newcombe, wilson
from rt2_ros.evaluation.page import points
from rt2_ros.evaluation.records import EpisodeRecord
from rt2_ros.evaluation.report import CHINESE, words, write_report
from rt2_ros.evaluation.runs import CellInfo, RunFolder, RunInfo

SEEN, EASY = ("seen", ""), ("unseen-objects", "easy")
VOID = {"meta", "br", "img"}


class Page(HTMLParser):
    """Text in order, elements with their attributes; refuses tags that do not match."""

    def __init__(self, path):
        super().__init__()
        self.text, self.elements, self.open = [], [], []
        self.feed(path.read_text())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open and data.strip():
            self.text.append(" ".join(data.split()))

    @property
    def words(self):
        return " ".join(self.text)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def record(policy, cell, seed, success, **changes):
    known = dict(
        instruction="pick up the key", skill="pick", object="key", target="",
        failure="" if success else "timeout", steps=20, path_length=0.4, sim_seconds=4.0, held=0,
        invalid=0, latency_ms=(3.0,), confidence=(),
    )  # fmt: skip
    return EpisodeRecord(
        policy=policy, suite=cell[0], cell=cell[1], seed=seed, success=success, **known | changes
    )


def folder(path, policy, *records, lacks=0, tables=""):
    """lacks: how many more episodes of each cell were asked for."""
    counts = Counter(one.title for one in records) or {"seen": 1}
    cells = {
        title: CellInfo(tables, count + lacks, ("r1", "r2"), "2026-01-01")
        for title, count in counts.items()
    }
    info = RunInfo(policy, {"checkpoint": "models/x"}, cells, 0, "in-process", "a machine")
    with RunFolder.create(path, info) as run:
        for one in records:
            run.append(one)
    return run


def test_two_policies_side_by_side(tmp_path):
    p = [record("p", SEEN, i, i < 6, confidence=(0.9,)) for i in range(8)]
    p += [record("p", EASY, i, i < 2) for i in range(8)]
    q = [record("q", SEEN, i, False, instruction="lift the key") for i in range(8)]
    q += [record("q", EASY, i, i >= 2) for i in range(6)]
    p += [record("p", cell, 0, False) for cell in paper.UNSEEN if cell != EASY]
    html = write_report(
        [folder(tmp_path / "a", "p", *p), folder(tmp_path / "b", "q", *q)],
        tmp_path / "pages" / "report.html",
    )
    page = Page(html)
    assert html == tmp_path / "pages" / "report.html"
    # a rate with its interval and its counts, the paper's beside it
    assert "easy 25 % 7–59 · 2/8 67 % 30–90 · 4/6 31 % 70 % 84 %" in page.words
    assert page.words.count("real robots, other tasks: not comparable in absolute terms") == 2
    gap = points(newcombe(6, 8, 2, 13))
    assert f"{gap} –" in page.words and gap.startswith("60 (")  # q lacks unseen cells
    # the same words and table alone are compared: easy 0..5, not seen (other words)
    assert "of 6 episodes 2 only the former, 4 only the latter, p = 0.688" in page.words
    assert "6 0 2 4 0 0.688 no difference shown" in page.words  # both, p, q, neither
    assert "confidence 0.90: 75 % of 8 episodes" in page.words  # the calibration's dot
    assert "q: reports no confidence" in page.words
    assert "r1, r2" in page.words and "checkpoint: models/x" in page.words
    assert {a["href"] for a in page.all("a")} == {"../a/episodes.jsonl", "../b/episodes.jsonl"}


def test_bars_are_as_high_as_their_rates_and_have_whiskers(tmp_path):
    records = [record("p", SEEN, i, True) for i in range(4)]
    records += [record("p", cell, i, i < 1) for cell in paper.UNSEEN for i in range(4)]
    page = Page(write_report([folder(tmp_path / "a", "p", *records)], tmp_path / "a.html"))
    bars = [(r["class"], float(r["height"]), float(r["y"])) for r in page.all("rect")]
    ours = [bar[1:] for bar in bars if bar[0] == "s0"]
    assert ours == [(175.0, 30.0), *[(43.8, 161.2)] * 7]  # seen, unseen cells, all of them together
    cut_short = folder(tmp_path / "b", "p", *records, lacks=1)  # of it nothing is told together
    page_of_less = Page(write_report([cut_short], tmp_path / "b.html"))
    assert len([r for r in page_of_less.all("rect") if r["class"] == "s0"]) == 7
    theirs = [bar[1] for bar in bars if bar[0] in ("p0", "p1", "p2")]
    rows = [paper.PAPER[cell] for cell in (SEEN, *paper.UNSEEN)]
    percent = [rate for row in (*rows, paper.UNSEEN_AVERAGE) for rate in row]
    assert theirs == pytest.approx([1.75 * x for x in percent], abs=0.1)
    whiskers = [p["d"] for p in page.all("path") if p["class"] == "error"]
    low, high = wilson(1, 4)
    top, bottom = map(float, re.match(r"M\S+ (\S+) V(\S+)", whiskers[1]).groups())
    assert (top, bottom) == pytest.approx((205 - 175 * high, 205 - 175 * low), abs=0.1)


def test_the_page_stands_alone(tmp_path):
    records = [record("p", SEEN, i, i < 2) for i in range(4)]
    html = write_report([folder(tmp_path / "a", "p", *records)], tmp_path / "a" / "report.html")
    page = Page(html)
    assert not page.all("script") and not page.all("link")
    assert "://" not in html.read_text() and "@import" not in html.read_text()
    assert [a["href"] for a in page.all("a")] == ["./episodes.jsonl"]
    assert "Compared" not in page.words and "Generalisation gap" in page.words
    assert "prefers-color-scheme: dark" in html.read_text() and "@media print" in html.read_text()


def test_every_class_of_failure_is_seen_before_any_is_seen_twice(tmp_path, monkeypatch):
    frames = [np.random.default_rng(0).integers(0, 255, (96, 96, 3), np.uint8)] * 3
    with RunFolder.create(tmp_path / "run", folder(tmp_path / "run", "p").info) as run:
        for seed in range(12):
            failure = "dropped" if seed < 11 else "wrong object"
            strip = run.save_strip(frames, ["a", "b", "c"], ("seen", "", seed))
            said = {"instruction": "lift the <b>key</b>", "strip": strip}
            run.append(record("p", SEEN, seed, False, failure=failure, **said))
        run.append(record("p", SEEN, 12, False, failure="misplaced", strip="strips/gone.jpg"))
    run.video_path(("seen", "", 11)).write_bytes(b"film")
    page = Page(write_report([run], tmp_path / "report.html"))
    assert [image["alt"].split(",")[0] for image in page.all("img")] == [
        "wrong object", "dropped", "dropped", "dropped",
    ]  # fmt: skip
    assert all(image["src"].startswith("data:image/jpeg;base64,/9j/") for image in page.all("img"))
    assert "p: “lift the <b>key</b>” seen, seed 11, 20 steps" in page.words  # as it was said
    assert page.all("a")[0]["href"] == "run/videos/seen-000011.mp4"
    # with place for two pictures, each class has one
    size = max(len(image["src"]) for image in page.all("img"))
    monkeypatch.setattr(report, "PICTURES_MAX", 2 * size + 100)
    page = Page(write_report([run], tmp_path / "report.html"))
    assert [image["alt"].split(",")[0] for image in page.all("img")] == ["wrong object", "dropped"]


def test_a_run_of_somebody_else_shows_nothing_but_its_pictures(tmp_path):
    for elsewhere in ("../secret.jpg", "/etc/hostname", "strips/../../secret.jpg", "run.json"):
        with pytest.raises(ValueError, match=f"strip is '{elsewhere}'; expected '' or strips/"):
            record("p", SEEN, 1, False, strip=elsewhere)
    (tmp_path / "secret").write_text("secret")
    failed = record("p", SEEN, 1, False, strip="strips/a.jpg")
    run = folder(tmp_path / "a#1", "p", failed)
    (run.path / "strips").mkdir()
    (run.path / "strips" / "a.jpg").symlink_to(tmp_path / "secret")
    page = Page(write_report([run], tmp_path / "report.html"))
    assert not page.all("img")
    assert page.all("a")[-1]["href"] == "a%231/episodes.jsonl"


def test_a_crash_is_told_though_nothing_was_filmed(tmp_path):
    crash = dict(failure="crashed", error="ConnectionError: <the server> went away", skill="")
    run = folder(tmp_path, "p", *(record("p", SEEN, i, False, **crash) for i in range(3)))
    page = Page(write_report([run], tmp_path / "report.html"))
    assert "crashed, 3×: ConnectionError: <the server> went away" in page.words
    assert "Success by skill" not in page.words  # nobody knew it


def test_breakdowns_have_the_weakest_first_and_words_that_tell(tmp_path):
    asked = [("grab the key", "key"), ("take the key", "key"), ("把香蕉拿起来", "banana")]
    records = [
        record("p", SEEN, i, i % 3 != 1, instruction=asked[i % 3][0], object=asked[i % 3][1])
        for i in range(18)
    ]
    page = Page(write_report([folder(tmp_path, "p", *records)], tmp_path / "report.html"))
    by_object = page.words.partition("Success by object")[2]
    assert re.findall(r"(key|banana) (\d+) %", by_object)[:2] == [("key", "50"), ("banana", "100")]
    by_word = page.words.partition("Success by word")[2].partition("How it was")[0]
    found = re.findall(r"(\S+|\(in Chinese\)) (\d+) % \S+ ·", by_word)
    assert found == [("take", "0"), (CHINESE, "100"), ("grab", "100")]  # "the" is in too many


def test_words_of_instructions():
    assert words("Please, pick up the T-shirt near 7!") == {
        "please", "pick", "up", "the", "t-shirt", "near", "7",
    }  # fmt: skip
    assert words("把hammer拿起来") == {"hammer", CHINESE}


def test_runs_of_the_same_policy_are_told_apart(tmp_path):
    runs = [folder(tmp_path / name, "p", record("p", SEEN, 0, True)) for name in ("x", "y")]
    assert "p (x), p (y)" in Page(write_report(runs, tmp_path / "r.html")).words
    runs.append(folder(tmp_path / "z" / "x", "p", record("p", SEEN, 1, True)))
    words_of_all = Page(write_report(runs, tmp_path / "r.html")).words
    assert str(tmp_path / "z" / "x") in words_of_all
    assert "no episode in common" in words_of_all


def test_cells_with_other_tables_are_not_compared(tmp_path):
    runs = [
        folder(tmp_path / name, name, record(name, SEEN, 0, name == "p"), tables=tables)
        for name, tables in (("p", "1"), ("q", "1"), ("r", "2"))
    ]
    assert "of 1 episodes" in Page(write_report(runs[:2], tmp_path / "r.html")).words
    assert "no episode in common" in Page(write_report(runs[1:], tmp_path / "r.html")).words


def test_a_run_without_episodes_yet_has_a_page_too(tmp_path):
    page = Page(write_report([folder(tmp_path / "a", "p")], tmp_path / "r.html"))
    assert "0 episodes on random tables" in page.words and not page.all("rect")
    with pytest.raises(ValueError, match="no run to report on"):
        write_report([], tmp_path / "r.html")
