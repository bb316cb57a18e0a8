"""Differences between runs on the same tokens and the same questions, with their errors: who is better, and is it sure.

Two models that read the same sequences find the same ones hard. So their difference is known far better than either
value: it is taken sequence by sequence, or question by question, and its error is that of the mean of those.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Literal

from scipy.special import stdtrit

from come.report.measured import MEANS, Result, Sample, tasks_of
from come.report.metrics import Metric, factor, metric
from come.report.points import Point

SURE = 0.95  # of two-sided intervals: what is outside is told apart
FEW_QUESTIONS = 30  # below this nothing is told of accuracies: one standard error is 9 points there
FEWEST_UNLIKE = 6  # questions that are answered differently; fewer fall to one side by chance in 1 of 16
FAR = 100.0  # times as high; from here on an error tells nothing more
# Differences that make no odds, in the units of the differences: two are even whose whole interval is below this.
ALIKE = dict.fromkeys(("perplexity", "bits_per_byte", "kl", "accuracy", "stability"), 0.005) | {"retention": 0.01}

Told = Literal["better", "worse", "even", "open"]


@dataclass(frozen=True)
class Difference:
    """How one point differs from another in a metric.

    Attributes:
        value: the mean difference, this less the other; of perplexities, of their logarithms (nats per token).
        stderr: its standard error, over sequences or questions, and over seeds where there are several; None where
            there is no telling.
        reach: half the width of its 95% interval.
        count: how many sequences or questions; 0 where that is not known.
        of: what they are.
        paired: taken on each of them; else the errors of both sides are added up, which is too much.
        told: what can be said of it.
    """

    value: float
    stderr: float | None
    reach: float | None
    count: int
    of: Literal["sequence", "question"]
    paired: bool
    told: Told

    @property
    def few(self) -> bool:
        """Whether there are too few questions to tell anything."""
        return self.of == "question" and self.count < FEW_QUESTIONS


def can_differ(metric: Metric) -> bool:
    """Whether the metric is a mean over sequences or questions, so that it has a difference with an error."""
    return metric.key.partition("/")[0] in ALIKE


def difference(point: Point, other: Point, metric: Metric) -> Difference:
    """How a point differs from another in a metric that can differ."""
    parts = _parts(point, other, metric)
    if parts is None:
        return _unpaired(point, other, metric)
    count = sum(len(each) for each, _ in parts)
    value = fmean(fmean(each) for each, _ in parts)
    sizes = [len(each) for each, _ in parts]
    over_items = sum(variance(each) / len(each) for each, _ in parts if len(each) > 1) / len(parts) ** 2
    spreads = [(over_items, sum(sizes) - len(sizes))] if min(sizes) > 1 else []
    by_seed = [fmean(of_parts) for of_parts in zip(*(seeds for _, seeds in parts), strict=True)]
    if len(by_seed) > 1:
        spreads.append((variance(by_seed) / len(by_seed), len(by_seed) - 1))
    stderr, freedom = _together(spreads) if min(sizes) > 1 else (None, 0.0)
    kind = _kind(metric)
    unlike = sum(item != 0 for each, _ in parts for item in each) if kind == "question" else None
    return _judged(metric, value, stderr, freedom, count, kind, unlike, paired=True)


def of_losses(before: Sequence[float], after: Sequence[float]) -> Difference | None:
    """How one perplexity differs from another, by the losses on the same sequences; None where these do not pair.

    Args:
        before, after: mean nats a token of each sequence.
    """
    if not before or len(before) != len(after):
        return None
    each = [b - a for a, b in zip(before, after, strict=True)]
    spread = [(variance(each) / len(each), len(each) - 1)] if len(each) > 1 else []
    stderr, freedom = _together(spread)
    return _judged(metric("perplexity"), fmean(each), stderr, freedom, len(each), "sequence", None, paired=True)


def ranked(drawn: Sequence[Point], metric: Metric) -> list[Point]:
    """Points of one size from the best to the worst: by mean difference, which is the order of the values."""
    return sorted(drawn, key=lambda point: point.value if metric.lower else -point.value)


def leads(ranked: Sequence[Point], metric: Metric) -> bool:
    """Whether the first of several points can be told from the second."""
    if can_differ(metric):
        return difference(ranked[1], ranked[0], metric).told == "worse"
    return metric.say(ranked[0].value) != metric.say(ranked[1].value)


def factor_of(nats: float) -> float:
    """How many times as high a perplexity is that lies so many nats above another."""
    return math.exp(min(nats, 300.0))


def say(found: Difference, metric: Metric, named: bool = False) -> str:
    """A difference with its 95% interval: "× 1.12 (1.05–1.19)" of perplexities, else "+3.2 (0.9 to 5.5) points".

    Args:
        found: the difference. metric: of what.
        named: the brackets say that they hold the 95% interval, where nothing beside them does.
    """
    mark = "95%: " if named else ""
    if metric.key == "perplexity":
        times = factor_of(found.value)
        if found.reach is None or times >= FAR:
            return f"× {factor(times)}"
        low, high = (factor(factor_of(found.value + side * found.reach)) for side in (-1, 1))
        return f"× {factor(times)} ({mark}{low}–{high})"
    unit = {" %": " points"}.get(metric.unit, metric.unit)
    ends = () if found.reach is None else (found.value - found.reach, found.value + found.reach)
    interval = f" ({mark}{' to '.join(map(metric.bare, ends))})" if ends else ""
    return f"{'+' if found.value > 0 else ''}{metric.bare(found.value)}{interval}{unit}"


def questions(result: Result, metric: Metric) -> tuple[int, int]:
    """Of a mean over tasks (``MEANS``): on how many tasks and questions it was taken."""
    kind, _, task = metric.key.partition("/")
    if kind not in MEANS or metric.key not in result.values:
        return 0, 0
    counts = [_items(basis) for name, basis in tasks_of(result, kind).items() if not task or name == task]
    shared = result.values[metric.key].basis
    if not task and isinstance(shared, tuple):
        counts = [_items(pair[1]) for pair in shared if isinstance(pair, tuple) and len(pair) == 2]
    return len(counts), sum(counts)


def _items(basis: object) -> int:
    return int(basis) if isinstance(basis, int | float) else 0


def _kind(metric: Metric) -> Literal["sequence", "question"]:
    return "question" if metric.key.partition("/")[0] in MEANS else "sequence"


def _parts(point: Point, other: Point, metric: Metric) -> list[tuple[list[float], list[float]]] | None:
    """For the text, or each task: the differences by item, and their means by seed; None where they do not pair."""
    parts = []
    for key in _keys(point, metric):
        mine, theirs = _samples(point, key), _samples(other, key)
        if mine is None or theirs is None or mine[0].basis != theirs[0].basis:
            return None
        if len({len(sample.each) for sample in (*mine, *theirs)}) != 1:
            return None
        items = [fmean(left) - fmean(right) for left, right in zip(_items_of(mine), _items_of(theirs), strict=True)]
        parts.append((items, _by_seed(point, other, key)))
    return parts or None


def _keys(point: Point, metric: Metric) -> list[str]:
    if metric.key not in MEANS:
        return [metric.key]
    held = point.results[0].values[metric.key].basis
    names = [pair[0] for pair in held if isinstance(pair, tuple)] if isinstance(held, tuple) else []
    keys = [f"{metric.key}/{name}" for name in names]
    return [key for key in keys if key in point.results[0].values]  # the original may not be above chance on one


def _samples(point: Point, key: str) -> list[Sample] | None:
    """Of each of a point's runs; None where one has none, or they were taken on different items."""
    found = [result.samples[key] for result in point.results if key in result.samples]
    if len(found) < len(point.results) or len({sample.basis for sample in found}) != 1:
        return None
    return found


