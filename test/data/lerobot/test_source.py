# SPDX-License-Identifier: Apache-2.0
"""Episodes as samples: what an action means is said, and what does not fit is told, not clipped."""

import json
import math
import re
import warnings
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from rt2_ros.actions import STATE_NAMES, ActionSpace
from rt2_ros.data.faults import BadSample
from rt2_ros.data.files import lerobot
from rt2_ros.data.lerobot import Episode, Episodes, EpisodeWriter
from rt2_ros.data.lerobot.actions import ActionMeaning, space_of
from rt2_ros.data.lerobot.source import LeRobotSource
from rt2_ros.paths import config_path

from .conftest import CAMERA, FEATURES, make_episode

SPACE = ActionSpace(
    name="test", frame="base", low=(0, -1, -1, -1, -1, -1, -1, 0), high=(1,) * 8,
    state_low=(0, 0, 0, 0), state_high=(4, 4, 4, 4),
)  # fmt: skip


def save(folder, action, state=None, features=FEATURES, **options):
    """One dataset of one episode for each (T, D) action."""
    width = action[0].shape[1]
    features = {**features, "action": {"dtype": "float32", "shape": [width], "names": None}}
    if state is not None:
        shape = [state[0].shape[1]]
        features["observation.state"] = {"dtype": "float32", "shape": shape, "names": None}
    with EpisodeWriter(folder, fps=4, features=features, robot_type="arm", **options) as writer:
        for number, rows in enumerate(action):
            base = make_episode(number, len(rows))
            columns = {name: base.columns[name] for name in features} | {"action": rows}
            if state is not None:
                columns["observation.state"] = state[number]
            writer.add(Episode(base.task, columns))
    return folder


def test_a_frame_becomes_picture_prompt_and_bins(write):
    source = LeRobotSource(write([3, 2]), holdout=0, size=16, space=SPACE)
    assert source.count == 5
    frame = source.frame(1)
    assert frame.image.shape == (16, 16, 3) and abs(frame.image.astype(int) - 5).max() <= 2
    assert frame.things == () and not frame.labelled
    (query,) = frame.queries
    # State 1/16 of 0..4 is bin 4 (3.98); dx 1/64 of -1..1 is bin 129 (129.49); gripper 1.
    assert query.prompt == (
        "Q: what action should the robot take to pick up thing 0? State: 4 4 4 4. A:"
    )
    assert query.answer == "0 129 127 127 127 127 127 255" and query.kind == "robot"
    assert source.frame(4).queries[0].answer == "1 129 127 127 127 127 127 255"  # next.done
    assert frame.origin.endswith("data/chunk-000/file-000.parquet, episode 0, frame 1")


def test_every_frame_is_drawn_and_the_generator_alone_says_which(write):
    folder = write([3, 2])
    one, two = (LeRobotSource(folder, holdout=0, space=SPACE) for _ in range(2))
    a, b = np.random.default_rng(1), np.random.default_rng(1)
    origins = [one(a).origin for _ in range(60)]
    assert origins == [two(b).origin for _ in range(60)]
    assert len(set(origins)) == 5


def test_validation_is_by_episode_and_never_trained_on(write, tmp_path):
    told = write([2, 2, 2, 2], folder=tmp_path / "told", validation=1)
    untold = write([2, 2, 2, 2], folder=tmp_path / "untold")

    def episodes(folder, split, **options):
        source = LeRobotSource(folder, split=split, space=SPACE, **options)
        return {source.locate(i)[0] for i in range(source.count)}

    assert episodes(told, "train") == {1, 2, 3} and episodes(told, "val") == {0}
    assert episodes(untold, "train", holdout=0.3) == {0, 1}
    assert episodes(untold, "val", holdout=0.3) == {2, 3}
    with pytest.raises(ValueError, match="no episode is in the split 'val'"):
        episodes(untold, "val", holdout=0)


