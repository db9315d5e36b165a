# SPDX-License-Identifier: Apache-2.0
"""Questions and captions about pictures from files: JSONL, Hugging Face datasets, WebDataset tars.

    {"image": "dogs/1.jpg", "question": "how many dogs are there?", "answer": "2"}
    {"image": "dogs/1.jpg", "caption": "two dogs on a meadow"}
    {"image": "dogs/1.jpg", "qa": [{"question": "...", "answer": "..."}, ...]}
    {"images": ["dogs/1.jpg", "cats/1.jpg"], "question": "which one barks?", "answer": "the first"}

All three kinds of files give such rows, `RowSource` makes training samples of them. An answer may
be a list of answers, of which one is drawn each time. `images` are asked about together, in their
order.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from rt2_ros.actions import question_prompt
from rt2_ros.data.faults import BadSample
from rt2_ros.data.images import square
from rt2_ros.data.robot import SIZE
from rt2_ros.data.samples import Frame, Query

CAPTION = "describe the picture"  # what is asked where a row has a caption
MOST_QUERIES = 8  # of one picture at once


@dataclass(frozen=True)
class Row:
    """What a file says of a picture. images: uint8 RGB (H, W, 3), one or more."""

    images: tuple[NDArray[np.uint8], ...]
    values: Mapping[str, Any]


class Rows(Protocol):
    """Rows by their number."""

    @property
    def name(self) -> str:
        """The file, or whatever else they come from."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> Row:
        """One row. Raises BadSample naming file and row."""


class RowSource:
    """Samples drawn from rows at random."""

    def __init__(
        self, rows: Rows, *, size: int = SIZE, queries: int = MOST_QUERIES,
        caption: str = CAPTION, holdout: float = 0.0, held_out: bool = False,
    ) -> None:  # fmt: skip
        """size: of pictures, px; queries: of one picture at most; caption: the question that
        captions answer.

        holdout: share of the rows, the last ones, that are kept for validation: with `held_out`
            the source has these, else the others.
        """
        if queries < 1 or not 0 <= holdout < 1:
            raise ValueError(
                f"queries is {queries}, holdout {holdout}; expected at least 1, and 0..1"
            )
        self._rows, self._size, self._queries = rows, size, queries
        self._caption = question_prompt(caption)
        kept = len(rows) - math.ceil(holdout * len(rows))
        self._range = range(kept, len(rows)) if held_out else range(kept)
        if not len(self._range):
            raise ValueError(f"{rows.name}: no row of {len(rows)} is left with holdout {holdout}")

    @property
    def count(self) -> int:
        """How many pictures."""
        return len(self._range)

    def __call__(self, random: np.random.Generator) -> Frame:
        """Any picture with some of its questions."""
        return self.frame(int(random.integers(self.count)), random)

    def frame(self, index: int, random: np.random.Generator) -> Frame:
        """A picture by its number; the generator draws questions and answers.

        Raises:
            BadSample: naming file and row.
        """
        number = self._range[index]
        row = self._rows.read(number)
        if not row.images:
            raise BadSample(self._rows.name, "row has no images; expected one at least", number)
        try:
            pairs = _pairs(row.values, self._caption)
            # In any order: behind a picture there may be no room for the last ones.
            chosen = [pairs[i] for i in random.permutation(len(pairs))[: self._queries]]
            queries = tuple(Query(prompt, _one(random, told), "web") for prompt, told in chosen)
        except (ValueError, TypeError) as error:
            raise BadSample(self._rows.name, str(error), number) from error
        image, *others = (square(each, self._size) for each in row.images)
        origin = f"{self._rows.name}, row {number}"
        return Frame(image, queries, (), origin, labelled=False, others=tuple(others))


def _pairs(values: Mapping[str, Any], caption: str) -> list[tuple[str, Any]]:
    """Prompts and what answers them; ValueError says what is missing."""
    pairs: list[tuple[str, Any]] = []
    if values.get("caption") is not None:
        pairs.append((caption, values["caption"]))
    asked = [values] if values.get("question") is not None else []
    several = values.get("qa") or []
    if isinstance(several, Mapping):  # columns of lists, as Hugging Face datasets have them
        several = [
            dict(zip(several, row, strict=True)) for row in zip(*several.values(), strict=True)
        ]
    if not isinstance(several, Sequence):
        raise ValueError(f"qa is {several!r:.80}; expected a list of questions and answers")
    for entry in [*asked, *several]:
        if not isinstance(entry, Mapping) or not {"question", "answer"} <= set(entry):
            raise ValueError(f"{entry!r:.80}: expected a question and an answer")
        if not isinstance(entry["question"], str):
            raise ValueError(f"question is {entry['question']!r:.80}; expected text")
        pairs.append((question_prompt(entry["question"]), entry["answer"]))
    if not pairs:
        raise ValueError(
            f"row has {', '.join(map(str, values)) or 'nothing'}; expected question and answer, "
            "caption, or qa"
        )
    return pairs


