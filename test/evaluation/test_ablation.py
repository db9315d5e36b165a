# SPDX-License-Identifier: Apache-2.0
"""The ablation: end to end on few weights, going on, and what it refuses."""

import json
import os
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
import yaml
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from rt2_ros.data import digests, split
from rt2_ros.evaluation import ablation
from rt2_ros.evaluation.ablation import load, main
from rt2_ros.evaluation.questions import Answers
from rt2_ros.evaluation.results import Ablation, Arm, CellResult
from rt2_ros.evaluation.runs import RunFolder, RunInfo
from rt2_ros.paths import config_path
from rt2_ros.training.config import read
from rt2_ros.training.data import Mixture
from rt2_ros.training.sources import build


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda module: module)


def test_a_quick_one_runs_through_and_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    out = tmp_path / "out"
    measure, done = ablation._measure, []

    def stopped(name, *others):
        if done:
            raise KeyboardInterrupt
        done.append(name)
        return measure(name, *others)

    with monkeypatch.context() as patched:
        patched.setattr(ablation, "_measure", stopped)
        with pytest.raises(KeyboardInterrupt):
            main(["--quick", "--out", str(out)])
    assert done == ["scratch"] and not (out / "results.md").exists()
    # The start has never seen a robot, not even in words.
    start = yaml.safe_load((out / "start" / "training.yaml").read_text())
    assert [(s["name"], s["shares"], s["state_rows"]) for s in start["stages"]] == [
        ("see", {"web": 1.0}, 0), ("act", {"web": 1.0}, 0), ("settle", {"web": 1.0}, 0),
    ]  # fmt: skip
    assert sum(s["minutes"] for s in start["stages"]) == pytest.approx(ablation.QUICK_MINUTES)
    # All are trained: for as long, on their own data, from the start or from nothing.
    ours = {name: arm for name, arm in load_arms().items() if not arm.base}
    files = {name: out / name / "settle" / "model.safetensors" for name in ours}
    files["rt1"] = out / "rt1" / "checkpoint" / "model.safetensors"
    written = {name: file.read_bytes() for name, file in files.items()}
    for name, arm in ours.items():
        config = yaml.safe_load((out / name / "training.yaml").read_text())
        assert ("init" in config) == arm.start
        stages = config["stages"]
        # The first is for random weights: what others start from has been through it.
        assert [stage["name"] for stage in stages] == ["see", "act", "settle"][arm.start :]
        assert sum(s["minutes"] for s in stages) == pytest.approx(ablation.QUICK_MINUTES)
        for stage in stages:
            assert stage["shares"] == arm.shares
            if stage["name"] != "see":
                assert (stage["plan_share"] > 0, stage["state_rows"] > 0) == 2 * (arm.plans,)
        assert config["sources"] == arm.sources(read("rt2-tiny")[1]["sources"])
        record = json.loads((out / name / "settle" / "training.json").read_text())
        assert record["steps"] > 0 and record["config"]["name"] == name
        assert record["policy"]["plan"] == ("required" if arm.plans else "none")
    cpu_minutes = ablation.QUICK_MINUTES * len(os.sched_getaffinity(0))
    stages = yaml.safe_load((out / "rt1" / "training.yaml").read_text())["stages"]
    assert sum(stage["cpu_minutes"] for stage in stages) == pytest.approx(cpu_minutes)
    assert main(["--quick", "--out", str(out)]) == 0
    assert written == {name: file.read_bytes() for name, file in files.items()}
    for name in written:
        run = RunFolder(out / name / "eval")
        assert run.info.policy == name
        assert {record.key for record in run.records} == {
            ("seen", "", 0), ("emergent", "symbols", 0),
        }  # fmt: skip
    page = (out / "results.md").read_text()
    assert "## Ablation" in page and (out / "ablation.png").stat().st_size > 5000
    known = json.loads((out / "results.json").read_text())["ablation"]
    assert [arm["name"] for arm in known["arms"]] == list(written)
    assert [arm["start"] for arm in known["arms"]] == ["", "start", "start", "start", ""]
    *others, rt1 = known["arms"]
    assert {arm["answers"]["questions"] for arm in others} == {known["start"]["questions"]}
    assert rt1["answers"] is None and "| rt1 | random weights | robot 1, rt1-small |" in page
    # Answers are of the weights that gave them; a model that was trained otherwise is no arm.
    asked = out / "co" / "answers.json"
    asked.write_text(json.dumps({**json.loads(asked.read_text()), "digest": "older"}))
    assert main(["--quick", "--out", str(out)]) == 0
    assert json.loads(asked.read_text())["digest"] != "older"
    # More may join it; nothing is trained or played twice.
    played = (out / "co" / "eval" / "episodes.jsonl").read_text()
    quick = load(config_path("ablation.yaml"))
    more = replace(
        quick, out=str(out), suites=("seen", "emergent/symbols"), episodes=2, questions=6,
        minutes=ablation.QUICK_MINUTES, start_minutes=ablation.QUICK_MINUTES,
        arms={"co": quick.arms["co"]},
    )  # fmt: skip
    (arm,) = ablation.run(more, quick=True).arms
    assert arm.answers.rate().episodes == 6 and len(RunFolder(out / "co" / "eval").records) == 4
    assert (out / "co" / "eval" / "episodes.jsonl").read_text().startswith(played)
    assert (out / "co" / "settle" / "model.safetensors").read_bytes() == written["co"]
    # Of an arm that has more than is asked for, that counts which all have.
    (arm,) = ablation.run(replace(more, suites=("seen",), episodes=1), quick=True).arms
    assert [(cell.suite, len(cell.outcomes)) for cell in arm.cells] == [("seen", 1)]
    trained = out / "robot" / "training.yaml"
    trained.write_text(trained.read_text().replace("web_queries: 0", "web_queries: 1"))
    with pytest.raises(ValueError, match="robot/training.yaml: sources: not what this model"):
        main(["--quick", "--out", str(out)])


