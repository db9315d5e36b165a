# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn

from rt2_ros.models.rt1 import RT1, RT1Config

SMALL = RT1Config(
    image_size=64, history=3, period=0.25, width=0.25, depth=0.3, expand=2,
    strides=(1, 2, 2, 1, 1, 1, 1), hidden=32, layers=2, heads=2, head_size=16, feed_forward=48,
    dropout=0.0, sentence_size=24, state=True, positions=True,
)  # fmt: skip


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (2, 3, 64, 64, 3), dtype=torch.uint8, generator=generator)


@pytest.fixture
def small(images):
    """A model of random weights whose batch norms have seen pictures."""
    torch.manual_seed(0)
    model = RT1(SMALL)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    kept = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.features(images.flatten(0, 1), None)
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum
    return model.eval()