def test_episodes_of_other_splits_are_neither_trained_on_nor_validation(write):
    folder = write([2] * 6)
    path = folder / "meta/info.json"
    info = json.loads(path.read_text())

    def episodes(splits, split):
        path.write_text(json.dumps(info | {"splits": splits}))
        source = LeRobotSource(folder, split=split, holdout=0.25, space=SPACE)
        return {source.locate(i)[0] for i in range(source.count)}

    tested = {"test": "0:2", "train": "2:6"}
    assert episodes(tested, "train") == {2, 3, 4} and episodes(tested, "val") == {5}
    named = {"train": "0:3", "validation": "3:5", "test": "5:6"}
    assert episodes(named, "train") == {0, 1, 2} and episodes(named, "val") == {3, 4}
    assert episodes({"val": "3:5"}, "val") == {3, 4}
    for split in ("train", "val"):
        with pytest.raises(ValueError, match="info.json: splits train and val share episodes"):
            episodes({"train": "0:6", "val": "4:6"}, split)


def test_a_plan_begins_the_answer(tmp_path):
    features = {**FEATURES, "plan": {"dtype": "string", "shape": [1], "names": None}}
    with EpisodeWriter(tmp_path, fps=4, features=features, robot_type="panda") as writer:
        episode = make_episode(0, 2)
        plans = np.array([["key 38 109"], ["key 39 110"]], object)
        writer.add(Episode(episode.task, {**episode.columns, "plan": plans}))
    source = LeRobotSource(tmp_path, holdout=0, space=SPACE)
    answer = "Plan: key 39 110. Action: 1 129 127 127 127 127 127 255"
    assert source.frame(1).queries[0].answer == answer


def rewrite(folder, name, change):
    """Change the list that a column of the first file is."""
    path = folder / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    values = table[name].to_pylist()
    change(values)
    pq.write_table(table.set_column(table.column_names.index(name), name, [values]), path)


@pytest.mark.parametrize("missing", [[""], [" "], [None], [None, None, None]])
def test_a_frame_without_a_plan_has_its_action_alone(tmp_path, missing):
    features = {**FEATURES, "plan": {"dtype": "string", "shape": [1], "names": None}}
    with EpisodeWriter(tmp_path, fps=4, features=features, robot_type="panda") as writer:
        episode = make_episode(0, 3)
        plans = np.array([["key 38 109"]] * 3, object)
        writer.add(Episode(episode.task, {**episode.columns, "plan": plans}))
    rewrite(tmp_path, "plan", lambda values: values.__setitem__(slice(len(missing)), missing))
    source = LeRobotSource(tmp_path, holdout=0, space=SPACE)
    answers = [source.frame(i).queries[0].answer for i in range(3)]
    planned = [answer.startswith("Plan: key 38 109. Action: ") for answer in answers]
    assert planned == [False] * len(missing) + [True] * (3 - len(missing))
    assert answers[0] == "0 127 127 127 127 127 127 0"


def test_an_action_outside_the_space_is_told_with_file_and_frame(tmp_path):
    rows = np.zeros((3, 7))
    rows[1, 2] = 1.01
    rows[2, 0] = 1 + 1e-6  # rounding
    source = LeRobotSource(save(tmp_path, [np.zeros((2, 7)), rows]), holdout=0, space=SPACE)
    with pytest.raises(
        BadSample,
        match=r"file-000.parquet, episode 1, frame 1: action dz is 1.01 m, expected -1 to 1",
    ) as told:
        source.frame(3)
    assert (told.value.file[-9:], told.value.frame) == ("episode 1", 1)
    assert source.frame(4).queries[0].answer.startswith("1 255 127")
    clipping = LeRobotSource(tmp_path, holdout=0, space=SPACE, tolerance=0.01)
    assert clipping.frame(3).queries[0].answer == "0 127 127 255 127 127 127 0"


