# SPDX-License-Identifier: Apache-2.0
"""A plain Trainer is given the same questions, a row each, and asked for their answers alone."""

import itertools

import numpy as np
import pytest

from rt2_ros.bench import train
from rt2_ros.bench.train import Collator, QuestionRows, main
from rt2_ros.data.samples import Frame, Query
from rt2_ros.models.tiny import build_processor
from rt2_ros.training.packing import IGNORED

IMAGE = np.zeros((192, 192, 3), np.uint8)
QUERIES = (
    Query("Q: where is the banana? A:", "131 87", "web"),
    Query("Q: how many things are there? A:", "3", "web"),
)


def test_rows_are_the_mixtures_questions_one_by_one():
    rows = QuestionRows({"a": lambda random: Frame(IMAGE, QUERIES, ())}, {"a": 1.0})
    asked = [row["query"] for row in itertools.islice(rows, 4)]
    assert asked == [*QUERIES, *QUERIES]


def test_a_batch_asks_for_answers_and_their_ends():
    processor = build_processor()
    batch = Collator(processor)([{"image": IMAGE, "query": query} for query in QUERIES])
    assert batch["pixel_values"].shape == (2, 3, 192, 192)
    told = [processor.tokenizer.decode(labels[labels != IGNORED]) for labels in batch["labels"]]
    assert told == ["131 87 <eos>", "3 <eos>"]


def test_nothing_to_measure_is_refused():
    with pytest.raises(ValueError, match="expected at least 1"):
        main(["--steps", "0"])


def test_the_median_of_two_repeats_lies_between_them(monkeypatch):
    questions = {train.by_trainer: iter((10.0, 20.0)), train.by_engine: iter((40.0, 40.0))}

    def apart(function, *_):
        asked = next(questions[function])
        return {"questions": asked, "tokens": 3 * asked, "waited_share": 0.0}

    monkeypatch.setattr(train, "apart", apart)
    figures = train.measure("rt2-tiny", steps=1, repeats=2, workers=0)
    assert figures["trainer_questions_per_second"] == 15
    assert figures["speedup_vs_trainer"] == figures["tokens_speedup_vs_trainer"] == 3
    assert figures["speedup_range"] == [2, 4]
