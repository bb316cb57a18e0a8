"""The progressive loop that CoMe and CoMe-P share: measure, merge, and measure again only what changed."""

from __future__ import annotations

import time
from dataclasses import replace

from come.measurement.calibrate import calibrate
from come.measurement.layer_runner import LayerRunner
from come.measurement.measure import check_rules
from come.measurement.statistics import empty_statistics
from come.plan.steps import Concatenate
from come.pruning.chooser import Chooser, Scoring
from come.pruning.merging import MakeStep, report, shifted, take_merge
from come.pruning.method import Task
from come.pruning.options import SelectionOptions
from come.pruning.result import Result, StepRecord
from come.pruning.windows import merges_a_pass, window_sizes
from come.transforms.rebuild import with_plan

PUBLISHED = {"span": 2, "no_repeat": True, "last_state": "normed", "select": "sbi", "sensitivity": "magnitude"}
"""The options that both published programs have in common."""


def progressive(
    task: Task,
    options: SelectionOptions,
    make_step: MakeStep,
    passes: int | None = None,
    scoring: Scoring | None = None,
) -> Result:
    """Merge windows of layers until ``task.target_layers`` are left.

    Layers below a merge are not run again: what enters them is kept (within the budget), and what they showed
    still holds.

    Args:
        task: the model, the tokens that are measured, the target.
        options: how windows are chosen.
        make_step: makes the step of a window that was chosen.
        passes: over how many measuring passes the merges are spread; None for a pass before every merge.
        scoring: where windows are chosen by scores.
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
    chooser = Chooser(task, options, scoring, len(sizes))
    start, done = 0, 0
    while done < len(sizes):
        began = time.perf_counter()
        calibrate(
            LayerRunner(bundle),
            task.tokens,
            statistics,
            start=start,
            batch_size=options.batch_size,
            borders=chooser.borders,
            last_state=options.last_state,
            on_progress=chooser.progress("measuring", done),
            message=f"Step {done + 1} of {len(sizes)}: measuring from layer {start} on",
        )
        choices, chosen = chooser.choose(bundle, plan, statistics, done, sizes[done : done + at_once])
        plan = plan.with_notes(chosen.note(1 + sum(isinstance(step, Concatenate) for step in plan.steps)))
        influence = tuple(statistics.block_influence().tolist())
        start = choices[0].window[0]
        for choice in choices:
            step = make_step(
                replace(choice, bundle=bundle, window=shifted(choice.window, len(bundle.layers) - statistics.layers))
            )
            bundle, plan, refitted = take_merge(task, options, bundle, plan, step, chooser.borders)
            done += 1
            size = len(step.ratio)
            distances = tuple(statistics.skip_influence(size, options.sbi_tokens).tolist())
            record = StepRecord(
                step.window,
                tuple(step.ratio),
                influence,
                distances,
                time.perf_counter() - began,
                refitted,
                choice.window,
                chosen.scores.get(size, ()),
                options.select if chosen.scores else "",
            )
            history.append(record)
            began = time.perf_counter()
            report(task.on_progress, done, len(sizes), record, plan)
        task.done(plan)  # after a whole pass, so that a resumed run stands where this one measured
        statistics = statistics.after_merge(start, len(bundle.layers), spans)
        chooser.after_change(start)
    return Result(with_plan(bundle, plan), plan, history)
