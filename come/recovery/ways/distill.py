"""Hierarchical distillation: each layer that was merged is trained to make of the teacher's states what it stands for.

CoMe's third step (Wang et al. 2025, arXiv 2510.15304). "mp" trains every layer by itself, on the teacher's states, in
as many processes as there are; "sp" trains them in order, each on what the recovered layers below it hand up, and may
go by what then leaves the model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Literal, Self

import torch
from pydantic import Field, model_validator

from come.errors import ComeError
from come.measurement.layer_runner import LayerRunner
from come.plan.plan import Span
from come.recovery.by_predictions import by_predictions_work, distill_by_predictions
from come.recovery.registry import register
from come.recovery.way import Recovered, RecoverTask, RecoverySize, Work, training_work
from come.recovery.workers import OnLayerStep, do_jobs
from come.training.layer_job import LayerJob, LayerOptions, TrainedLayer, calls_for, train_layer
from come.training.states import States, StateStore, advance, embed
from come.training.trainer import BACK, TrainingStep, held_out_sequences


class DistillOptions(LayerOptions):
    """How layers are trained one by one."""

    minutes: float | None = Field(
        None, gt=0, description="Train all layers together about so long, whatever the steps; a few are timed first."
    )


class ParallelOptions(DistillOptions):
    """How layers are trained each by itself."""

    workers: int = Field(1, ge=1, description="Processes at a time; each has the threads given, or its share of all.")


class BottomUpOptions(DistillOptions):
    """How layers are trained in order."""

    output: Literal["layer", "model"] = Field(
        "layer",
        description="What is held to the original's: what leaves the layer, by the loss above, or what leaves the "
        "model (KL of the next-token distributions); the layers above are then run, but not trained.",
    )

    @model_validator(mode="after")
    def _weights_themselves(self) -> Self:
        if self.output == "model" and self.rank is not None:
            raise ComeError(
                "Low-rank additions are trained on what leaves the layer.", "Leave rank empty, or take output=layer."
            )
        return self


@register(
    "distill-mp",
    title="Layer distillation, side by side",
    paper="Wang et al. 2025, arXiv 2510.15304",
    summary="Train every merged layer alone to turn the original's states below its window into those above it.",
    cost="One pass of the original over the tokens; then each merged layer forward and backward, side by side.",
    order=20,
    options=ParallelOptions,
    work=lambda size, options: training_work(size, options, BACK * size.lossy, teacher_tokens=size.tokens),
)
def distill_mp(task: RecoverTask, options: ParallelOptions) -> Recovered:
    """Train every lossy layer by itself on the teacher's states."""
    each = _for_one_layer(options, len(task.lossy) / min(options.workers, max(1, len(task.lossy))))
    threads = options.threads or max(1, torch.get_num_threads() // options.workers)
    with _state_store(task, options, 2 * options.workers + 3, in_files=options.workers > 1) as store:
        jobs = _jobs(task, each, store, threads)
        trained = list(do_jobs(jobs, options.workers, _reporter(task), task.stop))
    return _recovered(task, sorted(trained, key=lambda done: done.layer))


def _bottom_up_work(size: RecoverySize, options: BottomUpOptions) -> Work:
    if options.output == "model":
        return by_predictions_work(size, options)
    return training_work(size, options, BACK * size.lossy + size.layers, teacher_tokens=size.tokens)


@register(
    "distill-sp",
    title="Layer distillation, bottom up",
    paper="Wang et al. 2025, arXiv 2510.15304",
    summary="Train the merged layers in order, each on what the recovered layers below it give.",
    cost="One pass of both models over the tokens; then each merged layer forward and backward, with output=model also "
    "the layers above it.",
    order=30,
    options=BottomUpOptions,
    work=_bottom_up_work,
)
def distill_sp(task: RecoverTask, options: BottomUpOptions) -> Recovered:
    """Train the lossy layers in order, each fed by the recovered student below it."""
    if options.output == "model":
        return distill_by_predictions(task, _for_one_layer(options, len(task.lossy)), _reporter(task))
    each = _for_one_layer(options, len(task.lossy))
    threads, report, tokens = options.threads or torch.get_num_threads(), _reporter(task), task.tokens
    student, teacher = LayerRunner(task.student), LayerRunner(task.teacher)
    trained: list[TrainedLayer] = []
    with _state_store(task, options, 2, in_files=False) as store:
        ours, theirs = embed(student, tokens, store.new()), embed(teacher, tokens, store.new())
        at = Span(0, 0, 0)
        for span in task.lossy:
            advance(student, tokens, ours, range(at.layer, span.layer))
            advance(teacher, tokens, theirs, range(at.end, span.end))
            job = _job(task, each, span, student, ours, theirs, threads)
            trained.append(train_layer(job, lambda point, layer=span.layer: report(layer, point), task.stop))  # type: ignore[misc]
            _put(student, span.layer, trained[-1])
            at = Span(span.layer, span.end, span.end)
    return _recovered(task, trained)


def _jobs(task: RecoverTask, options: LayerOptions, store: StateStore, threads: int) -> Iterator[LayerJob]:
    """A job for each lossy layer, with the teacher's states below and above; one pass of the teacher in all."""
    teacher, student, tokens = LayerRunner(task.teacher), LayerRunner(task.student), task.tokens
    now, at = embed(teacher, tokens, store.new()), 0
    for span in task.lossy:
        entering = advance(teacher, tokens, now, range(at, span.first), store.new())
        leaving = advance(teacher, tokens, entering, range(span.first, span.end), store.new())
        now.tensor.copy_(leaving.tensor)
        at = span.end
        yield _job(task, options, span, student, entering, leaving, threads)


def _job(
    task: RecoverTask,
    options: LayerOptions,
    span: Span,
    student: LayerRunner,
    entering: States,
    leaving: States,
    threads: int,
) -> LayerJob:
    if not all(bool(states.tensor.isfinite().all()) for states in (entering, leaving)):
        raise task.why_not_finite()
    layer = student.layers[span.layer]
    return LayerJob(
        layer=span.layer,
        module=layer,
        family=student.family,
        calls=calls_for(student, span.layer, task.tokens, options),
        entering=entering,
        leaving=leaving,
        held_out=held_out_sequences(task.tokens, options),
        device=next(layer.parameters()).device,
        options=options,
        threads=threads,
        checkpoint=task.checkpoint_of(f"layer-{span.layer}"),
    )


def _state_store(task: RecoverTask, options: LayerOptions, borders: int, in_files: bool) -> StateStore:
    hidden_size = task.teacher.shape.hidden_size
    return StateStore(task.tokens, hidden_size, task.teacher.dtype, borders, options.memory_budget, in_files)


def _for_one_layer(options: LayerOptions, rounds: float) -> LayerOptions:
    """The options of one layer, where so many are trained one after the other in the time that is given."""
    if options.minutes is None:
        return options
    return options.model_copy(update={"minutes": options.minutes / max(1.0, rounds)})


def _put(student: LayerRunner, layer: int, trained: TrainedLayer) -> None:
    """Put a layer's new weights in place, in the runner's own layer."""
    module = student.layers[layer]
    for name, value in trained.tensors.items():
        path, _, own = name.rpartition(".")
        old = module.get_submodule(path).get_parameter(own)
        setattr(module.get_submodule(path), own, torch.nn.Parameter(value.to(old.device, old.dtype), False))


def _reporter(task: RecoverTask) -> OnLayerStep:
    """Reports a layer's steps as steps of the whole."""
    shares: dict[int, float] = {}
    count = len(task.lossy)

    def report(layer: int, point: TrainingStep) -> None:
        shares[layer] = point.step / point.steps
        message = f"Layer {layer}, step {point.step} of {point.steps}: loss {point.train_loss:.4g}"
        task.emit(sum(shares.values()) / count, message, layer=layer, **dataclasses.asdict(point))

    return report


def _recovered(task: RecoverTask, trained: list[TrainedLayer]) -> Recovered:
    prefix = task.student.family.layers
    tensors = {f"{prefix}.{done.layer}.{name}": value for done in trained for name, value in done.tensors.items()}
    return Recovered(tensors, [f"layer {done.layer}: {done.outcome.describe()}" for done in trained])
