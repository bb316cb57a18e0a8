"""LLM-Streamline: light layers in the place of the block that changes its input least (Chen et al., arXiv 2403.19135).

The block of n layers of highest cosine(H^(l), H^(l+n)) becomes one layer, or a few, that start as the block's first
and are trained: to make of what enters the block what leaves it, by MSE; on the next-token loss of the whole model,
all else as it is; or on one after the other. The published program has the first two, for a layer; its FFN is
``come.pruning.light_layers``'.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from come.errors import ComeError
from come.events import Event, OnProgress, emit
from come.measurement.measure import measure
from come.numbers import ranges
from come.plan.steps import Remove
from come.pruning.forecast import Known
from come.pruning.light_layers import Light, LightBlock, at_random, trained_on_text, trained_to_states
from come.pruning.method import Task
from come.pruning.options import PassOptions
from come.pruning.registry import register
from come.pruning.result import Result, StepRecord
from come.pruning.schedule import Calibration, Schedule
from come.training.layer_job import LayerOptions
from come.training.losses import Loss
from come.training.trainer import BACK, Report, TrainingStep, tokens_taken
from come.transforms.mask import mask
from come.transforms.rebuild import apply_step, with_plan
from come.transforms.replace import replace_weights

Stage = Literal["states", "text"]
MEASURED = 300  # thousandths of the work
SILENCED = (
    "The light layers are FFNs only: their attention is silenced, which the number of parameters does not count; the "
    "checkpoint still has it, and computes it."
)
STAGES = {
    "states": (trained_to_states, "trained to the block's hidden states", "streamline"),
    "text": (trained_on_text, "trained on the next tokens", "streamline, next tokens"),
}  # the training, and what it is called in a note and in a step


class StreamlineOptions(PassOptions, LayerOptions):
    """What stands for the block and how it is trained (``LayerOptions``); how the measuring pass is made."""

    loss: Loss = Field(
        "plain-mse", description="What the layer's output is held to the block's by; the paper's is plain-mse."
    )
    light_layers: int = Field(
        1, ge=1, le=4, description="How many layers stand for the block; the published models have one or two."
    )
    light: Light = Field(
        "layer",
        description="What stands for it. layer: whole layers. ffn: layers whose attention is silenced, so that they "
        "act as an FFN of the model's own kind (SwiGLU in Llama).",
    )
    start: Literal["auto", "first", "random"] = Field(
        "auto",
        description="What they start from: the block's first layers, or weights that the seed draws. auto: as "
        "published, the first for a layer and random for an FFN.",
    )
    objective: Literal["states", "text", "both"] = Field(
        "states",
        description="What they are trained to. states: the hidden states that leave the block, by loss. text: the "
        "next tokens of the text, through all layers above, which takes longer. both: one after the other.",
    )

    @model_validator(mode="after")
    def _rank_adds_to_what_is_there(self) -> Self:
        if self.rank is not None and (self.objective != "states" or self.light != "layer" or self.random):
            raise ComeError(
                "Low-rank additions go with whole layers that start as the block's first and are trained to its "
                "states.",
                "Leave rank empty, or set objective to states, light to layer and start to first.",
            )
        return self

    @property
    def random(self) -> bool:
        """Whether the light layers start from random weights."""
        return self.start == "random" or (self.start == "auto" and self.light == "ffn")

    @property
    def stages(self) -> list[Stage]:
        """What is trained to, in order."""
        return ["states", "text"] if self.objective == "both" else [self.objective]

    @property
    def needs(self) -> tuple[str, ...]:
        """The next-token loss, and its way back through the layers above."""
        return ("logits", "gradients") if "text" in self.stages else ()

    def of_a_stage(self) -> StreamlineOptions:
        """The same for one stage: minutes are shared out."""
        return self.model_copy(update={"minutes": self.minutes and self.minutes / len(self.stages)})

    def check_sequences(self, sequences: int) -> None:
        """Refuse a single one."""
        if sequences < 2:
            raise ComeError(
                "There are no tokens to hold out: the light layer needs at least two sequences.",
                "Give more or shorter sequences.",
            )

    def check(self, model: Any, layers: int, target: int) -> None:
        """Refuse fewer layers than there are light ones."""
        if target < self.light_layers and target < layers:
            raise ComeError(
                f"{self.light_layers} light layers are more than the {target} that would be left.",
                "Give a higher target, or fewer light layers.",
            )


def work(known: Known, options: StreamlineOptions, tokens: Calibration) -> Schedule:
    """Up to and through the block, which lies in the middle where nothing is known; then the training.

    The next-token loss runs all layers from the block on, and back; its head counts as the layers that are as large.
    """
    clock, light, stages = options.minutes is not None, options.light_layers, options.stages
    above = (known.target_layers + light) / 2
    head = known.model.vocab_size * known.model.hidden_size / known.model.layer_parameters
    run = {"states": float(BACK * light), "text": (BACK - 1) * above + light + BACK * head}
    return Schedule(
        [float(known.layers)],
        unmeasured=(known.layers + known.surplus + light) / 2,
        trained=(0.0, 0)
        if clock
        else (sum(run[stage] for stage in stages), tokens_taken(options, tokens.n_tokens, tokens.seq_len)),
        seconds=60 * options.minutes if options.minutes is not None else 0.0,
        similarity=("cosine",),
    )


@register(
    "streamline",
    title="LLM-Streamline",
    paper="Chen et al. 2024, arXiv 2403.19135",
    summary="Replace the block of layers that changes its input least by a light layer trained to do what it did.",
    kind="train",
    options=StreamlineOptions,
    needs=("forward", "training"),
    cost="One pass over the calibration tokens, one up to the block, and one layer trained on its states; on the next "
    "tokens instead, through all layers above.",
    work=work,
)
def streamline(task: Task, options: StreamlineOptions) -> Result:
    """Remove all layers of a block but its first, silence their attention if wanted, and train them."""
    count, bundle, plan = len(task.original.layers) - task.target_layers, task.current, task.plan
    if not count:
        return Result(bundle, plan)
    began = time.perf_counter()
    if not plan.steps:
        size = count + options.light_layers
        gone = Remove(layers=list(range((at := _block(task, options, size)) + options.light_layers, at + size)))
        bundle, plan = apply_step(bundle, gone), plan.with_step(gone)
        task.done(plan)
    removed = plan.steps[0]
    assert isinstance(removed, Remove)
    light = range(removed.layers[0] - options.light_layers, removed.layers[0])
    window = light[0], removed.layers[-1]
    silent = options.light == "ffn"
    if silent and len(plan.steps) == 1:
        every = list(range(bundle.shape.kv_heads))
        step = mask(bundle, dict.fromkeys(light, every), {})
        bundle, plan = apply_step(bundle, step), plan.with_step(step).with_note(SILENCED)
        task.done(plan)
    emit(task.on_progress, "compress", MEASURED, 1000, f"Layers {window[0]} to {window[1]} become {len(light)}")
    for number, stage in enumerate(options.stages):
        if len(plan.steps) > 1 + silent + number:  # done before an interruption
            continue
        block = LightBlock(task.original, bundle, light, window[1], options.light)
        if number == 0 and options.random:
            block = replace(block, bundle=replace_weights(bundle, at_random(block, options.seed)))
        train, told, made_by = STAGES[stage]
        trained, outcome = train(block, task.tokens, options.of_a_stage(), _report(task, options, light, number))
        plan = plan.with_tensors({name: each.to(bundle.dtype) for name, each in trained.items()}, made_by)
        bundle = apply_step(bundle, plan.steps[-1], plan.tensors(plan.steps[-1]))
        plan = plan.with_note(f"The light layer{'s' * (len(light) > 1)} {ranges(light)}, {told}: {outcome.describe()}")
        task.done(plan)
    emit(task.on_progress, "compress", 1000, 1000, "Trained", layers=len(bundle.layers))
    record = StepRecord(window, seconds=time.perf_counter() - began)
    return Result(with_plan(bundle, plan), plan, [record], whole=True)


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


def _report(task: Task, options: StreamlineOptions, light: range, number: int) -> Report:
    """What tells of the steps of a stage."""
    each = (990 - MEASURED) / len(options.stages)

    def report(point: TrainingStep) -> None:
        share = MEASURED + round(each * (number + point.step / point.steps))
        message = f"Step {point.step} of {point.steps}: loss {point.train_loss:.4g}"
        emit(task.on_progress, "compress", share, 1000, message, layer=light[0], train_loss=point.train_loss)

    return report


def _as_compress(on_progress: OnProgress) -> OnProgress:
    def report(event: Event) -> None:
        emit(on_progress, "compress", round(MEASURED * event.step / event.of), 1000, event.message)

    return report if on_progress is not None else None
