# SPDX-License-Identifier: Apache-2.0
"""What the picture shows, seen in the light of the instruction: EfficientNet with FiLM behind each
of its blocks (Perez et al., arXiv 1709.07871; RT-1, arXiv 2212.06817, section 5).

    net = FilmEfficientNet(RT1Config())
    net(images, sentence)                         # (N, 300, 300, 3), (N, 512) -> (N, 81, 512)

FiLM scales and shifts channels by (1 + gamma(sentence)) * x + beta(sentence). Both maps start as
zeros, so that a pretrained network starts as it was and the instruction makes no difference yet.
"""

from __future__ import annotations

import torch
from torch import nn
from transformers import EfficientNetConfig
from transformers.models.efficientnet.modeling_efficientnet import (
    EfficientNetEmbeddings,
    EfficientNetEncoder,
    round_filters,
)

from rt2_ros.models.rt1.config import RT1Config

# Share of a new batch in the running statistics. The published 0.99, of Keras, is that of the old
# ones, which a run of a few thousand steps would not catch up with.
NEW_BATCH = 0.05


class Film(nn.Module):
    """(1 + gamma) * x + beta of (N, C, H, W), both linear in the sentence (N, E); starts as x."""

    def __init__(self, sentence_size: int, channels: int) -> None:
        super().__init__()
        self.both = nn.Linear(sentence_size, 2 * channels)
        nn.init.zeros_(self.both.weight)
        nn.init.zeros_(self.both.bias)

    def forward(self, x: torch.Tensor, sentence: torch.Tensor) -> torch.Tensor:
        """The same shape as x."""
        gamma, beta = self.both(sentence)[..., None, None].chunk(2, dim=1)
        return torch.addcmul(beta, 1 + gamma, x)


class FilmEfficientNet(nn.Module):
    """Pictures and sentences to cells: (N, S, S, 3) uint8, (N, E) -> (N, cells, hidden)."""

    def __init__(self, config: RT1Config) -> None:
        super().__init__()
        sizes = EfficientNetConfig(
            image_size=config.image_size, width_coefficient=config.width,
            depth_coefficient=config.depth, strides=list(config.strides),
            expand_ratios=[1] + 6 * [config.expand], drop_connect_rate=0.0,
            batch_norm_momentum=NEW_BATCH,
        )  # fmt: skip
        sizes.hidden_dim = round_filters(sizes, 1280)
        self.stem = EfficientNetEmbeddings(sizes)
        encoder = EfficientNetEncoder(sizes)
        self.blocks, self.top = encoder.blocks, nn.Sequential(encoder.top_conv, encoder.top_bn)
        channels = [block.projection.project_conv.out_channels for block in self.blocks]
        self.films = nn.ModuleList(Film(config.sentence_size, count) for count in channels)
        self.reduce = nn.Conv2d(encoder.top_conv.out_channels, config.hidden, 1)
        self.last_film = Film(config.sentence_size, config.hidden)
        self.side = cells(config)

    def forward(self, images: torch.Tensor, sentence: torch.Tensor | None) -> torch.Tensor:
        """Cells row by row; without a sentence, as the network sees when FiLM is the identity."""
        x = images.permute(0, 3, 1, 2).float().div(127.5).sub(1.0)
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        for block, film in zip(self.blocks, self.films, strict=True):
            x = block(x)
            if sentence is not None:
                x = film(x, sentence)
        x = self.reduce(nn.functional.silu(self.top(x)))
        if sentence is not None:
            x = self.last_film(x, sentence)
        return x.flatten(2).transpose(1, 2)


def cells(config: RT1Config) -> int:
    """Cells along one side of the last map: 9 for 300 px and the published strides."""
    side = config.image_size
    for stride in (2, *config.strides):
        side //= stride  # padded below and right by what the kernel needs, and no more
    return side
