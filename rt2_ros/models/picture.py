# SPDX-License-Identifier: Apache-2.0
"""What a vision-language model makes of pictures, as rows for its language model.

    pictures = Pictures(model)
    features = pictures(graphs, kept, buffers, [inputs])   # (image tokens of all, H), or None

One computation on a GPU for the towers that ask the host nothing. Qwen2.5-VL's does so only to lay
out windows, which are the same for all pictures of a size: they are laid out once. Idefics3 and
SmolVLM look for empty pictures and are computed operation by operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from rt2_ros.models.forward import Inputs
from rt2_ros.models.graphs import Graphs, Kept
from rt2_ros.models.room import Buffers

KEYS = ("pixel_values", "pixel_attention_mask", "image_grid_thw", "image_sizes")
WHOLE = ("paligemma", "llava")  # model types that need nothing but pixels, and ask nothing


def plain_patches(model: PreTrainedModel) -> None:
    """Let Qwen's tower embed its patches, which do not overlap, by a product: `Conv3d` in bfloat16
    is slow in some versions of torch.
    """
    embed: Any = getattr(getattr(model.base_model, "visual", None), "patch_embed", None)
    proj = getattr(embed, "proj", None)
    if isinstance(proj, nn.Conv3d) and proj.kernel_size == proj.stride:
        embed.forward = lambda pixels: F.linear(
            pixels.to(proj.weight.dtype), proj.weight.flatten(1), proj.bias
        )


class Pictures:
    """Vision tower and projector."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model, self._base = model, model.base_model
        self._type = model.config.model_type
        self._layouts: dict[tuple[int, ...], dict[str, torch.Tensor]] = {}

    def __call__(
        self, graphs: Graphs, kept: Kept, buffers: Buffers, inputs: Sequence[Inputs]
    ) -> torch.Tensor | None:
        """Rows for the image tokens of all sequences, in their order; None without pictures."""
        if not any("pixel_values" in each for each in inputs):
            return None
        device = self._model.device
        given = {key: torch.cat([each[key] for each in inputs]) for key in KEYS if key in inputs[0]}
        pixels = given["pixel_values"].to(self._model.dtype)
        key: tuple[Any, ...] = ("picture", pixels.shape)
        if self._type in WHOLE and len(given) == 1:
            held = buffers.hold("pixels", pixels, device)
            (rows,) = graphs.run(kept, key, lambda: (self._rows(pixel_values=held),))
        elif self._type == "qwen2_5_vl":
            held = buffers.hold("pixels", pixels, device)
            grid = given["image_grid_thw"].cpu()
            layout = self._layout(grid)
            key += tuple(grid.flatten().tolist())
            (rows,) = graphs.run(
                kept, key, lambda: (self._base.visual(held, grid_thw=grid, **layout).pooler_output,)
            )
        else:
            given["pixel_values"] = pixels
            rows = self._rows(**{name: value.to(device) for name, value in given.items()})
        return buffers.hold("features", rows, device)

    def _rows(self, **given: torch.Tensor) -> torch.Tensor:
        features = self._base.get_image_features(return_dict=True, **given).pooler_output
        size = features[0].shape[-1]
        return torch.cat([each.reshape(-1, size) for each in features])

    def _layout(self, grid: torch.Tensor) -> dict[str, torch.Tensor]:
        """What Qwen2.5-VL's tower works out of the sizes of pictures, which must lie on the CPU."""
        key = tuple(grid.flatten().tolist())
        if key not in self._layouts:
            from transformers import vision_utils

            tower, device = self._base.visual, self._model.device
            merge = tower.spatial_merge_size
            order, windows = vision_utils.get_vision_window_index(
                grid, merge, tower.window_size, tower.patch_size
            )
            self._layouts[key] = {
                "window_index": order.to(device),
                "position_ids": vision_utils.get_vision_position_ids(grid, merge).to(device),
                # On the CPU: the tower reads how it is to split its tokens.
                "cu_window_seqlens": windows.cpu(),
                "cu_seqlens": vision_utils.get_vision_cu_seqlens(grid).cpu(),
            }
        return dict(self._layouts[key])
