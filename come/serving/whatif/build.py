"""Edited models over the original's weights: only what a merge makes anew takes memory, and it is made once."""

from __future__ import annotations

import hashlib

from torch import nn

from come.measurement.measurement import Measurement
from come.models import Bundle
from come.models.depth import with_layers
from come.plan.plan import Plan
from come.plan.steps import Average, Concatenate
from come.serving.resident.kept import Keep
from come.serving.whatif.edits import steps_of
from come.serving.whatif.question import Question
from come.transforms.average import average
from come.transforms.concatenate import concatenate
from come.transforms.rebuild import replay

Made = tuple[nn.Module, int]
"""A merged layer, and the original layer whose entry in the config it takes over."""


class Builder:
    """Makes edited models of one original, and keeps merged layers within a budget of bytes."""

    def __init__(self, original: Bundle, budget: int) -> None:
        self.original = original
        self._own = {id(parameter) for parameter in original.model.parameters()}
        self._layers: Keep[Made] = Keep(budget)
        self._planned: Keep[Bundle] = Keep(budget)

    def edited(self, question: Question, measurement: Measurement | None) -> Bundle:
        """The model that a question is about.

        All edits are made at once on the original, which gives the same weights as its plan's steps one by one.

        Raises:
            ComeError: the edits are impossible.
        """
        steps = steps_of(question, self.original, measurement)
        merged = {merge.first: (merge.last, step) for merge, step in zip(question.merges, steps, strict=False)}
        layers: list[nn.Module] = []
        origins: list[int] = []
        at = 0
        while at < len(self.original.layers):
            if at in merged:
                last, step = merged[at]
                assert isinstance(step, Concatenate | Average)
                module, origin = self._merged(step.model_copy(update={"window": (at, last)}))
                layers.append(module)
                origins.append(origin)
                at = last
            elif at not in question.dropped:
                layers.append(self.original.layers[at])
                origins.append(at)
            at += 1
        return with_layers(self.original, layers, origins)

    def planned(self, plan: Plan) -> Bundle:
        """The model that a plan makes of the original.

        Raises:
            ComeError: the plan is for another model, or its weights are not beside it.
        """
        key = hashlib.sha256(plan.model_dump_json(include={"base", "steps"}).encode()).hexdigest()
        known = self._planned.get(key)
        if known is not None:
            return known
        made = replay(self.original, plan)
        return self._planned.put(key, made, self._new_bytes(made.model))

    def _merged(self, step: Concatenate | Average) -> Made:
        key = step.model_dump_json()
        known = self._layers.get(key)
        if known is not None:
            return known
        if isinstance(step, Concatenate):
            made = concatenate(self.original, step)
        else:
            made = average(self.original, step), step.window[0]
        return self._layers.put(key, made, self._new_bytes(made[0]))

    def _new_bytes(self, module: nn.Module) -> int:
        """What a module's weights take beside the original's; at least a little, for the module itself."""
        new = (parameter for parameter in module.parameters() if id(parameter) not in self._own)
        return 1024 + sum(parameter.numel() * parameter.element_size() for parameter in new)


def lowest_change(original: Bundle, edited: Bundle) -> int:
    """The first layer of an edited model that is not the original's; 0 where what lies below the layers differs.

    An edited model shares the weights that stayed, so it is enough to see whether they are the same objects.
    """
    family = edited.family
    above = (f"{family.layers}.", f"{family.final_norm}.", f"{family.head}.")

    def below(bundle: Bundle) -> list[int]:
        named = bundle.model.named_parameters(remove_duplicate=False)
        return [id(parameter) for name, parameter in named if not name.startswith(above)]

    if below(original) != below(edited):
        return 0
    for number, (ours, theirs) in enumerate(zip(edited.layers, original.layers, strict=False)):
        if list(map(id, ours.parameters())) != list(map(id, theirs.parameters())):
            return number
    return min(len(edited.layers), len(original.layers))
