# SPDX-License-Identifier: Apache-2.0
"""Recorded demonstrations: what physics calls a success, from training seeds and robot objects."""

import re

import numpy as np
import pytest

from rt2_ros.actions import ActionSpace, parse
from rt2_ros.data import demos, split
from rt2_ros.data.demos import (
    CAMERA,
    RECORDINGS,
    TASKS,
    Recording,
    _episodes,
    _locked,
    _seeds_left,
    main,
    record,
    record_episode,
    scenario,
)
from rt2_ros.data.lerobot import Episodes
from rt2_ros.data.lerobot.source import LeRobotSource
from rt2_ros.data.pictographs import by_name
from rt2_ros.data.robot import SPACE
from rt2_ros.sim.tasks import UnknownTask, parse_task
from rt2_ros.sim.world import Unstable

from .plans import PLAN

SEED = split.TRAIN_SEEDS.start
ASKED = ("pick", "near", "push left")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two episodes by the command in processes of their own, then a third one behind them."""
    folder = tmp_path_factory.mktemp("demos") / "set"
    for episodes, processes in (("2", "2"), ("3", "1")):
        arguments = ["--episodes", episodes, "--validation", "1", "--size", "64"]
        arguments += ["--tasks", *ASKED]
        assert main(["--out", str(folder), "--processes", processes, *arguments]) == 0
    return folder


def test_the_command_goes_on_behind_the_last_seed(folder):
    found = Episodes(folder, extra=("seed",))
    assert len(found) == 3
    seeds = found.extra["seed"]
    assert seeds == sorted(set(seeds)) and seeds[0] >= SEED
    assert _seeds_left(folder, Recording())[0] == seeds[-1] + 1
    assert found.info.splits == {"train": "1:3", "val": "0:1"}
    assert ActionSpace.load(folder) == SPACE
    with pytest.raises(ValueError, match="recorded from seeds .* choose another folder"):
        _seeds_left(folder, Recording(seed=1))


def test_a_folder_is_of_the_tasks_that_it_was_begun_with(folder):
    arguments = ["--episodes", "4", "--validation", "1", "--size", "64", "--tasks", "open"]
    with pytest.raises(ValueError, match="tasks were near, pick, push left, and are open; choose"):
        main(["--out", str(folder), *arguments])
    assert len(Episodes(folder)) == 3


def test_two_do_not_record_into_one_folder(folder):
    with _locked(folder), pytest.raises(ValueError, match="another `rt2 demos` is recording"):
        main(["--out", str(folder), "--episodes", "4", "--validation", "1", "--size", "64"])


def test_a_table_whose_physics_became_unstable_is_no_episode(monkeypatch):
    """Else the same command would come to it again and again."""

    def unstable(*_):
        raise Unstable("physics became unstable")

    monkeypatch.setattr(demos, "_played", unstable)
    assert record_episode(SEED, Recording(size=64)) is None


def test_recordings_of_two_seeds_share_no_episode(tmp_path, monkeypatch):
    tables = {0: [], 1: [], RECORDINGS - 1: []}

    def failed(seed, recording):
        tables[recording.seed].append(seed)

    monkeypatch.setattr(demos, "TABLES", 50)
    monkeypatch.setattr(demos, "record_episode", failed)
    for seed in tables:
        with pytest.raises(ValueError, match=f"0 episodes and no more tables of seed {seed}, exp"):
            record(tmp_path / str(seed), 1, Recording(size=64, seed=seed), 1)
    played = [seed for of_one in tables.values() for seed in of_one]
    assert len(played) == len(set(played)) == 150
    assert list(_episodes(iter(()), Recording(), 2)) == []
    assert all(seed in split.TRAIN_SEEDS and seed not in split.TEST_SEEDS for seed in played)


def test_no_recording_has_seeds_of_another():
    first, second, last = (Recording(seed=seed).seeds for seed in (0, 1, RECORDINGS - 1))
    assert first[0] == SEED and first.stop == second.start and len(first) == len(last) == 100_000
    assert last.start > second.start and last[-1] in split.TRAIN_SEEDS


def test_recorded_episodes_are_the_experts_and_end_when_it_is_done(folder):
    found = Episodes(folder)
    for episode in range(len(found)):
        steps = [found.read(episode, i) for i in range(int(found.lengths[episode]))]
        done = [bool(step.values["next.done"][0]) for step in steps]
        assert done == [False] * (len(done) - 1) + [True]
        state = np.array([step.values["observation.state"] for step in steps])
        action = np.array([step.values["action"] for step in steps])
        # The hand went where the action said: it was along it, wherever that was far.
        moved, asked = np.diff(state[:, :3], axis=0), action[:-1, :3]
        far = np.linalg.norm(moved, axis=1) > 0.03
        assert far.any() and ((moved * asked).sum(1)[far] > 0).all()
        up, closed = state[-1, 2:]
        assert steps[0].images[CAMERA].shape == (64, 64, 3)
        assert steps[0].images[CAMERA].std() > 10
        task = parse_task(steps[0].task, split.object_name)
        assert task.object in split.ROBOT_NAMES
        plans = [step.values["plan"][0] for step in steps]
        assert plans[-1].endswith("done") and not any(p.endswith("done") for p in plans[:-1])
        if task.kind == "pick":
            assert up > 0.15 and 0.25 < closed < 0.6  # with a block in the hand
            assert re.match(rf"{task.object} \d+ \d+ at \d+ \d+ off \d+ \d+ take ", plans[0])


def test_a_recorded_frame_is_a_valid_answer(folder):
    source = LeRobotSource(folder, size=64)
    for index in range(source.count):
        (query,) = source.frame(index).queries
        parsed = parse(query.answer, SPACE)
        assert parsed.action is not None, parsed.reason
        plan = PLAN.fullmatch(parsed.plan)
        assert plan is not None, parsed.plan
        assert {plan["thing"], plan["target"] or plan["thing"]} <= set(split.ROBOT_NAMES)
        assert max(int(n) for n in re.findall(r"\d+", parsed.plan)) <= 255


def test_a_seed_is_one_episode_whenever_it_is_played(folder):
    seed = Episodes(folder, extra=("seed",)).extra["seed"][1]
    recording = Recording(size=64, tasks=ASKED, validation=1)
    record_episode(seed + 1, recording)
    again = record_episode(seed, recording)
    found = Episodes(folder)
    assert again is not None and again.task == found.task(1, 0)
    assert len(again) == found.lengths[1]
    rows = slice(found.row(1, 0), found.row(1, 0) + len(again))
    stored = found.column("observation.state")[rows]
    np.testing.assert_allclose(again.columns["observation.state"], stored, atol=1e-4)


def test_a_hand_that_is_asked_to_open_is_closed_before():
    seeds = range(SEED, SEED + 8)
    assert {scenario(seed, ("open",)).opening for seed in seeds} == {0.0}
    assert {scenario(seed, ("close", "pick")).opening for seed in seeds} == {0.08}


def test_scenes_are_of_robot_objects_in_their_own_words():
    kinds, understood = set(), 0
    for seed in range(SEED, SEED + 200):
        made = scenario(seed, TASKS)
        names = [placement.name for placement in made.layout]
        assert set(names) <= set(split.ROBOT_NAMES)
        assert {made.task.object, made.task.target} - {""} <= set(names)
        try:
            assert parse_task(made.instruction, split.object_name) == made.task
            understood += 1
        except UnknownTask:  # one of OTHER_PHRASES; it names its things all the same
            for what in map(by_name, made.task.things):
                called = (*split.names(what), *split.names(what, chinese=True))
                assert any(name in made.instruction for name in called), made.instruction
        kinds.add(made.task.kind)
    assert kinds == set(TASKS) and understood > 120


@pytest.mark.parametrize(
    "values, message",
    [
        ({"size": 63}, "size is 63; expected an even number"),
        ({"seed": -1}, "seed is -1; expected 0"),
        ({"seed": RECORDINGS}, f"seed is {RECORDINGS}; expected 0..{RECORDINGS - 1}"),
        ({"tasks": ("fly",)}, "expected some of pick, near, on, push left"),
    ],
)
def test_a_recording_that_cannot_be_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Recording(**values)


def test_a_recording_that_would_leave_nothing_to_train_on_is_refused_at_the_start(tmp_path):
    folder = tmp_path / "set"
    for few in ("2", "20"):
        with pytest.raises(ValueError, match=f"validation is 20; .* than the episodes, {few}"):
            main(["--out", str(folder), "--episodes", few, "--processes", "1"])
    assert not folder.exists()
