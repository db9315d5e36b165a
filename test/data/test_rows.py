# SPDX-License-Identifier: Apache-2.0
"""Questions and captions from three kinds of files; what is wrong is told with file and row."""

import io
import json
import tarfile

import cv2
import numpy as np
import pytest

from rt2_ros.data.faults import BadSample
from rt2_ros.data.files import FILES
from rt2_ros.data.rows import HuggingFaceRows, JsonLines, RowSource
from rt2_ros.data.tars import TarRows

RED, BLUE = (200, 30, 40), (20, 60, 210)


def png(colour, shape=(20, 30)):
    image = np.full((*shape, 3), colour, np.uint8)
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def jsonl(folder, rows):
    (folder / "a.png").write_bytes(png(RED))
    (folder / "b.png").write_bytes(png(BLUE))
    path = folder / "rows.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows) + "\n")
    return path


def random():
    return np.random.default_rng(0)


def test_questions_captions_and_several_questions(tmp_path):
    path = jsonl(tmp_path, [
        {"image": "a.png", "question": "what colour\nis it?", "answer": "red"},
        "",
        {"image": "b.png", "caption": " a blue  picture "},
        {"image": "b.png", "qa": [{"question": "blue?", "answer": "yes"},
                                  {"question": "how many?", "answer": 1}]},
    ])  # fmt: skip
    source = RowSource(JsonLines(path), size=16)
    assert source.count == 3
    frames = [source.frame(i, random()) for i in range(3)]
    asked = [sorted((q.prompt, q.answer, q.kind) for q in frame.queries) for frame in frames]
    assert asked == [
        [("Q: what colour is it? A:", "red", "web")],
        [("Q: describe the picture A:", "a blue picture", "web")],
        [("Q: blue? A:", "yes", "web"), ("Q: how many? A:", "1", "web")],
    ]
    for frame, colour in zip(frames, (RED, BLUE, BLUE), strict=True):
        assert frame.image.shape == (16, 16, 3)
        np.testing.assert_array_equal(frame.image, np.broadcast_to(colour, (16, 16, 3)))
        assert not frame.labelled and frame.things == ()
    assert frames[1].origin == f"{path}, row 1"


def test_lines_that_are_blank_hold_no_row_whatever_ends_them(tmp_path):
    path = jsonl(tmp_path, [])
    row = b'{"image": "a.png", "caption": "%d"}'
    path.write_bytes(b"\r\n".join([row % 0, b"", row % 1, b" \t", b"", row % 2]))
    source = RowSource(JsonLines(path), size=16)
    told = [source.frame(i, random()).queries[0].answer for i in range(source.count)]
    assert told == ["0", "1", "2"]


def test_of_many_questions_and_answers_some_are_drawn(tmp_path):
    several = [{"question": f"q{i}?", "answer": ["x", "y"]} for i in range(9)]
    path = jsonl(tmp_path, [{"image": "a.png", "qa": several}])
    source = RowSource(JsonLines(path), queries=4)
    draw = np.random.default_rng(0)
    frames = [source(draw) for _ in range(30)]
    for frame in frames:
        assert len({query.prompt for query in frame.queries}) == 4
    assert {q.prompt for f in frames for q in f.queries} == {f"Q: q{i}? A:" for i in range(9)}
    assert {q.answer for f in frames for q in f.queries} == {"x", "y"}


def test_each_question_of_a_few_comes_first_at_times(tmp_path):
    """Those that find no room behind their picture are not always the same."""
    several = [{"question": f"q{i}?", "answer": "x"} for i in range(5)]
    source = RowSource(JsonLines(jsonl(tmp_path, [{"image": "a.png", "qa": several}])))
    draw = np.random.default_rng(0)
    frames = [source(draw) for _ in range(60)]
    assert all(len({query.prompt for query in frame.queries}) == 5 for frame in frames)
    assert len({frame.queries[0].prompt for frame in frames}) == 5


def test_rows_that_are_held_out_are_no_others(tmp_path):
    path = jsonl(tmp_path, [{"image": "a.png", "caption": str(i)} for i in range(10)])
    options = {"holdout": 0.25, "size": 16}
    sources = [FILES["jsonl"](str(path), held_out=out, **options) for out in (False, True)]
    told = [
        [s.frame(i, random()).queries[0].answer for i in range(s.count)] for s in sources
    ]  # fmt: skip
    assert told == [list("0123456"), list("789")]


