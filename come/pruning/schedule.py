"""The work of a method, told before it runs: layers run, candidates scored, layers merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import isnan
from typing import Any

from come.pruning.draft import draft
from come.pruning.forecast import Known
from come.pruning.options import RemovalOptions, SelectionOptions
from come.pruning.windows import merges_a_pass, window_sizes
from come.training.trainer import BACK
from come.transforms.compatible import mixable_windows


@dataclass(frozen=True)
class Calibration:
    """The calibration tokens, and what is kept of them.

    Attributes:
        n_tokens: how many, all in whole sequences.
        seq_len: tokens in a sequence.
        stride: hidden states are kept at every so many borders between layers (``HiddenStateCache``).
    """

    n_tokens: int
    seq_len: int
    stride: int = 1


@dataclass(frozen=True)
class Schedule:
    """What a method runs over the calibration tokens.

    Attributes:
        passes: for each measuring pass, how many layers it runs.
        merges: how many merges are made, of ``span`` layers each.
        candidates: for each merge with a search, (candidates, layers run for each).
        candidate_tokens: over how many tokens candidates are run; None for all.
        refits: how many layers are refitted after a merge or a removal, and ``refit_layers``: how many that runs again.
        unmeasured: how many layers are run over all tokens and only run; the way back through one counts as more.
        in_float32: how many of these are run in float32, whatever the model's dtype.
        heads: how often the head is run over all tokens, counted likewise.
        scored: for each choice of windows by scores, (changed models, layers run for each), and the original first.
        scoring_tokens: over how many tokens these are run; everything else is then over so many fewer.
        trained: layers run to train one, and over how many tokens; ``seconds``: or how long it is trained.
        products: floating-point operations in float32 beside all that.
        moved: how many parameters have other values in the end, which the plan keeps, beside those of refits.
        similarity: the kinds of matrices that the passes make (``come.measure``).
        analysed: whether an analysis tells where windows are likely to lie.
        guessed: whether how many candidates there are depends on what they show, so that this is a guess.
    """

    passes: list[float] = field(default_factory=list)
    merges: int = 0
    span: int = 2
    candidates: list[tuple[int, float]] = field(default_factory=list)
    candidate_tokens: int | None = None
    refits: int = 0
    refit_layers: float = 0.0
    unmeasured: float = 0.0
    in_float32: float = 0.0
    heads: float = 0.0
    scored: list[tuple[int, float]] = field(default_factory=list)
    scoring_tokens: int = 0
    trained: tuple[float, int] = (0.0, 0)
    seconds: float = 0.0
    products: float = 0.0
    moved: int = 0
    similarity: tuple[str, ...] = ()
    analysed: bool = False
    guessed: bool = False


def together(parts: Sequence[tuple[Schedule, int]], n_tokens: int) -> Schedule:
    """What several methods run one after the other, each over so many tokens, as one over ``n_tokens``.

    Candidates count as layers and heads that are run.
    """
    schedules = [each for each, _ in parts]
    run = heads = refit_layers = in_float32 = 0.0
    passes: list[float] = []
    for each, tokens in parts:
        share, looked_at = tokens / n_tokens, (each.candidate_tokens or tokens) / n_tokens
        passes += [share * layers for layers in each.passes]
        run += share * each.unmeasured + looked_at * sum(tried * layers for tried, layers in each.candidates)
        heads += share * each.heads + looked_at * sum(tried for tried, _ in each.candidates)
        refit_layers += share * each.refit_layers
        in_float32 += share * each.in_float32
    return Schedule(
        passes,
        merges=sum(each.merges for each in schedules),
        refits=sum(each.refits for each in schedules),
        refit_layers=refit_layers,
        unmeasured=run,
        in_float32=in_float32,
        heads=heads,
        products=sum(each.products for each in schedules),
        moved=max(each.moved for each in schedules),
        similarity=tuple(dict.fromkeys(kind for each in schedules for kind in each.similarity)),
        guessed=any(each.guessed for each in schedules),
    )


def merging_schedule(
    known: Known, options: SelectionOptions, tokens: Calibration, *, passes: int | None = None, tried: int = 0
) -> Schedule:
    """The schedule of a method that merges windows.

    Where windows will lie is told by an analysis. Without one they are taken to be spread evenly, so that the lowest
    of k windows starts at 1/(k+1) of the depth and a pass after a single merge runs half of the layers.

    Args:
        known: the model, the target, and an analysis if there is one.
        options: how windows are chosen, or which they are.
        tokens: the calibration tokens.
        passes: over how many measuring passes the merges are spread; None for one before every merge.
        tried: how many candidates are scored for each merge.
    """
    if options.windows is not None:
        return _by_hand(known, options, tried)
    sizes = window_sizes(known.layers, known.target_layers, options.span)
    at_once = merges_a_pass(known.layers, known.target_layers, options.span, passes)
    likely = _likely_windows(known, options)
    longest, stride = max(sizes), tokens.stride
    runs, candidates, scored, back = [], [], list[tuple[int, float]](), list[float]()
    layers, first, done = known.layers, 0.0, 0
    while done < len(sizes):
        taken = sizes[done : done + at_once]
        # Borders that are not kept are run again, from the nearest below the first pair of borders that is new.
        again = (stride - 1) / 2 + (longest - 1) * (1 - 1 / stride)
        runs.append(layers - first + min(first, again))
        expected = (likely or [])[done : done + at_once]
        # Below a window that is merged later, as many layers are gone as earlier ones took.
        gone = [
            sum(size - 1 for size, lower in zip(sizes, (likely or [])[:done], strict=False) if lower < at)
            for at in expected
        ]
        first = min((at - less for at, less in zip(expected, gone, strict=True)), default=layers / (len(taken) + 1))
        below = min(first, (stride - 1) / 2)
        if tried:
            candidates += [(tried, layers - first - 1 + below)] * len(taken)
        if options.scores:
            scored += [_scored(known, options, layers, size, stride) for size in dict.fromkeys(taken)]
        # Where windows are merged to be scored, the units of all layers are asked for.
        back.append(float(layers) if options.select in ("kl", "loss") else layers - first + below)
        layers -= sum(size - 1 for size in taken)
        done += len(taken)
    by_kl = [(1, float(known.layers))] if options.select == "kl" else []
    return Schedule(
        runs,
        len(sizes),
        options.span,
        candidates,
        refits=len(sizes) if options.refit else 0,
        # After the first merge of a pass, no border is at hand for what enters a window and what it gave.
        refit_layers=_refit_layers(known, options, len(sizes) - len(runs), len(sizes) / len(runs)),
        scored=by_kl + scored,
        scoring_tokens=tokens.seq_len * options.scoring_sequences(tokens.n_tokens // tokens.seq_len),
        analysed=likely is not None,
        **_gradients(options, back),
    )


def with_refits(schedule: Schedule, known: Known, options: RemovalOptions, removed: Sequence[int] | None) -> Schedule:
    """The schedule of a method that removes layers, with a refit beside each gap.

    Args:
        schedule: what it runs without.
        known, options: as given to the method.
        removed: which layers go, ascending, where that is foreseen; else every one leaves a gap of its own (where the
            method lets it), and they are spread evenly.
    """
    gaps, top = options.gaps(known.surplus), known.target_layers * known.surplus / (known.surplus + 1)
    if removed:
        gaps = 1 + sum(above > below + 1 for below, above in pairwise(removed))
        top = removed[-1] + 1 - known.surplus
    # Where candidates are scored, what enters and leaves the layers is at hand.
    again = 0.0 if schedule.candidates else top + known.surplus + gaps
    return replace(schedule, refits=gaps, refit_layers=again)


def _by_hand(known: Known, options: SelectionOptions, tried: int) -> Schedule:
    """One pass for any number of windows; candidates run the whole model, as no border is kept."""
    windows, layers, candidates = options.windows or [], known.layers, []
    for first, last in windows:
        if tried:
            candidates.append((tried, float(layers - 1)))
        layers -= last - first
    return Schedule(
        [float(known.layers)] if windows else [],
        len(windows),
        options.span,
        candidates,
        refits=len(windows) if options.refit else 0,
        refit_layers=_refit_layers(known, options, len(windows), len(windows)),
        **_gradients(options, [float(known.layers - min(first for first, _ in windows))] if windows else []),
    )


def _gradients(options: SelectionOptions, back: Sequence[float]) -> dict[str, Any]:
    """What Fisher information takes, if it is asked for: up and back through so many layers for each pass."""
    if options.sensitivity != "fisher":
        return {}
    # Weights get no gradient, which is half of the way back.
    return {"unmeasured": BACK * sum(back), "in_float32": (BACK - 1) * sum(back), "heads": float(BACK * len(back))}


def _refit_layers(known: Known, options: SelectionOptions, again: int, a_pass: float) -> float:
    """The layers that ``again`` refits run once more: their windows, and what lies between (spread evenly)."""
    return again * (options.span + known.layers / (a_pass + 1)) if options.refit else 0.0


def _likely_windows(known: Known, options: SelectionOptions) -> list[int] | None:
    """The first layers of the windows that an analysis lets expect, likeliest first; None where it says nothing."""
    if known.measurement is None or known.measurement.layers != known.layers:
        return None
    windows = draft(
        known.measurement, known.target_layers, span=options.span, no_repeat=options.no_repeat, model=known.model
    )
    return [
        window.first for window in sorted(windows, key=lambda each: (isnan(each.skip_influence), each.skip_influence))
    ]


def _scored(known: Known, options: SelectionOptions, layers: int, size: int, stride: int) -> tuple[int, float]:
    """To choose a window of a model with so many layers left: the changed models that are scored, and layers for each.

    Windows are taken to be spread evenly over the depth, and merges to lie apart from each other: with ``no_repeat``
    each takes as many windows out as hold it.
    """
    together = mixable_windows(known.model, known.layers, size)
    possible = (layers - size + 1) * sum(together) / len(together)
    merged = (known.layers - layers) // (options.span - 1)
    fresh = possible - size * merged if options.no_repeat else possible
    windows = max(1, round(fresh if fresh > 0 else possible))
    # Layers that are taken out belong to two windows, as long as one of either stays.
    changes = (size - 1) * windows + 1 if options.select == "removal-loss" else windows
    # The layer that a window becomes, and those above; what enters it is run from the window before, or a kept border.
    stays = options.select != "window-loss"
    return changes, (layers - size) / 2 + stays + (stride + 1) / 2