def test_a_gripper_is_open_also_where_its_sensor_says_a_little_more(tmp_path):
    rows = np.zeros((2, 7))
    rows[:, 6] = [-5e-4, 1.0005]
    source = LeRobotSource(save(tmp_path, [rows]), holdout=0, space=SPACE)
    answers = [source.frame(i).queries[0].answer for i in range(2)]
    assert [answer.split()[-1] for answer in answers] == ["0", "255"]


@pytest.mark.parametrize("gripper", [1.2, -0.1])
def test_a_gripper_beyond_open_and_closed_is_never_clipped(tmp_path, gripper):
    rows = np.zeros((2, 7))
    rows[0, 6] = gripper
    source = LeRobotSource(save(tmp_path, [rows]), holdout=0, space=SPACE, tolerance=10)
    with pytest.raises(BadSample, match=f"frame 0: action gripper is {gripper}"):
        source.frame(0)


def test_a_number_that_is_none_is_told(tmp_path):
    folder = save(tmp_path, [np.zeros((3, 7))], [np.tile([[0.0], [1.0], [0.5]], 4)])
    for name, frame, place in (("action", 1, 3), ("action", 2, 6), ("observation.state", 0, 3)):
        value = -math.inf if place == 6 else math.nan
        rewrite(folder, name, lambda rows, f=frame, p=place, v=value: rows[f].__setitem__(p, v))
    given = LeRobotSource(folder, holdout=0, space=SPACE, tolerance=np.inf)
    # Where the ranges are the data's own, they are those of what is finite.
    own = lerobot(folder, holdout=0, frame="base", state=(0, 1, 2, 3))
    assert own.gripper == (0, 0) and own.closedness == (0.5, 1)
    for source in (given, own):
        for frame, message in ((0, "not finite"), (1, "action drx is nan"), (2, "gripper is -inf")):
            with pytest.raises(BadSample, match=f"parquet, episode 0, frame {frame}: .*{message}"):
                source.frame(frame)
    rewrite(folder, "action", lambda rows: [row.__setitem__(0, math.nan) for row in rows])
    with pytest.raises(ValueError, match="info.json: action has no row of finite numbers; expect"):
        lerobot(folder, holdout=0, frame="base")


def test_the_datasets_own_action_space_is_used(write):
    folder = write([2])
    SPACE.save(folder / "action_space.json")
    assert LeRobotSource(folder, holdout=0).space == SPACE


def test_a_frame_of_reference_is_never_guessed(write):
    with pytest.raises(ValueError, match="action_space.json: no such file; expected it, or a `f"):
        LeRobotSource(write([2]))


def test_an_action_may_last_several_frames(tmp_path):
    """Two turns about other axes: what comes of both is not their sum. The last frames of an
    episode have fewer left, and the last one ends it: a controller that is told the end does no
    more, and before it the hand may still open.
    """
    quarter = math.pi / 2
    rows = np.zeros((4, 7))
    rows[:, 0] = 0.01, 0.02, 0.03, 0.04
    rows[0, 3], rows[1, 4], rows[:, 6] = quarter, quarter, (0, 1, 0, 1)
    found = Episodes(save(tmp_path, [rows, rows[:1]]))
    steps = ActionMeaning(step=0.55).steps(found)  # at 4 frames a second
    np.testing.assert_allclose(steps[:, 1], [0.03, 0.05, 0.07, 0.04, 0.01], atol=1e-6)
    # About x, then about y of the base: by 120 degrees about (1, 1, -1).
    turned = 2 * math.pi / 3 / math.sqrt(3) * np.array([1, 1, -1])
    np.testing.assert_allclose(steps[0, 4:7], turned, atol=1e-6)
    np.testing.assert_allclose(steps[1, 4:7], [0, quarter, 0], atol=1e-6)
    assert steps[:, 7].tolist() == [0, 1, 0, 1, 0] and steps[:, 0].tolist() == [0, 0, 0, 1, 1]
    np.testing.assert_array_equal(
        ActionMeaning().steps(found), ActionMeaning(step=0.3).steps(found)
    )
    with pytest.raises(ValueError, match="step is -1; expected seconds, 0 or more"):
        ActionMeaning(step=-1)


