# SPDX-License-Identifier: Apache-2.0
"""The shipped checkpoint: small enough, honest about its origin, and able to do its one task."""

import json
import re

import numpy as np
import pytest

from rt2_ros.data import digests, split
from rt2_ros.data.images import square
from rt2_ros.data.robot import SPACE
from rt2_ros.evaluation.runner import PolicyPlayer, episodes, play
from rt2_ros.evaluation.runs import RunFolder, RunInfo
from rt2_ros.evaluation.suites import load_suite
from rt2_ros.paths import share_dir
from rt2_ros.policies import Observation, load_policy
from rt2_ros.policies.baselines import BlindPolicy
from rt2_ros.sim.env import TabletopEnv
from rt2_ros.sim.tabletop import Tabletop

FOLDER = share_dir() / "models" / "rt2-tiny"


@pytest.fixture(scope="module")
def policy():
    return load_policy("rt2-tiny")


@pytest.fixture(scope="module")
def env():
    return TabletopEnv(Tabletop(names=split.ROBOT_NAMES))


def test_it_is_small_and_says_how_it_was_made():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 40e6
    record = json.loads((FOLDER / "training.json").read_text())
    assert record["parameters"] < 12_000_000
    assert record["split"] == split.digest()
    told, held_out = record["held_out"], digests.held_out()
    assert (told["web"], told["looks"]) == (held_out["web"], held_out["looks"])
    assert told["suites"].items() <= held_out["suites"].items()  # cells may have come since


def test_it_brings_the_action_space_that_it_was_trained_with(policy):
    assert policy.action_space == SPACE
    assert policy.image_size == 192


def test_it_does_what_it_is_told_on_most_tables_and_blind_it_does_not(policy, tmp_path):
    """Sixteen tables, four of each kind of task; `rt2 eval` plays a hundred. A guard against a
    broken line, not a figure. The copy without words is told to "pick it up": on sixteen
    tables where that is the task, it may take the right one of three to six by chance.
    """
    suite, done = load_suite("seen"), {}
    tables = {"": episodes([suite], 16, 0)}
    tables["image"] = tables[""]
    tables["language"] = [e for e in episodes([suite], 64, 0) if e.seed % 4 == 0]
    assert {e.cell.scenario(e.seed).task.kind for e in tables["language"]} == {"pick"}
    for sense, wanted in tables.items():
        player = PolicyPlayer(BlindPolicy(policy, sense) if sense else policy)
        with RunFolder.create(
            tmp_path / player.name, RunInfo.here(player.name, {}, {"seen": ""}, 16, 0)
        ) as run:
            play(wanted, player, run)
        assert not any(record.invalid for record in run.records)
        done[sense] = sum(record.success for record in run.records)
    assert done[""] >= 12, done
    assert done["language"] <= 8 and done["image"] <= 3, done


def test_another_instruction_on_the_same_table_gives_another_plan(policy, env):
    seen = env.reset(0)
    image = square(seen.image, 192)
    for thing in seen.truth.objects:
        told = Observation({"scene": image}, f"pick up the {thing.name}", seen.state)
        plan = re.match(r"(\D+) (\d+) (\d+) at ", policy.infer(told).plan)
        top = thing.position + [0, 0, 0.025]
        where = env.tabletop.project(top, "scene", 480, 480) * 256 / 480
        assert plan is not None and plan[1] == thing.name
        assert np.hypot(*(where - [int(plan[2]), int(plan[3])])) < 15, thing.name


def test_it_answers_questions_about_what_it_sees(policy, env):
    seen = env.reset(0)
    thing = seen.truth.objects[0]
    answer = policy.answer(square(seen.image, 192), f"where is the {thing.name}?")
    *name, u, v = answer.split()
    where = env.tabletop.project(thing.position + [0, 0, 0.025], "scene", 480, 480) * 256 / 480
    assert " ".join(name) == thing.name
    assert np.hypot(*(where - [int(u), int(v)])) < 15


def test_digits_on_cards_are_read_and_decoded(policy, env):
    """Cards with numbers, which plans call by name."""
    cell, right = load_suite("emergent").cell("symbols"), []
    for seed in range(1, 100, 10):  # move the ... near the number 7
        scene = env.begin(cell.scenario(seed))
        told = Observation({"scene": square(scene.image, 192)}, scene.instruction, scene.state)
        assert env.task.target == "keycap seven"
        right.append(" keycap seven " in (policy.infer(told).plan or ""))
    assert sum(right) >= 6, right
