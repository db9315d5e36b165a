# SPDX-License-Identifier: Apache-2.0
"""The default model's vision tower: glimpses in front of a SigLIP that loads as any other."""

import copy
import subprocess
import sys

import pytest
import torch
from transformers import AutoModel

from rt2_ros.models.stem import Stem, StemmedVisionConfig, StemmedVisionModel

SIZES = {
    "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 192, "vision_use_head": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def tower():
    torch.manual_seed(0)
    return StemmedVisionModel(StemmedVisionConfig(**SIZES)).eval()


def test_a_tower_is_saved_and_loaded_by_its_type(tower, tmp_path):
    tower.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is StemmedVisionModel
    pixels = torch.randn(2, 3, 192, 192)
    with torch.no_grad():
        expected, found = (m(pixels).last_hidden_state for m in (tower, loaded))
    assert expected.shape == (2, 144, 48)
    torch.testing.assert_close(found, expected)


def test_a_tower_of_bfloat16_sees_about_the_same(tower):
    pixels = torch.randn(1, 3, 192, 192)
    with torch.no_grad():
        expected = tower(pixels).last_hidden_state
        found = copy.deepcopy(tower).bfloat16()(pixels.bfloat16()).last_hidden_state
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).norm() < 0.1 * expected.norm()


@pytest.mark.parametrize("module", ["rt2_ros.policies.vlm", "rt2_ros.training.vlm"])
def test_what_loads_models_knows_the_tower(module):
    asked = f"import {module}; from transformers import AutoConfig as c; "
    asked += f"c.for_model({StemmedVisionConfig.model_type!r})"
    subprocess.run([sys.executable, "-c", asked], check=True)


def blob():
    return torch.nn.functional.interpolate(torch.randn(1, 3, 5, 5), 24, mode="bilinear")[0]


@torch.no_grad()
def test_a_thing_looks_the_same_wherever_it_lies_once_its_middle_is_known():
    torch.manual_seed(0)
    stem, thing = Stem(48).eval(), blob()
    patch = torch.tensor([5.5, 5.5])  # the middle of the picture, in patches
    stem.away.weight.zero_()

    def seen(across, down):
        """What patch (5, 5) sees of a thing whose middle is there, in px, and told so."""
        pixels = torch.zeros(1, 3, 192, 192)
        pixels[0, :, down - 12 : down + 12, across - 12 : across + 12] = thing
        stem.away.bias.copy_(torch.tensor([across, down]) / 16 - patch)
        _, middles, things = stem(pixels)
        told = torch.tensor([across, down]) / 96 - 1
        torch.testing.assert_close(middles[0, 5 * 12 + 5], told)
        return things[0, 5 * 12 + 5]

    def apart(one, other):
        return float((one - other).norm() / other.norm())

    here = seen(88, 88)
    assert apart(seen(96, 80), here) < 1e-4  # by what 1/8 of the picture's size resolves
    thing = blob()
    assert apart(seen(88, 88), here) > 0.3


def test_every_weight_learns_and_the_place_of_a_glimpse_only_by_being_told():
    stem = Stem(48)
    patches, middles, things = stem(torch.randn(2, 3, 192, 192))
    (patches * torch.randn_like(patches)).sum().backward(retain_graph=True)
    silent = {n for n, p in stem.named_parameters() if p.grad is None or not p.grad.abs().sum()}
    assert silent == {"away.weight", "away.bias"}
    (middles * torch.randn_like(middles)).sum().backward()
    assert stem.away.weight.grad.abs().sum() > 0
    kernels = [layer.weight for layer in stem.layers]
    assert all(weight.ndim == 2 for weight in kernels)  # as Muon takes them


def test_patches_of_another_size_are_refused():
    with pytest.raises(ValueError, match="patch_size is 14, num_channels 3 .* expected 16, 3 and"):
        StemmedVisionModel(StemmedVisionConfig(**{**SIZES, "patch_size": 14, "image_size": 196}))
