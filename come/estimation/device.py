"""How fast a device is: measured here in about a second and kept, or read back without any work."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import psutil

from come.errors import ComeError
from come.kept import keep, kept, key_of, processor

FILE = "device.json"
PROBE_TOKENS = 2048  # as in a usual batch
PROBE_WIDTH = {"cpu": 1024, "mps": 2048, "cuda": 4096}


@dataclass(frozen=True)
class Device:
    """A device's speed and room, as far as the cost of a run depends on them.

    Attributes:
        name: for people.
        flops: by dtype, the FLOP/s that matrix products of a layer's size reach (2 FLOP a multiplication with its
            addition).
        bandwidth: bytes/s that elementwise work on the device reads and writes.
        memory: bytes that are free on the device.
        count: how many of them there are. Layers run one after the other, so more devices hold more and are not
            faster.
        kind: "cpu" (its memory is the main memory), "cuda" or "mps".
        attention_flops: by dtype, the FLOP/s of causal attention, half of the square counted; half of ``flops``
            where nothing is said.
        host_memory: bytes that are free in main memory; ``memory`` where nothing is said.
        host_bandwidth: bytes/s between the device and main memory.
        hashing: bytes/s of SHA-256.
        disk: bytes/s at which weights are read and written.
        disk_free: bytes that are free on its disk; where nothing is said, the disk of the runs here is looked at.
        measured: whether the speeds were measured, or taken from published numbers.
    """

    name: str
    flops: dict[str, float]
    bandwidth: float
    memory: int
    count: int = 1
    kind: str = "cpu"
    attention_flops: dict[str, float] = field(default_factory=dict)
    host_memory: int | None = None
    host_bandwidth: float = 10e9
    hashing: float = 1e9
    disk: float = 1e9
    disk_free: int | None = None
    measured: bool = False

    def __post_init__(self) -> None:
        """Refuse speeds that nothing can be divided by."""
        rates = [*self.flops.values(), *self.attention_flops.values(), self.bandwidth, self.host_bandwidth]
        if not self.flops or min(*rates, self.hashing, self.disk) <= 0 or self.count < 1 or self.memory < 0:
            raise ComeError(
                f"The numbers of the device {self.name!r} make no sense.", "Give speeds above 0, and at least 1 device."
            )

    def linear_speed(self, dtype: str) -> float:
        """FLOP/s of matrix products.

        Raises:
            ComeError: the speed in that dtype is not known.
        """
        if dtype not in self.flops:
            raise ComeError(
                f"How fast {self.name} is in {dtype} is not known.", f"Known are {', '.join(sorted(self.flops))}."
            )
        return self.flops[dtype]

    def attention_speed(self, dtype: str) -> float:
        """FLOP/s of causal attention."""
        return self.attention_flops.get(dtype, self.linear_speed(dtype) / 2)

    @property
    def main_memory(self) -> int:
        """Bytes that are free in main memory."""
        return self.memory if self.kind != "cuda" or self.host_memory is None else self.host_memory


def measure_device(dtype: str = "float32", seconds: float = 1.0, device: str = "auto") -> Device:
    """Measure this machine's device: short matrix products, attention, elementwise work and hashing.

    What else the machine is doing shows in the numbers.

    Args:
        dtype: "float32", "bfloat16" or "float16".
        seconds: how long to measure, about.
        device: as for ``come.load``.

    Raises:
        ComeError: there is no such device or dtype.
    """
    import torch

    from come.models.load import DTYPES

    if dtype not in DTYPES:
        raise ComeError(f"There is no dtype {dtype!r}.", f"Choose one of {', '.join(DTYPES)}.")
    place = place_of(device)
    flops, in_float32, attention, bandwidth, copied, hashing = _probe(place, DTYPES[dtype], seconds)
    if place.type == "cuda":
        torch.cuda.empty_cache()  # what the probe took counts as free again
    return _with_free_memory(
        Device(
            name=torch.cuda.get_device_name(place) if place.type == "cuda" else processor(),
            flops={"float32": in_float32, dtype: flops},
            bandwidth=bandwidth,
            memory=0,
            count=torch.cuda.device_count() if place.type == "cuda" else 1,
            kind=place.type,
            attention_flops={dtype: attention},
            host_bandwidth=copied if place.type == "cuda" else bandwidth,
            hashing=hashing,
            measured=True,
        ),
        device,
    )


def _probe(place: Any, precision: Any, seconds: float) -> list[float]:
    """How fast a torch device is in a torch dtype: FLOP/s of products and of attention, bytes/s of the rest."""
    import torch

    width = PROBE_WIDTH[place.type]

    def settle() -> None:
        if place.type != "cpu":
            (torch.cuda.synchronize if place.type == "cuda" else torch.mps.synchronize)()

    with torch.inference_mode():
        exact = torch.randn(PROBE_TOKENS, width, device=place), torch.randn(4 * width, width, device=place)
        states, weight = (each.to(precision) for each in exact)
        heads = torch.randn(4, width // 64, PROBE_TOKENS // 4, 64, device=place).to(precision)
        wide = torch.randn(PROBE_TOKENS, 2 * width, device=place).to(precision)
        functional = torch.nn.functional
        bytes_ = bytes(1 << 24)
        return _rates(
            [
                (lambda: functional.linear(states, weight), 2 * states.numel() * 4 * width),
                # Statistics and solutions are in float32 whatever the dtype, and may be many times as slow.
                (lambda: functional.linear(*exact), 2 * states.numel() * 4 * width),
                (
                    lambda: functional.scaled_dot_product_attention(heads, heads, heads, is_causal=True),
                    2 * heads.numel() * heads.shape[2],
                ),
                # What a gated FFN does between its maps: reads 3 and writes 2 numbers a channel.
                (lambda: functional.silu(wide) * wide, 5 * wide.numel() * wide.element_size()),
                (wide.cpu, wide.numel() * wide.element_size()),
                (lambda: hashlib.sha256(bytes_), len(bytes_)),
            ],
            seconds,
            settle,
        )


def known_device(dtype: str = "float32", device: str = "auto") -> Device | None:
    """The device as it was last measured and remembered; None where it was not. Computes nothing.

    Its free memory is that of this moment, on a GPU that is there as well.

    Args:
        dtype, device: as for ``measure_device``.
    """
    with suppress(OSError, ValueError, TypeError, KeyError, ComeError):
        return _with_free_memory(Device(**kept(FILE, key_of(dtype, device))), device)
    return None


def remember(measured: Device, dtype: str, device: str = "auto") -> None:
    """Keep a measured device in ``COME_HOME`` for ``known_device``; where that cannot be written, nothing is kept."""
    keep(FILE, key_of(dtype, device), asdict(measured))


def _rates(
    works: Sequence[tuple[Callable[[], object], float]], seconds: float, settle: Callable[[], None]
) -> list[float]:
    """For each work and the amount that it does, how much a second, by its quickest round.

    Works take turns: a process that has just begun, or a machine that is disturbed for a moment, is slow in all.
    """
    best = [float("inf")] * len(works)
    rounds, until = 0, time.perf_counter() + seconds
    while rounds < 4 or time.perf_counter() < until:
        for place, (work, _) in enumerate(works):
            began = time.perf_counter()
            work()
            settle()
            best[place] = min(best[place], time.perf_counter() - began)
        rounds += 1
    return [amount / max(taken, 1e-9) for (_, amount), taken in zip(works, best, strict=True)]


def place_of(device: str) -> Any:
    """The torch device behind a name that ``come.load`` takes."""
    import torch

    from come.models.load import device_named

    if device in ("auto", "balanced"):
        best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(best)
    return device_named(device)


def _with_free_memory(device: Device, name: str) -> Device:
    """The device, which ``come.load`` knows by that name, with what is free of it and of main memory now."""
    free = int(psutil.virtual_memory().available)
    return replace(device, memory=_free_of_gpu(device, name) if device.kind == "cuda" else free, host_memory=free)


def _free_of_gpu(device: Device, name: str) -> int:
    """Bytes that are free now; as they were remembered, where the GPU is not there or does not answer."""
    import torch

    with suppress(RuntimeError):
        if torch.cuda.is_available():
            return int(torch.cuda.mem_get_info(place_of(name))[0])
    return device.memory
