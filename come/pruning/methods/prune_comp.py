"""Prune&Comp: remove a layer, make up for its share of the magnitude, and again (Chen et al. 2025, arXiv 2507.18212).

Hidden states grow from layer to layer. Without layer l those that enter layer l + 1 are too small by

    alpha = mean_t ||H_t^(l+1)|| / ||H_t^(l)||

over the calibration tokens, and what the layers above add to them weighs too much. So they are multiplied by alpha, at
no cost when the model runs: the paper folds alpha into the embeddings and all output maps below the gap, which pre-norm
layers do not feel. We divide what the layers above the gap add by alpha instead (the step ``Scale``). As the final norm
takes the size of the whole back, that is the same function, up to the small constant in the norms; it leaves alone a
head that is tied to the embeddings, and takes in families whose layers have norms after their sub-layers, or none
before. Importance is measured again after each removal, on the model as it is then.
"""

from __future__ import annotations

import time
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from come.events import emit
from come.measurement.calibrate import batches
from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.influence import block_influence
from come.measurement.layer_runner import LayerRunner, check_finite
from come.measurement.suffix import states_at
from come.models import Bundle
from come.plan.plan import Plan
from come.plan.steps import Scale, named
from come.pruning.forecast import Known
from come.pruning.method import Task
from come.pruning.methods import sleb
from come.pruning.options import CachedPassOptions
from come.pruning.registry import register
from come.pruning.removal import overall, take_removal
from come.pruning.result import Result, StepRecord
from come.pruning.schedule import Calibration, Schedule
from come.transforms.rebuild import apply_step, with_plan


class PruneCompOptions(CachedPassOptions):
    """By what the layer to remove is chosen."""

    importance: Literal["block-influence", "loss"] = Field(
        "block-influence",
        description="The layer of lowest block influence goes, or that without which the calibration loss is lowest.",
    )
    last_state: Literal["normed", "raw"] = Field(
        "normed", description="For the block influence, the last hidden state with or without the final norm."
    )


def work(known: Known, options: PruneCompOptions, tokens: Calibration) -> Schedule:
    """All layers once, then those above each removal: half of them; with the loss, SLEB's candidates."""
    if options.importance == "loss":
        return sleb.work(known, options, tokens)
    later = sum(range(known.target_layers + 1, known.layers)) / 2
    return Schedule(unmeasured=known.layers + later, merges=known.surplus)


@register(
    "prune-comp",
    title="Prune&Comp",
    paper="Chen et al. 2025, arXiv 2507.18212",
    summary="Remove the least important layer, scale what is left to the magnitude that it gave, and choose again.",
    kind="remove",
    options=PruneCompOptions,
    needs=("forward", "logits"),
    stepwise=True,
    cost="One pass over the calibration tokens, then the layers above each removal; by loss, what SLEB costs.",
    work=work,
)
def prune_comp(task: Task, options: PruneCompOptions) -> Result:
    """Remove layers one by one, each the least important, the first on ties, and multiply what entered it by alpha."""
    bundle, plan = task.current, task.plan
    history: list[StepRecord] = []
    removals = len(task.original.layers) - task.target_layers
    borders = HiddenStateCache.of(bundle, task.tokens, options.memory_budget)
    for number in range(len(task.original.layers) - len(bundle.layers), removals):
        began = time.perf_counter()
        scores = importance(task, options, bundle, borders, number, removals)
        layer = int(scores.argmin())
        alpha = growth(bundle, task.tokens, layer, borders, options.batch_size)
        name = named([layer], plan.groups())
        bundle, plan, _ = take_removal(task, options, bundle, plan, [layer], borders)
        bundle, plan = _compensated(bundle, plan, layer, alpha)
        told = tuple(scores.tolist()) if options.importance == "block-influence" else ()
        history.append(StepRecord((layer, layer), block_influence=told, seconds=time.perf_counter() - began))
        task.done(plan)
        emit(
            task.on_progress,
            "compress",
            round(1000 * (number + 1) / removals),
            1000,
            f"Step {number + 1} of {removals}: removed layer {name}, alpha {alpha:.4f}; {len(bundle.layers)} layers",
            layers=len(bundle.layers),
            alpha=alpha,
        )
    return Result(with_plan(bundle, plan) if history else bundle, plan, history)


def importance(
    task: Task, options: PruneCompOptions, bundle: Bundle, borders: HiddenStateCache, number: int, of: int
) -> Tensor:
    """How much each layer matters, (layers,), measured on the model as it is; removal ``number`` of ``of`` is next."""
    progress = overall(task.on_progress, number, of)
    if options.importance == "loss":
        return sleb.losses_without(bundle, task.tokens, borders, batch_size=options.batch_size, on_progress=progress)
    return block_influence(
        LayerRunner(bundle),
        task.tokens,
        borders,
        last_state=options.last_state,
        batch_size=options.batch_size,
        on_progress=progress,
    )


@torch.inference_mode()
def growth(
    bundle: Bundle, tokens: Tensor, layer: int, borders: HiddenStateCache | None = None, batch_size: int | None = None
) -> float:
    """Alpha: the mean over tokens of the norm of what leaves a layer by that of what enters it; 1 where that is 0.

    Raises:
        ComeError: the model overflows.
    """
    runner, total = LayerRunner(bundle), 0.0
    for batch in batches(tokens, batch_size):
        entering = states_at(runner, batch.index, batch.tokens, layer, borders)
        kept = borders.get(batch.index, layer + 1) if borders is not None else None
        leaving = kept.to(entering.device) if kept is not None else runner.run(layer, entering)
        below, above = (torch.linalg.vector_norm(each.float(), dim=-1) for each in (entering, leaving))
        total += float(torch.where(below > 0, above / below, 1).sum(dtype=torch.float64))
    check_finite(torch.tensor(total), runner)
    return total / tokens.numel()


def _compensated(bundle: Bundle, plan: Plan, gap: int, alpha: float) -> tuple[Bundle, Plan]:
    """The model and the plan after what enters layer ``gap`` was multiplied; above the last layer nothing is to do."""
    if gap == len(bundle.layers) or not alpha > 0:
        return bundle, plan
    step = Scale(layer=gap, factor=alpha)
    return apply_step(bundle, step), plan.with_step(step)
