"""Which layers of the original model each layer of a pruned one stands for, none left out."""

from __future__ import annotations

from dataclasses import dataclass

from come.plan.plan import Plan


@dataclass(frozen=True)
class Span:
    """A layer of a pruned model, and the layers of the original in whose place it is.

    Attributes:
        layer: of the pruned model.
        first, end: it should make H^(end) of H^(first) of the original; ``end`` is the layer after the last.
    """

    layer: int
    first: int
    end: int

    @property
    def layers(self) -> range:
        """The original's layers that it stands for."""
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