def _one(random: np.random.Generator, told: Any) -> str:
    """An answer as one line of text; one of several at random."""
    if isinstance(told, Sequence) and not isinstance(told, str) and len(told):
        told = told[int(random.integers(len(told)))]
    if isinstance(told, bool) or not isinstance(told, (str, int, float)) or not str(told).strip():
        raise ValueError(f"answer is {told!r:.80}; expected text")
    return " ".join(str(told).split())


def decode(data: bytes, file: str | Path, row: int) -> NDArray[np.uint8]:
    """A picture file's bytes as uint8 RGB (H, W, 3), turned as its EXIF says."""
    image = None
    if data:
        with suppress(cv2.error):  # of a header that tells of an absurd size
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise BadSample(file, "is no picture that can be decoded", row)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


class JsonLines:
    """Rows of a JSONL file; pictures by paths, relative to the file or to `images`."""

    def __init__(self, path: str | Path, images: str | Path = "") -> None:
        self._path = Path(path)
        self._images = Path(images) if images else self._path.parent
        starts, place = [], 0
        try:
            with self._path.open("rb") as file:
                for line in file:
                    if line.strip():  # empty lines hold no row
                        starts.append(place)
                    place += len(line)
        except FileNotFoundError:
            raise FileNotFoundError(f"{self._path}: no such file") from None
        self._starts = np.array(starts, np.int64)  # forked workers share it

    @property
    def name(self) -> str:
        """The file."""
        return str(self._path)

    def __len__(self) -> int:
        """How many lines that are not empty."""
        return len(self._starts)

    def read(self, index: int) -> Row:
        """One line. Raises BadSample naming file and row, and the picture if it is that."""
        with self._path.open("rb") as file:
            file.seek(int(self._starts[index]))
            line = file.readline()
        try:
            values = json.loads(line)
        except ValueError as error:
            raise BadSample(self._path, f"no JSON: {error}", index) from error
        if not isinstance(values, dict):
            raise BadSample(self._path, f"{values!r:.60}: expected a JSON object", index)
        return Row(tuple(self._picture(p, index) for p in _listed(values)), values)

    def _picture(self, path: Any, index: int) -> NDArray[np.uint8]:
        if not isinstance(path, str) or not path:
            raise BadSample(self._path, f"image is {path!r:.60}; expected a path", index)
        whole = self._images / path
        try:
            return decode(whole.read_bytes(), whole, index)
        except OSError as error:
            raise BadSample(self._path, f"image {whole}: {error.strerror}", index) from error


def _listed(values: Mapping[str, Any]) -> Iterable[Any]:
    """What a row says its pictures are."""
    if "images" in values and isinstance(values["images"], Sequence):
        return values["images"]
    return [values.get("image")]


class HuggingFaceRows:
    """Rows of a Hugging Face dataset: a folder, a hub name, or parquet, json or csv files."""

    def __init__(
        self, path: str, split: str = "train", columns: Mapping[str, str] | None = None
    ) -> None:
        """columns: what image, question, answer, caption, qa are called there, where not so."""
        import datasets

        self._path, self._columns = path, dict(columns or {})
        if Path(path, "state.json").is_file():
            found = datasets.load_from_disk(path)
        elif Path(path, "dataset_dict.json").is_file():
            found = datasets.load_from_disk(path)[split]
        else:
            found = datasets.load_dataset(path, split=split)
        missing = sorted(set(self._columns.values()) - set(found.column_names))
        if missing:
            raise ValueError(
                f"{path}: no column {missing[0]!r}; there are {', '.join(found.column_names)}"
            )
        # Bytes as they are: pictures are decoded here as those of other files are.
        raw = datasets.Image(decode=False)
        for name, feature in found.features.items():
            if isinstance(feature, datasets.Image):
                found = found.cast_column(name, raw)
            elif isinstance(getattr(feature, "feature", None), datasets.Image):
                found = found.cast_column(name, datasets.List(raw))
        self._rows = found

    @property
    def name(self) -> str:
        """What the dataset was opened by."""
        return self._path

    def __len__(self) -> int:
        """How many rows."""
        return len(self._rows)

    def read(self, index: int) -> Row:
        """One row. Raises BadSample naming dataset and row."""
        row = self._rows[index]
        values = {name: value for name, value in row.items() if name not in self._columns.values()}
        values |= {name: row[there] for name, there in self._columns.items()}
        return Row(tuple(self._picture(image, index) for image in _listed(values)), values)

    def _picture(self, image: Any, index: int) -> NDArray[np.uint8]:
        if not isinstance(image, Mapping) or not (image.get("bytes") or image.get("path")):
            raise BadSample(self._path, f"image is {image!r:.60}; expected a picture", index)
        try:
            data = image.get("bytes") or Path(image["path"]).read_bytes()
        except OSError as error:
            raise BadSample(
                self._path, f"image {image['path']}: {error.strerror}", index
            ) from error
        return decode(data, self._path, index)
