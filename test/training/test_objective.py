# SPDX-License-Identifier: Apache-2.0
"""The objective: nothing sees what it is asked for, soft targets are soft, grounding looks."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from rt2_ros.data.samples import Frame, Query, Thing
from rt2_ros.models.stem import Stemmed
from rt2_ros.models.tiny import IMAGE_TOKENS, build_model, build_processor
from rt2_ros.training import objective as objectives
from rt2_ros.training.objective import Objective, soft_targets
from rt2_ros.training.packing import IGNORED, Packer

OUTLINE = np.array([[32, 48], [64, 48], [64, 64], [32, 64]], np.float32)
FRAME = Frame(
    np.random.default_rng(0).integers(0, 256, (192, 192, 3), dtype=np.uint8),
    (
        Query("Q: where is the banana? A:", "64 75", "web", "banana", "banana"),
        Query("Q: where is the key? A:", "131 87", "web"),
    ),
    (Thing("banana", 64, 75, OUTLINE, flat=True, room=(True, False, False, True)),),
)


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda module: module)
    processor = build_processor()
    model = build_model(processor, hidden=96, vision_layers=1, text_layers=2)
    model.set_attn_implementation("eager")  # as training runs it
    tokenizer = processor.tokenizer
    integers = torch.tensor(tokenizer.convert_tokens_to_ids([str(i) for i in range(256)]))
    packer = Packer(tokenizer, image_size=192, patch_size=16, words={"banana": "banana"})
    return Objective(model, integers, 1), packer.pack([FRAME])


def test_no_answer_is_seen_before_it_is_given(parts):
    objective, batch = parts
    features = torch.randn(1, IMAGE_TOKENS, 96)
    with torch.no_grad():
        before = objective.read(features, batch)
        for place in range(1, int((batch.segments[0] >= 0).sum())):
            ids = batch.ids.clone()
            ids[0, place] = 7
            after = objective.read(features, dataclasses.replace(batch, ids=ids))
            changed = (after - before).abs().amax(-1)[0] > 1e-5
            number = int(batch.segments[0, place])
            assert changed[place] and not changed[:place].any()
            # ... nor by the other questions about the picture
            assert not changed[(batch.segments[0] != number)].any()


def test_rows_without_a_picture_are_read_where_they_would_stand_behind_one(parts):
    objective, batch = parts
    prompt = "Q: what action should the robot take to pick up the key? State: 1 2 3 4. A:"
    answer = "Plan: key 64 75. Action: 0 1 2 3 127 127 127 255"
    state = Query(prompt, answer, "robot", given="Plan: key 64 75. Action:")
    tokenizer = build_processor().tokenizer
    packer = Packer(tokenizer, image_size=192, patch_size=16, words={"banana": "banana"})
    both = packer.pack([Frame(None, (state,), ()), FRAME])
    assert len(both.pixels) == 1 and len(both.ids) == 2
    asked = both.labels[1][both.labels[1] != IGNORED]
    assert tokenizer.decode(asked) == "0 1 2 3 127 127 127 255 <eos>"
    features = torch.randn(1, IMAGE_TOKENS, 96)
    with torch.no_grad():
        alone, together = objective.read(features, batch), objective.read(features, both)
        torch.testing.assert_close(alone[0], together[0], atol=1e-4, rtol=1e-4)
        other = objective.read(features + 1, both)
        torch.testing.assert_close(other[1], together[1])  # it saw no picture
    losses = objective(both, sigma=3.0, dense_weight=0.5, grounding_weight=0.5)
    assert losses.figures["state_error"] > 0 and losses.figures["integer_error"] > 0
    assert "robot_error" not in losses.figures  # no robot's picture is there


def test_figures_are_of_what_was_asked_alone(parts):
    objective, batch = parts
    told = {"answer", "robot_share", "integer_error"}
    assert set(objective(batch, sigma=3.0, dense_weight=0.0).figures) == told
    dense = {"dense", "name_accuracy", "centre_error"}
    dense |= {f"{name}_accuracy" for name in ("patch", "room", "crowd")}
    told |= {*dense, "grounding", "found_accuracy"}
    every = {"sigma": 3.0, "dense_weight": 0.5, "grounding_weight": 0.5}
    assert set(objective(batch, **every).figures) == told
    patches = objective(batch, **every, answers=False).figures
    assert set(patches) == dense
    # Of a picture of which nobody said what is where.
    tokenizer = build_processor().tokenizer
    packer = Packer(tokenizer, image_size=192, patch_size=16, words={"banana": "banana"})
    bare = packer.pack([Frame(FRAME.image, (Query("Q: what? A:", "banana", "web"),), ())])
    assert set(objective(bare, **every).figures) == {"answer", "robot_share"}


def test_web_answers_may_weigh_nothing(parts):
    objective, batch = parts
    web = dataclasses.replace(batch, robot=torch.zeros_like(batch.robot))
    losses = objective(web, sigma=3.0, dense_weight=0.0, web_weight=0.0)
    assert float(losses.total.detach()) == losses.figures["answer"] == 0.0


def test_products_are_of_few_sizes_and_the_losses_are_those_of_the_exact_ones(parts, monkeypatch):
    objective, batch = parts
    sizes = []
    objective.model.lm_head.register_forward_hook(lambda _, given, out: sizes.append(len(given[0])))
    told = {}
    for size in (1, objectives.SIZES):
        monkeypatch.setattr(objectives, "SIZES", size)
        objective.zero_grad()
        torch.manual_seed(0)
        losses = objective(batch, sigma=2.0, dense_weight=0.5)
        losses.total.backward()
        told[size] = losses.figures | {
            name: float(p.grad.norm())
            for name, p in objective.named_parameters()
            if p.grad is not None
        }
    asked = int((batch.labels != IGNORED).sum())
    assert sizes == [asked, objectives.SIZES] and asked < objectives.SIZES
    exact, rounded = told.values()
    assert rounded == pytest.approx(exact, rel=1e-4, abs=1e-6)


def test_everything_learns_from_a_step(parts):
    objective, batch = parts
    objective.name = torch.nn.Linear(96, 2)  # where there is but one name, it is always right
    losses = objective(batch, sigma=3.0, dense_weight=0.5, grounding_weight=0.5)
    losses.total.backward()
    assert all(losses.figures[name] > 0 for name in ("answer", "dense", "grounding"))
    sums = {name: float(p.grad.abs().sum()) for name, p in objective.named_parameters()}
    assert all(map(math.isfinite, sums.values()))
    assert [name for name, total in sums.items() if total == 0] == []
    assert losses.figures["robot_share"] == 0


def test_the_stem_is_told_where_the_middle_of_a_thing_is_and_which_thing_it_is(parts):
    objective, batch = parts
    objective.name = torch.nn.Linear(96, 3)
    batch = dataclasses.replace(batch, patch_name=torch.where(batch.patch_name == 0, 2, IGNORED))
    shown, told = batch.patch_name[0] == 2, (batch.patch_uv.float() + 0.5) / 128 - 1
    things = torch.zeros(1, IMAGE_TOKENS, 96)
    with torch.no_grad():
        objective.name.bias.copy_(torch.tensor([0.0, 0.0, 50.0]))
        right = objective._stem(Stemmed(centres=told, things=things), batch)
        off = told + torch.where(shown[None, :, None], torch.tensor([2 / 96, 0.0]), 9.0)
        aside = objective._stem(Stemmed(centres=off, things=things), batch)
        objective.name.bias.copy_(torch.tensor([50.0, 0.0, 0.0]))
        other = objective._stem(Stemmed(centres=told, things=things), batch)
    assert right[1] == pytest.approx({"name_accuracy": 1.0, "centre_error": 0.0}, abs=1e-4)
    # 2 px to the right, patches that show nothing anywhere: half of that is the mean error.
    assert aside[1] == pytest.approx({"name_accuracy": 1.0, "centre_error": 1.0}, abs=1e-4)
    assert other[1]["name_accuracy"] == 0
    assert right[0] < aside[0] < other[0]


def test_soft_targets_are_a_gaussian_over_neighbours():
    weights = soft_targets(torch.tensor([100]), 2.0)[0]
    assert weights.sum() == pytest.approx(1.0)
    assert int(weights.argmax()) == 100
    assert weights[101] / weights[100] == pytest.approx(np.exp(-0.125), rel=1e-4)


def test_grounding_is_less_when_the_name_looks_at_its_thing(parts):
    objective, batch = parts
    features = torch.zeros(1, IMAGE_TOKENS, 96)
    name = batch.ids[0, (batch.named[0] != IGNORED).nonzero()[0, 0]]
    word = objective.model.get_input_embeddings()(name)
    away, towards = features.clone(), features.clone()
    away[0, 0] = word
    towards[0, batch.owner[0] == 0] = word
    with torch.no_grad():
        assert objective._ground(towards, batch)[0] < objective._ground(away, batch)[0]


def test_a_name_brings_back_what_its_thing_is_like_and_that_is_learned(parts):
    objective, batch = parts
    attention = objective.model.model.language_model.layers[0].self_attn
    features = torch.randn(1, IMAGE_TOKENS, 96)
    objective._ground(features, batch)[0].backward()
    width = 2 * attention.head_dim  # of the heads that look
    gradient = attention.v_proj.weight.grad
    assert gradient[:width].abs().sum() > 0 and not gradient[width:].any()
    learn, losses = torch.optim.Adam(objective.parameters(), 0.01), []
    for _ in range(20):
        loss, figures = objective._ground(features, batch)
        learn.zero_grad()
        loss.backward()
        learn.step()
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0] and figures["found_accuracy"] == 1.0
