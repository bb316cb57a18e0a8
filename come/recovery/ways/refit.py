"""Refit of a finished pruned model, from the bottom up: every layer that lost something, fed by the refitted ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from come.errors import ComeError
from come.measurement.calibrate import batches
from come.measurement.layer_runner import LayerRunner
from come.recovery.registry import register
from come.recovery.way import Recovered, RecoverTask, Work
from come.training.states import States, StateStore, advance, embed
from come.training.trainer import TrainOptions, held_out_sequences
from come.transforms.refit import RefitRules, refit_layer


@dataclass(frozen=True)
class RefitOptions(RefitRules):
    """How a finished model is refitted (``RefitRules``).

    Attributes:
        target: "student": what the original's layers give on the student's own states; "teacher": the original's
            states, which also mends errors from below.
        most_tokens: how many tokens at most, the last ones: the sums need no more, and other ways need many.
        held_out_tokens: how many of them, an eighth at most, choose the ridge strength and decide.
        batch_size: sequences at a time; about 2,048 tokens by default.
        memory_budget: bytes for hidden states; a quarter of the free memory by default.
    """

    target: Literal["student", "teacher"] = "student"
    most_tokens: int = 16384
    held_out_tokens: int = 4096
    batch_size: int | None = None
    memory_budget: int | None = None

    def __post_init__(self) -> None:
        """Refuse values that make no sense for any model."""
        super().__post_init__()
        if self.target not in ("student", "teacher"):
            raise ComeError(f"There is no target {self.target!r} to refit to.", "Choose 'student' or 'teacher'.")
        for name in ("most_tokens", "held_out_tokens"):
            if getattr(self, name) < 1:
                raise ComeError(f"{name} of {getattr(self, name)} make no sense.", "Give 1 or more.")
        if self.batch_size is not None and self.batch_size < 1:
            raise ComeError("A batch needs at least one sequence.", "Give a batch_size of 1 or more.")


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
    """Refit the lossy layers in order."""
    tokens = task.tokens[-max(2, options.most_tokens // task.tokens.shape[1]) :]
    student, teacher = LayerRunner(task.student), LayerRunner(task.teacher)
    held_out = held_out_sequences(tokens, TrainOptions(held_out_tokens=options.held_out_tokens))
    tensors: dict[str, Tensor] = {}
    notes: list[str] = []
    with StateStore(tokens, task.student.shape.hidden_size, task.student.dtype, 2, options.memory_budget) as shelf:
        ours, theirs = embed(student, tokens, shelf.new(), options.batch_size), shelf.new()
        layer = border = 0
        if options.target == "teacher":
            embed(teacher, tokens, theirs, options.batch_size)
        for number, span in enumerate(task.lossy, start=1):
            advance(student, tokens, ours, range(layer, span.layer), batch_size=options.batch_size)
            if options.target == "teacher":
                advance(teacher, tokens, theirs, range(border, span.end), batch_size=options.batch_size)
            else:
                advance(teacher, tokens, ours, range(span.first, span.end), theirs, options.batch_size)
            layer, border = span.layer, span.end
            refitted = refit_layer(
                student,
                layer,
                lambda: _pairs(student, tokens, ours, theirs, held_out, options.batch_size),
                options,
            )
            prefix = f"{student.family.layers}.{layer}"
            tensors |= {f"{prefix}.{name}": value for name, value in refitted.tensors.items()}
            strengths = ", ".join(f"{path} {strength:g}" for path, strength in refitted.strengths.items())
            notes.append(
                f"layer {layer} for original layers {span.first} to {span.end - 1}: held-out error "
                f"{refitted.before:.4g} to {refitted.after:.4g} (ridge: {strengths or 'left as it was'})."
            )
            task.emit(number / len(task.lossy), notes[-1], layer=layer, held_out_loss=refitted.after)
    return Recovered(tensors, notes)


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
