# SPDX-License-Identifier: Apache-2.0
"""How fast a machine could answer at best: the roofline of a vision-language-action model.

    machine = MACHINES["orin"]                   # 205 GB/s, 42 TFLOP/s in bf16
    work = Work.of(meta_model("paligemma-3b"), image_tokens=256, prompt_tokens=40)
    work.floor(machine, forwards=8)              # {"vision": s, "prefill": s, "decode": s}

A stage takes at least the time to read its weights once, and the time of its multiplications: their
sum is the floor here, as in code that does not overlap the two. The first forward reads image and
prompt; each one after it reads all weights of the language model again, for a few tokens.
(Williams et al., Roofline, CACM 2009.)
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import nn


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


def measured(size: int, device: torch.device, dtype: torch.dtype, repeats: int = 15) -> Machine:
    """Measure this one with `size` bytes of weights: a small model may live in a cache."""
    count = max(1 << 20, size) // dtype.itemsize
    weights = torch.randn(count // 1024, 1024, device=device).to(dtype)
    vector = torch.randn(1, 1024, device=device).to(dtype)
    read = [_seconds(lambda: vector @ weights.T, device) for _ in range(repeats)]
    side = 1024 if device.type == "cpu" else 8192
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    multiply = [_seconds(lambda: a @ b, device) for _ in range(repeats)]
    bandwidth = weights.numel() * dtype.itemsize / median(read[2:])
    name = "this machine" if device.type == "cpu" else torch.cuda.get_device_name(device)
    return Machine(name, bandwidth, 2 * side**3 / median(multiply[2:]))


def _seconds(call: Any, device: torch.device) -> float:
    begun = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


@dataclass(frozen=True)
class Work:
    """What a decision asks of a machine, in parameters and tokens.

    vision, text: parameters of matrices; head: rows of the output matrix that are needed, times its
    width; layers, width: of the language model, for its attention; item: bytes of a parameter.
    """

    vision: int
    text: int
    head: int
    patches: int
    tokens: int
    layers: int
    width: int
    item: int

    @classmethod
    def of(cls, model: nn.Module, *, patches: int, tokens: int, rows: int = 256) -> Work:
        """Count a model, which may lie on the meta device.

        patches: of one picture, as its tower sees it; tokens: of the image and the prompt, as the
        language model reads them; rows: tokens that a grammar allows where integers come.
        """
        text = model.config.get_text_config()
        language = _matrices(model.base_model.language_model)
        embedding = model.get_input_embeddings().weight.numel()
        whole = sum(p.numel() for p in model.base_model.parameters() if p.ndim > 1)
        return cls(
            vision=whole - language,
            text=language - embedding,
            head=rows * text.hidden_size,
            patches=patches,
            tokens=tokens,
            layers=text.num_hidden_layers,
            width=text.num_attention_heads
            * (getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads),
            item=next(model.parameters()).element_size(),
        )

    def floor(self, machine: Machine, forwards: float, read: float = 1.0) -> dict[str, float]:
        """Seconds by stage of one decision of that many forwards, `read` tokens in each later one.

        forwards counts the first, which reads the image and the prompt.
        """
        step = self.text + self.head
        later = max(0.0, forwards - 1)
        seen = self.layers * 4 * self.width  # FLOP of one token's attention to one other
        return {
            "vision": self._time(machine, self.vision, 2 * self.vision * self.patches),
            "prefill": self._time(
                machine, step, 2 * self.text * self.tokens + seen * self.tokens**2 / 2
            ),
            "decode": later * self._time(machine, step, read * (2 * step + seen * self.tokens)),
        }

    def _time(self, machine: Machine, parameters: float, operations: float) -> float:
        return self.item * parameters / machine.bandwidth + operations / machine.rate


def _matrices(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.ndim > 1)
