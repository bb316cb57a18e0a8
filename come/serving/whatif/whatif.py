"""What if: how good an edited model would be, answered by running only what the edits changed."""

from __future__ import annotations

import time

from cachetools import LRUCache
from torch import Tensor

from come.errors import ComeError
from come.evaluate.perplexity import from_losses, mean_stderr, perplexity_of
from come.events import OnProgress
from come.measurement.measurement import Measurement
from come.models import Bundle
from come.plan.plan import Plan
from come.serving.cancellation import Cancel, never, stop_if
from come.serving.limits import Limits, current
from come.serving.whatif.answer import Answer, halves
from come.serving.whatif.build import Builder, lowest_change
from come.serving.whatif.edits import plan_of
from come.serving.whatif.original import Original, observe
from come.serving.whatif.predict import predict
from come.serving.whatif.question import Question

ANSWERS = 512  # kept, for going back and forth between plans


def what_if(
    bundle: Bundle,
    tokens: Tensor,
    measurement: Measurement | None = None,
    *,
    calibration: Tensor | None = None,
    limits: Limits | None = None,
    on_progress: OnProgress = None,
) -> WhatIf:
    """What answers questions about a model on held-out tokens; runs the model over them once.

    Args:
        bundle: the original; it is left as it was.
        tokens: int64 (sequences, tokens). A thousand in short sequences give an answer in seconds, with its error.
        measurement: of the original on its calibration tokens.
        calibration: int64 (sequences, tokens), on which merged layers are fitted where a question wants that.
        limits: how much memory it may take.
        on_progress: told of the pass.
    """
    limits = limits or current()
    original = observe(
        bundle,
        tokens,
        border_bytes=limits.border_bytes,
        chance_bytes=limits.chance_bytes,
        on_progress=on_progress,
    )
    return WhatIf(original, Builder(bundle, limits.layer_bytes), measurement, calibration)


class WhatIf:
    """Answers questions about one original model on one text.

    Args:
        original: the model on the text, as ``observe`` left it.
        builder: makes its edited models; one may serve several texts.
        measurement: of the original on its calibration tokens; without it, nothing can be concatenated or suggested.
        calibration: int64 (sequences, tokens); without it, nothing can be fitted.
    """

    def __init__(
        self,
        original: Original,
        builder: Builder,
        measurement: Measurement | None = None,
        calibration: Tensor | None = None,
    ) -> None:
        self.bundle = original.known.bundle
        self.original = original
        self.measurement = measurement
        self.calibration = calibration
        self._builder = builder
        self._answers: LRUCache[str, Answer] = LRUCache(ANSWERS)

    def answer(self, asked: Question | Plan, cancelled: Cancel = never, on_progress: OnProgress = None) -> Answer:
        """What the edits of a question, or the steps of a plan, would come to.

        Exactly what ``come.evaluate.measure_divergence`` says of the whole edited model on the same tokens.

        Raises:
            ComeError: the edits are impossible, or the plan is for another model.
            Cancelled: a newer question was asked.
        """
        began = time.perf_counter()
        key = asked.model_dump_json()
        known = self._answers.get(key)
        if known is not None:
            return known.model_copy(update={"cached": True, "seconds": time.perf_counter() - began})
        stop_if(cancelled)
        edited = self.build(asked, cancelled, on_progress)
        start = lowest_change(self.bundle, edited)
        losses, divergences = predict(edited, self.original, start, cancelled, on_progress)
        answer = self._answers[key] = self._told(edited, start, losses, divergences, began)
        return answer

    def build(self, asked: Question | Plan, cancelled: Cancel = never, on_progress: OnProgress = None) -> Bundle:
        """The edited model, over the original's weights.

        Raises:
            ComeError, Cancelled: as for ``answer``.
        """
        if isinstance(asked, Plan):
            return self._builder.planned(asked)
        return self._builder.edited(asked, self.measurement, self.calibration, cancelled, on_progress)

    def plan(self, question: Question) -> Plan:
        """The plan of a question's edits.

        Raises:
            ComeError: the edits are impossible.
        """
        fits = self._builder.fits(question, self.calibration)
        return plan_of(question, self.bundle, self.measurement, fits)

    def measured(self) -> Measurement:
        """The measurement of the original.

        Raises:
            ComeError: there is none.
        """
        if self.measurement is None:
            raise ComeError("The model was not measured.", "Run the analysis first.")
        return self.measurement

    def _told(self, edited: Bundle, start: int, losses: Tensor, divergences: Tensor, began: float) -> Answer:
        text = from_losses(losses, self.original.known.tokens, self.bundle.tokenizer)
        by_sequence = divergences.double()
        lower, upper = halves(losses.double().tolist())
        return Answer(
            layers=len(edited.layers),
            parameters=edited.parameters,
            bytes=edited.bytes,
            speed_up=multiplied(self.bundle) / multiplied(edited),
            perplexity=text.value,
            perplexity_stderr=text.stderr,
            bits_per_byte=text.bits_per_byte,
            bits_per_byte_stderr=text.bits_per_byte_stderr,
            kl=float(by_sequence.mean()),
            kl_stderr=mean_stderr(by_sequence),
            losses=tuple(losses.tolist()),
            divergences=tuple(divergences.tolist()),
            perplexity_halves=(perplexity_of(lower), perplexity_of(upper)),
            kl_halves=halves(by_sequence.tolist()),
            tokens=text.tokens,
            start=start,
            seconds=time.perf_counter() - began,
        )


def multiplied(bundle: Bundle) -> int:
    """How many weights every token is multiplied with: those of the layers and of the head."""
    head = bundle.model.get_submodule(bundle.family.head)
    weights: int = sum(parameter.numel() for part in (bundle.layers, head) for parameter in part.parameters())
    return weights
