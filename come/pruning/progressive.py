"""The progressive loop that CoMe and CoMe-P share: measure, merge, and measure again only what changed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from come.measurement.calibrate import calibrate
from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.layer_runner import LayerRunner
from come.measurement.measure import check_rules
from come.measurement.statistics import Statistics, empty_statistics, sensitivities
from come.models import Bundle
from come.plan.plan import Plan
from come.plan.steps import Concatenate
from come.pruning.merging import Choice, MakeStep, overall, report, shifted, take_merge
from come.pruning.method import Task
from come.pruning.options import SelectionOptions
from come.pruning.result import Result, StepRecord
from come.pruning.windows import Window, choose_several, merges_a_pass, window_sizes
from come.transforms.compatible import mixable_windows
from come.transforms.rebuild import with_plan


def progressive(task: Task, options: SelectionOptions, make_step: MakeStep, passes: int | None = None) -> Result:
    """Merge windows of layers until ``task.target_layers`` are left.

    Layers below a merge are not run again: what enters them is kept (within the budget), and what they showed
    still holds.

    Args:
        task: the model, the tokens, the target.
        options: how windows are chosen.
        make_step: makes the step of a window that was chosen.
        passes: over how many measuring passes the merges are spread; None for a pass before every merge.
    """
    check_rules(options.span, len(task.original.layers), options.sbi_tokens, options.last_state)
    bundle, plan = task.current, task.plan
    history: list[StepRecord] = []
    sizes = window_sizes(len(bundle.layers), task.target_layers, options.span)
    if not sizes:
        return Result(bundle, plan, history)
    at_once = merges_a_pass(len(task.original.layers), task.target_layers, options.span, passes)
    spans = sorted(set(sizes))
    statistics = empty_statistics(bundle, task.tokens, spans)
    borders = HiddenStateCache.of(bundle, task.tokens, options.memory_budget)
    start, done = 0, 0
    while done < len(sizes):
        began = time.perf_counter()
        calibrate(
            LayerRunner(bundle),
            task.tokens,
            statistics,
            start=start,
            batch_size=options.batch_size,
            borders=borders,
            last_state=options.last_state,
            on_progress=overall(task.on_progress, done, len(sizes)),
            message=f"Step {done + 1} of {len(sizes)}: measuring from layer {start} on",
        )
        choices, notes = _choices(bundle, plan, statistics, borders, sizes[done : done + at_once], options)
        plan = plan.with_notes(notes)
        influence = tuple(statistics.block_influence().tolist())
        start = choices[0].window[0]
        for choice in choices:
            step = make_step(
                replace(choice, bundle=bundle, window=shifted(choice.window, len(bundle.layers) - statistics.layers))
            )
            bundle, plan, refitted = take_merge(task, options, bundle, plan, step, borders)
            done += 1
            skip_influence = statistics.skip_influence(len(step.ratio), options.sbi_tokens)
            seconds = time.perf_counter() - began
            distances = tuple(skip_influence.tolist())
            history.append(
                StepRecord(step.window, tuple(step.ratio), influence, distances, seconds, refitted, choice.window)
            )
            began = time.perf_counter()
            report(task.on_progress, done, len(sizes), history[-1], len(bundle.layers))
        task.done(plan)  # after a whole pass, so that a resumed run stands where this one measured
        statistics = statistics.after_merge(start, len(bundle.layers), spans)
    return Result(with_plan(bundle, plan), plan, history)


def _choices(
    bundle: Bundle,
    plan: Plan,
    statistics: Statistics,
    borders: HiddenStateCache,
    sizes: Sequence[int],
    options: SelectionOptions,
) -> tuple[list[Choice], list[str]]:
    """The windows to merge after one pass, lowest first, and what a reader should know of the choice."""
    stands_for = [len(group) for group in plan.groups()]
    merged = [count > 1 for count in stands_for]
    together = {size: torch.tensor(mixable_windows(bundle, len(merged), size)) for size in set(sizes)}

    def pick(seen: Statistics) -> list[Window]:
        distances = {
            size: seen.skip_influence(size, options.sbi_tokens).where(together[size], torch.inf) for size in together
        }
        return choose_several(distances, sizes, merged, options.no_repeat)

    windows = pick(statistics)
    influence = statistics.block_influence().tolist()
    kv_groups, channels = _sensitivities(bundle, statistics, windows)
    choices = [
        Choice(
            bundle=bundle,
            window=(first, last),
            influence=influence[first : last + 1],
            kv_groups=[kv_groups[layer] for layer in range(first, last + 1)],
            channels=[channels[layer] for layer in range(first, last + 1)],
            stands_for=sum(stands_for[first : last + 1]),
            borders=borders,
        )
        for first, last in windows
    ]
    merges = sum(isinstance(step, Concatenate) for step in plan.steps)
    halves = [pick(statistics.half(which)) for which in (0, 1)]
    notes = [
        f"Step {merges + 1}: too close to call. All of the text chose {_named(windows)}, its first half "
        f"{_named(halves[0])}, its second half {_named(halves[1])} (numbering of this step)."
    ]
    return choices, notes if any(half != windows for half in halves) else []


def _named(windows: Sequence[Window]) -> str:
    return ", ".join(f"{first}-{last}" for first, last in windows)


def _sensitivities(
    bundle: Bundle, statistics: Statistics, windows: Sequence[Window]
) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """By layer of the windows, the sensitivity of its KV groups, (kv_heads,), and FFN channels, (channels,)."""
    layers = list(bundle.layers)
    kv_groups, channels = {}, {}
    for layer in (layer for first, last in windows for layer in range(first, last + 1)):
        attention, channels[layer] = sensitivities(statistics, bundle.family, layers, layer)
        kv_groups[layer] = attention.unflatten(0, (bundle.shape.kv_heads, -1)).mean(1)
    return kv_groups, channels
