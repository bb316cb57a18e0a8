"""One unit of the original, followed through a plan: where it is now, or which step it went with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from come.plan.plan import Plan
from come.plan.provenance import Part
from come.plan.steps import Average, Concatenate, Mask, Remove

Fate = Literal["kept", "averaged", "dropped", "removed", "silenced"]


@dataclass(frozen=True)
class Trace:
    """What became of a unit.

    Attributes:
        fate: "kept" as it was, "averaged" with others, "dropped" by a merge, "removed" with its layer, or "silenced".
        new_layer, position: where it is, or where its zeros are; None if it is gone.
        step: the step that decided its fate, from 0; None if none touched it.
        moved: the steps that took it into a merge which kept it.
    """

    fate: Fate
    new_layer: int | None
    position: int | None
    step: int | None
    moved: tuple[int, ...]


def trace(plan: Plan, part: Part, layer: int, unit: int) -> Trace:
    """Follow one FFN channel ("ffn") or KV group ("attention") of an original layer."""
    fate: Fate = "kept"
    decided: int | None = None
    moved: list[int] = []
    for number, step in enumerate(plan.steps):
        match step:
            case Concatenate(window=(first, last)):
                if first <= layer <= last:
                    kept = step.channels if part == "ffn" else step.kv_groups
                    offset = layer - first
                    if unit not in kept[offset]:
                        return Trace("dropped", None, None, number, tuple(moved))
                    unit = sum(map(len, kept[:offset])) + kept[offset].index(unit)
                    moved.append(number)
                layer = _after(layer, first, last)
            case Average(window=(first, last)):
                if first <= layer <= last:
                    fate, decided = "averaged", number
                layer = _after(layer, first, last)
            case Remove():
                if layer in step.layers:
                    return Trace("removed", None, None, number, tuple(moved))
                layer -= sum(gone < layer for gone in step.layers)
            case Mask():
                if unit in (step.channels if part == "ffn" else step.kv_groups).get(layer, []):
                    fate, decided = "silenced", number
    if fate == "kept" and moved:
        decided = moved[-1]
    return Trace(fate, layer, unit, decided, tuple(moved))


def asked(text: str) -> tuple[int, int] | None:
    """The layer and the unit that "layer 12 channel 345", "12 345" or "L12 C345" names; None if it names none."""
    numbers = re.findall(r"\d+", text.replace(",", ""))
    return (int(numbers[0]), int(numbers[1])) if len(numbers) == 2 else None


def _after(layer: int, first: int, last: int) -> int:
    """A layer's number once the layers first..last have become one."""
    if layer <= first:
        return layer
    return first if layer <= last else layer - (last - first)
