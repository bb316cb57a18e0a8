"""Which window to merge next: the one that changes the hidden state least, and what that would cost."""

from __future__ import annotations

from torch import Tensor

from come.errors import ComeError
from come.serving.cancellation import Cancel, never
from come.serving.whatif.answer import Suggestion
from come.serving.whatif.question import Merge, Question
from come.serving.whatif.whatif import WhatIf
from come.transforms.compatible import mixable_windows


def suggest(whatif: WhatIf, question: Question, count: int = 1, cancelled: Cancel = never) -> list[Suggestion]:
    """The windows of lowest SBI that touch no edit of the question, best first, each with its predicted cost.

    SBI is that of the one measuring pass over the original, so it does not know of the edits; the cost does. The
    windows are alternatives: they may overlap each other.

    Args:
        whatif: what answers about the model.
        question: the edits so far.
        count: how many to give, fewer where no more windows are free.
        cancelled: asked between layers.

    Raises:
        ComeError: the model was not measured, or no window is free.
        Cancelled: a newer question was asked.
    """
    measured, layers = whatif.measured(), len(whatif.bundle.layers)
    span, touched = measured.span, question.touched
    possible = mixable_windows(whatif.bundle, layers, span)
    free = [
        first
        for first, mixes in enumerate(possible)
        if mixes and not any(layer in touched for layer in range(first, first + span))
    ]
    if not free:
        raise ComeError(
            f"No {span} neighbouring layers are left untouched.", "Take back an edit, or widen a window by hand."
        )
    ranked = _ranked(measured.skip_influence, free)
    by_half = [_ranked(half, free) for half in measured.skip_influence_halves]
    suggestions = []
    for first in ranked[:count]:
        last = first + span - 1
        lower, upper = (float(half[first]) for half in measured.skip_influence_halves)
        suggestions.append(
            Suggestion(
                first=first,
                last=last,
                skip_influence=float(measured.skip_influence[first]),
                skip_influence_halves=(lower, upper),
                ranks=(by_half[0].index(first) + 1, by_half[1].index(first) + 1),
                free=len(free),
                answer=whatif.answer(question.with_merge(Merge(first=first, last=last)), cancelled),
            )
        )
    return suggestions


def _ranked(skip_influence: Tensor, free: list[int]) -> list[int]:
    """The free windows by SBI, lowest first, the first on ties."""
    values = skip_influence.tolist()
    return sorted(free, key=lambda first: (values[first], first))
