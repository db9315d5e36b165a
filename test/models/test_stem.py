# SPDX-License-Identifier: Apache-2.0
"""The default model's vision tower: patches by convolutions in a SigLIP, loaded as any other."""

import subprocess
import sys

import pytest
import torch
from transformers import AutoModel

from rt2_ros.models.stem import Stem, StemmedVisionConfig, StemmedVisionModel

SIZES = {
    "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 192, "vision_use_head": False, "stem_blocks": [1, 2],
}  # fmt: skip


@pytest.fixture(scope="module")
def tower():
    torch.manual_seed(0)
    return StemmedVisionModel(StemmedVisionConfig(**SIZES)).eval()


def test_a_tower_is_saved_and_loaded_by_its_type(tower, tmp_path):
    tower.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is StemmedVisionModel and list(loaded.config.stem_blocks) == [1, 2]
    pixels = torch.randn(2, 3, 192, 192)
    with torch.no_grad():
        expected, found = (m(pixels).last_hidden_state for m in (tower, loaded))
    assert expected.shape == (2, 144, 48)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("module", ["rt2_ros.policies.vlm", "rt2_ros.training.vlm"])
def test_what_loads_models_knows_the_tower(module):
    asked = f"import {module}; from transformers import AutoConfig as c; "
    asked += f"c.for_model({StemmedVisionConfig.model_type!r})"
    subprocess.run([sys.executable, "-c", asked], check=True)


def test_a_thing_is_the_same_to_the_stem_wherever_it_lies(tower):
    stem, thing = tower.embeddings.patch_embedding, torch.randn(3, 40, 40)

    def seen(row, column):
        pixels = torch.zeros(1, 3, 192, 192)
        pixels[0, :, row : row + 40, column : column + 40] = thing
        with torch.no_grad():
            return stem(pixels)[0]

    def apart(one, other):
        return float((one - other).norm() / other.norm())

    first = seen(64, 64)[:, 3:8, 3:8]
    assert apart(seen(80, 48)[:, 4:9, 2:7], first) < 0.1  # patches further; the edges are felt
    assert apart(seen(64, 64)[:, 4:9, 2:7], first) > 0.5  # and it is not the same everywhere


def test_every_weight_of_the_stem_learns(tower):
    stem = Stem(48, [1, 2])
    (stem(torch.randn(1, 3, 64, 64)) * torch.randn(1, 48, 4, 4)).sum().backward()
    silent = [n for n, p in stem.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert not silent
    matrices = [n for n, p in stem.named_parameters() if ".weight" in n and ".layers." in f".{n}"]
    assert len(matrices) == 2 + 2 * 3
    assert all(stem.get_parameter(name).ndim == 2 for name in matrices)  # as Muon takes them


def test_patches_of_another_size_are_refused():
    with pytest.raises(ValueError, match="patch_size is 14 and num_channels 3; expected 16 and 3"):
        StemmedVisionModel(StemmedVisionConfig(**{**SIZES, "patch_size": 14, "image_size": 196}))
