# SPDX-License-Identifier: Apache-2.0
"""How fast a machine could answer at best: the roofline of a vision-language-action model.

    machine = MACHINES["orin"]                   # 205 GB/s, 42 TFLOP/s in bf16
    work = Work.of(SHAPES["paligemma-3b"].build("meta"), patches=256, tokens=296)
    work.floor(machine, forwards=8)              # {"vision": s, "prefill": s, "decode": s}

A stage takes at least the time to read its weights once, and the time of its multiplications: their
sum is the floor here, as in code that does not overlap the two. The first forward reads image and
prompt; each one after it reads all weights of the language model again, for a few tokens. What any
decoder may leave out does not count: of the last layer, all but the keys and values of a prompt's
other tokens than the last.
(Williams et al., Roofline, CACM 2009.)
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from rt2_ros.models.stem import FINE, PATCH_SIZE, Stem
from rt2_ros.models.text import language_model


@dataclass(frozen=True)
class Machine:
    """bandwidth: bytes/s from the memory that holds the weights; rate: dense FLOP/s."""

    name: str
    bandwidth: float
    rate: float

    def __post_init__(self) -> None:
        for name in ("bandwidth", "rate"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"Machine.{name}: {getattr(self, name)}, expected more than 0")


# Vendors' figures: memory bandwidth, and dense bf16 (fp16 on Orin) with accumulation in fp32.
MACHINES = {
    "h200": Machine("H200 SXM", 4.8e12, 989e12),
    "rtx4090": Machine("RTX 4090", 1.008e12, 165e12),
    "orin": Machine("Jetson AGX Orin 64GB", 0.2048e12, 42.5e12),
}


MOST_BYTES = 4 << 30  # that are read to measure how fast memory is


def measured(size: int, device: torch.device, dtype: torch.dtype, repeats: int = 15) -> Machine:
    """Measure this one with `size` bytes of weights: a small model may live in a cache.

    Bandwidth is that of the best of three ways: a product with a vector, which is what decoding
    does, a sum, and a copy.
    """
    count = max(1 << 20, min(size, MOST_BYTES)) // dtype.itemsize // 1024 * 1024
    weights = torch.empty(count // 1024, 1024, device=device, dtype=dtype).normal_()
    vector = torch.randn(1, 1024, device=device).to(dtype)
    ways: list[tuple[int, Any]] = [(1, lambda: vector @ weights.T)]
    if device.type != "cpu":
        other = torch.empty_like(weights)
        ways += [(1, weights.sum), (2, lambda: other.copy_(weights))]
    bandwidth = max(
        times * count * dtype.itemsize / median(_seconds(way, device, repeats))
        for times, way in ways
    )
    side = 1024 if device.type == "cpu" else 8192
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    multiply = median(_seconds(lambda: a @ b, device, repeats))
    name = "this machine" if device.type == "cpu" else torch.cuda.get_device_name(device)
    return Machine(name, bandwidth, 2 * side**3 / multiply)


def _seconds(call: Any, device: torch.device, repeats: int) -> list[float]:
    """How long a call takes, in the device's own time where it has one."""
    taken = []
    for _ in range(repeats):
        if device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            call()
            end.record()
            torch.cuda.synchronize(device)
            taken.append(begin.elapsed_time(end) / 1e3)
        else:
            begun = time.perf_counter()
            call()
            taken.append(time.perf_counter() - begun)
    return taken[2:]


