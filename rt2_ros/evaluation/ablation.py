# SPDX-License-Identifier: Apache-2.0
"""`rt2 ablation`: what a start from web data, and keeping that data, is worth to a robot.

RT-2's ablation (arXiv 2307.15818, section 4.3) on our scale, as config/ablation.yaml says: models
with equal budgets, of random weights, fine-tuned on robot data alone, co-fine-tuned, the last
without plans, and RT-1. What those that are fine-tuned start from learns from web data alone, once.
Each is trained, plays the suites and answers held-back questions, but for RT-1, which answers none;
figures and a plot go to docs/results.md.

    out/ablation/
      start/settle/        the shared start, by its last stage's name
      start/answers.json   what it answered
      co/training.yaml     the configuration of an arm, a run of `rt2 train`; another is refused
      co/settle/           its checkpoint when its minutes are over, by its last stage's name
      co/eval/             its episodes, a run of `rt2 eval`
      co/answers.json      what it answered

The same command goes on where it was stopped, also with more arms, suites, episodes or questions.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

import rt2_ros.training  # noqa: F401, before torch is loaded: how its threads wait
from rt2_ros import provenance
from rt2_ros.data import digests, split
from rt2_ros.evaluation.cli import RESULTS, chosen_suites, evaluate
from rt2_ros.evaluation.cli import digests as of_tables
from rt2_ros.evaluation.page import PLOT, update_results
from rt2_ros.evaluation.questions import Answers, digest, held_back
from rt2_ros.evaluation.results import GROUPS, Ablation, Arm, CellResult, read_made
from rt2_ros.evaluation.runner import PolicyPlayer
from rt2_ros.evaluation.runs import RunFolder, write_whole
from rt2_ros.evaluation.screen import ask_with_progress
from rt2_ros.evaluation.suites import Suite
from rt2_ros.models.tiny import FEW_WEIGHTS
from rt2_ros.paths import config_path, read_yaml
from rt2_ros.policies import load_policy
from rt2_ros.policies.registry import policy_identity
from rt2_ros.training import cli as training
from rt2_ros.training.config import read
from rt2_ros.typed import build

QUICK_MINUTES = 0.02


@dataclass(frozen=True)
class ArmSettings:
    """start: whether it starts from the shared checkpoint. shares: source -> weight. plans: whether
    it learns to plan as the base's does; otherwise it answers with actions alone. base: a recipe of
    RT-1 in place of the ablation's.
    """

    start: bool
    shares: Mapping[str, float]
    plans: bool = True
    base: str = ""

    def sources(self, base: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """The base's sources that it reads, asking what it is to learn alone: no web question about
        a robot's picture where it reads no web data, and no plan's beginning without plans.
        """
        chosen = {name: dict(values) for name, values in base.items() if name in self.shares}
        web = any(values["type"] == "web" for values in chosen.values())
        for values in chosen.values():
            if values["type"] == "robot" and not web:
                values["web_queries"] = 0
            if values["type"] == "web" and not self.plans:
                values["looks"] = 0
        return chosen


@dataclass(frozen=True)
class Settings:
    """config/ablation.yaml. start_minutes: of what is shared; minutes: of each arm; episodes: of
    each cell.
    """

    base: str
    out: str
    start_minutes: float
    minutes: float
    seed: int
    arms: Mapping[str, ArmSettings]
    suites: tuple[str, ...]
    episodes: int
    questions: int

    def __post_init__(self) -> None:
        for name in ("start_minutes", "minutes", "episodes", "questions"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; expected > 0")
        for name in ("arms", "suites"):
            if not getattr(self, name):
                raise ValueError(f"{name}: none; expected at least one")


def main(arguments: list[str]) -> int:
    """Returns 0 when all arms are trained and measured."""
    parser = argparse.ArgumentParser(
        prog="rt2 ablation",
        description="Compare models from nothing, fine-tuned and co-fine-tuned, with equal "
        "budgets. The same command goes on where it was stopped.",
    )
    parser.add_argument("--config", type=Path, help="a YAML file (default: config/ablation.yaml)")
    parser.add_argument("--out", help="folder of the ablation (default: the configuration's)")
    parser.add_argument(
        "--quick", action="store_true",
        help="see that it runs: few weights, a second each, one episode of two cells; its page is "
        "in the folder of the ablation",
    )  # fmt: skip
    args = parser.parse_args(arguments)
    settings = load(args.config or config_path("ablation.yaml"))
    if args.out:
        settings = replace(settings, out=args.out)
    page = RESULTS
    if args.quick:
        out = args.out or f"{settings.out}-quick"
        settings = replace(
            settings, out=out, suites=("seen", "emergent/symbols"), start_minutes=QUICK_MINUTES,
            minutes=QUICK_MINUTES, episodes=1, questions=4,
        )  # fmt: skip
        page = Path(out, RESULTS.name)
    result = run(settings, args.quick)
    update_results(page, ablation=result)
    plot(result, page.with_name(PLOT))
    Console().print(f"results: {page}, {page.with_name(PLOT)}", markup=False)
    return 0


def load(path: Path) -> Settings:
    """Read a file; ValueError names it, the key and what was expected."""
    raw = read_yaml(path)
    if not isinstance(raw, dict) or not isinstance(raw.get("arms"), dict):
        raise ValueError(f"{path}: expected a mapping with a mapping `arms`")
    arms = {
        name: build(ArmSettings, values, f"{path}: arm {name}")
        for name, values in raw["arms"].items()
    }
    return build(Settings, {**raw, "arms": arms}, str(path))


def run(settings: Settings, quick: bool = False) -> Ablation:
    """Train and measure what is not there yet. Training comes first: it forks, and a process that
    has drawn with OpenGL must not.

    Raises:
        ValueError: the base cannot be used, or an arm there was trained otherwise.
    """
    base_path, base = read(settings.base)
    if base.get("type") != "tiny":
        raise ValueError(f"{base_path}: type is {base.get('type')!r}; an ablation needs tiny")
    if any("minutes" not in stage for stage in base["stages"]):
        raise ValueError(f"{base_path}: a stage lasts steps; an ablation needs minutes")
    if len(base["stages"]) < 2:
        raise ValueError(f"{base_path}: one stage; an ablation needs one of seeing and others")
    others = {name: _rt1_recipe(name, arm) for name, arm in settings.arms.items() if arm.base}
    suites, out = chosen_suites(settings.suites), Path(settings.out)
    _check_played(settings, suites, out)
    if quick:
        small = [{**s, "batch_size": min(2, s.get("batch_size", 2))} for s in base["stages"]]
        base = {**base, "model": FEW_WEIGHTS, "workers": 0, "stages": small}
    base = {**base, "seed": settings.seed}
    # Not even in words has what they start from seen a robot.
    web: dict[str, Any] = {"shares": {"web": 1.0}, "state_rows": 0}
    reading = [stage | web for stage in base["stages"]]
    start = _train(base, out / "start", reading, settings.start_minutes, {})
    trained = {}
    for name, arm in settings.arms.items():
        if arm.base:
            trained[name] = _train_rt1(others[name], settings, out / name, quick)
            continue
        sources = arm.sources(base["sources"])
        more: dict[str, Any] = {"sources": sources}
        if "augment" in base:
            more["augment"] = {n: how for n, how in base["augment"].items() if n in sources}
        if arm.start:
            more["init"] = str(start.resolve())
        # What is told in words alone begins with plans; without them pictures take its place.
        alone = {} if arm.plans else {"plan_share": 0.0, "state_rows": 0}
        # The first stage is for random weights: what the others start from has been through it.
        own = base["stages"][1:] if arm.start else base["stages"]
        stages = [stage | {"shares": dict(arm.shares)} | alone for stage in own]
        trained[name] = _train(base, out / name, stages, settings.minutes, more)
    before = _ask(start, "start", settings, out / "start" / "answers.json")
    measured = tuple(
        _measure(name, settings, suites, checkpoint, out / name, before)
        for name, checkpoint in trained.items()
    )
    return Ablation(
        settings.minutes, settings.seed, provenance.machine(), before, measured,
        settings.start_minutes,
    )  # fmt: skip


def _check_played(settings: Settings, suites: Sequence[Suite], out: Path) -> None:
    """ValueError where an arm has played on other tables: better now than after the training."""
    present = of_tables(suites)
    for folder in (out / name / "eval" for name in settings.arms):
        if not (folder / "run.json").is_file():
            continue
        cells = RunFolder(folder).info.cells
        if old := sorted(t for t in cells if cells[t].tables != present.get(t, cells[t].tables)):
            raise ValueError(
                f"{folder}: {', '.join(old)} had other tables, as suites or rules have been "
                "changed since; move the folder away to have them played anew"
            )


def _train(
    base: Mapping[str, Any], folder: Path, stages: Sequence[Mapping[str, Any]], minutes: float,
    more: Mapping[str, Any],
) -> Path:  # fmt: skip
    """A run of these stages, each its share of the minutes; returns the checkpoint that it leaves
    under the last one's name. Nothing if it is there.

    Raises:
        ValueError: what is there was, or is being, trained otherwise.
    """
    kept = folder / str(stages[-1]["name"])
    scale = minutes / sum(stage["minutes"] for stage in stages)
    made = [{**stage, "minutes": scale * stage["minutes"], "keep": False} for stage in stages]
    made[-1]["keep"] = True
    done = kept.is_dir()
    if done:
        _check_data(kept)
    _run_training(folder, {**base, "stages": made, **more}, done)
    return kept


def _check_data(kept: Path) -> None:
    """ValueError where a model learned other data than is made now: no arm of the same study."""
    record, now = json.loads((kept / "training.json").read_text()), digests.held_out()
    changed = record.get("split", split.digest()) != split.digest()
    then = record.get("held_out", {})  # of it, suites are of what is tried, not of what is learned
    if changed or any(then.get(part, now[part]) != now[part] for part in ("web", "looks")):
        raise ValueError(
            f"{kept}: it learned other data than is made now; remove all of the study to train it "
            "anew, or choose another --out"
        )


def _rt1_recipe(name: str, arm: ArmSettings) -> dict[str, Any]:
    """What an arm of RT-1 is trained by.

    Raises:
        ValueError: it is no recipe of RT-1, or the arm is to have what RT-1 has not.
    """
    path, base = read(arm.base)
    if base.get("type") != "rt1":
        raise ValueError(f"{path}: type is {base.get('type')!r}; arm {name}'s base needs rt1")
    if arm.start or dict(arm.shares) != {"robot": 1.0} or not arm.plans:
        raise ValueError(
            f"arm {name}: RT-1 learns from robot data alone; expected start: false, "
            "shares: {robot: 1.0}"
        )
    return base


def _train_rt1(base: Mapping[str, Any], settings: Settings, folder: Path, quick: bool) -> Path:
    """RT-1 by its own recipe, for as many minutes of all of this machine's cores; ValueError as
    `_train`.
    """
    stages = base["stages"]
    if quick:
        base = {**base, "workers": 0}
        stages = [{**stage, "batch_size": 2} for stage in stages]
    total = settings.minutes * len(os.sched_getaffinity(0))
    scale = total / sum(stage["cpu_minutes"] for stage in stages)
    made = [{**stage, "cpu_minutes": scale * stage["cpu_minutes"]} for stage in stages]
    kept = folder / "checkpoint"
    record = kept / "training.json"
    done = record.is_file() and json.loads(record.read_text())["cpu_minutes"] >= round(total, 1)
    if done:
        _check_data(kept)
    _run_training(folder, {**base, "seed": settings.seed, "stages": made}, done)
    return kept


def _run_training(folder: Path, settings: Mapping[str, Any], done: bool) -> None:
    """A run of these settings in this folder, if it is not done; ValueError as `_train`."""
    settings = {**settings, "name": folder.name, "out": str(folder)}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "training.yaml"
    known = read_yaml(path) if path.is_file() else settings
    if known != settings:
        different = [k for k in {**known, **settings} if known.get(k) != settings.get(k)]
        raise ValueError(
            f"{path}: {', '.join(different)}: not what this model is trained by now; remove "
            f"{folder} to train it anew, or choose another --out"
        )
    if done:
        return
    path.write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
    Console().print(f"{folder}: training", markup=False)
    if training.main(["--config", str(path)]):
        raise ValueError(f"{path}: training did not start")


def _measure(
    name: str, settings: Settings, suites: Sequence[Suite], checkpoint: Path, folder: Path,
    before: Answers,
) -> Arm:  # fmt: skip
    """An arm's answers, and of its episodes those that are asked for, so that all have the same."""
    arm, answers = settings.arms[name], None
    if not arm.base:  # RT-1 answers no questions
        answers = _ask(checkpoint, name, settings, folder / "answers.json", before.policy)
    policy = load_policy(str(checkpoint))
    policy.name = name
    run = evaluate(
        folder / "eval", PolicyPlayer(policy), policy_identity(str(checkpoint))[1], suites,
        settings.episodes, 0,
    )  # fmt: skip
    played = run.cells()
    if lost := sum(run.missing((c.suite, c.name)) for suite in suites for c in suite.cells):
        raise ValueError(
            f"{folder / 'eval'}: {lost} episodes were lost; the same command plays them"
        )
    cells = tuple(
        CellResult.of(run.info, [r for r in played[c.suite, c.name] if r.seed < settings.episodes])
        for suite in suites
        for c in suite.cells
    )
    record = json.loads((checkpoint / "training.json").read_text())
    return Arm(
        name, before.policy if arm.start else "", dict(arm.shares), arm.plans, record["steps"],
        record["pictures"], cells, answers, arm.base, record.get("revision", ""),
    )  # fmt: skip