def test_of_targets_the_last_frame_s_counts(tmp_path):
    state = np.zeros((3, 6))
    state[:, 0] = 0.1, 0.2, 0.3
    rows = np.zeros((3, 7))
    rows[:, 0] = 0.2, 0.3, 0.4
    found = Episodes(save(tmp_path, [rows], [state]))
    steps = ActionMeaning("absolute_ee", step=0.5).steps(found)
    np.testing.assert_allclose(steps[:, 1], [0.2, 0.2, 0.1], atol=1e-6)


@pytest.mark.parametrize("step", [0.0, 0.3])
def test_steps_that_are_short_for_a_robot_are_told(write, step):
    folder = write([3], fps=30)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lerobot(str(folder), holdout=0, frame="base", step=step)
    said = [
        str(w.message) for w in caught if "a step of 0.033 s, as it has 30 fr" in str(w.message)
    ]
    assert len(said) == (not step)


def test_a_space_of_quantiles_is_that_of_the_data(tmp_path):
    rows = np.zeros((200, 7))
    rows[:, 0] = np.arange(200) / 100
    folder = save(tmp_path, [rows])
    found = Episodes(folder)
    meaning = ActionMeaning()
    space = space_of(found, meaning.steps(found), frame="base", state=(0, 2))
    assert space.low[1] == pytest.approx(0.0199) and space.high[1] == pytest.approx(1.9701)
    assert (space.low[2], space.high[2]) == (-0.001, 0.001)  # never moves, and says so
    assert (space.low[7], space.high[7]) == (0.0, 1.0)
    assert space.state_names == ("x", "z") and len(space.state_low) == 2
    policies = space_of(found, meaning.steps(found), frame="base", state=(0, 1, 2, 3))
    assert policies.state_names == STATE_NAMES  # as a policy is told, whatever the data's are
    path = folder / "meta/stats.json"
    told = json.loads(path.read_text())
    told["action"]["q99"][0] = 1.5  # a mean of the episodes' quantiles, as lerobot writes it
    path.write_text(json.dumps(told))
    found = Episodes(folder)
    space = space_of(found, meaning.steps(found), frame="base")
    assert space.high[1] == pytest.approx(1.9701)
    path.unlink()  # older datasets tell none
    source = LeRobotSource(folder, holdout=0, frame="base")
    assert source.frame(199).queries[0].answer.split()[1] == "255"  # beyond 99 %: the nearer end


def test_the_space_of_a_run_is_kept_when_episodes_are_added(tmp_path):
    """By the way out that a run names which is started again then."""
    rows = np.zeros((200, 7))
    rows[:, 0] = np.arange(200) / 100
    before = lerobot(save(tmp_path / "before", [rows]), frame="base", holdout=0)
    before.space.save(tmp_path / "kept.json")
    folder = save(tmp_path / "after", [rows, 3 * rows])
    assert lerobot(folder, frame="base", holdout=0).space.high[1] > 2 * before.space.high[1]
    after = lerobot(folder, space=str(tmp_path / "kept.json"), holdout=0, tolerance=np.inf)
    assert after.space == before.space
    for index in (0, 100, 199):
        assert after.frame(index).queries[0].answer == before.frame(index).queries[0].answer
    assert after.frame(399).queries[0].answer.split()[1] == "255"


