"""A refit from the bottom up: the output maps of layer after layer, each fed by the refitted ones below it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from torch import Tensor

from come.measurement.calibrate import batches
from come.measurement.layer_runner import LayerRunner
from come.models import Bundle, Facts
from come.plan.plan import Plan, Span, spans_of
from come.plan.steps import Replace
from come.pruning.scoring import Scorer
from come.training.states import States, StateStore, advance, embed
from come.transforms.refit import Refit, RefitRules, refit_layer
from come.transforms.replace import replace_weights

SWEEP = "sweep"  # what a plan says of the weights
STRENGTHS = (0.1, 0.3, 1.0)


def refit_bottom_up(
    student: Bundle,
    teacher: Bundle,
    spans: Sequence[Span],
    tokens: Tensor,
    rules: RefitRules,
    held_out: int,
    *,
    target: Literal["student", "teacher"],
    batch_size: int | None = None,
    memory_budget: int | None = None,
    report: Callable[[int, Span, Refit], None] | None = None,
) -> dict[str, Tensor]:
    """The refitted weights of a pruned model's layers, by name.

    Args:
        student, teacher: the pruned model and the original; both stay as they are.
        spans: the layers to refit, lowest first.
        tokens: int64 (sequences, tokens).
        rules: how a layer is refitted.
        held_out: how many sequences, the last ones, choose the ridge strength and decide.
        target: what the original's layers give on the student's own states, or the original's own states.
        batch_size: sequences at a time.
        memory_budget: bytes for hidden states.
        report: told (layers done, span, what came of it).
    """
    ours_runner, theirs_runner = LayerRunner(student), LayerRunner(teacher)
    tensors: dict[str, Tensor] = {}
    with StateStore(tokens, student.shape.hidden_size, student.dtype, 2, memory_budget) as store:
        ours, theirs = embed(ours_runner, tokens, store.new(), batch_size), store.new()
        layer = border = 0
        if target == "teacher":
            embed(theirs_runner, tokens, theirs, batch_size)
        for number, span in enumerate(spans, start=1):
            advance(ours_runner, tokens, ours, range(layer, span.layer), batch_size=batch_size)
            if target == "teacher":
                advance(theirs_runner, tokens, theirs, range(border, span.end), batch_size=batch_size)
            else:
                advance(theirs_runner, tokens, ours, range(span.first, span.end), theirs, batch_size)
            layer, border = span.layer, span.end
            refitted = refit_layer(
                ours_runner, layer, lambda: _pairs(ours_runner, tokens, ours, theirs, held_out, batch_size), rules
            )
            prefix = f"{student.family.layers}.{layer}"
            tensors |= {f"{prefix}.{name}": value for name, value in refitted.tensors.items()}
            if report is not None:
                report(number, span, refitted)
    return tensors


def swept(
    original: Bundle,
    bundle: Bundle,
    plan: Plan,
    tokens: Tensor,
    scorer: Scorer,
    *,
    batch_size: int | None = None,
    memory_budget: int | None = None,
    report: Callable[[int], None] | None = None,
) -> tuple[float, Bundle, Plan]:
    """A pruned model's score, and it and its plan after all output maps were moved towards the original's states.

    As it was, where that scores no better.

    Args:
        original: the plan's base.
        bundle, plan: the pruned model.
        tokens: int64 (sequences, tokens); those that ``scorer`` has are the last of them, and held out.
        scorer: what it keeps of another model is forgotten.
        batch_size, memory_budget: as for ``refit_bottom_up``.
        report: told how many layers are done.
    """
    scorer.after_change(0)
    before = scorer(LayerRunner(bundle))
    tensors = refit_bottom_up(
        bundle,
        original,
        spans_of(plan),
        tokens,
        RefitRules(maps="both", strengths=STRENGTHS),
        len(scorer.tokens),
        target="teacher",
        batch_size=batch_size,
        memory_budget=memory_budget,
        report=None if report is None else lambda done, *_: report(done),
    )
    if tensors:
        moved = replace_weights(bundle, tensors)
        scorer.after_change(0)
        after = scorer(LayerRunner(moved))
        if after < before:
            return after, moved, plan.with_tensors(tensors, SWEEP)
    return before, bundle, plan


def is_swept(plan: Plan) -> bool:
    """Whether a plan ends with a sweep."""
    return bool(plan.steps) and isinstance(plan.steps[-1], Replace) and plan.steps[-1].made_by == SWEEP


def output_parameters(facts: Facts) -> int:
    """How many parameters both output maps of a layer have, without biases."""
    return facts.hidden_size * (facts.num_attention_heads * facts.head_dim + facts.intermediate_size)


def sweep_products(facts: Facts, n_tokens: int) -> float:
    """Floating-point operations in float32 of moving both output maps of a layer."""
    hidden, total = facts.hidden_size, 0.0
    for inputs in (facts.num_attention_heads * facts.head_dim, facts.intermediate_size):
        sums = n_tokens * (1.125 * inputs**2 + 2 * inputs * hidden)
        total += sums + (len(STRENGTHS) / 3 + 2 / 3) * inputs**3 + 4 * inputs**2 * hidden
    return total


def _pairs(
    student: LayerRunner, tokens: Tensor, ours: States, theirs: States, held_out: int, batch_size: int | None
) -> Iterator[tuple[Tensor, Tensor, int]]:
    """What enters the layer, what should leave it and how many sequences are fitted, batch by batch."""
    start = 0
    for batch in batches(tokens, batch_size):
        end = start + len(batch.tokens)
        entered = student.enter(batch.tokens)
        fitted = min(max(0, len(tokens) - held_out - start), len(batch.tokens))
        entering = ours[slice(start, end)].to(entered.device, entered.dtype)
        yield entering, theirs[slice(start, end)].to(entered.device), fitted
        start = end
