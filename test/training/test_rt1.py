# SPDX-License-Identifier: Apache-2.0
"""RT-1's training: configuration, losses, a short real run that goes on where it stopped."""

import json
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from rt2_ros.data import split
from rt2_ros.data.episodes import Batch
from rt2_ros.data.robot import SPACE
from rt2_ros.data.samples import NOTHING
from rt2_ros.models.rt1 import RT1, RT1Config
from rt2_ros.policies import Observation, load_policy
from rt2_ros.policies.registry import policy_config
from rt2_ros.training.cli import main
from rt2_ros.training.rt1 import RT1Run, RT1Stage, RT1TrainingConfig, cpu_seconds
from rt2_ros.training.rt1_objective import RT1Objective

SIZES = RT1Config(
    image_size=32, history=2, period=0.25, width=0.25, depth=0.3, expand=2,
    strides=(1, 2, 2, 1, 1, 1, 1), hidden=32, layers=1, heads=2, head_size=16, feed_forward=32,
    dropout=0.0, sentence_size=16, state=True, positions=True,
)  # fmt: skip
STAGE = RT1Stage("act", 0.03, 2e-3, images=2, batch_size=4, looking_weight=0.5)
SEE = replace(STAGE, name="see", acts=False, images=1)


@pytest.fixture
def batch():
    """Two windows of two pictures; the second window ends after its first."""
    torch.manual_seed(0)
    bins = torch.tensor([0, 200, 10, 127, 127, 127, 127, 255]).repeat(2, 2, 1)
    bins[1, 1] = NOTHING
    shown = torch.full((2, 2, 16), len(split.ROBOT_NAMES))
    shown[:, :, 5] = 3
    return Batch(
        torch.randint(0, 256, (2, 2, 32, 32, 3), dtype=torch.uint8), torch.zeros(2, 2, 4),
        ["pick up the key", "grab the rose"], bins, shown, torch.full((2, 2, 16, 2), 99),
        shown == 3,
    )  # fmt: skip


def learn(objective, loss, steps=60, rate=1e-2):
    optimizer = torch.optim.AdamW(objective.parameters(), lr=rate)
    for _ in range(steps):
        losses = loss()
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    return losses


def test_what_has_no_label_is_not_learned(batch):
    torch.manual_seed(0)
    objective = RT1Objective(RT1(SIZES), SPACE).eval()
    batch.named[1, 1] = False
    other = replace(batch, bins=batch.bins.clone(), images=batch.images.clone())
    other.images[1, 1] = 0  # the picture behind the window's end
    before = objective.act(batch, 1.0, 0.5)
    assert float(objective.act(other, 1.0, 0.5).total) == pytest.approx(float(before.total))
    other.bins[1, 0, 1] = 0
    assert abs(float(objective.act(other, 1.0, 0.5).total) - float(before.total)) > 1e-3


def test_a_batch_can_be_learned_by_heart(batch):
    torch.manual_seed(0)
    objective = RT1Objective(RT1(SIZES), SPACE)
    losses = learn(objective, lambda: objective.act(batch, 1.0, 0.5))
    assert losses.error < 1 and losses.switch_errors == 0.0 and losses.looks == 1.0


def test_seeing_names_cells_and_leaves_the_instruction_alone(batch):
    torch.manual_seed(0)
    objective = RT1Objective(RT1(SIZES), SPACE)
    film = objective.model.vision.films[0].both.weight
    losses = learn(objective, lambda: objective.see(batch, 1.0))
    assert losses.shown == 1.0
    assert (film == 0).all()  # still the identity: no sentence was read


def test_a_short_run_saves_a_policy_and_goes_on(tmp_path):
    config = RT1TrainingConfig("test", (SEE, STAGE), str(tmp_path), SIZES, workers=0)
    run = RT1Run(config)
    checkpoint = run.run()
    assert run.stage == 2 and run.spent >= 2 * 0.03 * 60
    record = json.loads((checkpoint / "training.json").read_text())
    assert record["steps"] == run.step and record["cpu_minutes"] >= 0.06 and record["split"]
    assert set(record["mixture"]) == {stage.name for stage in run.config.stages}
    assert record["action_spaces"]["robot"]["names"] == list(run.space.names)
    _, told = policy_config(str(checkpoint))
    _, named = policy_config("rt1-small")
    assert told == {**told, "type": named["type"], "smoothing": named["smoothing"]}
    policy = load_policy(str(checkpoint))
    assert policy.action_space.name == "test" and policy.action_space.low == SPACE.low
    picture = np.zeros((32, 32, 3), np.uint8)
    state = np.array([0.5, 0, 0.2, 0])
    assert policy.infer(Observation({"scene": picture}, "pick up the key", state)).action
    # Started again with one more stage, it keeps its weights and goes on.
    again = RT1Run(replace(config, stages=(SEE, STAGE, replace(STAGE, name="more"))))
    assert (again.step, again.stage, again.spent) == (run.step, 2, run.spent)
    for name, tensor in run.objective.state_dict().items():
        assert torch.equal(again.objective.state_dict()[name], tensor), name
    again.run()
    assert again.step > run.step and again.stage == 3


def test_the_cpu_time_of_children_counts():
    burn = "import time\nwhile time.process_time() < 0.4: pass"  # its own, as here all is waiting
    before, end = cpu_seconds(), time.monotonic() + 60
    child = subprocess.Popen([sys.executable, "-c", f"{burn}\ninput()"], stdin=subprocess.PIPE)
    try:
        while cpu_seconds() - before < 0.4:  # counted while it lives
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        child.communicate(b"\n")
    assert cpu_seconds() - before >= 0.4  # and when it has ended


STAGES = "stages: [{name: a, cpu_minutes: 1, learning_rate: 1}]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: [{name: a, cpu_minutes: 0, learning_rate: 1}]", "cpu_minutes is 0"),
        ("stages: [{name: a, cpu_minutes: 1, learning_rate: 1, shares: 1}]", "key 'shares'"),
        ("stages: [{name: a, cpu_minutes: 1, learning_rate: 1, images: 9}]", "images is 9"),
        ("stages: [{name: a, cpu_minutes: 1, learning_rate: 4e-3}]", "learning_rate is '4e-3'"),
        (f"model: {{layer: 2}}\n{STAGES}", "model: unknown key 'layer'"),
        (f"model: {{layers: 0}}\n{STAGES}", "RT1Config.layers: 0"),
        (f"model: {{layers: four}}\n{STAGES}", "model: layers is 'four'; expected a whole number"),
        (f"workers: -1\n{STAGES}", "workers is -1; expected at least 0"),
    ],
)
def test_a_bad_configuration_is_refused_by_key(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(f"type: rt1\nout: x\n{text}\n")
    with pytest.raises(ValueError, match=message):
        RT1TrainingConfig.load(str(path))


def test_several_processes_are_refused(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")  # as torchrun sets it
    assert main(["--config", "rt1-small"]) == 2
    assert "torchrun with 2 processes: an RT-1 is trained by one alone" in capsys.readouterr().err


def test_the_shipped_small_configuration_is_small():
    config = RT1TrainingConfig.load("rt1-small")
    assert config.model.image_size == 192 and config.model.history == 6
    assert sum(stage.cpu_minutes for stage in config.stages) == 80
    assert 3e6 < sum(p.numel() for p in RT1(config.model).parameters()) < 6e6
