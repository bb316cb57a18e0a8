"""One merge: what its ratio may be decided on, the new layer, its refit if asked for, what is told of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from come.events import Event, OnProgress, emit
from come.measurement.hidden_state_cache import HiddenStateCache
from come.models import Bundle
from come.numbers import ranges
from come.plan.plan import Plan
from come.plan.steps import Concatenate
from come.pruning.method import Task
from come.pruning.options import SelectionOptions
from come.pruning.refitting import Error, refit
from come.pruning.result import StepRecord
from come.pruning.window_choice import NAMES
from come.pruning.windows import Window
from come.transforms.compatible import note_for_step
from come.transforms.rebuild import apply_step


@dataclass(frozen=True)
class Choice:
    """A window that is to be merged next, and all that its ratio may be decided on.

    Attributes:
        bundle: the model that the window is of.
        window: (first, last), in the numbering of ``bundle``.
        influence: BI of each layer of the window.
        kv_groups: for each layer of the window, the sensitivity of its KV groups, (kv_heads,).
        channels: for each layer of the window, the sensitivity of its FFN channels, (channels,).
        stands_for: how many original layers the window stands for.
        ratio: given by hand, if it is.
        borders: hidden states that enter the layers of ``bundle``, true up to the window's first.
    """

    bundle: Bundle
    window: Window
    influence: list[float]
    kv_groups: list[Tensor]
    channels: list[Tensor]
    stands_for: int
    ratio: Sequence[float] | None = None
    borders: HiddenStateCache | None = None


MakeStep = Callable[[Choice], Concatenate]
"""Makes the step of a window that was chosen."""


def take_merge(
    task: Task,
    options: SelectionOptions,
    bundle: Bundle,
    plan: Plan,
    step: Concatenate,
    borders: HiddenStateCache | None = None,
) -> tuple[Bundle, Plan, Error | None]:
    """The model and the plan after a merge; and where it was refitted, the held-out error before and after that.

    Args:
        task: the model and the tokens.
        options: whether to refit.
        bundle, plan: before the merge.
        step: the merge.
        borders: hidden states of ``bundle``; a refit keeps there what it had to run. Afterwards they are those of
            the new model.
    """
    merged, plan = apply_step(bundle, step), _noted(plan, bundle, step)
    error: Error | None = None
    if options.refit:
        merged, plan, error = refit(task, options, bundle, merged, plan, step.window, borders)
    if borders is not None:
        borders.forget_after(step.window[0])
    return merged, plan, error


def shifted(window: Window, by: int) -> Window:
    """The window so many layers further up."""
    return window[0] + by, window[1] + by


def _noted(plan: Plan, bundle: Bundle, step: Concatenate) -> Plan:
    """The plan with one more step of ``bundle``, and a note where the step mixes layers of different kinds."""
    note = note_for_step(bundle, step)
    plan = plan.with_step(step)
    return plan.with_note(note) if note else plan


def overall(
    on_progress: OnProgress, number: int, of: int, part: tuple[float, float] = (0.0, 1.0)
) -> Callable[[Event], None] | None:
    """Progress of one step, or of a part of it, as progress of all: a later step runs about half of the layers.

    Args:
        on_progress: told of it.
        number: of the step, from 0, and ``of``: how many there are.
        part: from which to which share of the step.
    """
    if on_progress is None:
        return None
    before, this, total = (number + 1) / 2 if number else 0.0, 1.0 if number == 0 else 0.5, (of + 1) / 2

    def report(event: Event) -> None:
        done = part[0] + (part[1] - part[0]) * event.step / event.of
        share = (before + this * done) / total
        emit(on_progress, "compress", round(1000 * share), 1000, event.message)

    return report


def report(on_progress: OnProgress, number: int, of: int, record: StepRecord, plan: Plan) -> None:
    """Tell of a merge that was taken, the last of the plan's and one of ``of``."""
    first, last = record.window
    groups = plan.groups()
    shares = " : ".join(f"{share:.2f}" for share in record.ratio)
    score = record.chosen_score
    scored = "" if score is None else f", {NAMES[record.scored_by]} {score:.4f}"
    emit(
        on_progress,
        "compress",
        round(1000 * (number + 1) / (of + 1)),
        1000,
        f"Step {number} of {of}: merged layers {ranges(groups[first])}, ratio {shares}{scored}; {len(groups)} layers",
        window=[first, last],
        ratio=list(record.ratio),
        layers=len(groups),
        skip_influence=record.chosen_skip_influence,
        **({} if score is None else {"score": score}),
    )
