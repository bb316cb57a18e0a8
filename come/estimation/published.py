"""Devices that are not here, from their makers' numbers: what is said of them is extrapolated, never measured."""

from __future__ import annotations

from come.errors import ComeError, did_you_mean
from come.estimation.device import Device

# What a run is taken to reach of the published peaks.
UTILISATION = 0.5  # of the dense matrix-product peak, in eager PyTorch
ATTENTION_UTILISATION = 0.25
BANDWIDTH_UTILISATION = 0.6

# Peak TFLOP/s of dense products in bfloat16 or float16 and in float32 (no TF32), memory in GB, its speed in GB/s.
PUBLISHED: dict[str, tuple[float, float, int, int]] = {
    "A100 80GB": (312, 19.5, 80, 2039),
    "H100 80GB": (989, 67, 80, 3350),
    "H200": (989, 67, 141, 4800),
    "L40S": (362, 91.6, 48, 864),
    "RTX 4090": (165, 82.6, 24, 1008),
}


def published(
    name: str, count: int = 1, host_memory: int = 256_000_000_000, disk_free: int = 1_000_000_000_000
) -> Device:
    """A device of ``PUBLISHED``, with the share of its peaks that a run is taken to reach.

    Args:
        name: a key of the table.
        count: how many of them.
        host_memory: bytes that are free in the main memory beside them.
        disk_free: bytes that are free on the disk.

    Raises:
        ComeError: the table has no such device.
    """
    if name not in PUBLISHED:
        hint = did_you_mean(name, PUBLISHED, f"Choose from {', '.join(PUBLISHED)}.", most=1, cutoff=0.3)
        raise ComeError(f"There are no published numbers for {name!r} here.", hint)
    half, single, memory, bandwidth = PUBLISHED[name]
    peaks = {"bfloat16": half * 1e12, "float16": half * 1e12, "float32": single * 1e12}
    return Device(
        name=name,
        flops={dtype: UTILISATION * peak for dtype, peak in peaks.items()},
        bandwidth=BANDWIDTH_UTILISATION * bandwidth * 1e9,
        memory=memory * 10**9,
        count=count,
        kind="cuda",
        attention_flops={dtype: ATTENTION_UTILISATION * peak for dtype, peak in peaks.items()},
        host_memory=host_memory,
        disk_free=disk_free,
    )
