# SPDX-License-Identifier: Apache-2.0
"""Models of known shapes with random weights: computing costs the same as if they knew something.

model = SHAPES["paligemma-3b"].build("meta")     # nothing is allocated
model = SHAPES["paligemma-3b"].build("cuda")     # in bf16, where there is a GPU
inputs = SHAPES["paligemma-3b"].inputs(prompt=40, seed=0)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)
from transformers.initialization import no_init_weights

from rt2_ros.models.decode import Decoder, Prompt
from rt2_ros.models.picture import plain_patches
from rt2_ros.models.stem import PATCH_SIZE

CHOICES = 8  # integers of an action
PROMPT = 40  # tokens

SO400M = {
    "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304,
    "num_hidden_layers": 27, "num_attention_heads": 16, "image_size": 224, "patch_size": 14,
    "vision_use_head": False,
}  # fmt: skip


def _tower(depth: int | None) -> dict[str, object]:
    return {**SO400M, "num_hidden_layers": min(27, depth or 27)}


@dataclass(frozen=True)
class Shape:
    """A model to be built. image_tokens: as the language model reads them; patches: as seen."""

    name: str
    make: Callable[[int | None], PreTrainedModel]
    patches: int
    image_tokens: int
    pixels: tuple[int, ...]
    head: tuple[int, ...] = ()  # ids before the image's
    tail: tuple[int, ...] = ()
    note: str = ""

    def build(
        self, device: str, dtype: torch.dtype = torch.bfloat16, depth: int | None = None
    ) -> PreTrainedModel:
        """The model on a device, evaluated; "meta" allocates nothing. depth: layers at most."""
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with no_init_weights(), torch.device(device):
                model = self.make(depth).eval()
        finally:
            torch.set_default_dtype(before)
        model.tie_weights()  # which Transformers counts among the weights' beginnings
        if device != "meta":
            _fill(model)
        plain_patches(model)  # as policies do
        return model

    def inputs(
        self, model: PreTrainedModel, prompt: int, seed: int, system: int = 0
    ) -> dict[str, torch.Tensor]:
        """What a processor would give for a random picture and a prompt of so many tokens.

        system: tokens before the picture that are the same in every prompt.
        """
        random = torch.Generator().manual_seed(seed)
        config = model.config
        image = [config.image_token_id] * self.image_tokens
        words = torch.randint(10, 1000, (prompt,), generator=random).tolist()
        before = [*range(10, 10 + system), *self.head]
        ids = torch.tensor([[*before, *image, *self.tail, *words]])
        pixels = torch.randn(self.pixels, generator=random)
        given = {
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "pixel_values": pixels.to(model.dtype),
        }
        if config.model_type == "paligemma":
            given["token_type_ids"] = torch.zeros_like(ids)
        if config.model_type == "qwen2_5_vl":
            side = int(self.patches**0.5)
            given["image_grid_thw"] = torch.tensor([[1, side, side]])
            given["mm_token_type_ids"] = (ids == config.image_token_id).long()
        return {key: value.to(model.device) for key, value in given.items()}


class Integers:
    """The language of an action without a plan: CHOICES tokens of 256, then the end."""

    def __init__(self) -> None:
        self._some, self._end = np.arange(1000, 1256), np.array([1])

    def start(self) -> int:
        """How many tokens there are."""
        return 0

    def allowed(self, state: int) -> np.ndarray:
        """256 of them, the end, or nothing."""
        return self._some if state < CHOICES else self._end[: CHOICES + 1 - state]

    def advance(self, state: int, token: int) -> int:
        """One more."""
        return state + 1

    def done(self, state: int) -> bool:
        """Whether the end is written."""
        return state > CHOICES


def decider(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> Callable[[], list[int]]:
    """A call that lets the fast decoder answer, without guesses."""
    decode, grammar = Decoder(model), Integers()
    return lambda: decode([Prompt(inputs)], grammar)[0].tokens


@torch.inference_mode()
def _fill(model: PreTrainedModel) -> None:
    """Random weights, made where they lie: Transformers' own way takes minutes for billions."""
    for module in model.modules():
        gemma = type(module).__name__ == "GemmaRMSNorm"  # whose gain is 1 + weight
        for name, weight in module.named_parameters(recurse=False):
            if weight.ndim > 1:
                weight.normal_(std=0.02)
            else:
                weight.fill_(1.0 if name == "weight" and not gemma else 0.0)


def tiny(side: int) -> Shape:
    """The default model's shape for square pictures of another size (px)."""
    patches = (side // PATCH_SIZE) ** 2
    return Shape(f"rt2-tiny {side}", lambda _: _tiny(side), patches, patches, (1, 3, side, side))


def _tiny(side: int) -> PreTrainedModel:
    from rt2_ros.models.tiny import build_model, build_processor

    return build_model(build_processor(), image_size=side)


def _paligemma(depth: int | None) -> PreTrainedModel:
    text = {
        "model_type": "gemma", "vocab_size": 257_216, "hidden_size": 2048, "head_dim": 256,
        "intermediate_size": 16_384, "num_hidden_layers": min(18, depth or 18),
        "num_attention_heads": 8, "num_key_value_heads": 1, "pad_token_id": 0,
    }  # fmt: skip
    return PaliGemmaForConditionalGeneration(
        PaliGemmaConfig(
            vision_config={**_tower(depth), "projection_dim": 2048},
            text_config=text,
            projection_dim=2048,
            image_token_index=257_152,
        )  # fmt: skip
    )


def _qwen(depth: int | None) -> PreTrainedModel:
    text = {
        "vocab_size": 151_936, "hidden_size": 2048, "intermediate_size": 11_008,
        "num_hidden_layers": min(36, depth or 36), "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "rope_parameters": {
            "rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]
        },
    }  # fmt: skip
    vision = {
        "depth": min(32, 4 * (depth or 8)), "hidden_size": 1280, "intermediate_size": 3420,
        "num_heads": 16, "patch_size": 14, "spatial_merge_size": 2, "out_hidden_size": 2048,
        "fullatt_block_indexes": [7, 15, 23, 31], "window_size": 112, "temporal_patch_size": 2,
    }  # fmt: skip
    return Qwen2_5_VLForConditionalGeneration(
        Qwen2_5_VLConfig(
            text_config=text,
            vision_config=vision,
            image_token_id=151_655,
            video_token_id=151_656,
            vision_start_token_id=151_652,
            vision_end_token_id=151_653,
            tie_word_embeddings=True,
        )  # fmt: skip
    )


def _openvla(depth: int | None) -> PreTrainedModel:
    text = {
        "model_type": "llama", "vocab_size": 32_064, "hidden_size": 4096,
        "intermediate_size": 11_008, "num_hidden_layers": min(32, depth or 32),
        "num_attention_heads": 32,
        "num_key_value_heads": 32, "pad_token_id": 0,
    }  # fmt: skip
    return LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=_tower(depth),
            text_config=text,
            vision_feature_layer=-2,
            vision_feature_select_strategy="full",
            image_token_index=32_000,
        )  # fmt: skip
    )


SHAPES = {
    "paligemma-3b": Shape("PaliGemma 3B", _paligemma, 256, 256, (1, 3, 224, 224)),
    "qwen2.5-vl-3b": Shape(
        "Qwen2.5-VL 3B", _qwen, 256, 64, (256, 1176), head=(151_644, 151_652), tail=(151_653,)
    ),
    "openvla-7b": Shape(
        "OpenVLA 7B", _openvla, 256, 256, (1, 3, 224, 224), head=(1,),
        note="its second tower, DINOv2 of 0.3 billion parameters, left out",
    ),
}  # fmt: skip
