"""CoMe: concatenation-based merging, layer by layer (Wang et al. 2025, arXiv 2510.15304)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from come.errors import ComeError
from come.events import Event, OnProgress, emit
from come.measure import check_rules, measure
from come.measure.borders import Borders
from come.measure.runner import LayerRunner
from come.measure.statistics import Statistics, empty_statistics, sensitivities
from come.measure.walk import walk
from come.merge.allocate import ratio_from_influence
from come.merge.concatenate import take_step
from come.merge.draft import decide, steps_by_hand
from come.merge.plan import Concatenate
from come.merge.rebuild import with_plan
from come.merge.registry import Task, register
from come.merge.result import Result, StepRecord
from come.merge.select import Window, choose, window_size
from come.models import Bundle


@dataclass(frozen=True)
class ComeOptions:
    """How CoMe chooses.

    Attributes:
        span: how many adjacent layers one merge takes.
        exponent: how far the ratio follows block influence; 0 makes equal shares.
        floor: a lower bound of the largest share, by the number of original layers; 0 turns it off.
        no_repeat: leave layers alone that are merges already, as long as others are left.
        sbi_tokens: take SBI over "all" tokens, or over the "last" of each sequence.
        last_state: take the last hidden state "normed" or "raw".
        windows: merge these windows of original layers, (first, last) inclusive, instead of choosing.
        ratios: for windows by hand, one ratio a window; None for automatic ones.
        batch_size: sequences at a time; about 2,048 tokens by default.
        memory_budget: bytes for hidden states at layer borders; a quarter of the free memory by default.
    """

    span: int = 2
    exponent: float = 1.0
    floor: float = 0.0
    no_repeat: bool = True
    sbi_tokens: str = "all"
    last_state: str = "normed"
    windows: list[Window] | None = None
    ratios: list[tuple[float, ...] | None] | None = None
    batch_size: int | None = None
    memory_budget: int | None = None

    def __post_init__(self) -> None:
        """Refuse values that make no sense for any model."""
        if not 0 <= self.floor <= 1:
            raise ComeError(f"A floor of {self.floor:g} makes no sense.", "Give a share from 0 (off) to 1.")
        if self.exponent < 0:
            raise ComeError(f"An exponent of {self.exponent:g} makes no sense.", "Give 0 (equal shares) or more.")
        if self.batch_size is not None and self.batch_size < 1:
            raise ComeError("A batch needs at least one sequence.", "Give a batch_size of 1 or more.")
        if self.windows is None and self.ratios is not None:
            raise ComeError("Ratios go with windows.", "Give windows as well, one ratio each.")


@register(
    "come",
    title="CoMe",
    paper="Wang et al. 2025, arXiv 2510.15304",
    summary="Merge adjacent layers into one by concatenating the most sensitive channels of each, pair by pair.",
    options=ComeOptions,
    needs=("forward",),
)
def come(task: Task, options: ComeOptions) -> Result:
    """Merge windows of layers until ``task.target_layers`` are left, measuring again after every merge.

    Layers below a merge are not run again: their hidden states are kept (within the budget), and what they showed
    still holds.
    """
    if options.windows is not None:
        return _by_hand(task, options)
    check_rules(options.span, len(task.original.layers), options.sbi_tokens, options.last_state)
    bundle, plan = task.current, task.plan
    history: list[StepRecord] = []
    sizes = _sizes(len(bundle.layers), task.target_layers, options.span)
    if not sizes:
        return Result(bundle, plan, history)
    spans = sorted(set(sizes))
    statistics = empty_statistics(bundle, task.tokens, spans)
    borders = Borders(
        len(bundle.layers),
        bundle.model.config.hidden_size,
        task.tokens.numel(),
        bundle.dtype.itemsize,
        options.memory_budget,
    )
    start = 0
    for number, size in enumerate(sizes):
        began = time.perf_counter()
        walk(
            LayerRunner(bundle),
            task.tokens,
            statistics,
            start=start,
            batch_size=options.batch_size,
            borders=borders,
            last_state=options.last_state,
            on_progress=_overall(task.on_progress, number, len(sizes)),
            message=f"Step {number + 1} of {len(sizes)}: measuring from layer {start} on",
        )
        skip_influence = statistics.skip_influence(size, options.sbi_tokens)
        influence = statistics.block_influence()
        stands_for = [len(group) for group in plan.groups()]
        window = choose(skip_influence, size, [count > 1 for count in stands_for], options.no_repeat)
        first, last = window
        ratio = ratio_from_influence(
            influence[first : last + 1].tolist(),
            options.exponent,
            options.floor,
            sum(stands_for[first : last + 1]),
        )
        step = _decide(bundle, statistics, window, ratio)
        bundle, plan = take_step(bundle, step), plan.with_step(step)
        statistics = statistics.after_merge(first, last, spans)
        borders.forget_after(first)
        start = first
        history.append(
            StepRecord(
                window,
                tuple(ratio),
                tuple(influence.tolist()),
                tuple(skip_influence.tolist()),
                time.perf_counter() - began,
            )
        )
        task.done(plan)
        _report(task.on_progress, number + 1, len(sizes), history[-1], len(bundle.layers))
    return Result(with_plan(bundle, plan), plan, history)


def _by_hand(task: Task, options: ComeOptions) -> Result:
    """Merge the windows that the options name: everything is measured on the original model, in one pass."""
    assert options.windows is not None
    began = time.perf_counter()
    measurement = measure(
        task.original,
        task.tokens,
        span=2,
        sbi_tokens=options.sbi_tokens,
        last_state=options.last_state,
        similarity=(),
        batch_size=options.batch_size,
        on_progress=_overall(task.on_progress, 0, 1),
    )
    steps = steps_by_hand(measurement, options.windows, options.ratios, options.exponent, options.floor)
    bundle, plan = task.current, task.plan
    history: list[StepRecord] = []
    influence = tuple(measurement.block_influence.tolist())
    skip_influence = tuple(measurement.skip_influence.tolist())
    for number, step in enumerate(steps[len(plan.steps) :], start=len(plan.steps) + 1):
        bundle, plan = take_step(bundle, step), plan.with_step(step)
        seconds = time.perf_counter() - began
        history.append(StepRecord(step.window, tuple(step.ratio), influence, skip_influence, seconds))
        began = time.perf_counter()
        task.done(plan)
        _report(task.on_progress, number, len(steps), history[-1], len(bundle.layers))
    return Result(with_plan(bundle, plan), plan, history)


def _sizes(layers: int, target: int, span: int) -> list[int]:
    """How many layers each window takes, to the target."""
    sizes = []
    while layers > target:
        sizes.append(window_size(span, layers, target))
        layers -= sizes[-1] - 1
    return sizes


def _decide(bundle: Bundle, statistics: Statistics, window: Window, ratio: list[float]) -> Concatenate:
    layers = list(bundle.layers)
    config = bundle.model.config
    kv_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    pairs = [sensitivities(statistics, bundle.family, layers, layer) for layer in range(window[0], window[1] + 1)]
    kv_groups = [attention.unflatten(0, (kv_heads, -1)).mean(1) for attention, _ in pairs]
    return decide(window, ratio, kv_groups, [channels for _, channels in pairs])


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
