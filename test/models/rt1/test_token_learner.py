# SPDX-License-Identifier: Apache-2.0
import torch

from rt2_ros.models.rt1.token_learner import TokenLearner


def test_81_cells_become_8_tokens_that_are_means_of_cells():
    learner = TokenLearner(512, 8)
    assert sum(p.numel() for p in learner.parameters()) == 34_376  # the paper's 34 K
    cells = torch.randn(2, 81, 512)
    tokens, maps = learner(cells)
    assert tokens.shape == (2, 8, 512) and maps.shape == (2, 8, 81)
    torch.testing.assert_close(maps.exp().sum(-1), torch.ones(2, 8))
    # Where all cells are the same, so is every token.
    same, _ = learner(cells[:, :1].expand(-1, 81, -1))
    torch.testing.assert_close(same, learner.norm(cells[:, :1]).expand(-1, 8, -1))


def test_the_order_of_cells_does_not_matter():
    learner = TokenLearner(16, 8)
    cells = torch.randn(1, 9, 16)
    torch.testing.assert_close(learner(cells.flip(1))[0], learner(cells)[0])
