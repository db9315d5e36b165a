# SPDX-License-Identifier: Apache-2.0
"""PaliGemma's forward for small models on a CPU, whose time goes into calling operations as much as
into computing them.

    weights = LeanWeights(model)                        # once; ValueError where it does not fit
    forward = LeanForward(weights, [inputs], Stages(model.device))
    hidden = forward([[plan_token]])                    # (1, T, H); as `CachedForward`

The same function as the Hugging Face module's, on its weights: the gains of norms are folded into
the maps after them, query, key and value are one product, rotary embedding is one complex one (the
halves of a head are interleaved for it), keys and values lie in one static cache, and the last
layer works on the positions that are asked for only.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

from rt2_ros.actions import MOST_TOKENS
from rt2_ros.models.forward import Inputs, Stages
from rt2_ros.models.stem import Stem, StemmedVisionConfig
from rt2_ros.models.text import MOVED, both_ways

MAX_PARAMETERS = 64_000_000  # a larger one's time goes into its products, and copies cost memory
MANY_ROWS = 64  # from here on a packed product is the faster one


def misfit(model: PreTrainedModel) -> str:
    """Why a model is not one of those that are computed here, "" if it is."""
    text, vision = model.config.get_text_config(), getattr(model.config, "vision_config", None)
    quantized = getattr(model.config, "quantization_config", None)
    wanted = {
        "model_type": (model.config.model_type, "paligemma"),
        "text model_type": (text.model_type, "gemma"),
        "text hidden_act": (getattr(text, "hidden_act", None), "gelu_pytorch_tanh"),
        "vision hidden_act": (getattr(vision, "hidden_act", None), "gelu_pytorch_tanh"),
        "attention_bias": (getattr(text, "attention_bias", None), False),
        "rope_type": ((getattr(text, "rope_parameters", None) or {}).get("rope_type"), "default"),
        "device": (model.device.type, "cpu"),
        "dtype": (model.dtype, torch.float32),
        "quantization": (quantized and type(quantized).__name__, None),
    }
    kinds = "siglip_vision_model", StemmedVisionConfig.model_type
    if (kind := getattr(vision, "model_type", None)) not in kinds:
        return f"vision model_type is {kind}, expected {' or '.join(kinds)}"
    for name, (found, expected) in wanted.items():
        if found != expected:
            return f"{name} is {found}, expected {expected}"
    if model.num_parameters() > MAX_PARAMETERS:
        return f"{model.num_parameters()} parameters, expected at most {MAX_PARAMETERS}"
    return ""


@torch.inference_mode()
def lean_weights(model: PreTrainedModel) -> LeanWeights | None:
    """A model's weights for `LeanForward`, None where it does not fit or computes something else.

    The latter is found out by computing both: another version of the model's own code may differ.
    Why a small PaliGemma on a CPU does not is told.
    """
    if reason := misfit(model):
        kind, where = model.config.model_type, model.device.type
        if (kind, where) == ("paligemma", "cpu") and model.num_parameters() <= MAX_PARAMETERS:
            warnings.warn(
                f"no lean forward for this PaliGemma, decisions take the slower way: {reason}",
                stacklevel=2,
            )
        return None
    config = model.config
    side = config.vision_config.image_size
    noise = torch.Generator().manual_seed(0)
    image = [config.image_token_id] * (side // config.vision_config.patch_size) ** 2
    given = {
        "input_ids": torch.tensor([[*image, *range(4, 12)]]),
        "pixel_values": torch.randn(1, 3, side, side, generator=noise),
    }
    if both_ways(model):
        given["token_type_ids"] = torch.zeros_like(given["input_ids"])
    expected = model.base_model(**given).last_hidden_state[:, -1]
    try:
        weights = LeanWeights(model)
        found = LeanForward(weights, [given], Stages(model.device))([[]])[:, -1]
    except MOVED as error:
        reason = str(error) or repr(error)
    else:
        if torch.allclose(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())):
            return weights
        reason = f"by {float((found - expected).abs().max()):g}"
    warnings.warn(
        "the lean forward differs from this version of PaliGemma, decisions take the slower way: "
        f"{reason.splitlines()[0]}",
        stacklevel=2,
    )
    return None


class Linear:
    """y = x W^T + b, packed for oneDNN where many rows come at once."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self.weight, self.bias = weight.detach().contiguous(), bias
        # Not in every build of torch, and no promise of it; plain products do without.
        pack = torch.backends.mkldnn.is_available() and hasattr(
            torch.ops.mkldnn, "_linear_pointwise"
        )
        self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight, 192) if pack else None

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) -> (..., out)."""
        if self._packed is not None and x.shape[:-1].numel() >= MANY_ROWS:
            product = torch.ops.mkldnn._linear_pointwise
            return product(x, self._packed, self.bias, "none", [], "")
        return F.linear(x, self.weight, self.bias)


class LeanWeights:
    """A model's weights as `LeanForward` wants them, and the cache that its calls share."""

    @torch.inference_mode()
    def __init__(self, model: PreTrainedModel) -> None:
        if reason := misfit(model):
            raise ValueError(f"lean forward: {reason}")
        config, parts = model.config, model.base_model
        tower, text = parts.vision_tower, parts.language_model
        self.image_token = config.image_token_id
        self.vision_heads = config.vision_config.num_attention_heads
        patches = tower.embeddings.patch_embedding
        self.patch_size = config.vision_config.patch_size
        self.patches = Linear(patches.weight.flatten(1), patches.bias)
        self.stem: Stem | None = getattr(tower, "stem", None)
        self.places = tower.embeddings.position_embedding.weight
        self.vision_eps = config.vision_config.layer_norm_eps
        self.vision = [_VisionLayer(layer) for layer in tower.encoder.layers]
        self.vision_norm = tower.post_layernorm
        projector = parts.multi_modal_projector.linear
        self.projector = Linear(projector.weight, projector.bias)

        self.embedding = text.embed_tokens.weight
        self.embedding_scale = float(text.embed_tokens.embed_scale)
        gemma = config.get_text_config()
        self.heads, self.kv_heads = gemma.num_attention_heads, gemma.num_key_value_heads
        self.head_dim = gemma.head_dim
        self.text = [_TextLayer(layer, self.head_dim) for layer in text.layers]
        self.text_norm = _gain(text.norm)
        self.least = torch.tensor(gemma.rms_norm_eps * gemma.hidden_size).sqrt()
        self._turn = text.rotary_emb.inv_freq.double()
        self.turns = torch.empty(0, self.head_dim // 2, dtype=torch.complex64)
        self.cache = torch.empty(len(self.text), 2, 0, self.kv_heads, 0, self.head_dim)

    def reserve(self, batch: int, length: int) -> None:
        """Room for keys and values of `batch` sequences of `length` tokens."""
        _, _, had_batch, _, had_length, _ = self.cache.shape
        if batch > had_batch or length > had_length:
            length = max(had_length, -(-length // 64) * 64)
            shape = (len(self.text), 2, max(batch, had_batch), self.kv_heads, length, self.head_dim)
            before, self.cache = self.cache, torch.zeros(shape)  # zeros: nothing times NaN is NaN
            self.cache[:, :, :had_batch, :, :had_length] = before
            angle = torch.arange(1, length + 1)[:, None] * self._turn  # PaliGemma counts from 1
            self.turns = torch.polar(torch.ones_like(angle), angle).to(torch.complex64)


class _VisionLayer:
    def __init__(self, layer: torch.nn.Module) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        maps = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.norm1, self.norm2 = layer.layer_norm1, layer.layer_norm2
        self.qkv = Linear(torch.cat([m.weight for m in maps]), torch.cat([m.bias for m in maps]))
        self.out = Linear(attention.out_proj.weight, attention.out_proj.bias)
        self.up, self.down = (Linear(m.weight, m.bias) for m in (mlp.fc1, mlp.fc2))


class _TextLayer:
    def __init__(self, layer: torch.nn.Module, head_dim: int) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        before, between = _gain(layer.input_layernorm), _gain(layer.post_attention_layernorm)
        maps = [_interleaved(m.weight, head_dim) for m in (attention.q_proj, attention.k_proj)]
        self.qkv = Linear(torch.cat([*maps, attention.v_proj.weight]) * before)
        self.out = Linear(attention.o_proj.weight)
        self.gate_up = Linear(torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]) * between)
        self.down = Linear(mlp.down_proj.weight)


def _gain(norm: torch.nn.Module) -> torch.Tensor:
    """What `_unit` leaves of Gemma's norm: RMS is the length over the root of the width."""
    return (1 + norm.weight.detach()) * norm.weight.numel() ** 0.5


def _unit(x: torch.Tensor, least: torch.Tensor) -> torch.Tensor:
    """Rows of length one, with the norm's epsilon; a third of the operations of `F.rms_norm`."""
    return x / torch.hypot(torch.linalg.vector_norm(x, dim=-1, keepdim=True), least)


def _interleaved(weight: torch.Tensor, head_dim: int) -> torch.Tensor:
    """Rows of each head as 0, d/2, 1, d/2 + 1, ...: what is rotated together lies together."""
    halves = weight.view(-1, 2, head_dim // 2, weight.shape[1])
    return halves.transpose(1, 2).reshape(weight.shape)


class LeanForward:
    """Last hidden states of sequences that grow; the interface is `CachedForward`'s.

    Slot j of the cache is a sequence's token j; what lies behind a sequence's end is never seen, so
    forgetting tokens is counting back.
    """

    trial = MOST_TOKENS  # the cache grows where it must

    def __init__(self, weights: LeanWeights, inputs: Sequence[Inputs], stages: Stages) -> None:
        self._weights, self._inputs, self._stages = weights, inputs, stages
        self.batch = len(inputs)
        self._ends: list[int] = []  # tokens in the cache, by sequence
        self._prefix: list[int] = []  # of them, those that see each other both ways

    def __call__(self, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """Read tokens, after the prompts at first; (B, T, H), aligned to the right, of the prompt's
        last token and all that were read.
        """
        weights, counts = self._weights, [len(t) for t in tokens]
        if self._ends:
            starts, read = self._ends, tokens
            ids = _padded(read)
            x = weights.embedding[ids] * weights.embedding_scale
            longest = max(counts)
        else:
            starts, longest = [0] * self.batch, max(counts) + 1
            prompts = [i["input_ids"][0].tolist() for i in self._inputs]
            both_ways = ["token_type_ids" in i for i in self._inputs]
            self._prefix = [len(p) if b else 0 for p, b in zip(prompts, both_ways, strict=True)]
            read = [p + list(t) for p, t in zip(prompts, tokens, strict=True)]
            ids = _padded(read)
            seen = ids == weights.image_token
            # That token may lie beyond the embedding.
            x = weights.embedding[ids.masked_fill(seen, 0)] * weights.embedding_scale
            pixels = torch.cat([i["pixel_values"] for i in self._inputs])
            x[seen] = _see(weights, pixels)
            self._stages.mark("vision")
        self._ends = [s + len(r) for s, r in zip(starts, read, strict=True)]
        weights.reserve(self.batch, max(starts) + ids.shape[1])
        # Right-aligned places of what is asked for; a short sequence repeats its first one.
        wanted = torch.tensor(
            [[max(0, len(r) - longest + k) for k in range(longest)] for r in read]
        )
        hidden = self._read(x, starts, wanted)
        self._stages.mark("decode" if max(starts) else "prefill")
        return hidden

    def forget(self, counts: Sequence[int]) -> None:
        """Take back the last tokens of each sequence, as if they had never been read."""
        self._ends = [end - count for end, count in zip(self._ends, counts, strict=True)]

    def _read(self, x: torch.Tensor, starts: Sequence[int], wanted: torch.Tensor) -> torch.Tensor:
        w, (batch, count, _) = self._weights, x.shape
        slots = torch.tensor(starts)[:, None] + torch.arange(count)
        end = max(starts) + count
        mask, causal = self._mask(slots, end)
        turns = w.turns[slots][:, :, None]
        rows = torch.arange(batch)[:, None]
        split = [w.heads + w.kv_heads, w.kv_heads]
        for index, layer in enumerate(w.text):
            qkv = layer.qkv(_unit(x, w.least))
            qk, v = qkv.view(batch, count, -1, w.head_dim).split(split, dim=2)
            pairs = torch.view_as_complex(qk.reshape(*qk.shape[:3], -1, 2)) * turns
            q, k = torch.view_as_real(pairs).flatten(3).split([w.heads, w.kv_heads], dim=2)
            if batch == 1:
                w.cache[index, 0, 0, :, starts[0] : end] = k[0].transpose(0, 1)
                w.cache[index, 1, 0, :, starts[0] : end] = v[0].transpose(0, 1)
            else:
                w.cache[index, 0][rows, :, slots] = k
                w.cache[index, 1][rows, :, slots] = v
            keys, values = w.cache[index, :, :batch, :, :end]
            if index == len(w.text) - 1 and (batch > 1 or wanted.shape[1] < count):
                x, q = x[rows, wanted], q[rows, wanted]
                if causal or mask is not None:
                    mask, causal = self._mask(slots.gather(1, wanted), end)
            seen = F.scaled_dot_product_attention(
                q.transpose(1, 2), keys, values, attn_mask=mask, is_causal=causal,
                enable_gqa=w.heads != w.kv_heads,
            )  # fmt: skip
            x = x + layer.out(seen.transpose(1, 2).flatten(2))
            gate, up = layer.gate_up(_unit(x, w.least)).chunk(2, dim=-1)
            x = x + layer.down(F.gelu(gate, approximate="tanh") * up)
        return _unit(x, w.least) * w.text_norm

    def _mask(self, slots: torch.Tensor, end: int) -> tuple[torch.Tensor | None, bool]:
        """What is added to scores (B, 1, T, end), and whether it is plain causal instead."""
        batch, count = slots.shape
        if batch == 1 and count == 1:
            return None, False
        if batch == 1 and count == end and not self._prefix[0]:
            return None, True
        reach = torch.maximum(slots, torch.tensor(self._prefix)[:, None] - 1)
        hidden = torch.arange(end) > reach[:, None, :, None]
        return torch.zeros(hidden.shape).masked_fill_(hidden, -torch.inf), False


def _see(w: LeanWeights, pixels: torch.Tensor) -> torch.Tensor:
    """Image tokens (B * N, H) from pixels (B, 3, S, S)."""
    x = w.patches(F.pixel_unshuffle(pixels, w.patch_size).flatten(2).transpose(1, 2)) + w.places
    if w.stem is not None:
        x = x + w.stem(pixels)[0]
    batch, count, size = x.shape
    for layer in w.vision:
        y = F.layer_norm(x, (size,), layer.norm1.weight, layer.norm1.bias, w.vision_eps)
        q, k, v = layer.qkv(y).view(batch, count, 3, w.vision_heads, -1).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + layer.out(seen)
        y = F.layer_norm(x, (size,), layer.norm2.weight, layer.norm2.bias, w.vision_eps)
        x = x + layer.down(F.gelu(layer.up(y), approximate="tanh"))
    norm = w.vision_norm
    x = F.layer_norm(x, (size,), norm.weight, norm.bias, w.vision_eps)
    return w.projector(x).flatten(0, 1)


def _padded(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """(B, longest) ids, zeros on the right."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], dtype=torch.long)
