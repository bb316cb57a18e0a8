"""Edited models that share the original's weights: only merged layers take memory, and each is made once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from cachetools import LRUCache, cachedmethod
from torch import Tensor, nn

from come.errors import ComeError
from come.events import OnProgress, emit
from come.measurement.measurement import Measurement
from come.models import Bundle
from come.models.depth import with_layers
from come.plan.plan import Plan
from come.plan.steps import Average, Concatenate
from come.pruning.joint import Candidate
from come.pruning.merging import shifted
from come.pruning.windows import Window, check_windows
from come.serving.cancellation import Cancel, never
from come.serving.whatif.edits import steps_of
from come.serving.whatif.fitted import fitted_window
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
        self._layers: LRUCache[str, Made] = LRUCache(budget, lambda made: self._new_bytes(made[0]))
        self._fits: LRUCache[tuple[Window | str, ...], Candidate] = LRUCache(
            budget, lambda made: self._new_bytes(made.module)
        )
        self._planned: LRUCache[str, Bundle] = LRUCache(budget, lambda bundle: self._new_bytes(bundle.model))

    def edited(
        self,
        question: Question,
        measurement: Measurement | None,
        calibration: Tensor | None = None,
        cancelled: Cancel = never,
        on_progress: OnProgress = None,
    ) -> Bundle:
        """The model that a question is about.

        All edits are made at once on the original, which gives the same weights as its plan's steps one by one.

        Raises:
            ComeError: the edits are impossible.
            Cancelled: it was wanted.
        """
        fits = self.fits(question, calibration, cancelled, on_progress)
        steps = steps_of(question, self.original, measurement, fits)
        merged: dict[Window, Made] = {}
        for merge, step in zip(question.merges, steps, strict=False):
            assert isinstance(step, Concatenate | Average)
            window = merge.first, merge.last
            fit = fits.get(window)
            merged[window] = (
                (fit.module, fit.origin) if fit else self._merged(step.model_copy(update={"window": window}))
            )
        return self._put_together(merged, question.dropped)

    def _put_together(self, merged: Mapping[Window, Made], dropped: Sequence[int] = ()) -> Bundle:
        """The original with windows that became one layer each, and without some layers."""
        layers: list[nn.Module] = []
        origins: list[int] = []
        starts = {first: (last, made) for (first, last), made in merged.items()}
        at = 0
        while at < len(self.original.layers):
            last, (module, origin) = starts.get(at, (at, (self.original.layers[at], at)))
            if at not in dropped:
                layers.append(module)
                origins.append(origin)
            at = last + 1
        return with_layers(self.original, layers, origins)

    def fits(
        self,
        question: Question,
        calibration: Tensor | None,
        cancelled: Cancel = never,
        on_progress: OnProgress = None,
    ) -> dict[Window, Candidate]:
        """What the windows of a question that are fitted become; each is made once for the same tokens.

        As in a run, the lowest is fitted first, and each to the model as it is by then.

        Raises:
            ComeError: a window cannot be merged, or there are no tokens to fit it on.
            Cancelled: it was wanted.
        """
        wanted = check_windows([(merge.first, merge.last) for merge in question.merges], len(self.original.layers))
        found: dict[Window, Candidate] = {}
        for place, (merge, window) in enumerate(zip(question.merges, wanted, strict=True)):
            if merge.how == "fit":
                if calibration is None:
                    raise ComeError("There is no text to fit merged layers on.", "Ask with a calibration text.")
                emit(on_progress, "fit", place, len(wanted), f"Fitting layers {window[0]}–{window[1]}")
                found[window] = self._fitted(dict(found), window, calibration, cancelled)
        return found

    @cachedmethod(lambda self: self._planned, key=lambda _, plan: _plan_key(plan))
    def planned(self, plan: Plan) -> Bundle:
        """The model that a plan makes of the original.

        Raises:
            ComeError: the plan is for another model, or its weights are not beside it.
        """
        return replay(self.original, plan)

    @cachedmethod(
        lambda self: self._fits, key=lambda _, below, window, tokens, _cancelled: (*below, window, _hash(tokens))
    )
    def _fitted(
        self, below: Mapping[Window, Candidate], window: Window, tokens: Tensor, cancelled: Cancel
    ) -> Candidate:
        """What a window becomes once those below it are what they become; its origin is a layer of the original."""
        now = self._put_together({each: (fit.module, fit.origin) for each, fit in below.items()})
        gone = sum(last - first for first, last in below)
        fit = fitted_window(now, shifted(window, -gone), tokens, cancelled)
        return replace(fit, origin=fit.origin + gone)

    @cachedmethod(lambda self: self._layers, key=lambda _, step: step.model_dump_json())
    def _merged(self, step: Concatenate | Average) -> Made:
        if isinstance(step, Concatenate):
            return concatenate(self.original, step)
        return average(self.original, step), step.window[0]

    def _new_bytes(self, module: nn.Module) -> int:
        """What a module's weights take beside the original's; at least a little, for the module itself."""
        new = (parameter for parameter in module.parameters() if id(parameter) not in self._own)
        return 1024 + sum(parameter.numel() * parameter.element_size() for parameter in new)


def _hash(tokens: Tensor) -> str:
    return hashlib.sha256(tokens.numpy().tobytes()).hexdigest()


def _plan_key(plan: Plan) -> str:
    return hashlib.sha256(plan.model_dump_json(include={"base", "steps"}).encode()).hexdigest()


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