def test_poses_become_steps_from_where_the_hand_was(tmp_path):
    half = np.pi / 2
    state = np.array([[0.5, 0, 0.2, np.pi, 0, 0], [0.5, 0, 0.2, 0, 0, half], [0, 0, 0, 0, 0, 3.0]])
    # The same pose, further along x; a quarter turn about the base's x; the short way round.
    target = np.array([
        [0.6, 0, 0.2, np.pi, 0, 0, 0.08],
        [0.5, 0, 0.2, *turned(half), 0.0],
        [0, 0, 0, 0, 0, -3.0, 0.04],
    ])  # fmt: skip
    folder = save(tmp_path, [target], [state])
    meaning = ActionMeaning("absolute_ee", gripper=(0.08, 0.0))
    steps = meaning.steps(Episodes(folder))
    expected = [
        [0, 0.1, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, half, 0, 0, 1],
        [1, 0, 0, 0, 0, 0, 2 * np.pi - 6.0, 0.5],
    ]
    np.testing.assert_allclose(steps, expected, atol=2e-6)


def turned(half):
    """A quarter turn about z, then one about the base's x, as a rotation vector."""
    import pinocchio as pin

    return pin.log3(pin.exp3(np.array([half, 0, 0])) @ pin.exp3(np.array([0, 0, half])))