@pytest.mark.parametrize(
    "row, message",
    [
        ({"image": "c.png", "caption": "x"}, r"rows.jsonl, frame 1: image .*c.png: No such file"),
        ({"image": "rows.jsonl", "caption": "x"}, r"rows.jsonl, frame 1: is no picture"),
        ({"caption": "x"}, "image is None; expected a path"),
        ('{"image": "a.png", "caption"', r"rows.jsonl, frame 1: no JSON"),
        ("[1]", "expected a JSON object"),
        ({"image": "a.png"}, "row has image; expected question and answer, caption, or qa"),
        ({"image": "a.png", "question": "x?"}, "expected a question and an answer"),
        ({"image": "a.png", "question": "x?", "answer": " "}, "answer is ' '; expected text"),
        ({"image": "a.png", "question": " ", "answer": "x"}, "question: empty"),
        ({"image": "a.png", "question": "x?", "answer": []}, r"answer is \[\]; expected text"),
        ({"images": [], "caption": "x"}, "rows.jsonl, frame 1: row has no images; expected one"),
        ({"images": ["a.png", "c.png"], "caption": "x"}, "image .*c.png: No such file"),
        ({"image": "a.png", "qa": 3}, "rows.jsonl, frame 1: qa is 3; expected a list"),
        ({"image": "huge.jpg", "caption": "x"}, "huge.jpg, frame 1: is no picture"),
    ],
)
def test_a_row_that_is_wrong_is_told_and_others_are_read(tmp_path, row, message):
    path = jsonl(tmp_path, [{"images": ["a.png"], "caption": "fine"}, row])
    huge = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    size = huge.index(b"\xff\xc0") + 5  # height and width, of which one bit may be all that broke
    (tmp_path / "huge.jpg").write_bytes(huge[:size] + b"\xff\xdc\xff\xdc" + huge[size + 4 :])
    source = RowSource(JsonLines(path))
    with pytest.raises(BadSample, match=message):
        source.frame(1, random())
    assert source.frame(0, random()).queries[0].answer == "fine"


def shard(path, files):
    with tarfile.open(path, "w") as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_shards_give_a_sample_for_each_name(tmp_path):
    shard(tmp_path / "s-0.tar", [
        ("x/1.png", png(RED)), ("x/1.txt", b"a red picture"),
        ("x/2.b.png", png(BLUE)), ("x/2.json", b'{"question": "red?", "answer": "no"}'),
        ("y/2.png", png(BLUE)), ("y/2.txt", "蓝色".encode()),
    ])  # fmt: skip
    shard(tmp_path / "s-1.tar", [
        ("3.json", b'{"caption": "first"}'), ("3.left.png", png(RED)),
        ("4.txt", b"no picture"), ("5.PNG", png(BLUE)), ("5.json", b'{"caption": "last"}'),
    ])  # fmt: skip
    rows = TarRows(tmp_path / "s-*.tar")
    source = RowSource(rows, size=16)
    told = [source.frame(i, random()) for i in range(source.count)]
    assert [(f.queries[0].answer, tuple(f.image[0, 0])) for f in told] == [
        ("a red picture", RED), ("no", BLUE), ("蓝色", BLUE), ("first", RED), ("last", BLUE),
    ]  # fmt: skip


def test_a_broken_sample_of_a_shard_is_told(tmp_path):
    path = tmp_path / "s.tar"
    shard(path, [("1.png", b"no"), ("1.txt", b"x"), ("2.png", png(RED)), ("2.json", b"{"),
                 ("3.png", png(RED)), ("3.txt", b"x" * 9000),
                 ("4.jpg", png(RED)), ("4.mask.png", png(BLUE)),
                 ("4.txt", b"x" * 20_000)])  # fmt: skip
    source = RowSource(TarRows(path))
    with pytest.raises(BadSample, match=r"s.tar, frame 0: is no picture that can be decoded"):
        source.frame(0, random())
    with pytest.raises(BadSample, match=r"s.tar, frame 1: no JSON object"):
        source.frame(1, random())
    with pytest.raises(BadSample, match=r"s.tar, frame 3: a sample has 2 pictures; expected one"):
        source.frame(3, random())
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 36_000)
    with pytest.raises(BadSample, match=r"s.tar, frame 2: ends within a .txt file"):
        source.frame(2, random())


