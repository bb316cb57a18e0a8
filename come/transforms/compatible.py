"""Which layers may become one: where layers are of different kinds, not all of them can (method, step 7)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from come.errors import ComeError
from come.models import Bundle, Facts
from come.plan.steps import Concatenate

FULL, SLIDING = "full_attention", "sliding_attention"

Model = Bundle | Facts | Mapping[str, Any] | Any
"""A model, its facts, or a Transformers config as an object or as a dict."""


def mixable(model: Model, first: int, last: int) -> str | None:
    """Why layers ``first`` to ``last`` cannot become one layer, in a sentence; None if they can.

    Heads are only worth something with the positions that they were trained with: layers with different rotary
    tables, or with and without any, do not mix. Sliding-window and full attention do: see ``note_for_window``.
    """
    layers = range(first, last + 1)
    kinds = {_kind(model, layer) for layer in layers}
    if len(kinds) > 1 and not kinds <= {FULL, SLIDING}:
        return f"Layers {first} to {last} cannot be merged: they attend in different ways ({', '.join(sorted(kinds))})."
    tables = [_rotary(model, layer) for layer in layers]
    if all(table == tables[0] for table in tables):
        return None
    if None in tables:
        return f"Layers {first} to {last} cannot be merged: some of them use rotary positions and others none."
    return f"Layers {first} to {last} cannot be merged: full attention and sliding windows differ in rotary positions."


def mixable_windows(model: Model, layers: int, size: int) -> list[bool]:
    """For each window of ``size`` of a model's layers, whether it can become one layer, (layers - size + 1,)."""
    return [mixable(model, first, first + size - 1) is None for first in range(layers - size + 1)]


def runs(model: Model, layers: int) -> list[int]:
    """How long each run of layers is that can all become one; they add up to ``layers``."""
    apart = [at for at, together in enumerate(mixable_windows(model, layers, 2), start=1) if not together]
    return [end - start for start, end in itertools.pairwise([0, *apart, layers])]


def check_mixable(model: Model, windows: Sequence[tuple[int, int]]) -> None:
    """Refuse windows, (first, last) inclusive, whose layers cannot become one.

    Raises:
        ComeError: says of the first such window why not.
    """
    for first, last in windows:
        if reason := mixable(model, first, last):
            raise ComeError(reason, "Choose windows of layers of one kind.")


def check_reach(model: Model, layers: int, target_layers: int, span: int) -> None:
    """Refuse a target that merging ``span`` layers at a time cannot reach, because some layers do not mix.

    Raises:
        ComeError: says how few layers can be left.
    """
    lengths = runs(model, layers)
    to_go, whole = layers - target_layers, span - 1
    # A merge takes ``span - 1`` layers away, wherever it is made, and the last one what is still to go.
    merges = [(length - 1) // whole for length in lengths]
    rest = max((length - 1) % whole for length in lengths) if to_go > sum(merges) * whole else 0
    fewest = layers - sum(merges) * whole - rest
    if target_layers >= fewest:
        return
    raise ComeError(
        f"A target of {target_layers} layers is out of reach: layers of different kinds are not merged, "
        f"and windows of {span} leave at least {fewest} of these {layers}.",
        f"Give a target of {fewest} or more" + (", or a smaller span." if fewest > len(lengths) else "."),
    )


def longest_window(model: Model, layers: int, size: int) -> int:
    """How many adjacent layers can become one somewhere in a model of so many, up to ``size``; 2 at least."""
    while size > 2 and all(mixable(model, first, first + size - 1) for first in range(layers - size + 1)):
        size -= 1
    return size


def note_for_window(model: Model, first: int, last: int) -> str | None:
    """What a reader of the plan should know of merging layers ``first`` to ``last``; None if nothing."""
    kinds = {_kind(model, layer) for layer in range(first, last + 1)}
    if kinds != {FULL, SLIDING} or mixable(model, first, last) is not None:
        return None
    return (
        f"Layers {first} to {last} (numbering of their step) mix sliding-window and full attention; "
        "the layer that they become attends to everything."
    )


def note_for_step(model: Model, step: Concatenate) -> str | None:
    """The same of a step of a plan: a step that takes one layer whole mixes nothing."""
    sources = sum(bool(groups or channels) for groups, channels in zip(step.kv_groups, step.channels, strict=True))
    return note_for_window(model, *step.window) if sources > 1 else None


def _get(model: Model, name: str) -> Any:
    config = model.model.config if isinstance(model, Bundle) else model.config if isinstance(model, Facts) else model
    return config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)


def _kind(model: Model, layer: int) -> str:
    kinds = _get(model, "layer_types")
    return str(kinds[layer]) if kinds else FULL


def _rotary(model: Model, layer: int) -> Any:
    """What a layer's rotary table is made from: None without one, anything equal for equal ones."""
    uses_rotary = _get(model, "no_rope_layers")  # named for what a 0 in it means
    if uses_rotary and not uses_rotary[layer]:
        return None
    parameters = _get(model, "rope_parameters")
    return parameters.get(_kind(model, layer), parameters) if isinstance(parameters, Mapping) else "the model's"
