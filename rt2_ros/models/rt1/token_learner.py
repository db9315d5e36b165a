# SPDX-License-Identifier: Apache-2.0
"""TokenLearner (Ryoo et al., arXiv 2106.11297): a picture's cells pooled into a few tokens.

    learner = TokenLearner(512, 8)
    tokens, maps = learner(cells)                 # (N, 81, 512) -> (N, 8, 512), (N, 8, 81)

Each token is a weighted mean of all cells; a small network says with which weights.
"""

from __future__ import annotations

import torch
from torch import nn


class TokenLearner(nn.Module):
    """Soft selections of cells, each map summing to 1 (version 1.1, as in RT-1, but that what is
    pooled is normalised as well, not only what is scored).
    """

    def __init__(self, size: int, tokens: int, bottleneck: int = 64) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.score = nn.Sequential(
            nn.Linear(size, bottleneck), nn.GELU(), nn.Linear(bottleneck, tokens)
        )

    def forward(self, cells: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens (N, tokens, size) and the logarithm of their maps (N, tokens, cells)."""
        cells = self.norm(cells)
        maps = self.score(cells).transpose(1, 2).float().log_softmax(-1)
        return maps.exp().to(cells.dtype) @ cells, maps
