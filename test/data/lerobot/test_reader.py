# SPDX-License-Identifier: Apache-2.0
"""Any frame at once; what is wrong is said with file and frame."""

import json
import multiprocessing
import pickle

import numpy as np
import pyarrow.parquet as pq
import pytest

from rt2_ros.data.faults import BadSample
from rt2_ros.data.lerobot import Episodes
from rt2_ros.data.lerobot.video import VideoReader, VideoWriter

from .conftest import CAMERA, SIDE, grey

LENGTHS = [3, 5, 4, 2, 6]


def test_frames_are_the_same_in_whatever_order_they_are_read(write):
    found = Episodes(write(LENGTHS))
    places = [(e, i) for e, length in enumerate(LENGTHS) for i in range(length)]
    random = np.random.default_rng(0)
    for index in [*range(len(places)), *random.integers(0, len(places), 60)]:
        episode, frame = places[index]
        step = found.read(episode, frame)
        image = step.images[CAMERA]
        assert image.shape == (SIDE, SIDE, 3) and image.dtype == np.uint8
        assert abs(image.astype(int) - grey(episode, frame)).max() <= 2
        assert step.task == f"pick up thing {episode}"
        assert step.values["observation.state"].tolist() == [frame / 16 + episode] * 4
        assert step.values["action"][0] == frame / 64


def test_a_frame_that_is_not_there_is_an_index_error(write):
    found = Episodes(write([3, 2]))
    for place in ((0, 3), (2, 0), (-1, 0), (0, -1)):
        with pytest.raises(IndexError):
            found.read(*place)


def test_films_are_found_by_time_with_any_key_frame_distance(tmp_path, monkeypatch):
    from rt2_ros.data.lerobot import video

    monkeypatch.setattr(video, "KEY_EVERY", 7)
    with VideoWriter(tmp_path / "a.mp4", fps=30) as film:
        for i in range(40):
            film.add(np.full((16, 16, 3), 6 * i, np.uint8))
    reader = VideoReader()
    for i in (0, 39, 3, 4, 4, 12, 11, 38):
        assert reader.read(tmp_path / "a.mp4", i / 30).mean() == pytest.approx(6 * i, abs=2)


def test_few_files_stay_open_and_each_is_read_right(tmp_path):
    for number in range(4):
        with VideoWriter(tmp_path / f"{number}.mp4", fps=4) as film:
            film.add(np.full((16, 16, 3), 50 * number, np.uint8))
    reader = VideoReader(open_files=2)
    for number in (0, 1, 2, 3, 0, 3, 1):
        value = reader.read(tmp_path / f"{number}.mp4", 0.0).mean()
        assert value == pytest.approx(50 * number, abs=2)
        assert len(reader._open) <= 2


def _read_elsewhere(found, queue):
    queue.put([int(found.image(CAMERA, 1, i).mean()) for i in (4, 0, 2)])


