"""Post-training pruning by Fisher information (Kwon et al. 2022, arXiv 2204.09656), for decoders.

A mask variable m_i of each KV group (with its query heads) and of each FFN channel multiplies what the unit gives to
the output map. With g_s the gradient of sequence s's mean loss with respect to all masks, at 1:

1. Mask search: the diagonal Fisher information F_i = mean_s g_si^2. Units go in the order of F_i per parameter saved,
   least first, until the budget is met; then those that are not needed for it come back, most important first.
   (The paper's budget is one of MACs; a unit's MACs a token are its parameters.) With ``budget="latency"`` as much
   Fisher information is kept as fits the time that the target's layers take: ``come.pruning.mask_search``.
2. Rearrangement: within the attention or the FFN of each layer, with as many units silenced, the block-diagonal
   F = mean_s g_s g_s^T counts: sum over silenced i, j of F_ij = mean_s (sum_i g_si)^2. Starting from the mask found,
   each kept unit in turn, least important first, is silenced in exchange for the unit whose return leaves least.
3. Mask tuning: ``come.pruning.mask_tuning``.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from come.errors import ComeError
from come.events import emit
from come.models import Bundle, Facts
from come.plan.steps import Mask, Units
from come.pruning.common import parameters_to_remove, sub_layer_parameters
from come.pruning.forecast import Known
from come.pruning.gradients import mask_gradients
from come.pruning.mask_search import search, search_latency
from come.pruning.mask_tuning import tuned_outputs
from come.pruning.method import Task
from come.pruning.options import PassOptions
from come.pruning.registry import register
from come.pruning.result import Result, StepRecord
from come.pruning.schedule import Calibration, Schedule
from come.pruning.sub_layer_latency import Line, fitted, latencies
from come.training.trainer import BACK
from come.transforms.mask import mask, parameters_of_units
from come.transforms.rebuild import apply_step, with_plan

TUNING_PASSES = 6  # both models, for the attention, for the FFN, and on to the next layer
GRADIENTS = 0.3  # about this share of the work; tuning is the rest


Times = list[tuple[int, Annotated[float, Field(gt=0)]]]
"""Seconds of a sub-layer with so many units, as (units, seconds)."""


class FisherOptions(PassOptions):
    """What the mask search keeps to, and which of the paper's stages follow it."""

    budget: Literal["parameters", "latency"] = Field(
        "parameters",
        description="What the target's layers stand for: as many parameters, or the time that they take here. For "
        "that, sub-layers of fewer units are timed once. Silenced units of the checkpoint take their time all the "
        "same: the latency is that of sub-layers without them.",
    )
    timed_tokens: int = Field(256, ge=1, le=8192, description="Tokens of the sequence that sub-layers are timed on.")
    attention_seconds: Times | None = Field(
        None, description="What an attention takes by its KV groups, such as [[1, 0.1], [3, 0.2]], instead of timing."
    )
    ffn_seconds: Times | None = Field(
        None, description="What an FFN takes by its channels, such as [[96, 0.1], [1536, 0.5]], instead of timing."
    )
    rearrange: bool = Field(True, description="Exchanges units within a sub-layer, by how they act together.")
    tune: bool = Field(True, description="Scales the kept units so that outputs come nearest to the original's.")
    ridge: float = Field(
        0.001,
        gt=0,
        description="How strongly scales are held to 1, as a share of the mean of the normal matrix's diagonal.",
    )

    @model_validator(mode="after")
    def _seconds_go_with_latency(self) -> Self:
        tables = (self.attention_seconds, self.ffn_seconds)
        if tables != (None, None) and (None in tables or self.budget != "latency"):
            raise ComeError(
                "Times of sub-layers are given for the attention and the FFN, and for a budget of latency.",
                "Give attention_seconds and ffn_seconds with budget=latency, or neither.",
            )
        for table in (each for each in tables if each is not None):
            units = [count for count, _ in table]
            if not table or min(units) < 1 or len(set(units)) < len(units):
                raise ComeError(
                    "Times of sub-layers name each number of units once, from 1 on.", "Give at least one such pair."
                )
            seconds = [taken for _, taken in sorted(table)]
            if seconds != sorted(seconds):
                raise ComeError("Of times of sub-layers, more units take no less.", "Give them so.")
        return self

    @property
    def fits(self) -> Literal["refit", "tune"] | None:
        """The scales of the units that are kept."""
        return "tune" if self.tune else None

    @property
    def counts_parameters(self) -> bool:
        """A latency may leave more of them."""
        return self.budget == "parameters"

    def check(self, model: Any, layers: int, target: int) -> None:
        """Refuse times of more units than the model has."""
        if isinstance(model, Facts):
            groups, channels = model.num_key_value_heads, model.intermediate_size
        else:
            groups, channels = model.shape.kv_heads, model.shape.channels
        for table, most, what in (
            (self.attention_seconds, groups, "KV groups"),
            (self.ffn_seconds, channels, "FFN channels"),
        ):
            if table and max(units for units, _ in table) > most:
                raise ComeError(f"There are times of more {what} than the {most:,} of a layer.", "Leave those out.")


def work(known: Known, options: FisherOptions, tokens: Calibration) -> Schedule:
    """Up and back, where weights get no gradient, which is half of the way back; then the tuning."""
    facts = known.model
    if not options.tune:
        passes, products = BACK, 0.0
    else:  # what enters each output map times itself, and the equations of the scales
        passes = BACK + TUNING_PASSES
        channels, attention = facts.intermediate_size, facts.num_attention_heads * facts.head_dim
        sums = 4 * tokens.n_tokens * (channels**2 + attention**2)
        products = facts.layers * (sums + 2 * channels**3 / 3 + 2 * channels**2 * facts.hidden_size)
    return Schedule(
        unmeasured=float(passes * facts.layers),
        in_float32=float((BACK - 1) * facts.layers),
        heads=BACK,
        products=products,
    )


