"""How many layers fit what somebody has: so much memory, a file of such a size, the patience for so many tokens."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from come.errors import ComeError
from come.estimation.latency import Latency
from come.files import human_bytes, parse_bytes
from come.models import Facts
from come.models.facts import BYTES
from come.numbers import is_number
from come.request import CONTEXT

HEADER = 4096  # bytes that name the weights of a layer, or of the rest, in the header of a file: at most 16 tensors


@dataclass(frozen=True)
class Answer:
    """The largest model that meets all targets.

    Attributes:
        layers: how many it has, ``of`` so many.
        allowed: the most layers that each target alone allows, by what it is about: "memory", "file", "speed-up".
        memory: bytes of its weights, and of the keys and values of ``context`` tokens.
        file: bytes that its files of weights take at most.
        speedup: how many times as fast as the original it is expected to be; None where no times are known.
    """

    layers: int
    of: int
    allowed: dict[str, int]
    memory: int
    context: int
    file: int
    speedup: float | None

    @property
    def binding(self) -> tuple[str, ...]:
        """What keeps it from having a layer more."""
        return tuple(name for name, most in self.allowed.items() if most == self.layers < self.of)

    @property
    def sentence(self) -> str:
        """Such as "24 layers: the memory allows no more; the speed-up would allow 26."."""
        if not self.binding:
            return f"All {self.of} layers: what was asked for allows them."
        strictest = " and ".join(f"the {name}" for name in self.binding)
        verb = "allows" if len(self.binding) == 1 else "allow"
        looser = {name: most for name, most in self.allowed.items() if most > self.layers}
        more = [f"the {name} would allow {'all ' * (most == self.of)}{most}" for name, most in looser.items()]
        told = [f"{strictest} {verb} no more", *([", ".join(more)] if more else [])]
        return f"{self.layers} layer{'s' if self.layers > 1 else ''}: {'; '.join(told)}."


def layers_for(
    facts: Facts,
    dtype: str,
    max_memory: str | int | None = None,
    max_bytes: str | int | None = None,
    speedup: float | None = None,
    latency: Latency | None = None,
    context: int = CONTEXT,
    save_dtype: str | None = None,
) -> Answer:
    """The most layers with which a model meets all of these targets; nothing is loaded or run.

    Args:
        facts: the model's (``come.describe``).
        dtype: that it is loaded in: "float32", "bfloat16" or "float16".
        max_memory: bytes, or a text such as "250MiB": of the weights, and of the keys and values of ``context`` tokens
            in one sequence. What else a process takes is not counted.
        max_bytes: bytes, or such a text: of the saved files of weights.
        speedup: how many times as fast it writes, at least 1.
        latency: what the original takes (``come.latency``); only a speed-up needs it.
        context: tokens; not more count than the model reads at once. A window of the attention is not taken off.
        save_dtype: that it is saved in; ``dtype`` by default.

    Raises:
        ComeError: no depth meets a target, a target makes no sense, or the model's family is not supported.
    """
    if not facts.supported:
        raise ComeError(facts.reason)
    saved = save_dtype or dtype
    if unknown := [each for each in (dtype, saved) if each not in BYTES]:
        raise ComeError(f"There is no dtype {unknown[0]!r}.", f"Choose one of {', '.join(BYTES)}.")
    if not is_number(context, whole=True) or context < 1:
        raise ComeError(f"A context of {str(context)[:40]} tokens makes no sense.", "Give at least 1.")
    context = min(context, facts.max_position_embeddings or context)

    def memory(layers: int) -> int:
        return memory_at(facts, layers, dtype, context)

    def file(layers: int) -> int:
        return file_at(facts, layers, saved)

    allowed: dict[str, int] = {}
    if max_memory is not None:
        within = f"in {dtype} with the keys and values of {context:,} tokens"
        allowed["memory"] = _most_within(max_memory, facts, memory, dtype, within)
    if max_bytes is not None:
        allowed["file"] = _most_within(max_bytes, facts, file, saved, f"when it is saved in {saved}")
    if speedup is not None:
        allowed["speed-up"] = _most_as_fast(speedup, facts, latency)
    layers = min(allowed.values(), default=facts.layers)
    expected = latency.speedup(layers, facts.layers) if latency is not None else None
    return Answer(layers, facts.layers, allowed, memory(layers), context, file(layers), expected)


def memory_at(facts: Facts, layers: int, dtype: str, context: int) -> int:
    """Bytes of the weights of so many layers with all else, and of one sequence's keys and values."""
    # A newer Falcon keeps those of a KV group once for each of its query heads.
    once_a_query = facts.config.get("new_decoder_architecture", False)
    heads = facts.num_attention_heads if once_a_query else facts.num_key_value_heads
    return facts.bytes_at(layers, dtype) + layers * 2 * heads * facts.head_dim * context * BYTES[dtype]


def file_at(facts: Facts, layers: int, dtype: str) -> int:
    """Bytes that saved files of weights take at most: the weights, tied ones once, and what names them."""
    return facts.bytes_at(layers, dtype) + (layers + 1) * HEADER


def _most_within(limit: str | int, facts: Facts, size: Callable[[int], int], dtype: str, how: str) -> int:
    """The most layers with which a size is within a limit."""
    most = parse_bytes(limit)
    for layers in range(facts.layers, 0, -1):
        if size(layers) <= most:
            return layers
    embeddings = facts.parameters_by_part["embeddings"] * BYTES[dtype]
    what = f"its embeddings alone take {human_bytes(embeddings)}"
    if embeddings <= most:
        what = f"with one layer it takes {human_bytes(size(1))}"
    raise ComeError(
        f"No depth of {facts.title} fits into {limit if isinstance(limit, str) else human_bytes(limit)} {how}: {what}.",
        f"Ask for at least {_rounded_up(size(1))}{', or a smaller dtype' if dtype == 'float32' else ''}.",
    )


def _rounded_up(count: int) -> str:
    """A size in whole units that is not less."""
    unit, name = next((unit, name) for unit, name in ((2**20, "MiB"), (2**10, "KiB"), (1, "B")) if count >= unit)
    return f"{-(-count // unit)} {name}"


def _most_as_fast(speedup: float, facts: Facts, latency: Latency | None) -> int:
    """The most layers with which a model is so many times as fast."""
    if not is_number(speedup) or speedup < 1:
        raise ComeError(f"A speed-up of {str(speedup)[:40]} makes no sense.", "Give 1 or more, such as 1.3.")
    if latency is None:
        raise ComeError("A speed-up is judged by times of the original.", "Measure them first (`come.latency`).")
    for layers in range(facts.layers, 0, -1):
        if latency.speedup(layers, facts.layers) >= speedup:
            return layers
    most = latency.speedup(1, facts.layers)
    raise ComeError(
        f"No depth of {facts.title} is {speedup:g} times as fast: one layer alone is expected to be {most:.2f} times.",
        f"Ask for at most {math.floor(100 * most) / 100:g}.",
    )
