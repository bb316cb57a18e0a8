"""Windows that somebody named, merged as CoMe-Joint merges: lowest first, each fitted to the model as it is then."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from torch import Tensor

from come.events import emit
from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.layer_runner import LayerRunner, check_finite
from come.models import Bundle
from come.plan.plan import Plan
from come.plan.steps import Concatenate
from come.pruning.by_hand import take_out
from come.pruning.cheapest import fitted_changes
from come.pruning.joint_rules import JointRules
from come.pruning.merging import shifted
from come.pruning.method import Task
from come.pruning.result import StepRecord
from come.pruning.scoring import Scorer
from come.pruning.windows import Window, check_dropped, check_windows


def fitted_by_hand(
    task: Task,
    windows: Sequence[Window],
    drop: Sequence[int],
    rules: JointRules,
    tokens: Tensor,
    scorer: Scorer,
    *,
    batch_size: int | None = None,
    memory_budget: int | None = None,
    at_end: int = 1000,
) -> tuple[Bundle, Plan, list[StepRecord]]:
    """The model and the plan once all windows are merged, and then layers taken out.

    Args:
        task: the model; its plan may hold the first of these merges already.
        windows: of original layers, (first, last); they share none.
        drop: original layers, in no window.
        rules: how windows are fitted.
        tokens: int64 (sequences, tokens), on which they are.
        scorer: says which ridge strength is best.
        batch_size: sequences at a time.
        memory_budget: bytes for hidden states at layer borders.
        at_end: how far the whole is after it, of a thousand.

    Raises:
        ComeError: the model overflows after a merge.
    """
    layers = len(task.original.layers)
    named = check_windows(windows, layers)
    dropped = check_dropped(drop, named, layers)
    bundle, plan, history = task.current, task.plan, list[StepRecord]()
    borders = HiddenStateCache.of(bundle, tokens, memory_budget)
    done = sum(isinstance(step, Concatenate) for step in plan.steps)
    steps = len(named) + bool(dropped)
    for number, window in enumerate(named[done:], start=done + 1):
        began, runner = time.perf_counter(), LayerRunner(bundle)
        now = shifted(window, len(bundle.layers) - layers)
        changes = fitted_changes(bundle, runner, scorer, tokens, borders, now, rules, batch_size=batch_size)
        best = min(changes, key=lambda change: change.score)
        check_finite(torch.tensor(best.score), runner)
        words = best.describe(plan.groups())
        bundle, plan = best.take(bundle, plan)
        scorer.after_change(now[0])
        borders.forget_after(now[0])
        history.append(StepRecord(now, best.ratio, seconds=time.perf_counter() - began))
        task.done(plan)
        emit(
            task.on_progress,
            "compress",
            round(at_end * number / steps),
            1000,
            f"Step {number} of {steps}: {words}; {len(bundle.layers)} layers",
            window=list(now),
            ratio=list(best.ratio),
            layers=len(bundle.layers),
            score=best.score,
        )
    bundle, plan, removals = take_out(task, bundle, plan, dropped, named, at_end)
    return bundle, plan, history + removals