@register(
    "fisher",
    title="Fisher masks",
    paper="Kwon et al. 2022, arXiv 2204.09656",
    summary="Silence KV groups and FFN channels of least Fisher information, then scale those that are kept.",
    kind="mask",
    options=FisherOptions,
    needs=("forward", "logits", "gradients"),
    cost="Two passes forwards and one backwards over the calibration tokens, and six forwards to tune.",
    target="parameters",
    work=work,
)
def fisher(task: Task, options: FisherOptions) -> Result:
    """Silence units by Fisher information down to the parameter count, and tune the rest."""
    bundle, plan, history = task.current, task.plan, list[StepRecord]()
    if task.target_layers == len(task.original.layers) or len(plan.steps) == 1 + options.tune:
        return Result(bundle, plan, history)
    if not plan.steps:
        began = time.perf_counter()
        step, notes = chosen_mask(task, options)
        bundle, plan = apply_step(bundle, step), plan.with_step(step).with_notes(notes)
        layers = sorted({*step.kv_groups, *step.channels})
        seconds = (time.perf_counter() - began) / len(layers)
        history = [StepRecord((layer, layer), seconds=seconds) for layer in layers]
        task.done(plan)
        emit(task.on_progress, "compress", round(1000 * GRADIENTS), 1000, step.describe())
    silenced = plan.steps[0]
    assert isinstance(silenced, Mask)
    if options.tune:
        tensors = tuned_outputs(task, bundle, silenced, options.ridge, options.batch_size, GRADIENTS)
        if tensors:
            plan = plan.with_tensors(tensors, "mask tuning")
            bundle = apply_step(bundle, plan.steps[-1], tensors)
            task.done(plan)
    return Result(with_plan(bundle, plan), plan, history)


def chosen_mask(task: Task, options: FisherOptions) -> tuple[Mask, list[str]]:
    """What to silence, and what to tell of it: the mask search, and the rearrangement if it is wanted."""
    original, notes = task.original, list[str]()
    to_remove = parameters_to_remove(task) if options.counts_parameters else 0
    gradients = mask_gradients(original, task.tokens, options.batch_size, task.on_progress, GRADIENTS)
    importance = [each.square().mean(0) for each in gradients]
    if options.counts_parameters:
        whole = [sub_layer_parameters(original, attention) for attention in (True, False)]
        one = [parameters_of_units(original, original.layers[0], attention, 1) for attention in (True, False)]
        found = search(importance, one, whole, to_remove)
    else:
        lines = lines_of(original, options)
        budget = task.target_layers * sum(line.at(each.shape[1]) for line, each in zip(lines, importance, strict=True))
        found = search_latency(importance, lines, budget)
        notes = [told(found, importance, lines, budget, options)]
    if options.rearrange:
        found = [
            {layer: rearranged(each[:, layer], units) for layer, units in silenced.items()}
            for each, silenced in zip(gradients, found, strict=True)
        ]
    return mask(original, *found), notes


def lines_of(original: Bundle, options: FisherOptions) -> list[Line]:
    """What an attention and an FFN take by their units: as given, else as measured on this device."""
    shape, given = original.shape, (options.attention_seconds, options.ffn_seconds)
    tables = [dict(each or ()) for each in given] if all(given) else latencies(original, options.timed_tokens)
    return [fitted(table, most) for table, most in zip(tables, (shape.kv_heads, shape.channels), strict=True)]


def told(found: list[Units], importance: list[Tensor], lines: list[Line], budget: float, options: FisherOptions) -> str:
    """A note on what was kept within a latency."""
    layers = len(importance[0])
    taken = sum(
        line.at(each.shape[1] - len(silenced.get(layer, [])))
        for line, each, silenced in zip(lines, importance, found, strict=True)
        for layer in range(layers)
    )
    names = ("an attention", "of its KV groups"), ("an FFN", "of its channels")
    steps = "; ".join(
        f"{what}: {1000 * line.constant:.3g} ms up to {line.threshold:,} {units}, {1000 * line.slope:.3g} ms each more"
        for (what, units), line in zip(names, lines, strict=True)
    )
    whole = layers * sum(line.at(each.shape[1]) for line, each in zip(lines, importance, strict=True))
    source = "given times" if options.ffn_seconds else f"times measured here over {options.timed_tokens:,} tokens"
    return (
        f"By {source}, the sub-layers without their silenced units take {1000 * taken:.4g} ms of {1000 * whole:.4g}; "
        f"{1000 * budget:.4g} were allowed ({steps}). This checkpoint keeps zeros in their place and is not faster."
    )


def rearranged(gradients: Tensor, silenced: list[int]) -> list[int]:
    """As many units, exchanged one by one for a smaller sum of their gradients' squares.

    Args:
        gradients: of one sub-layer's masks, (sequences, units).
        silenced: the units to start from.
    """
    by_unit = gradients.T.contiguous()
    kept = torch.ones(len(by_unit), dtype=torch.bool)
    kept[silenced] = False
    candidates = [unit for unit in by_unit.square().sum(1).sort(stable=True).indices.tolist() if kept[unit]]
    inside = torch.tensor([*silenced, 0])
    for candidate in candidates:
        inside[-1] = candidate
        vectors = by_unit[inside]
        back = int((vectors.sum(0) - vectors).square().sum(1).argmin())
        inside[back] = candidate
    return sorted(inside[:-1].tolist())