def test_arms_of_other_tables_or_data_are_refused_before_anything_is_trained(tmp_path):
    settings = replace(load(config_path("ablation.yaml")), out=str(tmp_path))
    suites = ablation.chosen_suites(settings.suites)
    tables = {**ablation.of_tables(suites), "seen": "another"}
    with RunFolder.create(tmp_path / "co" / "eval", RunInfo.here("co", {}, tables, 1, 0)):
        pass
    with pytest.raises(ValueError, match="co/eval: seen had other tables.*move the folder away"):
        ablation.run(settings)
    assert [folder.name for folder in tmp_path.iterdir()] == ["co"]
    known, other = {"split": split.digest(), "held_out": digests.held_out()}, "0" * 16
    for record, refusal in (
        (known, nullcontext()), ({"split": split.digest()}, nullcontext()),
        ({**known, "split": other}, pytest.raises(ValueError, match="it learned other data")),
        ({**known, "held_out": {"web": other}}, pytest.raises(ValueError, match="other data")),
        ({**known, "held_out": {"suites": {}}}, nullcontext()),
    ):  # fmt: skip
        (tmp_path / "training.json").write_text(json.dumps(record))
        with refusal:
            ablation._check_data(tmp_path)


def test_what_was_not_played_has_no_bar_in_the_plot(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    answers = Answers("co", {"where": "10"}, "same", 0, "", "r1", "2026-01-01")
    seen = CellResult("co", "seen", "", "0000", "0000" * 4, "0 to 3", {}, "r1", "2026-01-01")
    arm = Arm("co", "start", {"web": 1.0}, True, 1, 1, (seen,), answers)
    ablation.plot(Ablation(1, 0, "a machine", answers, (arm,)), tmp_path / "plot.png")
    (bars,) = (made for made in drawn[0].axes[0].containers if isinstance(made, BarContainer))
    middles = [bar.get_x() + bar.get_width() / 2 for bar in bars]
    assert middles == pytest.approx([0, 4])  # seen, though none succeeded, and web answers
    assert [bar.get_height() for bar in bars] == [0, 50]
    arm = replace(arm, cells=(replace(seen, reached="0110"),))
    ablation.plot(Ablation(1, 0, "a machine", answers, (arm,)), tmp_path / "plot.png")
    _, outline = (made for made in drawn[1].axes[0].containers if isinstance(made, BarContainer))
    assert [bar.get_height() for bar in outline] == [50] and not outline[0].get_fill()


RT1 = {"start": False, "shares": {"robot": 1.0}, "base": "rt1-small"}


def load_arms():
    return load(config_path("ablation.yaml")).arms


def test_robot_data_alone_asks_no_web_question_and_without_plans_none_is_begun():
    base = read("rt2-tiny")[1]["sources"]
    assert base["robot"]["web_queries"] > 0 and base["web"]["looks"] > 0
    kinds, plans = {}, {}
    for name, arm in load_arms().items():
        if arm.base:
            continue
        sources = build(arm.sources(base), {})
        mixture = Mixture(
            sources, arm.shares, list, batch_size=12, seed=0, plan_share=0.9 if arm.plans else 0.0
        )
        queries = [query for frame in mixture.draw(0).batch for query in frame.queries]
        kinds[name] = {query.kind for query in queries}
        plans[name] = {query.kind for query in queries if "Plan" in query.prompt + query.answer}
    assert kinds == {
        "scratch": {"robot"}, "robot": {"robot"}, "co": {"web", "robot"},
        "no-plans": {"web", "robot"},
    }  # fmt: skip
    assert plans == {
        "scratch": {"robot"}, "robot": {"robot"}, "co": {"web", "robot"}, "no-plans": set(),
    }  # fmt: skip
    assert base == read("rt2-tiny")[1]["sources"]  # which the folder's settings are compared with


@pytest.mark.parametrize(
    "count, changes, message", [(4, {"minutes": None, "steps": 3}, "a stage lasts steps"),
                                (1, {}, "one stage; an ablation needs one of seeing and others")],
)  # fmt: skip
def test_a_base_that_cannot_be_compared_is_refused(tmp_path, count, changes, message):
    _, base = read("rt2-tiny")
    see, *others = base["stages"][:count]
    see = {name: value for name, value in {**see, **changes}.items() if value is not None}
    base["stages"] = [see, *others]
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    raw = yaml.safe_load(config_path("ablation.yaml").read_text())
    path = tmp_path / "ablation.yaml"
    path.write_text(yaml.safe_dump({**raw, "base": str(tmp_path / "base.yaml")}))
    with pytest.raises(ValueError, match=f"base.yaml: {message}"):
        main(["--config", str(path), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"minutes": 0}, "minutes is 0; expected > 0"),
        ({"start_minutes": -1}, "start_minutes is -1; expected > 0"),
        ({"suites": []}, "suites: none; expected at least one"),
        ({"arms": {}}, "arms: none; expected at least one"),
        (
            {"arms": {"co": {"star": True}}},
            "arm co: unknown key 'star'; expected base, plans, shares, start",
        ),
        ({"arms": {"x": RT1 | {"start": True}}}, "arm x: RT-1 learns from robot data alone; expec"),
        ({"arms": {"x": RT1 | {"base": "rt2-tiny"}}}, "type is 'tiny'; arm x's base needs rt1"),
        ({"arms": 3}, "expected a mapping with a mapping `arms`"),
        ({"minuets": 3}, "unknown key 'minuets'"),
        ({"base": "my-robot"}, "type is 'vlm'; an ablation needs tiny"),
    ],
)
def test_a_bad_configuration_is_refused_by_key(tmp_path, changes, message):
    raw = yaml.safe_load(config_path("ablation.yaml").read_text())
    path = tmp_path / "ablation.yaml"
    path.write_text(yaml.safe_dump({**raw, **changes}))
    with pytest.raises(ValueError, match=message):
        main(["--config", str(path), "--out", str(tmp_path / "out")])