def test_no_shard_and_no_tar_are_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no such shard"):
        TarRows(tmp_path / "*.tar")
    (tmp_path / "a.tar").write_bytes(b"no tar" * 1000)
    with pytest.raises(ValueError, match="a.tar: .*expected a tar file"):
        TarRows(tmp_path / "a.tar")
    shard(tmp_path / "a.tar", [("1.txt", b"x")])
    with pytest.raises(ValueError, match="holds no picture"):
        TarRows(tmp_path / "a.tar")


def test_hugging_face_datasets_from_disk_and_from_parquet(tmp_path):
    import datasets

    features = datasets.Features({
        "picture": datasets.Image(), "question": datasets.Value("string"),
        "answer": datasets.List(datasets.Value("string")),
    })  # fmt: skip
    rows = {
        "picture": [{"bytes": png(RED), "path": None}, {"bytes": png(BLUE), "path": None}],
        "question": ["red?", "blue?"],
        "answer": [["yes"], ["sure"]],
    }
    made = datasets.Dataset.from_dict(rows, features=features)
    made.save_to_disk(str(tmp_path / "disk"))
    datasets.DatasetDict(dev=made).save_to_disk(str(tmp_path / "splits"))
    (tmp_path / "hub").mkdir()
    made.to_parquet(str(tmp_path / "hub" / "train-0.parquet"))
    for folder, split in (("disk", "train"), ("splits", "dev"), ("hub", "train")):
        source = RowSource(
            HuggingFaceRows(str(tmp_path / folder), split, {"image": "picture"}), size=16
        )
        assert source.count == 2
        frame = source.frame(1, random())
        assert tuple(frame.image[0, 0]) == BLUE
        assert [(q.prompt, q.answer) for q in frame.queries] == [("Q: blue? A:", "sure")]
    columns = {"image": "picture", "caption": "question", "question": "question"}
    twice = HuggingFaceRows(str(tmp_path / "disk"), columns=columns)
    assert len(RowSource(twice, size=16).frame(0, random()).queries) == 2
    with pytest.raises(ValueError, match="no column 'photo'; there are picture, question, answer"):
        HuggingFaceRows(str(tmp_path / "disk"), columns={"image": "photo"})
    with pytest.raises(BadSample, match="image is None; expected a picture"):
        RowSource(HuggingFaceRows(str(tmp_path / "disk"))).frame(0, random())


def test_hugging_face_lists_of_pictures(tmp_path):
    import datasets

    features = datasets.Features({
        "images": datasets.List(datasets.Image()), "caption": datasets.Value("string"),
    })  # fmt: skip
    red, blue = ({"bytes": png(colour), "path": None} for colour in (RED, BLUE))
    rows = {"images": [[blue], [red, blue]], "caption": ["blue", "both"]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path))
    source = RowSource(HuggingFaceRows(str(tmp_path)), size=16)
    assert tuple(source.frame(0, random()).image[0, 0]) == BLUE
    both = [tuple(picture[0, 0]) for picture in source.frame(1, random()).pictures]
    assert both == [RED, BLUE]


def test_grey_pictures_and_those_with_transparency_become_rgb(tmp_path):
    (tmp_path / "grey.png").write_bytes(cv2.imencode(".png", np.full((8, 8), 77, np.uint8))[1])
    (tmp_path / "clear.png").write_bytes(
        cv2.imencode(".png", np.full((8, 8, 4), (9, 8, 7, 0), np.uint8))[1]
    )
    path = jsonl(tmp_path, [{"image": n, "caption": "x"} for n in ("grey.png", "clear.png")])
    source = RowSource(JsonLines(path), size=8)
    assert tuple(source.frame(0, random()).image[0, 0]) == (77, 77, 77)
    assert tuple(source.frame(1, random()).image[0, 0]) == (7, 8, 9)
