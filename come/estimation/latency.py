"""What a model takes for a token on this machine's device, by its layers: measured once and kept."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property

from come.errors import ComeError
from come.estimation.device import place_of
from come.events import OnProgress
from come.kept import keep, kept, key_of
from come.models import Bundle, Facts, describe
from come.models.depth import with_layers
from come.models.identity import config_hash
from come.numbers import is_number

FILE = "latency.json"
PROMPT_TOKENS, NEW_TOKENS = 256, 32  # of `come.speed`, as a run measures it
LATEST = 1e11  # unix seconds: the year 5138


@dataclass(frozen=True)
class Latency:
    """Seconds that a model takes to write a token after a prompt, one sequence at a time.

    Attributes:
        seconds: what was measured, by how many of the layers were run.
        device: on what.
        measured: when (unix seconds).
    """

    seconds: Mapping[int, float]
    device: str
    measured: float

    def __post_init__(self) -> None:
        """Refuse times that nothing can be told of."""
        layers, times = list(self.seconds), list(self.seconds.values())
        sound = all(is_number(each) and each > 0 for each in [*layers, *times])
        if not sound or not layers or not (is_number(self.measured) and 0 <= self.measured < LATEST):
            raise ComeError("The times of a model make no sense.", "Give seconds above 0 for at least one depth.")

    @cached_property
    def line(self) -> tuple[float, float]:
        """Seconds of a layer and of the rest: the line of least squares, of which neither is below 0."""
        count, layers, times = len(self.seconds), list(self.seconds), list(self.seconds.values())
        x, y = sum(layers) / count, sum(times) / count
        spread = sum((each - x) ** 2 for each in layers)
        slope = sum((a - x) * (b - y) for a, b in zip(layers, times, strict=True)) / spread if spread else 0.0
        if slope <= 0:  # what is noise, or one depth alone: nothing tells that fewer layers are faster
            return 0.0, y
        if y < slope * x:
            return sum(a * b for a, b in zip(layers, times, strict=True)) / sum(a * a for a in layers), 0.0
        return slope, y - slope * x

    def at(self, layers: int) -> float:
        """Seconds a token of a model with so many layers: what is measured lies on a line, nearly."""
        layer, rest = self.line
        return layers * layer + rest

    def speedup(self, layers: int, of: int) -> float:
        """How many times as fast so many layers are as ``of`` many."""
        return self.at(of) / self.at(layers)

    @property
    def sentence(self) -> str:
        """What was measured, on what, and when."""
        layer, rest = self.line
        return (
            f"Measured on {self.device} on {datetime.fromtimestamp(self.measured):%Y-%m-%d at %H:%M}: "
            f"{1000 * layer:.3g} ms a token and layer, {1000 * rest:.3g} ms for the rest."
        )


def latency(
    source: str,
    dtype: str = "auto",
    device: str = "auto",
    *,
    remeasure: bool = False,
    on_progress: OnProgress = None,
) -> Latency:
    """What a model takes for a token here, as it was measured before; else it is loaded, timed and remembered.

    The times depend on the model's shape, not on its weights: models of one configuration share them.

    Args:
        source, dtype, device: as for ``come.load``.
        remeasure: measure even where it is known from an earlier time.
        on_progress: told of each round.

    Raises:
        ComeError: the model cannot be loaded.
    """
    facts = describe(source)
    dtype = facts.dtype if dtype == "auto" else dtype
    known = None if remeasure else known_latency(facts, dtype, device)
    if known is not None:
        return known
    from come.models.load import load

    return remembered(load(source, device=device, dtype=dtype), source, dtype, device, on_progress)


def remembered(
    bundle: Bundle, source: str, dtype: str = "auto", device: str = "auto", on_progress: OnProgress = None
) -> Latency:
    """Time a model that is loaded, and remember it for models of its shape.

    Args:
        bundle: the model, and ``source``, ``dtype``, ``device``: as it was loaded.
        on_progress: told of each round.
    """
    found = measure_latency(bundle, on_progress)
    facts = describe(source)  # a .gguf file by its copy, which is there now
    keep(FILE, _key(facts, facts.dtype if dtype == "auto" else dtype, device), asdict(found))
    return found


def measure_latency(bundle: Bundle, on_progress: OnProgress = None) -> Latency:
    """Time a model with all of its layers, the lower half of them, and the first, in alternation (``come.speed``)."""
    from come.evaluate import compare_speed

    layers = list(bundle.layers)
    depths = sorted({1, -(-len(layers) // 2), len(layers)})
    longest = getattr(bundle.model.config, "max_position_embeddings", None) or PROMPT_TOKENS + NEW_TOKENS
    speeds = compare_speed(
        *(with_layers(bundle, layers[:depth], range(depth)) for depth in depths),
        prompt_tokens=max(1, min(PROMPT_TOKENS, longest - NEW_TOKENS)),
        new_tokens=NEW_TOKENS,
        on_progress=on_progress,
    )
    seconds = {depth: 1 / each.decode_tokens_per_second for depth, each in zip(depths, speeds, strict=True)}
    return Latency(seconds, speeds[0].device, time.time())


def known_latency(facts: Facts, dtype: str, device: str = "auto") -> Latency | None:
    """What was measured and remembered of a model of this shape; None where nothing was. Computes nothing."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError, ComeError):
        known = kept(FILE, _key(facts, dtype, device))
        seconds = {int(layers): each for layers, each in known["seconds"].items()}
        return Latency(seconds, str(known["device"]), known["measured"])
    return None


def _key(facts: Facts, dtype: str, device: str) -> str:
    import torch

    place = place_of(device)
    gpu = f"{torch.cuda.get_device_name(place)}, " if place.type == "cuda" else ""
    return f"model {config_hash(facts.config)}, {gpu}{key_of(dtype, device)}"
