"""Taking one step of a plan back, while the others stay: they are renumbered for a model with more layers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from torch import Tensor

from come.models import Bundle
from come.plan.plan import Plan
from come.plan.steps import Concatenate, Parents, Remove, Replace, Step
from come.transforms.rebuild import apply_step

Groups = list[tuple[int, ...]]
"""The original layers that each layer of a model stands for."""


def one_by_one(plan: Plan) -> Plan | None:
    """The same plan with a step for each layer that is removed; None where it has steps of other kinds than
    concatenations, removals and weights put in place.
    """
    found = plan.model_copy(update={"steps": []})
    for step in plan.steps:
        match step:
            case Remove(layers=layers):
                for layer in reversed(layers):
                    found = found.with_step(Remove(layers=[layer]))
            case Concatenate() | Replace():
                found = found.with_step(step)
            case _:
                return None
    return found


def without(original: Bundle, plan: Plan, number: int) -> tuple[Bundle, Plan] | None:
    """The model and the plan without step ``number``, and without the weights that only its layer has.

    Args:
        original: the plan's base.
        plan: as ``one_by_one`` gives it.
        number: a concatenation or a removal.

    Returns:
        None where a later step merges what this one merged, or layers that lie together only since it was taken.
    """
    before: Groups = [(layer,) for layer in range(plan.base.layers)]
    after: Groups = list(before)
    bundle, shorter = original, plan.model_copy(update={"steps": []})
    for at, step in enumerate(plan.steps):
        if isinstance(step, Replace):
            tensors = _renamed(plan.tensors(step) or {}, bundle.family.layers, before, after)
            if tensors:
                shorter = shorter.with_tensors(tensors, step.made_by)
                bundle = apply_step(bundle, shorter.steps[-1], tensors)
            continue
        if at != number:
            moved = _renumbered(step, before, after)
            if moved is None:
                return None
            bundle, shorter = apply_step(bundle, moved), shorter.with_step(moved)
            after = _groups(after, moved.parents(len(after)))
        before = _groups(before, step.parents(len(before)))
    return bundle, shorter


def _groups(groups: Groups, parents: Parents) -> Groups:
    return [tuple(layer for parent in above for layer in groups[parent]) for above in parents]


def _renumbered(step: Step, before: Groups, after: Groups) -> Step | None:
    """A step in another numbering; None where its layers are not there, or do not lie together."""
    layers = step.layers if isinstance(step, Remove) else list(range(step.window[0], step.window[1] + 1))  # type: ignore[union-attr]
    wanted = [before[layer] for layer in layers]
    if not all(group in after for group in wanted):
        return None
    places = [after.index(group) for group in wanted]
    if places != list(range(places[0], places[0] + len(places))):
        return None
    changed = {"layers": places} if isinstance(step, Remove) else {"window": (places[0], places[-1])}
    return step.model_copy(update=changed)


def _renamed(
    tensors: Mapping[str, Tensor], layers: str, before: Sequence[tuple[int, ...]], after: Sequence[tuple[int, ...]]
) -> dict[str, Tensor]:
    """Tensors by their names in the other numbering; those of layers that are not there are left out."""
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        match = re.match(rf"{re.escape(layers)}\.(\d+)\.(.*)", name)
        if match is None:
            found[name] = value
        elif (group := before[int(match[1])]) in after:
            found[f"{layers}.{after.index(group)}.{match[2]}"] = value
    return found
