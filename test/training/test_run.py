# SPDX-License-Identifier: Apache-2.0
"""Runs: schedules, mixtures, a short real run that learns, and one that goes on where it
stopped.
"""

import dataclasses
import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText

from rt2_ros.data.robot import SPACE
from rt2_ros.data.samples import Frame, Query
from rt2_ros.policies import load_policy
from rt2_ros.training.config import Stage, TrainingConfig
from rt2_ros.training.data import Mixture
from rt2_ros.training.engine import Run, schedule, soften

STAGE = Stage("act", 0.25, {"red": 1.0}, 2e-3, batch_size=4, dense_weight=0.0, sigma=(2.0, 2.0))


def red(random):
    """A source that one can learn in seconds: how red the picture is."""
    level = int(random.integers(0, 256))
    image = np.full((192, 192, 3), level, np.uint8)
    action = "Plan: nothing. Action: 0 127 127 127 127 127 127 255"
    prompt = "Q: what action should the robot take to hold? State: 1 2 3 4. A:"
    return Frame(image, (Query(prompt, action, "robot"),), ())


def config(tmp_path, **changes):
    values = {"name": "test", "stages": (STAGE,), "out": str(tmp_path), "workers": 0,
              "model": {"hidden": 96, "vision_layers": 1, "text_layers": 2}}  # fmt: skip
    return TrainingConfig(**{**values, **changes})


def test_schedule_warms_up_and_falls_to_its_floor():
    stage = dataclasses.replace(STAGE, warmup=0.1, floor=0.05)
    assert schedule(stage, 0.0) == pytest.approx(0.02 * 2e-3)
    assert schedule(stage, 0.1) == pytest.approx(2e-3)
    assert schedule(stage, 1.0) == pytest.approx(0.05 * 2e-3)
    assert soften(dataclasses.replace(stage, sigma=(4.0, 1.0)), 0.5) == pytest.approx(2.0)


def test_a_mixture_draws_its_shares():
    seen = {"a": 0, "b": 0}

    class Count:
        def pack(self, frames):
            return frames

    def source(name):
        def draw(random):
            seen[name] += 1

        return draw

    sources = {name: source(name) for name in seen}
    batches = iter(Mixture(sources, {"a": 3, "b": 1}, Count(), batch_size=100, seed=0))
    for _ in range(20):
        next(batches)
    assert seen["a"] / 2000 == pytest.approx(0.75, abs=0.03)
    with pytest.raises(ValueError, match="unknown source 'c'"):
        Mixture(sources, {"c": 1}, Count(), batch_size=1, seed=0)


def test_a_short_run_learns_saves_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda module: module)
    run = Run(config(tmp_path), SPACE, {"red": red})
    checkpoint = run.run()
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log[-1]["answer"] < 0.5 * log[0]["answer"] or log[-1]["answer"] < 2.0
    # What was written is a checkpoint that policies load, and that writes what it was taught.
    model = AutoModelForImageTextToText.from_pretrained(checkpoint)
    for name, tensor in run.objective.model.state_dict().items():
        assert torch.equal(model.state_dict()[name].cpu(), tensor.cpu()), name
    policy = load_policy(str(checkpoint), prefix_attention="causal", plan="required")
    assert policy.action_space.frame == "panda_link0"
    record = json.loads((checkpoint / "training.json").read_text())
    assert record["steps"] == run.step and record["split"]
    # Started again with one more stage it keeps its weights and goes on.
    longer = config(tmp_path, stages=(STAGE, dataclasses.replace(STAGE, name="more", minutes=0.02)))
    again = Run(longer, SPACE, {"red": red})
    assert (again.step, again.stage) == (run.step, 1)
    before = again.step
    again.run()
    assert again.step > before and again.stage == 2


@pytest.mark.parametrize(
    "text, message",
    [
        ("stages: 3", "expected a mapping with a list `stages`"),
        ("out: x\nstages: []\nsped: 1", "unknown key 'sped'"),
        (
            "out: x\nstages: [{name: a, minutes: 0, shares: {web: 1}, learning_rate: 1}]",
            "minutes is 0",
        ),
        (
            "out: x\nstages: [{name: a, minutes: 1, shares: {}, learning_rate: 1}]",
            "shares is empty",
        ),
    ],
)
def test_a_bad_configuration_is_refused_by_key(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        TrainingConfig.load(str(path))


def test_an_unknown_configuration_names_what_there_is():
    with pytest.raises(ValueError, match="rt2-tiny"):
        TrainingConfig.load("rt3-tiny")
