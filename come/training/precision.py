"""How a training computes: its matrix products in a format of choice; weights, sums and losses stay float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch

from come.training.attention import blockwise_attention

Precision = Literal["auto", "float32", "bfloat16"]
PRECISIONS = ("auto", "float32", "bfloat16")


@contextmanager
def arithmetic(device: torch.device, precision: Precision) -> Iterator[None]:
    """Within, what a training computes is computed as fast as the device can in the format that was asked for.

    Args:
        device: where.
        precision: of matrix products; "auto": bfloat16 where the device has units for it.
    """
    with _autocast(device, precision), blockwise_attention(device):
        yield


def _autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    if precision == "float32" or (precision == "auto" and not has_bfloat16(device)):
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 matrices faster than float32 ones."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(known.get("avx512_bf16") or known.get("amx_tile"))
