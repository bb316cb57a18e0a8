"""LLM-Streamline: one light layer in the place of the block that changes its input least (arXiv 2403.19135).

The block of n layers of highest cosine(H^(l), H^(l+n)) becomes a layer that starts as the block's first and is trained
to make of what enters the block what leaves it.
"""

from __future__ import annotations

import time

import torch
from pydantic import Field

from come.errors import ComeError
from come.events import Event, OnProgress, emit
from come.measurement.layer_runner import LayerRunner
from come.measurement.measure import measure
from come.models import Bundle
from come.plan.plan import Plan
from come.plan.steps import Remove
from come.pruning.forecast import Known
from come.pruning.method import Task
from come.pruning.options import PassOptions
from come.pruning.registry import register
from come.pruning.result import Result, StepRecord
from come.pruning.schedule import Calibration, Schedule
from come.training.layer_job import LayerJob, LayerOptions, TrainedLayer, calls_for, train_layer
from come.training.losses import Loss
from come.training.states import StateStore, advance, embed
from come.training.trainer import BACK, TrainingStep, held_out_sequences, tokens_taken
from come.transforms.rebuild import apply_step, with_plan


class StreamlineOptions(PassOptions, LayerOptions):
    """How the light layer is trained (``LayerOptions``), and the measuring pass is made."""

    loss: Loss = Field(
        "plain-mse", description="What the layer's output is held to the block's by; the paper's is plain-mse."
    )


def work(known: Known, options: StreamlineOptions, tokens: Calibration) -> Schedule:
    """Up to and through the block, which lies in the middle where nothing is known; then one layer is trained."""
    clock = options.minutes is not None
    return Schedule(
        [float(known.layers)],
        unmeasured=(known.layers + known.surplus + 1) / 2,
        trained=(0.0, 0) if clock else (float(BACK), tokens_taken(options, tokens.n_tokens, tokens.seq_len)),
        seconds=60 * options.minutes if options.minutes is not None else 0.0,
        similarity=("cosine",),
    )


@register(
    "streamline",
    title="LLM-Streamline",
    paper="Chen et al. 2024, arXiv 2403.19135",
    summary="Replace the block of layers that changes its input least by one layer trained to do what the block did.",
    kind="train",
    options=StreamlineOptions,
    needs=("forward", "training"),
    cost="One pass over the calibration tokens, one up to the block, and one layer trained on its states.",
    work=work,
)
def streamline(task: Task, options: StreamlineOptions) -> Result:
    """Remove all layers of a block but its first, and train that one."""
    count = len(task.original.layers) - task.target_layers
    if not count:
        return Result(task.current, task.plan)
    if len(task.plan.steps) == 2:
        return Result(task.current, task.plan, [StepRecord(_window(task.plan, count))], whole=True)
    if len(task.tokens) < 2:
        raise ComeError(
            "There are no tokens to hold out: the light layer needs at least two sequences.",
            "Give more or shorter sequences.",
        )
    began, size = time.perf_counter(), count + 1
    plan = task.plan
    if not plan.steps:
        plan = plan.with_step(Remove(layers=list(range((first := _block(task, options, size)) + 1, first + size))))
        task.done(plan)
    first, _ = window = _window(plan, count)
    bundle = apply_step(task.original, plan.steps[0])
    emit(task.on_progress, "compress", 300, 1000, f"Layers {first} to {first + count} become one")
    trained = _train(task, options, bundle, first, size)
    bundle, plan = _with_layer(bundle, plan, trained)
    plan = plan.with_note(f"The light layer {first}: {trained.outcome.describe()}")
    task.done(plan)
    emit(task.on_progress, "compress", 1000, 1000, f"Trained layer {first}", layers=len(bundle.layers))
    record = StepRecord(window, seconds=time.perf_counter() - began)
    return Result(with_plan(bundle, plan), plan, [record], whole=True)


def _window(plan: Plan, count: int) -> tuple[int, int]:
    """The block, (first, last), of a plan that has removed all of it but its first layer."""
    removed = plan.steps[0]
    assert isinstance(removed, Remove)
    return removed.layers[0] - 1, removed.layers[0] - 1 + count


def _block(task: Task, options: StreamlineOptions, size: int) -> int:
    """The first layer of the block of highest cosine between what enters and what leaves it; the first on ties."""
    measurement = measure(
        task.original,
        task.tokens,
        last_state="raw",
        similarity=("cosine",),
        batch_size=options.batch_size,
        on_progress=_as_compress(task.on_progress),
    )
    return int(measurement.similarity["cosine"].diagonal(size).argmax())


def _train(task: Task, options: StreamlineOptions, bundle: Bundle, first: int, size: int) -> TrainedLayer:
    """The block's first layer, trained on the states that enter and leave the block."""
    tokens, original = task.tokens, LayerRunner(task.original)
    with StateStore(tokens, bundle.shape.hidden_size, bundle.dtype, 2, options.memory_budget) as store:
        entering = advance(original, tokens, embed(original, tokens, store.new()), range(first))
        leaving = advance(original, tokens, entering, range(first, first + size), store.new())
        job = LayerJob(
            layer=first,
            module=bundle.layers[first],
            family=bundle.family,
            calls=calls_for(LayerRunner(bundle), first, tokens, options),
            entering=entering,
            leaving=leaving,
            held_out=held_out_sequences(tokens, options),
            device=next(bundle.layers[first].parameters()).device,
            options=options,
            threads=options.threads or torch.get_num_threads(),
        )

        def report(point: TrainingStep) -> None:
            share = 300 + round(690 * point.step / point.steps)
            message = f"Step {point.step} of {point.steps}: loss {point.train_loss:.4g}"
            emit(task.on_progress, "compress", share, 1000, message, layer=first, train_loss=point.train_loss)

        return train_layer(job, report)


def _with_layer(bundle: Bundle, plan: Plan, trained: TrainedLayer) -> tuple[Bundle, Plan]:
    prefix = f"{bundle.family.layers}.{trained.layer}"
    tensors = {f"{prefix}.{name}": value.to(bundle.dtype) for name, value in trained.tensors.items()}
    plan = plan.with_tensors(tensors, "streamline")
    return apply_step(bundle, plan.steps[-1], plan.tensors(plan.steps[-1])), plan


def _as_compress(on_progress: OnProgress) -> OnProgress:
    def report(event: Event) -> None:
        emit(on_progress, "compress", round(300 * event.step / event.of), 1000, event.message)

    return report if on_progress is not None else None
