# SPDX-License-Identifier: Apache-2.0
"""Whether a device computes in bfloat16; torch does it anywhere, without instructions slowly."""

from __future__ import annotations

import platform

import torch


def has_bfloat16(device: torch.device) -> bool:
    """Whether that very device has instructions for it."""
    if device.type == "cpu":
        return cpu_has_bfloat16()
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported(including_emulation=False)


def has_float16(device: torch.device) -> bool:
    """The same for float16, which every GPU has."""
    mkldnn = torch.backends.mkldnn.is_available()
    return device.type != "cpu" or (mkldnn and bool(torch.ops.mkldnn._is_mkldnn_fp16_supported()))


def cpu_has_bfloat16() -> bool:
    """Whether this CPU has; without, float32 is several times faster."""
    if platform.machine() in ("x86_64", "AMD64"):
        return torch.cpu._is_avx512_bf16_supported()
    mkldnn = torch.backends.mkldnn.is_available()
    return mkldnn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
