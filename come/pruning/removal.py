"""Removing whole layers, all at once or gap by gap with a refit of the layer that stays beside each."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from come.events import Event, OnProgress, emit
from come.measurement.hidden_state_cache import HiddenStateCache
from come.models import Bundle
from come.plan.plan import Plan
from come.plan.steps import Remove
from come.pruning.method import Task
from come.pruning.options import CachedPassOptions, MethodOptions, RemovalOptions
from come.pruning.refitting import Error, refit
from come.pruning.result import Result, StepRecord
from come.pruning.windows import Window
from come.transforms.rebuild import apply_step, with_plan


def remove(
    task: Task,
    options: MethodOptions,
    layers: Iterable[int],
    block_influence: tuple[float, ...] = (),
    seconds: float = 0.0,
) -> Result:
    """Remove layers of the original model.

    Without a refit that is one step. With one, each block of neighbours goes by itself, the lowest first, so that a
    layer is refitted to what the model below it gives by then; an interrupted run goes on with the next block.

    Args:
        task: the model and the tokens.
        options: the method's; those that are ``RemovalOptions`` may ask for a refit.
        layers: which ones, in any order.
        block_influence: BI of every layer, where that decided.
        seconds: how long it took to decide.
    """
    gone = sorted(layers)
    refits = isinstance(options, RemovalOptions) and options.refit
    blocks = neighbours(gone) if refits else [gone] if gone else []
    bundle, plan = task.current, task.plan
    there = {layer for group in plan.groups() for layer in group}
    budget = options.memory_budget if isinstance(options, CachedPassOptions) else None
    borders = HiddenStateCache.of(bundle, task.tokens, budget) if refits else None
    history: list[StepRecord] = []
    for block in blocks:
        if block[0] not in there:
            continue
        began = time.perf_counter()
        now = [layer - (gone.index(block[0]) if refits else 0) for layer in block]  # as many are gone below
        message = Remove(layers=now).describe(plan.groups())
        bundle, plan, error = take_removal(task, options, bundle, plan, now, borders)
        task.done(plan)
        each = seconds / len(gone) + (time.perf_counter() - began) / len(block)
        history += [
            StepRecord((layer,) * 2, block_influence=block_influence, seconds=each, refit=error) for layer in now
        ]
        emit(task.on_progress, "compress", 1000, 1000, message, layers=len(bundle.layers))
    return Result(with_plan(bundle, plan) if history else bundle, plan, history)


def take_removal(
    task: Task,
    options: MethodOptions,
    bundle: Bundle,
    plan: Plan,
    layers: Sequence[int],
    borders: HiddenStateCache | None = None,
) -> tuple[Bundle, Plan, Error | None]:
    """The model and the plan after a removal; and where it was followed by a refit, what that came to.

    Args:
        task: the model and the tokens.
        options: the method's; whether to refit.
        bundle, plan: before the removal.
        layers: ascending, in the numbering of ``bundle``; neighbours, where there is a refit.
        borders: hidden states of ``bundle``. Afterwards they are those of the new model.
    """
    step, error = Remove(layers=list(layers)), None
    smaller, plan = apply_step(bundle, step), plan.with_step(step)
    lowest = layers[0]
    if isinstance(options, RemovalOptions) and options.refit:
        window = beside(layers)
        smaller, plan, error = refit(task, options, bundle, smaller, plan, window, borders)
        lowest = window[0]
    if borders is not None:
        borders.forget_after(lowest)
    return smaller, plan, error


def beside(layers: Sequence[int]) -> Window:
    """A block of removed layers with the one that is refitted: that below, or where there is none, that above."""
    first, last = layers[0], layers[-1]
    return (first - 1, last) if first else (first, last + 1)


def neighbours(layers: Sequence[int]) -> list[list[int]]:
    """Ascending layers as blocks of adjacent ones."""
    blocks: list[list[int]] = []
    for layer in layers:
        if blocks and layer == blocks[-1][-1] + 1:
            blocks[-1].append(layer)
        else:
            blocks.append([layer])
    return blocks


def overall(on_progress: OnProgress, number: int, of: int) -> OnProgress:
    """Progress of one removal as progress of all."""
    if on_progress is None:
        return None

    def report(event: Event) -> None:
        share = (number + event.step / event.of) / of
        emit(on_progress, "compress", round(1000 * share), 1000, f"Step {number + 1} of {of}: {event.message}")

    return report
