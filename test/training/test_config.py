# SPDX-License-Identifier: Apache-2.0
"""Configurations: what is read, and what is refused by file, place, key and value."""

import math
import re

import pytest
import yaml
from tiny_runs import tiny_config, tiny_stage

from rt2_ros.paths import config_path
from rt2_ros.training.config import TinyConfig, VlmConfig, load, read
from rt2_ros.training.rt1 import RT1TrainingConfig

STAGE = {"name": "act", "steps": 9, "learning_rate": 1e-4, "shares": {"mine": 1}}
FILE = {"type": "vlm", "out": "x", "sources": {"mine": {}}, "stages": [STAGE],
        "model": {"checkpoint": "a"}}  # fmt: skip
TINY = {"type": "tiny", "model": {}}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"stages": 3}, "expected a mapping with a list `stages`"),
        ({"stages": []}, "expected a mapping with a list `stages`, of one at least"),
        ({"stages": [3]}, "stage 1 is 3; expected a mapping"),
        ({"type": "cnn"}, "type is 'cnn'; expected tiny, vlm or rt1"),
        ({"sped": 1}, "unknown key 'sped'"),
        ({**TINY, "parallel": "fsdp"}, "parallel is 'fsdp'"),
        ({**TINY, "precision": "fp8"}, "precision is 'fp8'"),
        ({"out": None}, "out is None; expected text"),
        ({"sources": {"mine": None}}, "sources: mine is None; expected a mapping"),
        ({"workers": -1}, "workers is -1; expected at least 0"),
        ({"workers": True}, "workers is True; expected a whole number"),
        ({"clip": math.inf}, "clip is inf; expected a number"),
        ({"model": {}}, "model: no key 'checkpoint'; expected it"),
        ({"model": {"checkpoint": "a", "lora": {"rank": 0}}}, "model: lora: rank is 0"),
        ({"model": {"checkpoint": "a", "lora": {}, "vocabulary": "least_used"}},
         "model: vocabulary is 'least_used' with lora, and embeddings is not set"),
        ({"model": {"checkpoint": "a", "lora": {"targets": "q_proj"}}},
         "model: lora: targets is 'q_proj'; expected a list"),
        ({"augment": {"mine": {"crop": "0.1 "}}}, "augment: mine: crop is '0.1 '; expected a num"),
        ({"validation": {"every": 0}}, "validation: every is 0"),
    ],
)  # fmt: skip
def test_a_bad_configuration_is_refused_by_file_and_key(tmp_path, changes, message):
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump({**FILE, **changes}))
    with pytest.raises(ValueError, match=re.escape(f"{path}: {message}")):
        load(str(path))


@pytest.mark.parametrize(
    "line, message",
    [
        ("learning_rate: 2e-5", "learning_rate is '2e-5'; expected a number; to YAML this is text"),
        ("steps: 20000.5", "steps is 20000.5; expected a whole number"),
        ("batch_size: 8.5", "batch_size is 8.5; expected a whole number"),
        ("batch_size: 0", "batch_size is 0; expected > 0"),  # without rows in words, nothing
        ("{batch_size: 0, state_rows: 2, answers: false}", "batch_size is 0; expected > 0"),
        ("state_rows: -1", "state_rows is -1; expected >= 0"),
        ("accumulate: 0.5", "accumulate is 0.5; expected a whole number"),
        ("shares: [mine]", "shares is ['mine']; expected a mapping"),
        ("shares: {mine: much}", "shares: mine is 'much'; expected a number"),
        ("mixing: {robot_share: [1]}", "mixing: robot_share is [1]; expected a number or text"),
        ("mixing: {by: luck}", "mixing: by is 'luck'; expected weights, repeats, temperature"),
        ("keep: 3", "keep is 3; expected true or false"),
        ("sigma: [5]", "sigma is [5]; expected a list of 2"),
        ("sigma: [5, x]", "sigma[1] is 'x'; expected a number"),
        ("dense: 1", "unknown key 'dense'"),
        ("plan_share: 2", "plan_share is 2; expected a share, 0 to 1"),
    ],
)
def test_a_bad_stage_is_refused_by_file_stage_and_key(tmp_path, line, message):
    path = tmp_path / "bad.yaml"
    stage = {**STAGE, **yaml.safe_load(line)}
    path.write_text(yaml.safe_dump({**FILE, **TINY, "stages": [STAGE, {**stage, "name": "b"}]}))
    with pytest.raises(ValueError, match=re.escape(f"{path}: stage b: {message}")):
        load(str(path))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"steps": 0}, "minutes is 0.0 and steps is 0"),
        ({"minutes": 1.0}, "expected one of them > 0"),
        ({"shares": {}}, "shares is empty"),
        ({"plan_share": 1.5}, "plan_share is 1.5"),
        ({"sigma": (0.0, 1.0)}, "sigma is"),
        ({"keep": True, "name": "best"}, "stage best: keep is set"),
        ({"keep": True, "name": "../read"}, "other than checkpoint, best"),
    ],
)
def test_a_bad_stage_is_refused_by_key(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_stage(**changes)


def test_two_kept_stages_of_one_name_are_refused(tmp_path):
    stages = (tiny_stage(keep=True), tiny_stage(keep=True))
    with pytest.raises(ValueError, match="expected each name once"):
        tiny_config(tmp_path, stages=stages)


def test_a_share_of_an_unknown_source_is_refused(tmp_path):
    with pytest.raises(ValueError, match="stage act: shares: unknown source 'gray'"):
        tiny_config(tmp_path, stages=(tiny_stage(shares={"gray": 1.0}),))


def test_an_unknown_configuration_names_what_there_is():
    with pytest.raises(ValueError, match="rt2-tiny"):
        load("rt3-tiny")


def test_the_guides_configuration_is_read():
    config = load("my-robot", VlmConfig)
    assert config.parallel == "fsdp" and config.validation.patience == 6
    assert config.stages[0].mixing.robot_share == 0.5
    with pytest.raises(ValueError, match="type is 'vlm'; expected tiny"):
        load("my-robot", TinyConfig)


def test_the_default_models_recipe_is_what_it_was():
    config = load("rt2-tiny", TinyConfig)
    assert [(s.name, s.minutes, s.answers, s.state_rows) for s in config.stages] == [
        ("see", 30, False, 0), ("act", 88, True, 16), ("settle", 32, True, 24),
    ]  # fmt: skip
    assert not any(s.keep for s in config.stages)
    assert all(s.shares == {"web": 0.4, "robot": 0.6} for s in config.stages[1:])
    assert config.precision == "bf16"


@pytest.mark.parametrize(
    "path", sorted(config_path("training").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_configuration_that_comes_with_the_package_is_read(path):
    rt1 = read(path.stem)[1]["type"] == "rt1"
    assert (RT1TrainingConfig.load if rt1 else load)(path.stem).stages
