# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import cv2
import numpy as np
import pytest

from rt2_ros import film
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


@pytest.fixture
def no_fonts(monkeypatch, tmp_path):
    """The folder where fonts are looked for, empty."""
    monkeypatch.setattr(film, "FONTS", (tmp_path,))
    film._chinese_font.cache_clear()
    yield tmp_path
    film._chinese_font.cache_clear()


def test_a_caption_in_chinese_is_written_with_a_font_that_has_it_or_called_so(no_fonts):
    blank = np.zeros((192, 256, 3), np.uint8)
    said, called = '"拿起香蕉"  3.2 s', '"(in Chinese)"  3.2 s'
    assert np.array_equal(captioned(blank, said), captioned(blank, called))

    matplotlib = pytest.importorskip("matplotlib")
    font = no_fonts / "truetype" / "wqy" / "wqy-microhei.ttc"  # the name of one that has
    font.parent.mkdir(parents=True)
    font.symlink_to(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))
    film._chinese_font.cache_clear()
    assert not np.array_equal(captioned(blank, said), captioned(blank, called))


@pytest.mark.parametrize("text", ["", "\n", "Plan: banana 131 87 take. " * 40, "pick up\nthe cup"])
def test_a_caption_may_be_anything(text):
    blank = np.zeros((192, 256, 3), np.uint8)
    assert captioned(blank, text).any() == bool(text.strip())


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
