"""Layers of the original put back on top of a model that only lost its last ones."""

from __future__ import annotations

from come.errors import ComeError
from come.models import Bundle
from come.plan.plan import Plan
from come.plan.steps import Remove, Replace
from come.transforms.rebuild import apply_step
from come.transforms.replace import replace_weights


def put_back(student: Bundle, teacher: Bundle, plan: Plan, layers: int) -> tuple[Bundle, Plan]:
    """The model with the first ``layers`` layers of its original, those that it has not lost as they are by now.

    Its plan removes so many fewer, so that it rebuilds bit for bit; weights that steps put in place stay.

    Raises:
        ComeError: something else than the last layers went, or the original is not, or not in its dtype, what the plan
            was made for.
    """
    kinds, groups = [step.kind for step in plan.steps], plan.groups()
    removals = kinds.count("remove")  # what weights were put in place before another removal is of other layers by now
    only = kinds == ["remove"] * removals + ["replace"] * (len(kinds) - removals)
    if groups != [[layer] for layer in range(len(groups))] or not only:
        raise ComeError(
            "Only a model that lost its last layers and nothing else grows by those that come next.",
            "Prune with inheritune or reverse.",
        )
    if teacher.fingerprint != plan.base.fingerprint:
        raise ComeError(
            "The layers to put back are not those that were taken: the original has other weights, or another dtype.",
            f"Take {plan.base.source} in {plan.dtype}.",
        )
    if layers == len(groups):
        return student, plan
    removal = Remove(layers=list(range(layers, plan.base.layers)))
    kept = dict(student.model.named_parameters())
    grown = replace_weights(apply_step(teacher, removal), kept)
    replaced = [step for step in plan.steps if isinstance(step, Replace)]
    return grown, plan.model_copy(update={"steps": [removal, *replaced]})