def _items_of(samples: Sequence[Sample]) -> list[tuple[float, ...]]:
    return list(zip(*(sample.each for sample in samples), strict=True))


def _by_seed(point: Point, other: Point, key: str) -> list[float]:
    """The mean difference by seed, of the seeds that both were run with; nothing where those are not all."""
    mine = {result.seed: fmean(result.samples[key].each) for result in point.results}
    theirs = {result.seed: fmean(result.samples[key].each) for result in other.results}
    if mine.keys() == theirs.keys():
        return [mine[seed] - theirs[seed] for seed in mine]
    if len(theirs) == 1:  # the original, which no seed changes
        return [value - next(iter(theirs.values())) for value in mine.values()]
    if len(mine) == 1:
        return [next(iter(mine.values())) - value for value in theirs.values()]
    return []


def _unpaired(point: Point, other: Point, metric: Metric) -> Difference:
    """Of runs that kept no samples: the values' difference, with both errors."""
    kind = _kind(metric)
    log = metric.key == "perplexity"
    sides = [(_logarithm(each.value), _error(each) / each.value if each.value else 0.0) for each in (point, other)]
    if not log:
        sides = [(each.value, _error(each)) for each in (point, other)]
    known = all(each.low is not None for each in (point, other))
    stderr = math.hypot(*(error for _, error in sides)) if known else None
    count = questions(point.results[0], metric)[1]
    return _judged(metric, sides[0][0] - sides[1][0], stderr, math.inf, count, kind, None, paired=False)


def _error(point: Point) -> float:
    return (point.high - point.low) / 2 if point.low is not None and point.high is not None else 0.0


def _logarithm(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _together(spreads: Sequence[tuple[float, int]]) -> tuple[float | None, float]:
    """The standard error of independent parts of a variance, with its degrees of freedom (Welch-Satterthwaite)."""
    whole = sum(part for part, _ in spreads)
    if not spreads:
        return None, 0.0
    shares = sum(part**2 / freedom for part, freedom in spreads if freedom)
    return math.sqrt(whole), whole**2 / shares if shares else math.inf


def _judged(
    metric: Metric,
    value: float,
    stderr: float | None,
    freedom: float,
    count: int,
    kind: Literal["sequence", "question"],
    unlike: int | None,
    *,
    paired: bool,
) -> Difference:
    reach = None
    if stderr is not None:
        reach = stderr * (float(stdtrit(freedom, (1 + SURE) / 2)) if math.isfinite(freedom) else 1.96)
    enough = kind == "sequence" or count >= FEW_QUESTIONS
    told: Told = "open"
    if enough and reach is not None:
        if abs(value) + reach <= ALIKE[metric.key.partition("/")[0]]:
            told = "even"
        elif abs(value) > reach and (unlike is None or unlike >= FEWEST_UNLIKE):
            told = "better" if (value < 0) == metric.lower else "worse"
    return Difference(value, stderr, reach, count, kind, paired, told)
