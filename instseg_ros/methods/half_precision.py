"""Run a network in half precision where the hardware is faster in it."""

from __future__ import annotations

from functools import cache

import torch


@cache
def half_type(device: str) -> torch.dtype | None:
    """16-bit type that convolutions on this kind of device (``cpu``, ``cuda``, …) are faster in; None = stay with 32 bits.

    CUDA takes float16. A CPU takes bfloat16 if it multiplies it in hardware (AMX or AVX512-BF16); others would emulate it.
    """
    if device == "cuda":
        return torch.float16
    if device == "cpu" and torch.cpu.get_capabilities().get("avx512_bf16", False):
        return torch.bfloat16
    return None


def half_precision(device: torch.device) -> torch.autocast:
    """Context in which a network on ``device`` runs in :func:`half_type`, or as it is where there is none."""
    kind = half_type(device.type)
    return torch.autocast(device.type, kind or torch.bfloat16, enabled=kind is not None)
