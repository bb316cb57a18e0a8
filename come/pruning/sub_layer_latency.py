"""What an attention and an FFN of fewer units take on this device: measured once and kept, and a line through it.

As in Kwon et al. 2022 (arXiv 2204.09656): a sub-layer without units takes nothing, one of up to ``threshold`` units a
constant, and each unit more adds a slope. Sub-layers of such sizes are made for it, with random weights and without
norms and rotary tables: how long they take depends on their shapes alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from statistics import median

import torch
from torch import Tensor
from torch.nn import functional

from come.kept import keep, kept, key_of
from come.models import Bundle
from come.numbers import is_number

FILE = "sub_layers.json"
SHARES = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 1)  # of all units; and one unit alone
ROUNDS = 9

Seconds = Mapping[int, float]
"""Seconds by how many units a sub-layer keeps."""


@dataclass(frozen=True)
class SubLayers:
    """The sizes that a latency depends on.

    Attributes:
        hidden_size: channels of a hidden state.
        kv_heads, queries, head_dim: KV groups of an attention, query heads of a group, channels of a head.
        channels, inputs: channels of an FFN, and how many maps lead into it.
    """

    hidden_size: int
    kv_heads: int
    queries: int
    head_dim: int
    channels: int
    inputs: int


@dataclass(frozen=True)
class Line:
    """Seconds of a sub-layer by its units: 0 for none, a constant for up to ``threshold``, then a slope for each."""

    threshold: int
    constant: float
    slope: float

    def at(self, units: int) -> float:
        """Seconds with so many units."""
        return self.constant + self.slope * max(0, units - self.threshold) if units else 0.0


def sub_layers_of(bundle: Bundle) -> SubLayers:
    """The sizes of a model's sub-layers."""
    shape = bundle.shape
    inputs = sum(1 if isinstance(each, str) else len(each.parts) for each in bundle.family.ffn_inputs)
    queries = shape.heads // shape.kv_heads
    return SubLayers(shape.hidden_size, shape.kv_heads, queries, shape.head_dim, shape.channels, inputs)


def fitted(seconds: Seconds, most: int) -> Line:
    """The line that is nearest to what was measured, by squares; the lowest threshold on ties.

    The constant is the mean of what was measured up to the threshold, and the slope, not below 0, that of the line of
    least squares from there.

    Args:
        seconds: what was measured, by units; not empty.
        most: how many units there are.
    """
    best, least = Line(most, 0.0, 0.0), math.inf
    for threshold in range(min(seconds), most + 1):
        low = [each for units, each in seconds.items() if units <= threshold]
        high = {units - threshold: each for units, each in seconds.items() if units > threshold}
        constant = sum(low) / len(low)
        above = sum(x * (y - constant) for x, y in high.items())
        line = Line(threshold, constant, max(0.0, above / sum(x * x for x in high)) if high else 0.0)
        error = sum((line.at(units) - each) ** 2 for units, each in seconds.items())
        if error < least:
            best, least = line, error
    return best


def latencies(bundle: Bundle, tokens: int) -> tuple[Seconds, Seconds]:
    """Seconds of a model's attention by KV groups and of its FFN by channels, over one sequence of so many tokens.

    As they were measured before on this device in this dtype, else measured now and kept in ``COME_HOME``.
    """
    sizes, like = sub_layers_of(bundle), next(bundle.layers[0].parameters())
    dtype = str(bundle.dtype).removeprefix("torch.")
    gpu = f"{torch.cuda.get_device_name(like.device)}, " if like.device.type == "cuda" else ""
    threads = f"{torch.get_num_threads()} threads"
    key = f"{asdict(sizes)}, {tokens} tokens, {gpu}{threads}, {key_of(dtype, like.device.type)}"
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        known = kept(FILE, key)
        return _sound(known["attention"]), _sound(known["ffn"])
    attention = _timed(counts(sizes.kv_heads), lambda groups: _attention(sizes, groups, tokens, like))
    ffn = _timed(counts(sizes.channels), lambda channels: _ffn(sizes, channels, tokens, like))
    keep(FILE, key, {"attention": attention, "ffn": ffn, "measured": time.time()})
    return attention, ffn


def counts(units: int) -> list[int]:
    """How many of so many units are tried: about ten numbers, from one to all of them."""
    return sorted({1, *(max(1, round(share * units)) for share in SHARES)})


def _sound(table: Mapping[str, float]) -> Seconds:
    found = {int(units): seconds for units, seconds in table.items()}
    if not found or not all(units > 0 and is_number(seconds) and seconds > 0 for units, seconds in found.items()):
        raise ValueError("no times")
    return found


@torch.inference_mode()
def _timed(sizes: Sequence[int], made: Callable[[int], Callable[[], Tensor]]) -> Seconds:
    """The median seconds of each size; they take turns, so that a moment's disturbance is everybody's."""
    works = {size: made(size) for size in sizes}
    taken: dict[int, list[float]] = {size: [] for size in sizes}
    for number in range(ROUNDS + 2):  # the first two warm up
        for size, work in works.items():
            began = time.perf_counter()
            work().flatten()[0].item()  # which waits for the device
            if number > 1:
                taken[size].append(time.perf_counter() - began)
    return {size: median(each) for size, each in taken.items()}


def _attention(sizes: SubLayers, groups: int, tokens: int, like: Tensor) -> Callable[[], Tensor]:
    """An attention of so many KV groups."""
    queries, width = groups * sizes.queries, sizes.head_dim
    entering = _random(like, 1, tokens, sizes.hidden_size)
    maps = [_random(like, heads * width, sizes.hidden_size) for heads in (queries, groups, groups)]
    out = _random(like, sizes.hidden_size, queries * width)

    def run() -> Tensor:
        query, key, value = [
            functional.linear(entering, each).unflatten(-1, (-1, width)).transpose(1, 2) for each in maps
        ]
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=sizes.queries > 1)
        return functional.linear(mixed.transpose(1, 2).flatten(2), out)

    return run


def _ffn(sizes: SubLayers, channels: int, tokens: int, like: Tensor) -> Callable[[], Tensor]:
    """An FFN of so many channels."""
    entering = _random(like, 1, tokens, sizes.hidden_size)
    maps = [_random(like, channels, sizes.hidden_size) for _ in range(sizes.inputs)]
    out = _random(like, sizes.hidden_size, channels)

    def run() -> Tensor:
        gate, *others = [functional.linear(entering, each) for each in maps]
        inner = functional.silu(gate)
        for each in others:
            inner = inner * each
        return functional.linear(inner, out)

    return run


def _random(like: Tensor, *shape: int) -> Tensor:
    return torch.randn(shape, dtype=like.dtype, device=like.device)