def test_a_forked_process_reads_with_files_of_its_own(write):
    """A file position that two processes share would give each the other's pictures."""
    found = Episodes(write(LENGTHS))
    found.image(CAMERA, 1, 1)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_read_elsewhere, args=(found, queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for _ in workers:
        assert queue.get(timeout=30) == pytest.approx([grey(1, 4), grey(1, 0), grey(1, 2)], abs=2)
    for worker in workers:
        worker.join(10)
    assert found.image(CAMERA, 1, 2).mean() == pytest.approx(grey(1, 2), abs=2)
    again = pickle.loads(pickle.dumps(found))
    assert again.image(CAMERA, 0, 1).mean() == pytest.approx(grey(0, 1), abs=2)


def test_a_missing_film_is_told_with_file_and_frame(write):
    folder = write([3, 2, 4])
    path = folder / f"videos/{CAMERA}/chunk-000/file-000.mp4"
    path.unlink()
    found = Episodes(folder)
    with pytest.raises(BadSample, match=r"file-000.mp4, frame 4: no such file"):
        found.image(CAMERA, 1, 1)
    assert found.image(CAMERA, 2, 3).mean() == pytest.approx(grey(2, 3), abs=2)


def test_a_corrupt_film_is_told_with_file_and_frame(write):
    folder = write([3, 2])
    path = folder / f"videos/{CAMERA}/chunk-000/file-000.mp4"
    whole = path.read_bytes()
    path.write_bytes(b"no film" * 100)
    with pytest.raises(BadSample, match=r"file-000.mp4, frame 1: cannot be decoded"):
        Episodes(folder).image(CAMERA, 0, 1)
    path.write_bytes(whole[: len(whole) // 2])  # as a full disk leaves it
    with pytest.raises(BadSample, match=r"file-000.mp4, frame 1: "):
        Episodes(folder).image(CAMERA, 0, 1)


def test_damage_inside_a_film_is_told_and_never_made_up_for(tmp_path):
    path, random = tmp_path / "film.mp4", np.random.default_rng(0)
    coarse = random.integers(0, 255, (12, 12, 3), dtype=np.uint8)
    image = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    with VideoWriter(path, fps=4) as film:
        for shift in range(20):
            film.add(np.roll(image, 3 * shift, axis=1))
    whole = path.read_bytes()
    reader = VideoReader()
    pictures = [reader.read(path, i / 4) for i in range(20)]
    begin, end = whole.index(b"mdat"), whole.index(b"moov")
    for part in (0.3, 0.5, 0.7, 0.9):
        place = begin + int(part * (end - begin))
        torn = bytes(255 - byte for byte in whole[place : place + 8])
        damaged = tmp_path / f"{part}.mp4"
        damaged.write_bytes(whole[:place] + torn + whole[place + 8 :])
        told = 0
        for number, picture in enumerate(pictures):
            try:
                np.testing.assert_array_equal(reader.read(damaged, number / 4), picture)
            except BadSample as error:
                assert "cannot be decoded" in str(error)
                told += 1
        assert 1 <= told <= 4  # and reading goes on


def test_whether_a_picture_is_damaged_does_not_depend_on_the_one_read_before(tmp_path):
    """Pictures between are decoded through, damage there too, though a key frame lies behind it."""
    path, random = tmp_path / "film.mp4", np.random.default_rng(0)
    with VideoWriter(path, fps=4) as film:
        for _ in range(12):
            coarse = random.integers(0, 255, (12, 12, 3), np.uint8)
            film.add(np.kron(coarse, np.ones((8, 8, 1), np.uint8)))
    data = bytearray(path.read_bytes())
    place = (data.index(b"mdat") + data.index(b"moov")) // 2
    data[place : place + 8] = bytes(255 - byte for byte in data[place : place + 8])
    path.write_bytes(data)

    def bad(numbers, reader=None):
        found = set()
        for number in numbers:
            try:
                (reader or VideoReader()).read(path, number / 4, number)
            except BadSample as error:
                assert error.frame == number
                found.add(number)
        return found

    alone = bad(range(12))
    assert 1 <= len(alone) <= 2
    for first in range(3):
        for step in (1, 2, 3, 5, 7):
            numbers = range(first, 12, step)
            assert bad(numbers, VideoReader()) == alone & set(numbers), (first, step)


def test_a_film_that_is_too_short_never_gives_another_frame(write):
    folder = write([3, 2])
    path = folder / f"videos/{CAMERA}/chunk-000/file-000.mp4"
    with VideoWriter(path, fps=4) as film:
        for _ in range(4):
            film.add(np.zeros((SIDE, SIDE, 3), np.uint8))
    found = Episodes(folder)
    with pytest.raises(BadSample, match=r"file-000.mp4, frame 4: has no picture at 1 s"):
        found.image(CAMERA, 1, 1)
    assert found.image(CAMERA, 1, 0).max() <= 2  # and reading goes on


@pytest.mark.parametrize(
    "change, message",
    [
        ({"codebase_version": "v2.1"}, "codebase_version is 'v2.1', expected 'v3.0'"),
        ({"fps": 0}, "fps is 0, expected > 0"),
        ({"splits": {"train": "0:9"}}, "splits.train is '0:9', expected episodes of 0:2"),
        ({"splits": {"train": "all"}}, "splits.train is 'all', expected 'first:last'"),
        ({"total_episodes": 3}, "expected one row for each episode 0..2"),
        ({"features": {"action": {"dtype": "float32"}}}, "features.action: no shape"),
    ],
)
def test_a_description_that_is_wrong_is_refused_by_name(write, change, message):
    folder = write([3, 2])
    path = folder / "meta/info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=message):
        Episodes(folder)


def test_rows_that_are_missing_are_told_with_the_episode(write):
    folder = write([3, 2])
    path = folder / "data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(path).slice(0, 4), path)
    with pytest.raises(ValueError, match="episode 1 has 1 frames, expected 2"):
        Episodes(folder)
    path.write_bytes(b"PAR1 no parquet")
    with pytest.raises(ValueError, match=r"file-000.parquet"):
        Episodes(folder)


def test_a_camera_that_is_not_there_is_refused_with_those_that_are(write):
    with pytest.raises(
        ValueError, match=f"no video 'observation.images.wrist'; there are {CAMERA}"
    ):
        Episodes(write([2]), cameras=["wrist"])
