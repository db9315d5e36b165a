# SPDX-License-Identifier: Apache-2.0
"""Vision-language models of several kinds, small and of random weights."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    CLIPVisionConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

IMAGE = 390  # token
TEXT = dict(
    vocab_size=400, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, bos_token_id=1, eos_token_id=2, pad_token_id=0,
)  # fmt: skip
VISION = dict(
    hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
    image_size=32, patch_size=8,
)  # fmt: skip


@dataclass
class Kind:
    """A model and what its processor would give beside the ids, for a picture."""

    model: Any
    head: list[int]
    picture: Any

    def inputs(self, seed, prompt):
        ids = torch.tensor([[*self.head, *prompt]])
        noise = torch.Generator().manual_seed(seed)
        return dict(input_ids=ids, attention_mask=torch.ones_like(ids), **self.picture(ids, noise))


def pixels(*shape):
    return lambda ids, noise: dict(pixel_values=torch.randn(*shape, generator=noise))


def llava(text=None):
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION), text_config=text or LlamaConfig(**TEXT),
        vision_feature_layer=-1, image_token_index=IMAGE,
    )  # fmt: skip
    return Kind(
        LlavaForConditionalGeneration(config), [5, 6, 7, *[IMAGE] * 16], pixels(1, 3, 32, 32)
    )


def idefics3(config_class=Idefics3Config, model_class=Idefics3ForConditionalGeneration):
    config = config_class(
        text_config=dict(model_type="llama", **TEXT), vision_config=VISION, scale_factor=2,
        image_token_id=IMAGE, pad_token_id=0,
    )  # fmt: skip

    def picture(ids, noise):
        whole = torch.ones(1, 1, 32, 32, dtype=torch.long)
        return dict(**pixels(1, 1, 3, 32, 32)(ids, noise), pixel_attention_mask=whole)

    return Kind(model_class(config), [5, 6, 7, *[IMAGE] * 4], picture)


def smolvlm():
    return idefics3(SmolVLMConfig, SmolVLMForConditionalGeneration)


def qwen2_5_vl():
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    config = Qwen2_5_VLConfig(
        text_config=dict(**TEXT, max_position_embeddings=512, rope_parameters=rope),
        vision_config=dict(
            depth=2, hidden_size=32, intermediate_size=48, num_heads=2, patch_size=14,
            spatial_merge_size=2, out_hidden_size=64, fullatt_block_indexes=[1], window_size=56,
            temporal_patch_size=2,
        ),
        image_token_id=IMAGE, video_token_id=391, vision_start_token_id=392,
        vision_end_token_id=393,
    )  # fmt: skip

    def picture(ids, noise):
        grid = torch.tensor([[1, 4, 6]])
        kinds = (ids == IMAGE).long()
        patches = torch.randn(24, 3 * 2 * 14 * 14, generator=noise)
        return dict(mm_token_type_ids=kinds, pixel_values=patches, image_grid_thw=grid)

    head = [5, 6, 392, *[IMAGE] * 6, 393]
    return Kind(Qwen2_5_VLForConditionalGeneration(config), head, picture)


def paligemma(model_type="gemma", **text):
    config = PaliGemmaConfig(
        vision_config=dict(
            model_type="siglip_vision_model", projection_dim=64, vision_use_head=False, **VISION
        ),
        text_config=dict(model_type=model_type, head_dim=16, **text, **TEXT),
        projection_dim=64, image_token_index=IMAGE,
    )  # fmt: skip

    def picture(ids, noise):
        types = torch.zeros_like(ids)
        return dict(token_type_ids=types, **pixels(1, 3, 32, 32)(ids, noise))

    return Kind(PaliGemmaForConditionalGeneration(config), [*[IMAGE] * 16, 5], picture)


def paligemma2(window=8):
    """With a cap on its scores, and layers that see so many tokens back only."""
    return paligemma(
        "gemma2", final_logit_softcapping=3.0, sliding_window=window, query_pre_attn_scalar=16
    )


def with_two_pictures(kind):
    """The same model, whose prompts show two."""
    last = len(kind.head) - 1 - kind.head[::-1].index(IMAGE)
    tokens = [IMAGE] * kind.head.count(IMAGE)
    between = [393, 392] if 392 in kind.head else []  # Qwen marks where one ends and begins
    head = [*kind.head[: last + 1], *between, *tokens, *kind.head[last + 1 :]]

    def pictures(ids, noise):
        one, other = kind.picture(ids, noise), kind.picture(ids, noise)
        for name in {"pixel_values", "pixel_attention_mask", "image_grid_thw"} & one.keys():
            side_by_side = "pixel_attention_mask" in one
            one[name] = torch.cat([one[name], other[name]], dim=int(side_by_side))
        return one

    return Kind(kind.model, head, pictures)


KINDS = (llava, idefics3, smolvlm, qwen2_5_vl, paligemma, paligemma2)


def filled(kind):
    """With weights that make it say something."""
    for weight in kind.model.eval().parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.15)
    return kind
