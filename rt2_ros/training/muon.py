# SPDX-License-Identifier: Apache-2.0
"""Muon in float32. torch's own computes in bfloat16, for which many CPUs have no instructions:
there a step would take up to a hundred times as long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class Float32Muon(torch.optim.Muon):
    """torch.optim.Muon with adjust_lr_fn "match_rms_adamw" (arXiv 2502.16982), to its rounding."""

    def __init__(self, params: Any, adjust_lr_fn: str = "match_rms_adamw", **settings: Any) -> None:
        if adjust_lr_fn != "match_rms_adamw":
            raise ValueError(f"adjust_lr_fn is {adjust_lr_fn!r}; expected match_rms_adamw")
        super().__init__(params, adjust_lr_fn=adjust_lr_fn, **settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        """Take a step; a closure is not asked for."""
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(param.grad)
                momentum = state["momentum_buffer"].lerp_(param.grad, 1 - group["momentum"])
                nesterov = group["nesterov"]
                way = param.grad.lerp(momentum, group["momentum"]) if nesterov else momentum
                way = _orthogonal(way, group["ns_coefficients"], group["ns_steps"], group["eps"])
                param.mul_(1 - group["lr"] * group["weight_decay"])
                param.add_(way, alpha=-0.2 * group["lr"] * max(param.shape) ** 0.5)


def _orthogonal(
    matrix: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> torch.Tensor:
    """About U V' of a matrix U S V', by Newton and Schulz (kellerjordan.github.io/posts/muon)."""
    a, b, c = coefficients
    tall = matrix.size(0) > matrix.size(1)
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
