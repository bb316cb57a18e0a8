"""One unit of the original, followed through a plan: where it is now, or which step it went with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from come.plan.plan import Plan
from come.plan.steps import Average, Concatenate, Mask, Part

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
    for number, step, parents in plan.walk():
        new_layer = next((place for place, above in enumerate(parents) if layer in above), None)
        if new_layer is None:
            return Trace("removed", None, None, number, tuple(moved))
        match step:
            case Concatenate(window=(first, last)) if first <= layer <= last:
                kept, offset = step.kept(part), layer - first
                if unit not in kept[offset]:
                    return Trace("dropped", None, None, number, tuple(moved))
                unit = sum(map(len, kept[:offset])) + kept[offset].index(unit)
                moved.append(number)
            case Average(window=(first, last), whole=int(alone)) if first <= layer <= last:
                if layer != first + alone:
                    return Trace("dropped", None, None, number, tuple(moved))
                moved.append(number)
            case Average(window=(first, last)) if first <= layer <= last:
                fate, decided = "averaged", number
            case Mask():
                if unit in step.silenced(part).get(layer, []):
                    fate, decided = "silenced", number
        layer = new_layer
    if fate == "kept" and moved:
        decided = moved[-1]
    return Trace(fate, layer, unit, decided, tuple(moved))


def asked(text: str) -> tuple[int, int] | None:
    """The layer and the unit that "layer 12 channel 345", "12 345" or "L12 C345" names; None if it names none."""
    numbers = re.findall(r"\d+", text.replace(",", ""))
    return (int(numbers[0]), int(numbers[1])) if len(numbers) == 2 else None
