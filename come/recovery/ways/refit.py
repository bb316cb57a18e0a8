"""Refit of a finished pruned model, from the bottom up: every layer that lost something, fed by the refitted ones."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from come.plan.plan import Span
from come.pruning.sweep import refit_bottom_up
from come.recovery.registry import register
from come.recovery.way import Recovered, RecoverTask, Work
from come.training.trainer import TrainOptions, held_out_sequences
from come.transforms.refit import Refit, RefitRules


class RefitOptions(RefitRules):
    """How a finished model is refitted."""

    target: Literal["student", "teacher"] = Field(
        "student",
        description="What the original's layers give on the student's own states, or the original's states (teacher), "
        "which also mends errors from below.",
    )
    layers: Literal["lossy", "all"] = Field(
        "lossy",
        description="Layers that lost something, or all: with the target teacher, those above mend errors from below.",
    )
    most_tokens: int = Field(16384, ge=1, description="How many tokens at most, the last ones: the sums need no more.")
    held_out_tokens: int = Field(
        4096, ge=1, description="How many of them, an eighth at most, choose the ridge strength and decide."
    )
    batch_size: int | None = Field(None, ge=1, description="Sequences at a time; empty for about 2,048 tokens.")
    memory_budget: int | None = Field(
        None, ge=0, description="Bytes for hidden states; empty for a quarter of the free memory."
    )


@register(
    "refit",
    title="Least-squares refit",
    paper="after Kwon et al. 2022, arXiv 2204.09656",
    summary="Adjust the FFN's output weights of every layer that lost something, by least squares on the calibration "
    "tokens.",
    cost="One pass of the pruned model and the original's merged windows; no gradients.",
    order=10,
    default=True,
    options=RefitOptions,
    # The refitted layers below feed those above; a layer's window is run once for the target.
    work=lambda size, options: Work(
        min(size.tokens, options.most_tokens), size.layers + 2 * size.lossy, refitted=size.lossy
    ),
)
def refit(task: RecoverTask, options: RefitOptions) -> Recovered:
    """Refit the layers in order."""
    tokens = task.tokens[-max(2, options.most_tokens // task.tokens.shape[1]) :]
    notes: list[str] = []

    def report(number: int, span: Span, refitted: Refit) -> None:
        strengths = ", ".join(f"{path} {strength:g}" for path, strength in refitted.strengths.items())
        notes.append(
            f"layer {span.layer} for original layers {span.first} to {span.end - 1}: held-out error "
            f"{refitted.before:.4g} to {refitted.after:.4g} (ridge: {strengths or 'left as it was'})."
        )
        task.emit(number / len(spans), notes[-1], layer=span.layer, held_out_loss=refitted.after)

    spans = task.spans if options.layers == "all" else task.lossy
    tensors = refit_bottom_up(
        task.student,
        task.teacher,
        spans,
        tokens,
        options,
        held_out_sequences(tokens, TrainOptions(held_out_tokens=options.held_out_tokens)),
        target=options.target,
        batch_size=options.batch_size,
        memory_budget=options.memory_budget,
        report=report,
    )
    return Recovered(tensors, notes)
