# SPDX-License-Identifier: Apache-2.0
"""The language model of a vision-language model, on a static cache, in few operations.

    text = text_model(model)                          # FusedText where it fits, else HubText
    cache = text.cache(batch=1, slots=704)
    turns = text.turns(positions)                     # once for several layers and blocks
    hidden = text.read(cache, x, turns, slots, mask)  # (B, T, H)

A token's forward through three billion weights takes a GPU about a millisecond, and the fifty
small operations of each layer in the Hugging Face module take longer than that. `FusedText`
computes the same in a third as many: one product for query, key and value and one for gate and up
(whose weights the module then shares: there is no second copy), one turn of all heads, sums inside
the products. It is used only if it reproduces the module; `HubText` is the module itself.
"""

from __future__ import annotations

import warnings
from itertools import accumulate
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedModel, StaticCache

KINDS = ("gemma", "llama", "qwen2_5_vl_text")  # of language models that FusedText is known to fit
APART = ("mllama",)  # of models that look at pictures in layers of their own
AXES = {"qwen2_5_vl_text": 3}  # of positions; one elsewhere
TURNS = ("default", "linear", "llama3")  # kinds of rotary embedding that depend on positions alone
# What another version of Transformers raises where its inner parts are not as they are known here.
MOVED = (RuntimeError, ImportError, AttributeError, TypeError)


