# SPDX-License-Identifier: Apache-2.0
"""A SigLIP vision tower whose patches are given glimpses: convolutions, and a look at the whole
thing that a patch shows, from its middle.

A pictograph lies anywhere on the grid of patches. A linear map of 16 by 16 pixels has to learn each
of its places apart, and so do, to a lesser degree, convolutions. Here each patch tells first where
the middle of its thing is, which is learned in a minute, and then reads 6 by 6 places around that
(as RoIAlign does, arXiv 1703.06870, or deformable attention): what it reads is the same wherever
the thing lies, and names are learned in minutes. `AutoModel` knows the tower once this module is
imported; to the rest of a PaliGemma it is a SigLIP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, SiglipVisionConfig, SiglipVisionModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

FINE = 4  # px, the side of what the first map sees
PATCH_SIZE = 16  # px, the side of a patch
POINTS, APART = 6, 8  # how many places a glimpse reads along an axis, and the px between them


class StemmedVisionConfig(SiglipVisionConfig):
    """Of a SigLIP tower with a `Stem`."""

    model_type = "siglip_vision_stem"


@dataclass
class Stemmed(BaseModelOutputWithPooling):
    """What a tower says, and what its stem tells on the way.

    centres: (B, P, 2), where the middle of the thing is that a patch shows: -1 to 1 across and
        down.
    things: (B, P, width), what a patch saw there.
    """

    centres: torch.Tensor | None = None
    things: torch.Tensor | None = None


class Convolution(nn.Module):
    """3x3, normalised, bent; its weight is kept as the matrix that it is to Muon: (out, in * 9).

    Each channel is normalised over its picture: all of them together, and names are learned half as
    fast; over the batch, as fast, but then a step depends on how its pictures were dealt out. What
    a picture has everywhere is lost by it; SigLIP's own map of a patch keeps that.
    """

    def __init__(self, inside: int, outside: int, stride: int = 1) -> None:
        super().__init__()
        self.inside, self.stride = inside, stride
        self.weight = nn.Parameter(torch.randn(outside, inside * 9) / (inside * 4.5) ** 0.5)
        self.norm = nn.GroupNorm(outside, outside)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, in, H, W) -> (B, out, H / stride, W / stride)."""
        weight = self.weight.view(-1, self.inside, 3, 3)
        return F.gelu(self.norm(F.conv2d(x, weight, None, self.stride, 1)))


class Stem(nn.Module):
    """What is added to SigLIP's patches of pixels (B, 3, S, S)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        third = width // 3
        widths = (3 * FINE**2, third, 2 * third, 2 * third, 2 * third, width, width)
        strides = (1, 2, 1, 1, 2, 1)
        self.pixels = nn.Conv2d(3, widths[0], FINE, FINE)
        self.layers = nn.ModuleList(
            Convolution(*sizes) for sizes in zip(widths[:-1], widths[1:], strides, strict=True)
        )
        self.away = nn.Linear(width, 2)  # how far off a thing's middle is, in patches
        self.glimpse = nn.Linear(2 * third * POINTS**2, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What is added (B, P, width), and `Stemmed`'s centres and things."""
        fine = F.gelu(self.pixels(pixels))
        for layer in self.layers[:4]:
            fine = layer(fine)
        coarse = self.layers[5](self.layers[4](fine))
        side = coarse.shape[-1]
        context = coarse.flatten(2).transpose(1, 2)
        middles = _spread(side, 2 / side, fine) + self.away(context).float() * (2 / side)
        around = _spread(POINTS, 2 * APART / pixels.shape[-1], fine)
        # Where a glimpse is taken is learned from being told where things are.
        places = (middles.detach()[:, :, None] + around).clamp(-1, 1)
        read = F.grid_sample(fine.float(), places, align_corners=False).to(context.dtype)
        things = self.norm(self.glimpse(read.permute(0, 2, 1, 3).flatten(2)))
        return context + things, middles, things


def _spread(count: int, apart: float, like: torch.Tensor) -> torch.Tensor:
    """Places (count * count, 2), across and down, around 0, row by row."""
    along = (torch.arange(count, device=like.device) - (count - 1) / 2) * apart
    return torch.stack([along.repeat(count), along.repeat_interleave(count)], -1)


class StemmedVisionModel(SiglipVisionModel):
    """SigLIP's tower with a `Stem` beside its patch embedding."""

    config: StemmedVisionConfig
    config_class = StemmedVisionConfig

    def __init__(self, config: StemmedVisionConfig) -> None:
        """ValueError for patches that the stem does not make."""
        if config.patch_size != PATCH_SIZE or config.num_channels != 3 or config.hidden_size % 3:
            raise ValueError(
                f"vision_config: patch_size is {config.patch_size}, num_channels "
                f"{config.num_channels} and hidden_size {config.hidden_size}; expected "
                f"{PATCH_SIZE}, 3 and a multiple of 3"
            )
        super().__init__(config)
        self.stem = Stem(config.hidden_size)

    def forward(self, pixel_values: torch.Tensor, **kwargs: Any) -> Stemmed:
        """Patches of pixels (B, 3, S, S) in -1..1."""
        patches = self.embeddings(pixel_values)
        seen, centres, things = self.stem(pixel_values.to(patches.dtype))
        hidden = self.encoder(inputs_embeds=patches + seen).last_hidden_state
        return Stemmed(self.post_layernorm(hidden), centres=centres, things=things)


AutoConfig.register(StemmedVisionConfig.model_type, StemmedVisionConfig)
AutoModel.register(StemmedVisionConfig, StemmedVisionModel)
