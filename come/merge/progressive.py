"""The progressive loop that CoMe and CoMe-P share: measure, merge, and measure again only what changed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from come.errors import ComeError
from come.events import Event, OnProgress, emit
from come.measure import check_rules, measure
from come.measure.borders import Borders
from come.measure.runner import LayerRunner
from come.measure.statistics import Statistics, empty_statistics, sensitivities
from come.measure.walk import walk
from come.merge.compatible import mixable_windows, note_for_step
from come.merge.concatenate import take_step
from come.merge.plan import Concatenate, Plan
from come.merge.rebuild import with_plan
from come.merge.registry import Task
from come.merge.result import Result, StepRecord
from come.merge.select import Window, check_windows, choose_several, window_size
from come.models import Bundle


@dataclass(frozen=True)
class SelectionOptions:
    """How windows are chosen, whatever decides their ratio.

    Attributes:
        span: how many adjacent layers one merge takes.
        no_repeat: leave layers alone that are merges already, as long as others are left.
        sbi_tokens: take SBI over "all" tokens, or over the "last" of each sequence.
        last_state: take the last hidden state "normed" or "raw".
        windows: merge these windows of original layers, (first, last) inclusive, instead of choosing.
        batch_size: sequences at a time; about 2,048 tokens by default.
        memory_budget: bytes for hidden states at layer borders; a quarter of the free memory by default.
    """

    span: int = 2
    no_repeat: bool = True
    sbi_tokens: Literal["all", "last"] = "all"
    last_state: Literal["normed", "raw"] = "normed"
    windows: list[Window] | None = None
    batch_size: int | None = None
    memory_budget: int | None = None

    def __post_init__(self) -> None:
        """Refuse values that make no sense for any model."""
        if self.batch_size is not None and self.batch_size < 1:
            raise ComeError("A batch needs at least one sequence.", "Give a batch_size of 1 or more.")
        if self.memory_budget is not None and self.memory_budget < 0:
            raise ComeError(
                "A memory budget cannot be negative.", "Give bytes, or nothing for a quarter of what is free."
            )


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
    borders: Borders | None = None


Decide = Callable[[Choice], Concatenate]


def progressive(task: Task, options: SelectionOptions, decide: Decide, passes: int | None = None) -> Result:
    """Merge windows of layers until ``task.target_layers`` are left.

    Layers below a merge are not run again: what enters them is kept (within the budget), and what they showed
    still holds.

    Args:
        task: the model, the tokens, the target.
        options: how windows are chosen.
        decide: makes the step of a window that was chosen.
        passes: over how many measuring passes the merges are spread; None for a pass before every merge.
    """
    check_rules(options.span, len(task.original.layers), options.sbi_tokens, options.last_state)
    bundle, plan = task.current, task.plan
    history: list[StepRecord] = []
    sizes = _sizes(len(bundle.layers), task.target_layers, options.span)
    if not sizes:
        return Result(bundle, plan, history)
    at_once = merges_a_pass(len(task.original.layers), task.target_layers, options.span, passes)
    spans = sorted(set(sizes))
    statistics = empty_statistics(bundle, task.tokens, spans)
    borders = Borders(
        len(bundle.layers),
        bundle.shape.hidden_size,
        task.tokens.numel(),
        bundle.dtype.itemsize,
        options.memory_budget,
    )
    start, done = 0, 0
    while done < len(sizes):
        began = time.perf_counter()
        walk(
            LayerRunner(bundle),
            task.tokens,
            statistics,
            start=start,
            batch_size=options.batch_size,
            borders=borders,
            last_state=options.last_state,
            on_progress=_overall(task.on_progress, done, len(sizes)),
            message=f"Step {done + 1} of {len(sizes)}: measuring from layer {start} on",
        )
        choices, notes = _choices(bundle, plan, statistics, borders, sizes[done : done + at_once], options)
        plan = plan.model_copy(update={"notes": [*plan.notes, *notes]})
        influence = tuple(statistics.block_influence().tolist())
        start = choices[0].window[0]
        for choice in choices:
            step = decide(
                replace(choice, bundle=bundle, window=_shifted(choice.window, len(bundle.layers) - statistics.layers))
            )
            bundle, plan = take_step(bundle, step), _noted(plan, bundle, step)
            done += 1
            skip_influence = statistics.skip_influence(len(step.ratio), options.sbi_tokens)
            seconds = time.perf_counter() - began
            history.append(
                StepRecord(step.window, tuple(step.ratio), influence, tuple(skip_influence.tolist()), seconds)
            )
            began = time.perf_counter()
            _report(task.on_progress, done, len(sizes), history[-1], len(bundle.layers))
        task.done(plan)  # after a whole pass, so that a resumed run stands where this one measured
        statistics = statistics.after_merge(start, len(bundle.layers), spans)
        borders.forget_after(start)
    return Result(with_plan(bundle, plan), plan, history)


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
        on_progress=_overall(task.on_progress, 0, 1),
    )
    bundle, plan = task.current, task.plan
    history: list[StepRecord] = []
    for number, (first, last) in enumerate(windows[len(plan.steps) :], start=len(plan.steps) + 1):
        layers = slice(first, last + 1)
        choice = Choice(
            bundle=bundle,
            window=_shifted((first, last), len(bundle.layers) - len(task.original.layers)),
            influence=seen.block_influence[layers].tolist(),
            kv_groups=list(seen.kv_group_sensitivity[layers]),
            channels=list(seen.mlp_sensitivity[layers]),
            stands_for=last - first + 1,
            ratio=given.get((first, last)),
        )
        step = decide(choice)
        bundle, plan = take_step(bundle, step), _noted(plan, bundle, step)
        history.append(
            StepRecord(
                step.window,
                tuple(step.ratio),
                tuple(seen.block_influence.tolist()),
                tuple(seen.skip_influence.tolist()),
                time.perf_counter() - began,
            )
        )
        began = time.perf_counter()
        task.done(plan)
        _report(task.on_progress, number, len(windows), history[-1], len(bundle.layers))
    return Result(with_plan(bundle, plan), plan, history)


def _sizes(layers: int, target: int, span: int) -> list[int]:
    """How many layers each window takes, to the target."""
    sizes = []
    while layers > target:
        sizes.append(window_size(span, layers, target))
        layers -= sizes[-1] - 1
    return sizes


def merges_a_pass(layers: int, target: int, span: int, passes: int | None) -> int:
    """How many windows are merged after one measuring pass.

    Raises:
        ComeError: there are more passes than merges, or none.
    """
    merges = len(_sizes(layers, target, span))
    if passes is None:
        return 1
    if not 1 <= passes <= merges:
        raise ComeError(
            f"{passes} measuring passes do not fit {merges} merges.", f"Give a number from 1 to {merges}, or none."
        )
    return math.ceil(merges / passes)


def _shifted(window: Window, by: int) -> Window:
    return window[0] + by, window[1] + by


def _choices(
    bundle: Bundle,
    plan: Plan,
    statistics: Statistics,
    borders: Borders,
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
    halves = [pick(statistics.half(which)) for which in (0, 1)]
    notes = [
        f"Step {len(plan.steps) + 1}: too close to call. All of the text chose {_named(windows)}, its first half "
        f"{_named(halves[0])}, its second half {_named(halves[1])} (numbering of this step)."
    ]
    return choices, notes if any(half != windows for half in halves) else []


def _noted(plan: Plan, bundle: Bundle, step: Concatenate) -> Plan:
    """The plan with one more step of ``bundle``, and a note where the step mixes layers of different kinds."""
    note = note_for_step(bundle, step)
    plan = plan.with_step(step)
    return plan.model_copy(update={"notes": [*plan.notes, note]}) if note else plan


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


def _overall(on_progress: OnProgress, number: int, of: int) -> Callable[[Event], None] | None:
    """Progress of one pass as progress of all: a later pass runs about half of the layers."""
    if on_progress is None:
        return None
    before, this, total = (number + 1) / 2 if number else 0.0, 1.0 if number == 0 else 0.5, (of + 1) / 2

    def report(event: Event) -> None:
        share = (before + this * event.step / event.of) / total
        emit(on_progress, "compress", round(1000 * share), 1000, event.message)

    return report


def _report(on_progress: OnProgress, number: int, of: int, record: StepRecord, layers: int) -> None:
    first, last = record.window
    shares = " : ".join(f"{share:.2f}" for share in record.ratio)
    emit(
        on_progress,
        "compress",
        round(1000 * (number + 1) / (of + 1)),
        1000,
        f"Step {number} of {of}: merged layers {first} to {last}, ratio {shares}; {layers} layers",
        window=[first, last],
        ratio=list(record.ratio),
        layers=layers,
        skip_influence=record.skip_influence[first] if first < len(record.skip_influence) else None,
    )
