"""Merging the windows that somebody named, all measured on the original model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from come.measure import measure
from come.merge.choice import Choice, Decide, SelectionOptions
from come.merge.merging import overall, report, shifted, take_merge
from come.merge.rebuild import with_plan
from come.merge.registry import Task
from come.merge.result import Result, StepRecord
from come.merge.select import check_windows
from come.merge.steps import Concatenate


def by_hand(task: Task, options: SelectionOptions, decide: Decide, ratios: Sequence[Any] | None = None) -> Result:
    """Merge the windows that the options name, lowest first; all is measured on the original model, in one pass."""
    assert options.windows is not None
    windows = check_windows(options.windows, len(task.original.layers))
    given = dict(zip([tuple(window) for window in options.windows], ratios, strict=True)) if ratios else {}
    began = time.perf_counter()
    seen = measure(
        task.original,
        task.tokens,
        sbi_tokens=options.sbi_tokens,
        last_state=options.last_state,
        similarity=(),
        batch_size=options.batch_size,
        on_progress=overall(task.on_progress, 0, 1),
    )
    bundle, plan = task.current, task.plan
    history: list[StepRecord] = []
    done = sum(isinstance(step, Concatenate) for step in plan.steps)
    for number, (first, last) in enumerate(windows[done:], start=done + 1):
        layers = slice(first, last + 1)
        choice = Choice(
            bundle=bundle,
            window=shifted((first, last), len(bundle.layers) - len(task.original.layers)),
            influence=seen.block_influence[layers].tolist(),
            kv_groups=list(seen.kv_group_sensitivity[layers]),
            channels=list(seen.mlp_sensitivity[layers]),
            stands_for=last - first + 1,
            ratio=given.get((first, last)),
        )
        step = decide(choice)
        bundle, plan, refitted = take_merge(task, options, bundle, plan, step)
        history.append(
            StepRecord(
                step.window,
                tuple(step.ratio),
                tuple(seen.block_influence.tolist()),
                tuple(seen.skip_influence.tolist()),
                time.perf_counter() - began,
                refitted,
            )
        )
        began = time.perf_counter()
        task.done(plan)
        report(task.on_progress, number, len(windows), history[-1], len(bundle.layers))
    return Result(with_plan(bundle, plan), plan, history)
