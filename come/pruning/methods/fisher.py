"""Post-training pruning by Fisher information (Kwon et al. 2022, arXiv 2204.09656), for decoders.

A mask variable m_i of each KV group (with its query heads) and of each FFN channel multiplies what the unit gives to
the output map. With g_s the gradient of sequence s's mean loss with respect to all masks, at 1:

1. Mask search: the diagonal Fisher information F_i = mean_s g_si^2. Units go in the order of F_i per parameter saved,
   least first, until the budget is met; then those that are not needed for it come back, most important first.
   (The paper's budget is one of MACs; a unit's MACs a token are its parameters.)
2. Rearrangement: within the attention or the FFN of each layer, with as many units silenced, the block-diagonal
   F = mean_s g_s g_s^T counts: sum over silenced i, j of F_ij = mean_s (sum_i g_si)^2. Starting from the mask found,
   each kept unit in turn, least important first, is silenced in exchange for the unit whose return leaves least.
3. Mask tuning: ``come.pruning.mask_tuning``.
"""

from __future__ import annotations

import time
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from come.events import emit
from come.plan.steps import Mask, Units
from come.pruning.common import parameters_to_remove, sub_layer_parameters
from come.pruning.forecast import Known
from come.pruning.gradients import mask_gradients
from come.pruning.mask_tuning import tuned_outputs
from come.pruning.method import Task
from come.pruning.options import PassOptions
from come.pruning.registry import register
from come.pruning.result import Result, StepRecord
from come.pruning.schedule import Calibration, Schedule
from come.training.trainer import BACK
from come.transforms.mask import mask, parameters_of_units
from come.transforms.rebuild import apply_step, with_plan

TUNING_PASSES = 6  # both models, for the attention, for the FFN, and on to the next layer
GRADIENTS = 0.3  # about this share of the work; tuning is the rest


class FisherOptions(PassOptions):
    """Which of the paper's stages follow the mask search."""

    rearrange: bool = Field(True, description="Exchanges units within a sub-layer, by how they act together.")
    tune: bool = Field(True, description="Scales the kept units so that outputs come nearest to the original's.")
    ridge: float = Field(
        0.001,
        gt=0,
        description="How strongly scales are held to 1, as a share of the mean of the normal matrix's diagonal.",
    )

    @property
    def fits(self) -> Literal["refit", "tune"] | None:
        """The scales of the units that are kept."""
        return "tune" if self.tune else None


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
    to_remove = parameters_to_remove(task)
    bundle, plan, history = task.current, task.plan, list[StepRecord]()
    if not to_remove or len(plan.steps) == 1 + options.tune:
        return Result(bundle, plan, history)
    if not plan.steps:
        began = time.perf_counter()
        step = chosen_mask(task, options, to_remove)
        bundle, plan = apply_step(bundle, step), plan.with_step(step)
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


def chosen_mask(task: Task, options: FisherOptions, to_remove: int) -> Mask:
    """What to silence: the mask search, and the rearrangement if it is wanted."""
    original = task.original
    gradients = mask_gradients(original, task.tokens, options.batch_size, task.on_progress, GRADIENTS)
    whole = [sub_layer_parameters(original, attention) for attention in (True, False)]
    one = [parameters_of_units(original, original.layers[0], attention, 1) for attention in (True, False)]
    importance = [each.square().mean(0) for each in gradients]
    found = search(importance, one, whole, to_remove)
    if options.rearrange:
        found = [
            {layer: rearranged(each[:, layer], units) for layer, units in silenced.items()}
            for each, silenced in zip(gradients, found, strict=True)
        ]
    return mask(original, *found)


def search(importance: list[Tensor], one: list[int], whole: list[int], to_remove: int) -> list[Units]:
    """The units of least importance per parameter whose removal saves what is wanted, and no unit more.

    Args:
        importance: of KV groups, (layers, kv_heads), and of FFN channels, (layers, channels).
        one: how many parameters one KV group and one FFN channel have.
        whole: how many all of a layer's have: more than their sum, where the output map has a bias.
        to_remove: how many parameters to save at least.

    Returns:
        by layer, the KV groups, and the FFN channels.
    """
    units = [
        (kind, layer, unit)
        for kind, each in enumerate(importance)
        for layer in range(each.shape[0])
        for unit in range(each.shape[1])
    ]
    worth = torch.cat([each.flatten() / size for each, size in zip(importance, one, strict=True)])
    order = [units[at] for at in worth.sort(stable=True).indices.tolist()]
    silenced: list[list[set[int]]] = [[set() for _ in each] for each in importance]
    counts = [each.shape[1] for each in importance]
    bias = [whole[kind] - one[kind] * counts[kind] for kind in (0, 1)]
    saved, taken = 0, 0
    while saved < to_remove and taken < len(order):
        kind, layer, unit = order[taken]
        silenced[kind][layer].add(unit)
        saved += one[kind] + bias[kind] * (len(silenced[kind][layer]) == counts[kind])
        taken += 1
    for kind, layer, unit in reversed(order[:taken]):
        if saved - min(one) < to_remove:
            break
        least = saved - one[kind] - bias[kind] * (len(silenced[kind][layer]) == counts[kind])
        if least >= to_remove:
            silenced[kind][layer].remove(unit)
            saved = least
    return [{layer: sorted(gone) for layer, gone in enumerate(kind) if gone} for kind in silenced]


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
