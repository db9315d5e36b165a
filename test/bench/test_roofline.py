# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration

from rt2_ros.bench.roofline import MACHINES, Machine, Work, measured, patches
from rt2_ros.bench.shapes import SHAPES, tiny
from rt2_ros.models.tiny import build_model, build_processor

WORK = Work(vision=100, text=1000, head=10, patches=4, tokens=8, layers=2, width=5, item=2,
            last=300)  # fmt: skip
# Reads 100 parameters a second, multiplies a thousand times a second.
SLOW = Machine("slow", 200.0, 1000.0)


def test_the_floor_is_reading_the_weights_and_multiplying():
    floor = WORK.floor(SLOW, forwards=3, read=2)
    assert floor == pytest.approx(
        {
            "vision": 1.0 + 0.8,  # 100 / 100/s; 2 * 100 * 4 FLOP
            # 1010; 2 * (1000 * 8 - 300 * 7); 4 * 5 * (8^2 / 2 + 8): the last layer, for one token
            "prefill": 10.1 + 11.8 + 0.8,
            "decode": 2 * (10.1 + 2 * (2.02 + 0.32)),  # two more; 2 * 1010 and 2 * 4 * 5 * 8
        }
    )
    assert WORK.floor(SLOW, forwards=1)["decode"] == 0


def test_a_machine_without_bandwidth_is_refused():
    with pytest.raises(ValueError, match="bandwidth: 0"):
        Machine("none", 0, 1e12)


@pytest.mark.parametrize(
    ("name", "billions"), [("paligemma-3b", 2.92), ("qwen2.5-vl-3b", 3.75), ("openvla-7b", 7.17)]
)
def test_shapes_have_their_size_and_allocate_nothing(name, billions):
    shape = SHAPES[name]
    model = shape.build("meta")
    assert {p.device.type for p in model.parameters()} == {"meta"}
    work = Work.of(model, patches=shape.patches, tokens=shape.image_tokens + 40)
    embedding = model.get_input_embeddings().weight.numel()
    assert (work.vision + work.text + embedding) / 1e9 == pytest.approx(billions, abs=0.15)
    assert work.item == 2
    # A decision of eight forwards is nearly all reading: twice the bandwidth, half the time.
    orin = MACHINES["orin"]
    once = sum(work.floor(orin, 8).values())
    twice = sum(work.floor(Machine("twice", 2 * orin.bandwidth, orin.rate), 8).values())
    assert 0.5 < twice / once < 0.6


@pytest.mark.parametrize("name", SHAPES)
def test_patches_are_those_of_the_picture_that_is_read(name):
    shape = SHAPES[name]
    model = shape.build("meta", depth=1)
    given = shape.inputs(model, prompt=4, seed=0)
    assert patches(model, given) == shape.patches
    assert patches(model, {"input_ids": given["input_ids"]}) == 0


def test_a_model_that_names_its_language_model_otherwise_is_counted():
    text = dict(
        model_type="llama", vocab_size=400, hidden_size=64, intermediate_size=96,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, pad_token_id=0,
    )  # fmt: skip
    vision = dict(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        image_size=32, patch_size=8,
    )  # fmt: skip
    with torch.device("meta"):
        model = SmolVLMForConditionalGeneration(
            SmolVLMConfig(text_config=text, vision_config=vision, pad_token_id=0)
        )
        pixels = torch.empty(1, 2, 3, 32, 32)  # two tiles
    assert patches(model, {"pixel_values": pixels}) == 2 * 16
    work = Work.of(model, patches=32, tokens=40)
    assert work.text == 2 * (64 * (64 + 32 + 32 + 64) + 3 * 64 * 96)
    assert work.last == 64 * (64 + 64) + 3 * 64 * 96  # queries, output and MLP of one layer
    assert work.vision > 2 * (4 * 32 * 32 + 2 * 32 * 48)


def test_convolutions_of_a_stem_count_at_each_of_their_places():
    shape = tiny(192)
    model = shape.build("meta")
    tower, pixels = model.model.vision_tower, torch.empty(shape.pixels, device="meta")
    with FlopCounterMode(display=False) as counter:
        model.model.multi_modal_projector(tower(pixels.to(model.dtype)).last_hidden_state)
    counts = counter.get_flop_counts()["Global"]
    weights = torch.ops.aten.convolution, torch.ops.aten.addmm, torch.ops.aten.mm
    multiplied = sum(counts.get(kind, 0) for kind in weights)  # attention multiplies no weights
    work = Work.of(model, patches=shape.patches, tokens=184)
    places = tower.embeddings.position_embedding.weight.numel()  # counted, but added
    assert 2 * (work.vision - places + work.stem) * work.patches == multiplied
    assert work.stem > 0.5 * work.vision


def test_the_default_models_shape_is_that_which_is_trained():
    with torch.device("meta"):
        model = build_model(build_processor())
    found = tiny(192).build("meta")
    assert found.config.to_dict() | {"dtype": None} == model.config.to_dict() | {"dtype": None}
    small = tiny(96)
    assert small.build("meta").config.vision_config.image_size == 96
    assert small.patches == small.image_tokens == 36


def test_this_machine_has_a_bandwidth_and_a_rate():
    machine = measured(1 << 20, torch.device("cpu"), torch.float32, repeats=3)
    assert machine.bandwidth > 1e8
    assert machine.rate > 1e8
