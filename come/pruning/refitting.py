"""The refit that may follow a step: of the layer that a window of layers has just become."""

from __future__ import annotations

from come.measurement.hidden_state_cache import HiddenStateCache
from come.models import Bundle
from come.plan.plan import Plan
from come.pruning.method import Task
from come.pruning.options import MethodOptions, PassOptions
from come.pruning.windows import Window
from come.transforms.refit import RefitRules, refit_merge
from come.transforms.replace import replace_weights

HELD_OUT = 8  # of so many calibration sequences, one is held out of a refit

Error = tuple[float, float]
"""The error on held-out tokens before and after a refit, as shares of the target's own."""


def refit(
    task: Task,
    options: MethodOptions,
    before: Bundle,
    after: Bundle,
    plan: Plan,
    window: Window,
    borders: HiddenStateCache | None = None,
) -> tuple[Bundle, Plan, Error]:
    """The model and the plan after a refit of the layer that is left of a window, and what the refit came to.

    Args:
        task: whose tokens are fitted.
        options: which say how passes are made.
        before, after: the model before the step and after it.
        plan: after the step.
        window: in the numbering before the step; what is left of it lies at its first layer.
        borders: hidden states of ``before``; what had to be run to enter the window is kept there, too.
    """
    found = refit_merge(
        before,
        after,
        window,
        task.tokens,
        RefitRules(),
        held_out=len(task.tokens) // HELD_OUT or 1,
        borders=borders,
        batch_size=options.batch_size if isinstance(options, PassOptions) else None,
    )
    if found.tensors:
        prefix = f"{after.family.layers}.{window[0]}"
        tensors = {f"{prefix}.{name}": value for name, value in found.tensors.items()}
        after, plan = replace_weights(after, tensors), plan.with_tensors(tensors, "refit")
    return after, plan, (found.before, found.after)
