# SPDX-License-Identifier: Apache-2.0
"""A SigLIP vision tower whose patches are made by convolutions instead of one linear map.

A pictograph lies anywhere on the grid of patches. A linear map of 16 by 16 pixels has to learn each
of its places apart; convolutions learn them once ("Early Convolutions Help Transformers See
Better", arXiv 2106.14881), and residual ones at an eighth and a sixteenth of the picture's size
learn what things are from a third of the pictures. `AutoModel` knows the tower once this module is
imported; for the rest of a PaliGemma it is a SigLIP.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, SiglipVisionConfig, SiglipVisionModel

FINE = 4  # px, the side of what the first map sees
STRIDE = 16  # px, of the whole stem


class StemmedVisionConfig(SiglipVisionConfig):
    """A SigLIP tower's configuration with the stem's depth: residual blocks at 1/8, 1/16."""

    model_type = "siglip_vision_stem"

    stem_blocks: list[int] | tuple[int, int] = (4, 3)


class Convolution(nn.Module):
    """3x3, padded, its weight kept as the matrix that it is to Muon: (out, in * 9)."""

    def __init__(self, inside: int, outside: int, stride: int = 1, gain: float = 1.0) -> None:
        super().__init__()
        self.inside, self.stride = inside, stride
        self.weight = nn.Parameter(torch.randn(outside, inside * 9) * gain / (inside * 4.5) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(outside))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride)."""
        return F.conv2d(x, self.weight.view(-1, self.inside, 3, 3), self.bias, self.stride, 1)


class Block(nn.Module):
    """x + two convolutions of it, normalised; the sum starts near x."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.layers = nn.ModuleList([Convolution(width, width), Convolution(width, width, 1, 0.3)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W), as it was."""
        first, second = self.layers
        return x + second(F.gelu(first(self.norm(x))))


class Stem(nn.Module):
    """Pixels (B, 3, S, S) to patches (B, width, S / 16, S / 16)."""

    def __init__(self, width: int, blocks: list[int] | tuple[int, int]) -> None:
        super().__init__()
        half = width // 2
        self.pixels = nn.Conv2d(3, 3 * FINE**2, FINE, FINE)
        self.layers = nn.ModuleList(
            [Convolution(3 * FINE**2, half, 2), Convolution(half, width, 2)]
        )
        self.fine = nn.Sequential(*(Block(half) for _ in range(blocks[0])), nn.GroupNorm(1, half))
        self.coarse = nn.Sequential(*(Block(width) for _ in range(blocks[1])))
        self.norm = nn.GroupNorm(1, width)

    @property
    def weight(self) -> torch.Tensor:
        """Of the first map: SigLIP asks for its type."""
        return self.pixels.weight

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Patches of pixels."""
        first, second = self.layers
        x = self.fine(first(F.gelu(self.pixels(pixels))))
        return self.norm(self.coarse(second(F.gelu(x))))


class StemmedVisionModel(SiglipVisionModel):
    """SigLIP's tower behind a `Stem`."""

    config: StemmedVisionConfig
    config_class = StemmedVisionConfig

    def __init__(self, config: StemmedVisionConfig) -> None:
        """ValueError for patches that the stem does not make."""
        if config.patch_size != STRIDE or config.num_channels != 3:
            raise ValueError(
                f"vision_config: patch_size is {config.patch_size} and num_channels "
                f"{config.num_channels}; expected {STRIDE} and 3"
            )
        super().__init__(config)
        self.embeddings.patch_embedding = Stem(config.hidden_size, config.stem_blocks)


AutoConfig.register(StemmedVisionConfig.model_type, StemmedVisionConfig)
AutoModel.register(StemmedVisionConfig, StemmedVisionModel)
