"""Runs as points of a chart: means over seeds with their spread, and which of them no other beats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from statistics import fmean, stdev
from typing import Literal

from come.report.measured import Result, Value
from come.report.metrics import LAYERS, Metric, Size, ends

Bar = Literal["", "stderr", "quartiles", "spread"]


@dataclass(frozen=True)
class Point:
    """A method at one size: one run, or the mean over seeds.

    Attributes:
        size: where it stands on the axis.
        value: the mean of what its runs measured, in the metric's own unit.
        low, high: the ends of its error bar; `bar` says of what: one run's standard error or quartiles, or
            one standard deviation over seeds.
        results: its runs, by seed; `each`: what each measured.
    """

    series: str
    method: str
    layers: int | None
    parameters: float
    size: float
    value: float
    low: float | None
    high: float | None
    bar: Bar
    results: tuple[Result, ...]
    each: tuple[float, ...]

    @property
    def runs(self) -> list[str]:
        """The ids of its runs."""
        return [result.run for result in self.results]

    def behind(self, metric: Metric) -> str:
        """What is behind it, in words: its run, or what each seed measured."""
        if len(self.results) == 1:
            return self.results[0].name
        return f"mean of {len(self.each)} seeds: {' · '.join(map(metric.say, self.each))}"


def points(results: Sequence[Result], metric: Metric, size: Size = LAYERS, like: Sequence[Result] = ()) -> list[Point]:
    """One point a series and size.

    Args:
        results: newest first: of the same request made twice, the first counts.
        metric: what to take of them.
        size: the axis; results without that size are left out.
        like: take only values taken on the same as most of these (default: as most of `results`).

    Returns:
        In the order of `results`.
    """
    kept = comparable(results, metric, like)
    cells: dict[tuple[str, float], dict[int, Result]] = {}
    for result in kept:
        if size.of(result) is not None:
            place = float(result.parameters if result.layers is None else result.layers)
            cells.setdefault((result.series, place), {}).setdefault(result.seed, result)
    return [_point([seeds[seed] for seed in sorted(seeds)], metric, size) for seeds in cells.values()]


def as_html(point: Point) -> Point:
    """The point with its names escaped: charts read HTML, and names hold whatever somebody typed."""
    results = tuple(replace(result, name=escape(result.name, quote=False)) for result in point.results)
    return replace(point, series=escape(point.series, quote=False), results=results)


def of_original(
    originals: Sequence[Result], metric: Metric, size: Size = LAYERS, like: Sequence[Result] = ()
) -> Point | None:
    """The original model as a point: what was measured of it, or what it is by definition; None where it is unknown."""
    if metric.original is not None:
        known = Value(metric.original)
        originals = [replace(result, values={metric.key: known}) for result in originals[:1]]
        like = ()
    found = points(originals, metric, size, like)
    return found[0] if found else None


def comparable(results: Sequence[Result], metric: Metric, like: Sequence[Result] = ()) -> list[Result]:
    """Those that hold the metric, taken on the same items or device as most of them (or as most of `like`)."""
    holding = [result for result in results if metric.key in result.values]
    model = [result for result in like if metric.key in result.values] or holding
    if not model:
        return []
    usual = Counter(result.values[metric.key].basis for result in model).most_common(1)[0][0]
    return [result for result in holding if result.values[metric.key].basis == usual]


def front(drawn: Sequence[Point], metric: Metric, size: Size, original: Point | None = None) -> list[Point]:
    """The Pareto front: the points that no other, nor the original, beats or equals in both while beating it in one."""
    rivals = [*drawn, *([original] if original else [])]
    return [point for point in drawn if not any(_dominates(rival, point, metric, size) for rival in rivals)]


def overlap(one: Point, other: Point) -> bool:
    """Whether the error bars of two points overlap; without both bars, no."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return one.low <= other.high and other.low <= one.high


def best_by_size(drawn: Sequence[Point], metric: Metric) -> dict[int, list[Point]]:
    """By layers left, the most first: the best point of each method there, from best to worst."""
    found: dict[int, list[Point]] = {}
    for layers in sorted({point.layers for point in drawn if point.layers is not None}, reverse=True):
        here = sorted(
            (point for point in drawn if point.layers == layers),
            key=lambda point: point.value if metric.lower else -point.value,
        )
        best: dict[str, Point] = {}
        for point in here:
            best.setdefault(point.method, point)
        found[layers] = list(best.values())
    return found


def _point(results: list[Result], metric: Metric, size: Size) -> Point:
    held = [result.values[metric.key] for result in results]
    each = tuple(value.value for value in held)
    value, low, high, bar = _summary(held)
    sizes = [at for result in results if (at := size.of(result)) is not None]
    return Point(
        series=results[0].series,
        method=results[0].method,
        layers=results[0].layers,
        parameters=fmean(result.parameters for result in results),
        size=fmean(sizes),
        value=value,
        low=low,
        high=high,
        bar=bar,
        results=tuple(results),
        each=each,
    )


def _summary(held: list[Value]) -> tuple[float, float | None, float | None, Bar]:
    mean = fmean(value.value for value in held)
    if len({value.value for value in held}) > 1:  # what no seed changes keeps its own error
        spread = stdev(value.value for value in held)
        return mean, mean - spread, mean + spread, "spread"
    low, high = ends(held[0])
    return mean, low, high, "" if low is None else "quartiles" if held[0].quartiles else "stderr"


def _dominates(rival: Point, point: Point, metric: Metric, size: Size) -> bool:
    one, other = (rival.size, point.size) if size.smaller else (-rival.size, -point.size)
    if one > other or metric.better(point.value, rival.value):
        return False
    return one < other or metric.better(rival.value, point.value)
