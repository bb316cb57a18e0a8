"""SLEB: remove the layer that the loss misses least, one at a time (Song et al. 2024, arXiv 2402.09025).

Every layer is a candidate, as in the paper's algorithm; its published code never removes the first or the last one.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from come.events import OnProgress, emit
from come.measurement.calibrate import batches
from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.layer_runner import LayerRunner, check_finite
from come.measurement.suffix import each_border, suffix_losses
from come.models import Bundle
from come.plan.steps import named
from come.pruning.forecast import Known
from come.pruning.method import Task
from come.pruning.options import CachedPassOptions, MethodOptions, RemovalOptions
from come.pruning.registry import register
from come.pruning.removal import overall, take_removal
from come.pruning.result import Result, StepRecord
from come.pruning.schedule import Calibration, Schedule
from come.transforms.rebuild import with_plan


class SLEBOptions(RemovalOptions, CachedPassOptions):
    """How passes are made, and whether what is left is refitted before the next removal is chosen."""


def work(known: Known, _options: MethodOptions, _tokens: Calibration) -> Schedule:
    """For each removal, the layers above each candidate."""
    layers, target = known.layers, known.target_layers
    tried = [(left, (left - 1) / 2) for left in range(layers, target, -1)]
    return Schedule([float(layers)], known.surplus, candidates=tried)


@register(
    "sleb",
    title="SLEB",
    paper="Song et al. 2024, arXiv 2402.09025",
    summary="One at a time, remove the layer whose removal raises the calibration loss least.",
    kind="remove",
    options=SLEBOptions,
    needs=("forward", "logits"),
    stepwise=True,
    cost="For each removal, half of the layers and the head for every layer that is left out in turn.",
    work=work,
    portfolio={},
)
def sleb(task: Task, options: SLEBOptions) -> Result:
    """Remove layers one by one, each that of lowest ``losses_without``, the first on ties."""
    bundle, plan = task.current, task.plan
    history: list[StepRecord] = []
    removals = len(task.original.layers) - task.target_layers
    borders = HiddenStateCache.of(bundle, task.tokens, options.memory_budget)
    for number in range(len(task.original.layers) - len(bundle.layers), removals):
        began = time.perf_counter()
        losses = losses_without(
            bundle,
            task.tokens,
            borders,
            batch_size=options.batch_size,
            on_progress=overall(task.on_progress, number, removals),
        )
        layer = int(losses.argmin())
        name = named([layer], plan.groups())
        bundle, plan, error = take_removal(task, options, bundle, plan, [layer], borders)
        history.append(StepRecord((layer, layer), seconds=time.perf_counter() - began, refit=error))
        task.done(plan)
        emit(
            task.on_progress,
            "compress",
            round(1000 * (number + 1) / removals),
            1000,
            f"Step {number + 1} of {removals}: removed layer {name}, loss {losses[layer]:.4f}; "
            f"{len(bundle.layers)} layers",
            layers=len(bundle.layers),
            loss=float(losses[layer]),
        )
    return Result(with_plan(bundle, plan) if history else bundle, plan, history)


@torch.inference_mode()
def losses_without(
    bundle: Bundle,
    tokens: Tensor,
    borders: HiddenStateCache,
    *,
    batch_size: int | None = None,
    on_progress: OnProgress = None,
) -> Tensor:
    """The mean loss over the tokens without each layer in turn, (layers,); infinite where it overflows.

    Args:
        bundle: the model.
        tokens: int64 (sequences, tokens).
        borders: hidden states that enter the layers of ``bundle``; what is missing is run, and kept there.
        batch_size: sequences at a time; about 2,048 tokens by default.
        on_progress: told of each layer.

    Raises:
        ComeError: the model overflows as it is, or does without any layer.
    """
    runner, todo = LayerRunner(bundle), list(batches(tokens, batch_size))
    layers = len(runner)
    losses: list[list[Tensor]] = [[] for _ in range(layers)]
    for batch in todo:
        for layer, hidden_states in each_border(runner, batch, borders):
            if layer == layers:
                break  # run all the same: what leaves the last layer tells whether the model overflows as it is
            losses[layer].append(suffix_losses(runner, hidden_states, batch.tokens, range(layer + 1, layers)))
            done = batch.index * layers + layer + 1
            emit(on_progress, "compress", done, len(todo) * layers, f"Without one layer: {layer + 1} of {layers}")
    means = torch.stack([torch.cat(each).mean() for each in losses])
    means = means.where(means.isfinite(), torch.inf)
    check_finite(means.min(), runner)
    return means
