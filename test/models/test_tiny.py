# SPDX-License-Identifier: Apache-2.0
"""What the default model starts from."""

import torch

from rt2_ros.models.tiny import build_model, build_processor


def test_patches_start_told_their_column_and_row():
    model = build_model(build_processor(), hidden=96, vision_layers=1, text_layers=1)
    places = model.model.vision_tower.embeddings.position_embedding.weight.detach()
    grid = places.reshape(12, 12, 96)
    lengths = grid.norm(dim=-1)
    torch.testing.assert_close(lengths, torch.full((12, 12), 96**0.5 / 2))
    alike = torch.cosine_similarity(grid, grid[5, 5], dim=-1)
    for away in range(1, 4):  # the farther away, the less alike, along rows and columns
        ring = [alike[5, 5 - away], alike[5, 5 + away], alike[5 - away, 5], alike[5 + away, 5]]
        nearer = alike[5, 5 + away - 1]
        assert all(float(value) < float(nearer) - 0.01 for value in ring), away
    # Half of it is the row alone, the other half the column.
    assert torch.equal(grid[3, 2, :48], grid[9, 2, :48])
    assert torch.equal(grid[3, 2, 48:], grid[3, 7, 48:])