class Text(Protocol):
    """A language model that reads blocks of tokens; all of it runs without asking the host."""

    def cache(self, batch: int, slots: int) -> Any:
        """Room for keys and values of so many tokens."""

    def turns(self, positions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What positions (A, B, T) mean to all layers; each (B, T, ...)."""

    def read(
        self, cache: Any, x: torch.Tensor, turns: tuple[torch.Tensor, ...], slots: torch.Tensor,
        mask: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """Last hidden states (B, T, H) of embeddings x, which may be overwritten.

        slots: (T,) where the cache keeps them, one after the other. mask: (B, 1, T, W) added to
        scores, of the first W slots.
        """


def text_model(model: PreTrainedModel) -> Text:
    """The language model of a model, in as few operations as can be."""
    module = language_model(model)
    try:
        if misfit(module, model):
            return HubText(module)
        fused = FusedText(module)
        reason = _difference(fused, module, model)
    except torch.OutOfMemoryError:
        raise
    except MOVED as error:
        reason = (str(error) or repr(error)).splitlines()[0]
    if not reason:
        return fused
    warnings.warn(
        f"the language model is computed by its own module, which takes longer: {reason}",
        stacklevel=2,
    )
    return HubText(module)


def language_model(model: PreTrainedModel) -> Any:
    """The module, by either of the names that models give it."""
    base = model.base_model
    return base.language_model if hasattr(base, "language_model") else base.text_model


def both_ways(model: PreTrainedModel) -> bool:
    """Whether prompts attend both ways, as Transformers makes of a PaliGemma that says nothing."""
    how = getattr(model.config.get_text_config(), "use_bidirectional_attention", False)
    if how not in (None, False, True):
        raise ValueError(
            f"text model: use_bidirectional_attention is {how!r}; expected true or false: no other "
            "way is decoded here"
        )
    return bool(how)


def check_kind(model: PreTrainedModel) -> None:
    """ValueError for models whose answers do not go on with the prompt that holds the picture."""
    kind = model.config.model_type
    if model.config.is_encoder_decoder or kind in APART:
        raise ValueError(
            f"model_type is {kind!r}, which reads its pictures beside the prompt; expected one "
            "that reads them within, as PaliGemma, LLaVA, Qwen-VL and SmolVLM do"
        )


def check_prefix(model: PreTrainedModel, prefix_attention: str, where: str = "") -> None:
    """ValueError where prompts are to be read from left to right by a model that cannot: without
    the types of its tokens it would let an answer see what comes behind it.
    """
    if prefix_attention == "causal" and both_ways(model):
        raise ValueError(
            f"{where}prefix_attention is 'causal'; expected 'full', for the text model has "
            "use_bidirectional_attention true (a config.json that says nothing means that)"
        )


def misfit(module: Any, model: PreTrainedModel) -> str:
    """Why a language model is not one that is computed here, "" if it is."""
    config = module.config
    attention, mlp = module.layers[0].self_attn, module.layers[0].mlp
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type")
    if config.model_type not in KINDS:
        return f"model_type is {config.model_type}"
    if rope not in TURNS:
        return f"rope_type is {rope}"
    if getattr(model.config, "quantization_config", None) is not None:
        return "its weights are quantized"
    if attention.o_proj.bias is not None or mlp.down_proj.bias is not None:
        return "its layers have biases"
    return ""


class FusedText:
    """Layers of the Llama kind: RMS norm, rotary embedding, gated MLP."""

    @torch.no_grad()
    def __init__(self, module: Any) -> None:
        config = module.config
        self._rotary, self._axes = module.rotary_emb, AXES.get(config.model_type, 1)
        self._eps, self._size = config.rms_norm_eps, config.hidden_size
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._width = module.layers[0].self_attn.head_dim
        gemma = config.model_type == "gemma"
        self._layers = [_Layer(layer, gemma) for layer in module.layers]
        self._norm = _gain(module.norm, gemma)
        # rotate_half(x) * sin is a roll by half a head times this.
        half = torch.ones(self._width, device=module.norm.weight.device)
        half[: self._width // 2] = -1
        self._sign = half.to(module.norm.weight.dtype)

    def cache(self, batch: int, slots: int) -> torch.Tensor:
        """As `Text`'s: (layers, B, slots, keys' and values' heads, width)."""
        shape = (len(self._layers), batch, slots, 2 * self._kv_heads, self._width)
        return torch.zeros(shape, dtype=self._sign.dtype, device=self._sign.device)

    def turns(self, positions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """As `Text`'s: cosine and sine for queries and keys, one and zero for values."""
        cos, sin = self._rotary(self._sign, positions if self._axes > 1 else positions[0])
        heads = self._heads + self._kv_heads
        turned = (*cos.shape[:2], heads, self._width)
        kept = (*cos.shape[:2], self._kv_heads, self._width)
        cos, sin = cos[:, :, None].expand(turned), (sin * self._sign)[:, :, None].expand(turned)
        return torch.cat([cos, cos.new_ones(kept)], 2), torch.cat([sin, sin.new_zeros(kept)], 2)

    def read(
        self, cache: torch.Tensor, x: torch.Tensor, turns: tuple[torch.Tensor, ...],
        slots: torch.Tensor, mask: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """As `Text`'s."""
        batch, count, size = x.shape
        heads, kv, width = self._heads, self._kv_heads, self._width
        each, reach = heads // kv, mask.shape[-1]  # queries of a key
        cos, sin = turns
        # The queries of one key stand below each other, so that no key is copied for each.
        mask = mask[:, :, :, None].expand(-1, -1, -1, each, -1).flatten(2, 3)
        x = x.view(-1, size)
        for layer, kept in zip(self._layers, cache, strict=True):
            qkv = F.linear(self._normed(x, layer.before), layer.qkv, layer.bias)
            qkv = qkv.view(batch, count, heads + 2 * kv, width)
            qkv = torch.addcmul(qkv * cos, qkv.roll(width // 2, -1), sin)
            kept.index_copy_(1, slots, qkv[:, :, heads:])
            keys, values = kept[:, :reach].transpose(1, 2).split(kv, dim=1)
            q = qkv[:, :, :heads].reshape(batch, count, kv, each, width).transpose(1, 2)
            q = q.reshape(batch, kv, count * each, width)
            seen = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)
            seen = seen.view(batch, kv, count, each, width).transpose(1, 2)
            x.addmm_(seen.reshape(-1, heads * width), layer.out.t())
            gate, up = F.linear(self._normed(x, layer.between), layer.gate_up).chunk(2, -1)
            x.addmm_(layer.act(gate).mul_(up), layer.down.t())
        return self._normed(x, self._norm).view(batch, count, size)

    def _normed(self, x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        if gain.dtype == x.dtype:
            return F.rms_norm(x, (self._size,), gain, self._eps)
        # Gemma's 1 + weight has more digits than bfloat16.
        x = F.rms_norm(x, (self._size,), eps=self._eps)
        return torch.mul(x, gain, out=x)


class _Layer:
    def __init__(self, layer: Any, gemma: bool) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        maps = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.qkv, self.bias = _joined(maps)
        self.out = attention.o_proj.weight.detach()
        self.gate_up, _ = _joined((mlp.gate_proj, mlp.up_proj))
        self.down, self.act = mlp.down_proj.weight.detach(), mlp.act_fn
        self.before = _gain(layer.input_layernorm, gemma)
        self.between = _gain(layer.post_attention_layernorm, gemma)


def _joined(maps: tuple[nn.Linear, ...]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """One matrix (and bias) of several, which become parts of it: memory is needed once."""
    weight = _whole([each.weight for each in maps])
    return weight, None if maps[0].bias is None else _whole([each.bias for each in maps])


def _whole(parts: list[nn.Parameter]) -> torch.Tensor:
    """Tensors below each other, which are parts of it from now on."""
    first, rows = parts[0].detach(), [len(part) for part in parts]
    step = first.stride(0) * first.element_size()
    places = [first.data_ptr() + row * step for row in accumulate(rows[:-1], initial=0)]
    same = {part.untyped_storage().data_ptr() for part in parts}
    if len(same) == 1 and [part.data_ptr() for part in parts] == places:  # by a decoder before
        return first.as_strided((sum(rows), *first.shape[1:]), first.stride())
    whole = torch.cat([part.detach() for part in parts])
    for part, place in zip(parts, whole.split(rows), strict=True):
        part.data = place
    return whole


def _gain(norm: nn.Module, gemma: bool) -> torch.Tensor:
    weight = norm.weight.detach()
    return 1 + weight.float() if gemma else weight


class HubText:
    """Any causal language model of Transformers, on its static cache."""

    def __init__(self, module: Any) -> None:
        self._module, self._axes = module, AXES.get(module.config.model_type, 1)

    def cache(self, batch: int, slots: int) -> StaticCache:
        """As `Text`'s."""
        cache = StaticCache(config=self._module.config, max_cache_len=slots)
        config = self._module.config
        width = getattr(config, "head_dim", None)
        weight = self._module.get_input_embeddings().weight
        cache.early_initialization(
            batch, config.num_key_value_heads,
            width or config.hidden_size // config.num_attention_heads, weight.dtype, weight.device,
        )  # fmt: skip
        return cache

    def turns(self, positions: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """As `Text`'s: the positions (B, T, A) themselves."""
        return (positions.permute(1, 2, 0),)

    def read(
        self, cache: StaticCache, x: torch.Tensor, turns: tuple[torch.Tensor, ...],
        slots: torch.Tensor, mask: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """As `Text`'s."""
        for layer in cache.layers:
            layer.cumulative_length.copy_(slots[0])
        rest = cache.layers[0].max_cache_len - mask.shape[-1]
        mask = F.pad(mask, (0, rest), value=torch.finfo(mask.dtype).min)
        positions = turns[0].permute(2, 0, 1)
        output = self._module(
            inputs_embeds=x, position_ids=positions if self._axes > 1 else positions[0],
            attention_mask=mask, past_key_values=cache, use_cache=True,
        )  # fmt: skip
        return output.last_hidden_state


@torch.inference_mode()
def _difference(text: Text, module: Any, model: PreTrainedModel) -> str:
    """How a text model differs from the module, "" where it does not: seven tokens, then one."""
    count, device = 8, model.device
    noise = torch.Generator().manual_seed(0)
    ids = torch.randint(4, 100, (2, count), generator=noise).to(device)
    x = module.get_input_embeddings()(ids)
    positions = torch.arange(count).expand(AXES.get(module.config.model_type, 1), 2, count)
    if len(positions) > 1:  # pictures have a place of their own on each axis
        positions = positions * torch.tensor([1, 2, 3])[:, None, None]
    positions = positions.to(device)
    mask = torch.full((count, 16), torch.finfo(x.dtype).min, dtype=x.dtype, device=device)
    mask = mask.triu(1).expand(2, 1, count, 16)
    expected = HubText(module)
    found = []
    for each in (text, expected):
        cache, turns = each.cache(2, 16), each.turns(positions)
        for begin, end in ((0, count - 1), (count - 1, count)):
            part = tuple(turn[:, begin:end] for turn in turns)
            slots = torch.arange(begin, end, device=device)
            block = x[:, begin:end].clone()
            last = each.read(cache, block, part, slots, mask[:, :, begin:end])
        found.append(last[:, -1].float())
    distance = float((found[0] - found[1]).norm() / found[1].norm())
    limit = 1e-3 if x.dtype == torch.float32 else 0.2  # two ways of rounding in 36 layers
    return "" if distance < limit else f"the fused one differs from it by {distance:.2g}"
