"""Which layers of the original model each layer of a pruned one stands for, and which of them lost something."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from come.models import Bundle
from come.plan.plan import Plan
from come.plan.steps import Mask


@dataclass(frozen=True)
class Span:
    """A layer of the student, and the layers of the teacher in whose place it is.

    Attributes:
        layer: of the student.
        first, end: it should make H^(end) of H^(first) of the teacher; ``end`` is the layer after the last.
    """

    layer: int
    first: int
    end: int

    @property
    def layers(self) -> range:
        """The teacher's layers that it stands for."""
        return range(self.first, self.end)


def spans_of(plan: Plan) -> list[Span]:
    """The span of each layer of the pruned model.

    A layer answers for the removed ones right above it too; where the first layers are gone, the lowest that is left
    answers for them.
    """
    groups = plan.groups()
    firsts = [0, *(group[0] for group in groups[1:])]
    ends = [*firsts[1:], plan.base.layers]
    return [Span(layer, first, end) for layer, (first, end) in enumerate(zip(firsts, ends, strict=True))]


def lossy_spans(student: Bundle, teacher: Bundle, plan: Plan) -> list[Span]:
    """The layers that stand for several, or had units silenced."""
    masked = any(isinstance(step, Mask) for step in plan.steps)
    return [
        span
        for span in spans_of(plan)
        if len(span.layers) != 1 or (masked and not _same(student.layers[span.layer], teacher.layers[span.first]))
    ]


def _same(a: nn.Module, b: nn.Module) -> bool:
    pairs = zip(a.parameters(), b.parameters(), strict=True)
    return all(torch.equal(one, other.to(one.device, one.dtype)) for one, other in pairs)
