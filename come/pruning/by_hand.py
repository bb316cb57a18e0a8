"""Merging the windows and taking out the layers that somebody named; all is measured on the original model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from come.events import emit
from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.measure import measure
from come.measurement.measurement import Measurement
from come.models import Bundle
from come.plan.plan import Plan
from come.plan.steps import Concatenate, Remove
from come.pruning.merging import Choice, MakeStep, overall, report, shifted, take_merge
from come.pruning.method import Task
from come.pruning.options import SelectionOptions
from come.pruning.result import Result, StepRecord
from come.pruning.unit_sensitivity import Units, by_fisher
from come.pruning.windows import Window, check_dropped, check_windows, merged_away
from come.transforms.rebuild import apply_step, with_plan

MEASURING = 0.25  # the share of measuring, where gradients are taken after it


def by_hand(
    task: Task,
    options: SelectionOptions,
    make_step: MakeStep,
    ratios: Sequence[Any] | None = None,
    drop: Sequence[int] = (),
) -> Result:
    """Merge the windows that the options name, lowest first, then take layers out.

    Args:
        task: the model and the tokens.
        options: whose ``windows`` are merged; all of them are measured on the original model, in one pass.
        make_step: makes the step of a window.
        ratios: one a window, None for those that ``make_step`` finds.
        drop: original layers, in no window.
    """
    assert options.windows is not None
    layers = len(task.original.layers)
    windows = check_windows(options.windows, layers)
    dropped = check_dropped(drop, windows, layers)
    given = dict(zip([tuple(window) for window in options.windows], ratios, strict=True)) if ratios else {}
    steps = len(windows) + bool(dropped)
    bundle, plan, history = _merged(task, options, make_step, windows, given, steps)
    bundle, plan, removals = take_out(task, bundle, plan, dropped, windows)
    history += removals
    return Result(with_plan(bundle, plan), plan, history)


def take_out(
    task: Task, bundle: Bundle, plan: Plan, dropped: Sequence[int], windows: Sequence[Window], at: int = 1000
) -> tuple[Bundle, Plan, list[StepRecord]]:
    """The model and the plan once named layers are taken out, after the merges; as they are where that is done already.

    Args:
        task: whose steps these are.
        bundle, plan: after the merges.
        dropped: original layers, ascending, in no window.
        windows: those that were merged.
        at: how far the whole is after it, of a thousand.
    """
    if not dropped or any(isinstance(step, Remove) for step in plan.steps):
        return bundle, plan, []
    began, step = time.perf_counter(), removal(dropped, windows)
    bundle, plan = apply_step(bundle, step), plan.with_step(step)
    # Nothing that was measured chose these layers.
    history = [StepRecord((layer, layer)) for layer in step.layers[:-1]]
    history.append(StepRecord((step.layers[-1],) * 2, seconds=time.perf_counter() - began))
    task.done(plan)
    steps = len(windows) + 1
    emit(
        task.on_progress,
        "compress",
        at,
        1000,
        f"Step {steps} of {steps}: dropped {_named(dropped)}; {len(bundle.layers)} layers",
        dropped=list(dropped),
        layers=len(bundle.layers),
    )
    return bundle, plan, history


def removal(dropped: Sequence[int], windows: Sequence[Window]) -> Remove:
    """The step that takes original layers out after windows were merged, in the numbering that holds by then.

    Args:
        dropped: ascending, in no window.
        windows: (first, last) of original layers, inclusive; they share none.
    """
    return Remove(layers=[layer - merged_away(window for window in windows if window[1] < layer) for layer in dropped])


def _merged(
    task: Task,
    options: SelectionOptions,
    make_step: MakeStep,
    windows: Sequence[Window],
    given: dict[Any, Any],
    steps: int,
) -> tuple[Bundle, Plan, list[StepRecord]]:
    """The model and the plan once all windows are merged, and what was decided for those that were not yet."""
    bundle, plan = task.current, task.plan
    history: list[StepRecord] = []
    done = sum(isinstance(step, Concatenate) for step in plan.steps)
    if done == len(windows):
        return bundle, plan, history
    began = time.perf_counter()
    by_gradients = options.sensitivity == "fisher"
    seen = measure(
        task.original,
        task.tokens,
        sbi_tokens=options.sbi_tokens,
        last_state=options.last_state,
        similarity=(),
        batch_size=options.batch_size,
        on_progress=overall(task.on_progress, 0, 1, (0.0, MEASURING if by_gradients else 1.0)),
    )
    borders = HiddenStateCache.of(bundle, task.tokens, options.memory_budget) if options.refit else None
    units = _units(task, options, seen, windows[0][0])
    for number, (first, last) in enumerate(windows[done:], start=done + 1):
        of_layers = [units(layer) for layer in range(first, last + 1)]
        choice = Choice(
            bundle=bundle,
            window=shifted((first, last), len(bundle.layers) - len(task.original.layers)),
            influence=seen.block_influence[first : last + 1].tolist(),
            kv_groups=[kv_groups for kv_groups, _ in of_layers],
            channels=[channels for _, channels in of_layers],
            stands_for=last - first + 1,
            ratio=given.get((first, last)),
        )
        step = make_step(choice)
        bundle, plan, refitted = take_merge(task, options, bundle, plan, step, borders)
        history.append(
            StepRecord(
                step.window,
                tuple(step.ratio),
                tuple(seen.block_influence.tolist()),
                tuple(seen.skip_influence.tolist()),
                time.perf_counter() - began,
                refitted,
                measured=(first, last),
            )
        )
        began = time.perf_counter()
        task.done(plan)
        report(task.on_progress, number, steps, history[-1], plan)
    return bundle, plan, history


def _units(task: Task, options: SelectionOptions, seen: Measurement, lowest: int) -> Units:
    """How much the units of the original's layers from ``lowest`` on matter."""
    if options.sensitivity == "magnitude":
        return lambda layer: (seen.kv_group_sensitivity[layer], seen.mlp_sensitivity[layer])
    told = overall(task.on_progress, 0, 1, (MEASURING, 1.0))
    return by_fisher(task.original, task.tokens, lowest, batch_size=options.batch_size, on_progress=told)


def _named(layers: Sequence[int]) -> str:
    return f"layer{'' if len(layers) == 1 else 's'} {', '.join(map(str, layers))} of the original"