def _ask(checkpoint: Path, name: str, settings: Settings, file: Path, before: str = "") -> Answers:
    """What a checkpoint answers, from its file if these weights were asked the same already."""
    weights = policy_identity(str(checkpoint))[1]["digest"]
    if file.is_file():
        known = json.loads(file.read_text())
        answers = read_made(Answers, known["answers"], str(file))
        if known["digest"] == weights and answers.questions == digest(
            query for _, query in held_back(settings.questions)
        ):
            return answers
    policy = load_policy(str(checkpoint))
    policy.name = name
    answers = ask_with_progress(policy, settings.questions, 0, before)
    write_whole(file, json.dumps({"digest": weights, "answers": asdict(answers)}, indent=1) + "\n")
    return answers


def plot(ablation: Ablation, file: Path) -> None:
    """Bars for each arm: success by group and web answers, with 95 % intervals; outlines: how often
    the right thing was reached.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.add_subplot(ylabel="right, %", ylim=(0, 100))
    labels = [*GROUPS, "web answers"]
    width = 0.8 / len(ablation.arms)
    for number, arm in enumerate(ablation.arms):
        rates = [arm.rate(group) for group in GROUPS]
        rates += [arm.answers.rate()] if arm.answers else []
        shift = (number - (len(ablation.arms) - 1) / 2) * width
        # No bar where nothing was played: it would look like no success.
        bars = [(i + shift, rate) for i, rate in enumerate(rates) if rate.episodes]
        heights = [100 * rate.value for _, rate in bars]
        below = [100 * max(0.0, rate.value - rate.interval[0]) for _, rate in bars]
        above = [100 * max(0.0, rate.interval[1] - rate.value) for _, rate in bars]
        places = [place for place, _ in bars]
        drawn = axes.bar(places, heights, width, yerr=(below, above), capsize=2, label=arm.name)
        reached = [arm.reach(group) for group in GROUPS]
        looked = [(i + shift, 100 * rate.value) for i, rate in enumerate(reached) if rate.episodes]
        if looked:
            colour = drawn.patches[0].get_facecolor()
            at, tall = ([pair[n] for pair in looked] for n in (0, 1))
            axes.bar(at, tall, width, fill=False, edgecolor=colour)
    last = len(labels) - 1
    axes.hlines(
        100 * ablation.start.rate().value, last - 0.5, last + 0.5, color="grey", linestyle="--",
        label="web answers of the start",
    )  # fmt: skip
    axes.set_xticks(range(len(labels)), labels)
    axes.set_title(
        f"{ablation.minutes:g} minutes each, without the start's\n"
        "95 % intervals; outlines: reached the right thing"
    )
    figure.legend(loc="outside right upper", fontsize="small")
    axes.grid(axis="y", alpha=0.3)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
