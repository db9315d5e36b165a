# SPDX-License-Identifier: Apache-2.0
"""The default model, made from nothing: a small PaliGemma (a stem of convolutions and glimpses and
a SigLIP layer as vision tower, linear projector, Gemma decoder).

192x192 pixels in patches of 16 give 144 image tokens; attention is causal throughout, so the
image's keys and values do not depend on the prompt. The tokenizer spells each integer 0..255 as one
token. Integers' embeddings start as sinusoids of their value: near numbers start near, which makes
coordinates learnable in minutes.
"""

from __future__ import annotations

import math

import torch
from tokenizers import AddedToken, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import WordPiece
from torch import nn
from transformers import (
    GemmaConfig,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from rt2_ros.data.plans import PLAN_WORDS
from rt2_ros.data.web import words as web_words
from rt2_ros.models.stem import PATCH_SIZE, StemmedVisionConfig

IMAGE_SIZE = 192  # px
IMAGE_TOKENS = (IMAGE_SIZE // PATCH_SIZE) ** 2
FEW_WEIGHTS = {"hidden": 96, "vision_layers": 1, "text_layers": 1}  # to see that something runs
MARKERS = ("Q:", "A:", "State:", "Plan:", "Action:", "\n")


def build_processor() -> PaliGemmaProcessor:
    """Tokenizer and image processor; word pieces are whole words of the world, and single letters
    for the rest.
    """
    words: dict[str, None] = {}
    for i in range(256):
        words.setdefault(str(i))
    split = pre_tokenizers.Sequence([pre_tokenizers.Whitespace()])
    normalize = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    texts = [*web_words(), *PLAN_WORDS]
    for text in texts:
        for word, _ in split.pre_tokenize_str(normalize.normalize_str(text)):
            if not word.isdigit():
                words.setdefault(word)
    letters = sorted(
        {c for word in words for c in word} | set("abcdefghijklmnopqrstuvwxyz0123456789")
    )
    vocabulary = ["<pad>", "<eos>", "<bos>", "<unk>", *words]
    vocabulary += [c for c in letters if c not in words] + [
        f"##{c}" for c in letters if c.isalnum()
    ]
    tokenizer = Tokenizer(
        WordPiece({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>")
    )
    tokenizer.normalizer = normalize
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    tokenizer.add_tokens([AddedToken(m, normalized=False) for m in MARKERS])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>",
        unk_token="<unk>", model_max_length=512,
    )  # fmt: skip
    images = SiglipImageProcessorPil(
        size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    images.image_seq_length = IMAGE_TOKENS
    return PaliGemmaProcessor(images, fast)


def build_model(
    processor: PaliGemmaProcessor,
    *,
    hidden: int = 192,
    vision_layers: int = 1,
    text_layers: int = 4,
    image_size: int = IMAGE_SIZE,
    seed: int = 0,
) -> PaliGemmaForConditionalGeneration:
    """A model of random weights, sized to the processor's vocabulary; image_size: px, of the
    pictures' sides.
    """
    torch.manual_seed(seed)
    heads = hidden // 48
    vision = StemmedVisionConfig(
        hidden_size=hidden, intermediate_size=4 * hidden,
        num_hidden_layers=vision_layers, num_attention_heads=heads, image_size=image_size,
        patch_size=PATCH_SIZE, projection_dim=hidden, vision_use_head=False,
    )  # fmt: skip
    tokenizer = processor.tokenizer
    text = GemmaConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=3 * hidden,
        num_hidden_layers=text_layers, num_attention_heads=heads, num_key_value_heads=heads,
        head_dim=48, max_position_embeddings=512,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id, tie_word_embeddings=True,
        use_bidirectional_attention=False,
    )  # fmt: skip
    config = PaliGemmaConfig(
        vision_config=vision, text_config=text, projection_dim=hidden,
        image_token_index=processor.image_token_id, tie_word_embeddings=True,
    )  # fmt: skip
    model = PaliGemmaForConditionalGeneration(config)
    with torch.no_grad():
        embedding = model.get_input_embeddings().weight
        torch.nn.init.normal_(embedding, std=hidden**-0.5)
        ids = tokenizer.convert_tokens_to_ids([str(i) for i in range(256)])
        embedding[torch.tensor(ids)] = sinusoids(256, hidden)
        for layer in model.model.language_model.layers[:2]:
            # Equal and large query and key maps: from the first step on, a word attends to the
            # patches that the dense stage has taught to look like it.
            torch.nn.init.normal_(layer.self_attn.q_proj.weight, std=0.1)
            layer.self_attn.k_proj.weight.copy_(layer.self_attn.q_proj.weight)
        _place_patches(model.model.vision_tower)
    return model


def _place_patches(tower: nn.Module) -> None:
    """Start with patches that know where they are, by sinusoids of column and row: what is beside
    what is learned from the first step on (as in arXiv 2205.01580, there for good). They are half
    as long as what the stem makes of pixels.
    """
    places = tower.embeddings.position_embedding.weight
    grid, width = math.isqrt(len(places)), places.shape[1]
    middles = [int((i + 0.5) * 256 / grid) for i in range(grid)]
    across = sinusoids(256, width // 2)[middles]
    columns, rows = across.repeat(grid, 1), across.repeat_interleave(grid, 0)
    places.copy_(torch.cat([columns, rows], 1) * (width / 8) ** 0.5)


@torch.no_grad()
def whiten_patches(model: PaliGemmaForConditionalGeneration, images: torch.Tensor) -> None:
    """Start the stem's first map as the whitening of real pixels: its outputs uncorrelated, of like
    size.

    Neighbouring pixels are nearly equal, so a random map sees little but its mean colour;
    whitened, edges count from the first step (as in Keller Jordan's airbench). images: uint8 (N, H,
    W, 3).
    """
    embedding = model.model.vision_tower.stem.pixels
    side = embedding.kernel_size[0]
    pixels = images.permute(0, 3, 1, 2).float() / 127.5 - 1
    patches = torch.nn.functional.unfold(pixels, side, stride=side)
    patches = patches.permute(0, 2, 1).reshape(-1, patches.shape[1])
    mean = patches.mean(0)
    variance, direction = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    weight = (direction / (variance + 0.002).sqrt()).T
    embedding.weight.copy_(weight.reshape(embedding.weight.shape))
    embedding.bias.copy_(-weight @ mean)


def sinusoids(count: int, width: int) -> torch.Tensor:
    """Unit-length embeddings of 0..count-1 whose dot product falls with distance; shape (count,
    width).
    """
    # On the CPU also where a model is built without memory ("meta").
    longest = torch.linspace(math.log(16.0), math.log(2.0 * count), width // 2, device="cpu")
    turns = 2 * math.pi / torch.exp(longest)
    angle = torch.arange(count, device="cpu")[:, None] * turns[None, :]
    return torch.cat([angle.sin(), angle.cos()], dim=1) * (2 / width) ** 0.5
