# SPDX-License-Identifier: Apache-2.0
"""What is written is LeRobot's layout, and whatever stops the writer leaves a whole dataset."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from rt2_ros.data.lerobot import Episodes, EpisodeWriter
from rt2_ros.data.lerobot.statistics import PictureStatistics, describe

from .conftest import CAMERA, FEATURES, grey, make_episode


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_the_layout_is_that_of_lerobot_v3(write):
    folder = write([3, 2, 4])
    number = ["file-000", "file-001"]
    assert files(folder) == sorted([
        *(f"data/chunk-000/{n}.parquet" for n in number), "meta/info.json", "meta/stats.json",
        *(f"meta/episodes/chunk-000/{n}.parquet" for n in number), "meta/tasks.parquet",
        *(f"meta/picture_counts/chunk-000/{n}.json" for n in number),
        *(f"videos/{CAMERA}/chunk-000/{n}.mp4" for n in number),
    ])  # fmt: skip
    info = json.loads((folder / "meta/info.json").read_text())
    assert info["codebase_version"] == "v3.0" and info["fps"] == 4
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, 9, 3)
    assert info["splits"] == {"train": "0:3"}
    assert info["features"]["index"] == {"dtype": "int64", "shape": [1], "names": None}
    assert info["features"][CAMERA]["info"]["video.codec"] == "h264"


def test_rows_count_on_over_files(write):
    folder = write([3, 2, 4])
    data = pq.read_table(folder / "data/chunk-000/file-001.parquet").to_pydict()
    assert data["index"] == [5, 6, 7, 8]
    assert data["episode_index"] == [2] * 4
    assert data["frame_index"] == [0, 1, 2, 3]
    assert data["timestamp"] == [0.0, 0.25, 0.5, 0.75]
    assert data["task_index"] == [2] * 4
    assert data["next.done"] == [False, False, False, True]
    episodes = pq.read_table(folder / "meta/episodes/chunk-000/file-000.parquet").to_pydict()
    assert episodes["dataset_from_index"] == [0, 3] and episodes["dataset_to_index"] == [3, 5]
    assert episodes["tasks"] == [["pick up thing 0"], ["pick up thing 1"]]
    assert episodes[f"videos/{CAMERA}/from_timestamp"] == [0.0, 0.75]
    assert episodes[f"videos/{CAMERA}/to_timestamp"] == [0.75, 1.25]
    assert episodes["stats/action/max"][1][0] == 1 / 64
    assert episodes["seed"] == [100, 101]


def test_pandas_finds_a_task_by_its_text(write):
    import pandas

    tasks = pandas.read_parquet(write([3, 2]) / "meta/tasks.parquet")
    assert tasks.loc["pick up thing 1"].task_index == 1
    assert tasks.iloc[0].name == "pick up thing 0"


def test_a_task_that_comes_again_keeps_its_number(tmp_path):
    with EpisodeWriter(tmp_path, fps=4, features=FEATURES, robot_type="panda") as writer:
        for number, task in enumerate(["a", "b", "a"]):
            writer.add(make_episode(number, 2, task))
    found = Episodes(tmp_path)
    assert found.tasks == ("a", "b")
    assert [found.task(episode, 0) for episode in range(3)] == ["a", "b", "a"]


def test_a_writer_goes_on_as_if_it_had_never_stopped(write, tmp_path):
    whole = write([3, 2, 4, 2, 3], folder=tmp_path / "whole")
    parts = write([3, 2, 4, 2], folder=tmp_path / "parts")
    assert write([3], first=4, folder=tmp_path / "parts") == parts
    assert files(whole) == files(parts)
    for name in files(whole):
        a, b = whole / name, parts / name
        if name.endswith(".parquet"):
            assert pq.read_table(a).equals(pq.read_table(b)), name
        else:
            assert a.read_bytes() == b.read_bytes(), name


def test_what_was_not_finished_is_no_episode_and_is_written_over(write, monkeypatch):
    folder = write([3, 2])
    from rt2_ros.data.lerobot import writer as module

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.EpisodeWriter, "_publish", killed)  # all moved, nothing told
        with pytest.raises(KeyboardInterrupt):
            write([4, 4], first=2)
    assert "data/chunk-000/file-001.parquet" in files(folder)
    found = Episodes(folder)
    assert len(found) == 2 and found.statistics["action"]["count"] == [5]
    write([2], first=2)
    found = Episodes(folder)
    assert found.lengths.tolist() == [3, 2, 2]
    assert found.image(CAMERA, 2, 1).mean() == pytest.approx(grey(2, 1), abs=2)
    assert found.statistics["action"]["count"] == found.statistics[CAMERA]["count"] == [7]


def test_who_is_interrupted_as_all_is_told_writes_nothing_twice(write, tmp_path, monkeypatch):
    folder = write([3, 2])
    from rt2_ros.data.lerobot import writer as module

    real = module.DatasetInfo.save

    def saved(info, folder):
        real(info, folder)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.DatasetInfo, "save", saved)
        with pytest.raises(KeyboardInterrupt):
            write([4, 4], first=2)
    found = Episodes(folder)
    assert found.lengths.tolist() == [3, 2, 4, 4]
    assert found.statistics["action"]["count"] == [13]
    write([2], first=4)
    assert Episodes(folder).lengths.tolist() == [3, 2, 4, 4, 2]


def test_validation_episodes_stay_what_they_were_when_more_are_recorded(write):
    folder = write([2, 2, 2], validation=2)
    assert Episodes(folder).info.splits == {"train": "2:3", "val": "0:2"}
    write([2, 2], first=3, validation=2)
    assert Episodes(folder).info.splits == {"train": "2:5", "val": "0:2"}
    with pytest.raises(ValueError, match="2 episodes are for validation, expected 1"):
        write([2], first=5, validation=1)


def test_a_folder_of_another_kind_is_refused(write):
    write([2])
    with pytest.raises(ValueError, match="fps is 4, expected 5; choose another folder"):
        write([2], first=1, fps=5)
    features = {**FEATURES, "action": {"dtype": "float32", "shape": [6], "names": None}}
    with pytest.raises(ValueError, match="features are"):
        write([2], first=1, features=features)


@pytest.mark.parametrize(
    "column, value, message",
    [
        ("action", np.zeros((3, 6)), r"action: frames of shape \(6,\), expected \(7,\)"),
        ("action", np.zeros((2, 7)), "action: 2 frames, expected 3"),
        ("observation.state", np.full((3, 4), np.nan), "observation.state, frame 0: .* not finite"),
    ],
)
def test_what_does_not_fit_the_features_is_refused_by_name(tmp_path, column, value, message):
    episode = make_episode(0, 3)
    writer = EpisodeWriter(tmp_path, fps=4, features=FEATURES, robot_type="panda")
    with pytest.raises(ValueError, match=message):
        writer.add(type(episode)(episode.task, {**episode.columns, column: value}))
    assert writer.episodes == 0


def test_statistics_of_numbers():
    found = describe(np.column_stack([np.arange(101.0), np.full(101, 7.0)]))
    assert found["q01"] == [1.0, 7.0] and found["q50"] == [50.0, 7.0] and found["q99"] == [99.0, 7]
    assert found["min"] == [0.0, 7.0] and found["max"] == [100.0, 7.0]
    assert found["std"] == pytest.approx([np.arange(101).std(), 0.0])
    assert found["count"] == [101]


def test_statistics_of_pictures_are_those_of_all_their_values():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    counted, rest = PictureStatistics(), PictureStatistics()
    counted.add(images[0])
    rest.add(images[1:])
    counted.merge(rest)
    found, values = counted.describe(), images.reshape(-1, 3) / 255
    assert found["count"] == [3]
    for name, expected in (
        ("mean", values.mean(0)), ("std", values.std(0)), ("min", values.min(0)),
        ("q10", np.quantile(values, 0.1, axis=0, method="inverted_cdf")),
        ("q99", np.quantile(values, 0.99, axis=0, method="inverted_cdf")),
    ):  # fmt: skip
        np.testing.assert_allclose(np.array(found[name]), expected.reshape(3, 1, 1), atol=1e-12)
