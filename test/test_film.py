# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest

from rt2_ros.film import Film, captioned, contact_sheet, evenly

GREY = np.full((48, 64, 3), 128, np.uint8)


def test_a_film_has_its_pictures_at_their_own_times(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "new" / "film.mp4"
    with Film(path) as film:
        for time_ms in (0, 100, 100, 350):  # the second of the same moment is left out
            film.add(GREY, time_ms)
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        assert container.streams.video[0].codec_context.name == "h264"
    assert [round(1000 * frame.time) for frame in frames] == [0, 100, 350]
    assert abs(frames[0].to_ndarray(format="rgb24").mean() - 128) < 4


def test_a_caption_leaves_the_middle_and_the_original_alone():
    before = GREY.copy()
    picture = captioned(np.tile(GREY, (4, 4, 1)), "pick up the banana", "0 127 255")
    assert picture.shape == (192, 256, 3)
    assert (picture[26:-26] == 128).all()
    assert picture[:26].min() < 128 < picture[:26].max()
    assert picture[-26:].max() > 128
    assert np.array_equal(GREY, before)


def test_evenly_keeps_first_and_last():
    assert evenly(range(11), 6) == [0, 2, 4, 6, 8, 10]
    assert evenly([1, 2], 6) == [1, 2]


def test_a_contact_sheet_has_a_row_for_each_list(tmp_path):
    path = tmp_path / "sheet.png"
    contact_sheet(path, [[GREY, GREY], [GREY]], gap=2)
    sheet = cv2.imread(str(path))
    assert sheet.shape == (2 * 50 + 2, 2 * 66 + 2, 3)
    assert (sheet[2:50, 2:66] == 128).all()
    assert (sheet[52:100, 68:132] == 255).all()  # the missing tile
    contact_sheet(path, [[], [GREY]], gap=2)
    assert cv2.imread(str(path)).shape == (2 * 50 + 2, 66 + 2, 3)
    contact_sheet(path, [[]])
    assert not path.exists()