@dataclass(frozen=True)
class Work:
    """What a decision asks of a machine, in parameters and tokens.

    vision, text: parameters of matrices; head: rows of the output matrix that are needed, times its
    width; layers, width: of the language model, for its attention; item: bytes of a parameter;
    stem: multiplications for a patch beside one by each of `vision`, for some convolve finer; last:
    parameters of the last layer's matrices but those of keys and values.
    """

    vision: int
    text: int
    head: int
    patches: int
    tokens: int
    layers: int
    width: int
    item: int
    kept: int = 0
    stem: int = 0
    last: int = 0

    @classmethod
    def of(cls, model: PreTrainedModel, *, patches: int, tokens: int, rows: int = 256) -> Work:
        """Count a model, which may lie on the meta device.

        patches: of one picture, as its tower sees it; tokens: of the image and the prompt, as the
        language model reads them; rows: tokens that a grammar allows where integers come.
        """
        text = model.config.get_text_config()
        language = _matrices(language_model(model))
        embedding = model.get_input_embeddings().weight.numel()
        whole = sum(p.numel() for p in model.base_model.parameters() if p.ndim > 1)
        head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        return cls(
            vision=whole - language,
            text=language - embedding,
            head=rows * text.hidden_size,
            patches=patches,
            tokens=tokens,
            layers=text.num_hidden_layers,
            width=text.num_attention_heads * head_dim,
            item=next(model.parameters()).element_size(),
            kept=text.num_hidden_layers * 2 * text.num_key_value_heads * head_dim,
            stem=sum(map(_finer, model.modules())),
            last=_but_keys(language_model(model).layers[-1]),
        )

    def floor(
        self, machine: Machine, forwards: float, read: float = 1.0, batch: int = 1
    ) -> dict[str, float]:
        """Seconds by stage of `batch` decisions together, each of that many forwards, `read` tokens
        in each later one.

        forwards counts the first, which reads the image and the prompt. Weights are read once for
        all decisions; multiplications and the cache's contents grow with their number.
        """
        step = self.text + self.head
        later = max(0.0, forwards - 1)
        each = 4 * self.width  # FLOP of one token's attention to one other, in a layer
        seen = self.layers * each
        left_out = 2 * self.last * (self.tokens - 1) + each * self.tokens * (self.tokens / 2 - 1)
        operations = {
            "vision": 2 * (self.vision + self.stem) * self.patches,
            "prefill": 2 * self.text * self.tokens + seen * self.tokens**2 / 2 - left_out,
            "decode": read * (2 * step + seen * self.tokens),
        }
        numbers = {
            "vision": self.vision,
            "prefill": step,
            "decode": step + batch * self.kept * self.tokens,
        }
        return {
            stage: (later if stage == "decode" else 1)
            * self._time(machine, numbers[stage], batch * operations[stage])
            for stage in operations
        }

    def _time(self, machine: Machine, numbers: float, operations: float) -> float:
        return self.item * numbers / machine.bandwidth + operations / machine.rate


def patches(model: PreTrainedModel, inputs: Mapping[str, torch.Tensor]) -> int:
    """How many its tower sees of the pictures in its inputs; 0 where that is not known."""
    pixels = inputs.get("pixel_values")
    side = getattr(getattr(model.config, "vision_config", None), "patch_size", None)
    if pixels is None or not isinstance(side, int):
        return 0
    # Qwen's come cut into them, (patches, values); others' as (..., channels, rows, columns).
    return len(pixels) if pixels.ndim == 2 else pixels.numel() // (pixels.shape[-3] * side**2)


def _finer(module: nn.Module) -> int:
    """What a `Stem` multiplies for a patch beyond once by each of its weights."""
    if not isinstance(module, Stem):
        return 0
    places = (PATCH_SIZE // FINE) ** 2  # in a patch
    more = (places - 1) * module.pixels.weight.numel()
    for layer in module.layers:
        places //= layer.stride**2
        more += (places - 1) * layer.weight.numel()
    return more


def _but_keys(layer: nn.Module) -> int:
    """Parameters of a layer's matrices that only a token's own output needs."""
    parts = (name for name in ("k_proj", "v_proj") if hasattr(layer.self_attn, name))
    return _matrices(layer) - sum(_matrices(getattr(layer.self_attn, name)) for name in parts)


def _matrices(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.ndim > 1)