def test_columns_in_another_order_and_a_gripper_that_opens(tmp_path):
    rows = np.array([[1.0, 9, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [-1.0, 9, 0, 0, 0, 0, 0, 0]])
    features = {k: v for k, v in FEATURES.items() if k != "next.done"}
    folder = save(tmp_path, [rows], features=features)
    meaning = ActionMeaning(columns=(2, 3, 4, 5, 6, 7, 0), gripper=(1, -1))
    steps = meaning.steps(Episodes(folder))
    expected = [[0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0], [1, 0, 0, 0, 0, 0, 0, 1]]
    np.testing.assert_allclose(steps, expected, atol=1e-6)  # the last one ends the episode
    with pytest.raises(ValueError, match="action has 8 numbers, expected more than 8"):
        ActionMeaning(columns=(2, 3, 4, 5, 6, 7, 8)).steps(Episodes(folder))


@pytest.mark.parametrize(
    "values, message",
    [
        ({"kind": "joint_position"}, "action is 'joint_position'; expected delta_ee or absolute"),
        ({"columns": (0, 1)}, "columns is .*expected 7 numbers"),
        ({"gripper": (1, 1)}, "expected open and closed to differ"),
    ],
)
def test_a_meaning_that_is_none_is_refused_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        ActionMeaning(**values)


def test_a_gripper_in_other_units_is_not_taken_for_one_that_is_nearly_open(tmp_path):
    rows = np.zeros((4, 7))
    rows[:, 6] = [0.0, 0.04, 0.08, 0.08]
    folder = save(tmp_path / "metres", [rows])
    with pytest.raises(ValueError, match=r"numbers are 0 to 0.08, 8% of the way .*say which"):
        lerobot(folder, frame="base", holdout=0)
    with pytest.warns(UserWarning, match=r"8% of the way from open to closed where gripper is"):
        lerobot(folder, frame="base", holdout=0, gripper=(0, 1))
    said = lerobot(folder, frame="base", holdout=0, gripper=(0.08, 0.0))
    assert [said.frame(i).queries[0].answer.split()[-1] for i in (0, 2)] == ["255", "0"]
    still = lerobot(save(tmp_path / "still", [np.zeros((4, 7))]), frame="base", holdout=0)
    assert still.gripper == (0, 0)


def test_a_gripper_of_another_scale_is_refused_before_its_frames_are(tmp_path):
    rows = np.zeros((4, 7))
    rows[:, 6] = [-1.0, -1.0, 1.0, 1.0]
    folder = save(tmp_path, [rows])
    with pytest.raises(ValueError, match=r"numbers are -1 to 1, 200% of the way .*say which"):
        lerobot(folder, frame="base", holdout=0)
    said = lerobot(folder, frame="base", holdout=0, gripper=(-1, 1))
    assert [said.frame(i).queries[0].answer.split()[-1] for i in (0, 2)] == ["0", "255"]


@pytest.mark.parametrize(
    ("ends", "warned"), [((0, 0.4), 0), ((0, 1), 0), ((0, 0), 0), ((0, 0.08), 1), ((-1, 1), 1)]
)
def test_a_state_whose_gripper_is_in_other_units_is_told(tmp_path, ends, warned):
    """A policy is told its closedness, 0 to 1, whatever the data had."""
    rows = np.zeros((4, 7))
    rows[2:, 6] = 1
    state = np.zeros((4, 4))
    state[:, 3] = np.linspace(*ends, 4)
    folder = save(tmp_path, [rows], [state])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        lerobot(folder, frame="base", holdout=0, state=(0, 1, 2, 3))
    told = [w for w in said if "last number of the state is" in str(w.message)]
    assert len(told) == warned


def test_the_guides_line_for_a_folder_that_lerobot_recorded_is_taken(tmp_path):
    """The commented one of my-robot.yaml, which docs/training.md shows too."""
    text = config_path("training", "my-robot.yaml").read_text()
    shown = re.search(r"(?ms)^  # (mine: .*?\})$", text)[1].replace("\n  # ", "\n")
    guide = Path(__file__).parents[3] / "docs" / "training.md"
    assert " ".join(shown.split()) in " ".join(guide.read_text().split())
    values = yaml.safe_load(shown)["mine"]
    assert values.pop("type") == "lerobot"
    state = np.arange(32.0).reshape(4, 8) / 100
    target = state[:, :7] + [0.01, 0, 0, 0, 0, 0, 0]
    target[:, 6] = [0.08, 0, 0, 0.08]
    values["path"] = save(tmp_path, [target], [state])
    source = lerobot(**values, holdout=0)
    assert source.space.frame == "base_link" and len(source.space.state_low) == 4
    assert source.frame(1).queries[0].answer.split()[-1] == "255"  # closed


def test_two_robots_write_the_same_tokens_for_steps_of_their_own(tmp_path):
    small, large = (
        LeRobotSource(save(tmp_path / name, [np.full((100, 7), 0.0) + np.linspace(
            -reach, reach, 100)[:, None] * [1, 1, 1, 1, 1, 1, 0]]), holdout=0, frame=name)
        for name, reach in (("a", 0.02), ("b", 0.2))
    )  # fmt: skip
    assert small.space.high[1] == pytest.approx(large.space.high[1] / 10, rel=1e-3)
    assert small.frame(20).queries[0].answer == large.frame(20).queries[0].answer
    assert small.statistics["action"]["max"][0] == pytest.approx(0.02)
    assert small.space.frame == "a" and large.space.frame == "b"


def test_the_camera_that_is_named_is_looked_at(tmp_path):
    features = {**FEATURES, "observation.images.wrist": FEATURES[CAMERA]}
    with EpisodeWriter(tmp_path, fps=4, features=features, robot_type="panda") as writer:
        episode = make_episode(0, 2)
        wrist = 200 - episode.columns[CAMERA]
        columns = {**episode.columns, "observation.images.wrist": wrist}
        writer.add(Episode(episode.task, columns))
    for camera, level in (("wrist", 195), ("scene", 5), ("", 5)):
        source = LeRobotSource(tmp_path, holdout=0, space=SPACE, camera=camera)
        assert abs(source.frame(1).image.astype(int) - level).max() <= 2
        assert source.pictures == len(source.frame(1).pictures) == 1
    source = LeRobotSource(tmp_path, holdout=0, space=SPACE, camera=["wrist", "scene"])
    both = source.frame(1).pictures
    assert source.pictures == len(both) == 2
    for picture, level in zip(both, (195, 5), strict=True):
        assert abs(picture.astype(int) - level).max() <= 2
    with pytest.raises(ValueError, match=r"camera is \['wrist', 'wrist'\]; expected each once"):
        LeRobotSource(tmp_path, space=SPACE, camera=["wrist", "wrist"])
