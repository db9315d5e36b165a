# SPDX-License-Identifier: Apache-2.0
"""A plain Trainer is given the same questions, a row each, and asked for their answers alone."""

import itertools
import json

import numpy as np
import pytest
import torch
import yaml

from rt2_ros.bench import train
from rt2_ros.bench.train import Collator, QuestionRows, main
from rt2_ros.data.mixture import Mixing
from rt2_ros.data.samples import Frame, Query
from rt2_ros.models.tiny import build_processor
from rt2_ros.paths import config_path
from rt2_ros.training.packing import IGNORED
from rt2_ros.training.tiny import ATTENTION

IMAGE = np.zeros((192, 192, 3), np.uint8)
QUERIES = (
    Query("Q: where is the banana? A:", "131 87", "web"),
    Query("Q: how many things are there? A:", "3", "web"),
)


def test_rows_are_the_mixtures_questions_one_by_one():
    rows = QuestionRows({"a": lambda random: Frame(IMAGE, QUERIES, ())}, {"a": 1.0})
    asked = [row["query"] for row in itertools.islice(rows, 4)]
    assert asked == [*QUERIES, *QUERIES]


def test_a_seed_says_what_both_are_asked(monkeypatch):
    sources = {"a": lambda random: Frame(random.random(), QUERIES, ())}

    def drawn(seed):
        rows = QuestionRows(sources, {"a": 1.0}, seed)
        return [row["image"] for row in itertools.islice(rows, 4)]

    assert drawn(3) == drawn(3) != drawn(0)
    seeds = []

    def apart(function, config, *_):
        seeds.append(config.seed)
        return {"trainer": [1.0], "workers": [1.0]}

    monkeypatch.setattr(train, "apart", apart)
    assert main(["--memory", "5", "--seed", "3"]) == 0 and main(["--memory", "5"]) == 0
    assert seeds == [3, 0]


def test_a_batch_asks_for_answers_and_their_ends():
    processor = build_processor()
    batch = Collator(processor)([{"image": IMAGE, "query": query} for query in QUERIES])
    assert batch["pixel_values"].shape == (2, 3, 192, 192)
    told = [processor.tokenizer.decode(labels[labels != IGNORED]) for labels in batch["labels"]]
    assert told == ["131 87 <eos>", "3 <eos>"]


def test_nothing_to_measure_is_refused():
    with pytest.raises(ValueError, match="expected at least 1"):
        main(["--steps", "0"])


def test_growth_is_told_from_when_all_is_loaded_to_the_end():
    assert train.grown([100.0, 500.0, *[510.0] * 16, 560.0, 570.0]) == (510, 565)
    assert train.grown([100.0]) == (100, 100)


def test_memory_is_that_of_a_run_with_its_workers(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch, "compile", lambda module: module)
    monkeypatch.setattr(train, "apart", lambda function, *args: function(*args))
    config = yaml.safe_load(config_path("training", "rt2-tiny.yaml").read_text())
    config["sources"]["web"]["most"] = 5
    config["stages"][-1] |= {"shares": {"web": 1.0}, "state_rows": 0}
    file, out = tmp_path / "web.yaml", tmp_path / "memory.json"
    file.write_text(yaml.safe_dump({**config, "augment": {}, "stages": config["stages"][-1:]}))
    arguments = ["--config", str(file), "--memory", "20", "--workers", "1", "--json", str(out)]
    assert main(arguments) == 0
    figures = json.loads(out.read_text())
    assert figures["steps"] == 20 and figures["workers"] == 1
    assert min(figures["trainer_mb"]) > 50 and max(figures["workers_mb"]) > 5
    assert "trainer: " in capsys.readouterr().out


def test_the_median_of_two_repeats_lies_between_them(monkeypatch):
    questions = {train.by_trainer: iter((10.0, 20.0)), train.by_engine: iter((40.0, 40.0))}

    def apart(function, *_):
        asked = next(questions[function])
        figures = {"waited_share": 0.0, "questions_per_step": 9.0, "rows": 9}
        return {"questions": asked, "tokens": 3 * asked, **figures}

    monkeypatch.setattr(train, "apart", apart)
    figures = train.measure("rt2-tiny", steps=1, repeats=2, workers=0)
    assert figures["trainer_questions_per_second"] == 15
    assert figures["speedup_vs_trainer"] == figures["tokens_speedup_vs_trainer"] == 3
    assert figures["speedup_range"] == [2, 4]


def test_both_are_asked_the_same_in_batches_of_one_size(tmp_path, monkeypatch):
    """The default configuration leaves a tenth of the plans out, which rows do not."""
    trained = {}

    class Watched(train.CountingTrainer):
        def train(self, *args, **kwargs):
            trained.update(rows=self.args.per_device_train_batch_size, model=self.model)
            return super().train(*args, **kwargs)

    def here(function, config, stage, steps, *rest):
        assert (stage.plan_share, stage.mixing, stage.state_rows) == (1.0, Mixing(), 0)
        if function is train.by_engine:  # its step is measured where it is trained
            return {"questions": 1.0, "tokens": 9.0, "waited_share": 0.0, "questions_per_step": 2.4}
        return function(config, stage, steps, *rest)

    config = yaml.safe_load(config_path("training", "rt2-tiny.yaml").read_text())
    config["stages"][-1]["mixing"] = {"robot_share": 0.66}
    config |= {"model": {"hidden": 48, "vision_layers": 1, "text_layers": 1}, "augment": {}}
    file = tmp_path / "mixed.yaml"
    file.write_text(yaml.safe_dump(config))
    monkeypatch.setattr(train, "WARM_UP", 1)
    monkeypatch.setattr(train, "CountingTrainer", Watched)
    monkeypatch.setattr(train, "apart", here)
    figures = train.measure(str(file), steps=1, repeats=1, workers=0)
    assert trained["rows"] == figures["trainer_rows"] == 2
    assert trained["model"].config.text_config._attn_implementation == ATTENTION
    assert figures["trainer_questions_per_second"] > 0
    monkeypatch.setitem(train.MOST_ROWS, "cpu", 1)
    monkeypatch.setitem(train.MOST_ROWS, "cuda", 1)
    assert train.measure(str(file), steps=1, repeats=1, workers=0)["trainer_rows"] == 1
