"""What one chart of a comparison holds: its points, where its axis ends, and the notes that belong under it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from come.report.measured import MEANS, Result
from come.report.metrics import Metric, Size, task_title
from come.report.points import Point, comparable, of_original, points

ROOM = 4.0  # times the median of the size at which that is largest: so far up goes an axis that cannot show all
FAR = 5.0  # times that: what lies within is worth a longer axis
ABOVE = 1.2  # times its last tick: there stand the arrows of what is off it, and once more above that it ends
TICKS = [base * 10.0**power for power in range(-4, 300) for base in (1, 2, 5)]
NAMED = 3  # runs, up to which a note names each
RINGED = "Ringed: no other run is both smaller and better."


@dataclass(frozen=True)
class Chart:
    """What one chart holds.

    Attributes:
        chance: what guessing scores, where the metric is an accuracy.
        left_out: the runs that are not in it, each with the reason.
    """

    metric: Metric
    size: Size
    points: list[Point]
    original: Point | None
    chance: float | None
    left_out: list[tuple[Result, str]]


def chart_of(results: Sequence[Result], originals: Sequence[Result], metric: Metric, size: Size) -> Chart:
    """The runs, in the order that they are given in, as points of a metric against a size."""
    kept = comparable(results, metric)
    drawn = points(results, metric, size)
    levels = {result.values[metric.key].chance for result in kept}
    return Chart(
        metric,
        size,
        drawn,
        of_original(originals, metric, size, like=results),
        levels.pop() if len(levels) == 1 else None,
        _not_drawn(results, kept, drawn, metric, size),
    )


def notes(chart: Chart) -> list[str]:
    """What the bars and rings are, and what is not in the chart, in short sentences."""
    told = []
    bars = {point.bar for point in chart.points} - {""}
    if "spread" in bars:
        told.append("Points are means over seeds, bars one standard deviation over them; faint points are the runs.")
    if "stderr" in bars:
        told.append(f"Bars{' of single runs' if 'spread' in bars else ''}: one standard error.")
    if "quartiles" in bars:
        told.append(f"Bars{' of single runs' if 'spread' in bars else ''}: quartiles of the timed rounds.")
    top = ceiling(chart.points, chart.original, chart.metric)
    off = [point for point in chart.points if top is not None and point.value > top]
    if off:
        places = [f"{point.series} at {_place(point)} ({chart.metric.say(point.value)})" for point in off]
        more = f" and {len(off) - NAMED} more" if len(off) > NAMED else ""
        told.append(f"Off the scale, at the upper edge: {', '.join(places[:NAMED])}{more}.")
    if len(chart.points) > 1:
        told.append(RINGED)
    if chart.size.key == "layers" and any(result.keeps_layers for p in chart.points for result in p.results):
        told.append(
            "Methods that keep every layer are drawn at the layers whose parameter count, or time, they aimed for."
        )
    told += [*_tasks(chart), *_missing(chart.left_out), *_uneven_seeds(chart.points)]
    return told


def logarithmic(drawn: Sequence[Point], original: Point | None, metric: Metric) -> bool:
    """Whether the metric is one for a logarithmic axis, and its values are far apart."""
    held = [point.value for point in [*drawn, *([original] if original else [])] if point.value > 0]
    return metric.log and bool(held) and max(held) / min(held) > 8 and all(point.value > 0 for point in drawn)


def ceiling(drawn: Sequence[Point], original: Point | None, metric: Metric) -> float | None:
    """Where a logarithmic axis ends, so that a few models that fell to pieces do not squeeze all the others together.

    Returns:
        The highest value that is drawn where it is; None where the axis shows everything.
    """
    if not (metric.lower and logarithmic(drawn, original, metric)):
        return None
    by_size: dict[int | None, list[float]] = {}
    for point in drawn:
        by_size.setdefault(point.layers, []).append(point.value)
    limit = ROOM * max(median(values) for values in by_size.values())
    if max(point.value for point in drawn) <= FAR * limit:
        return None
    return next(tick for tick in TICKS if tick >= limit) * ABOVE**2


def _not_drawn(
    results: Sequence[Result], kept: Sequence[Result], drawn: Sequence[Point], metric: Metric, size: Size
) -> list[tuple[Result, str]]:
    told = []
    counted = {run for point in drawn for run in point.runs}
    for result in results:
        if metric.key not in result.values:
            told.append((result, "not measured in"))
        elif result not in kept:
            told.append((result, "measured on other items, or another device, in"))
        elif size.of(result) is None:
            told.append((result, f"{size.title.lower()} not known of"))
        elif result.run not in counted:
            told.append((result, "replaced by a newer run of the same request:"))
    return told


def _place(point: Point) -> str:
    """Where on the axis, in words."""
    return f"{point.parameters / 1e6:,.1f} M parameters" if point.layers is None else f"{point.layers} layers"


def _tasks(chart: Chart) -> list[str]:
    """Over which tasks a mean was taken: those that all runs have."""
    if chart.metric.key not in MEANS or not chart.points:
        return []
    basis = chart.points[0].results[0].values[chart.metric.key].basis
    names = [task_title(str(pair[0])) for pair in basis if isinstance(pair, tuple)] if isinstance(basis, tuple) else []
    return [f"Mean of what all have: {', '.join(names)}."] if names else []


def _missing(left_out: Sequence[tuple[Result, str]]) -> list[str]:
    """By reason, the names of the runs: "Not measured in CoMe, 24 layers, and 3 more."."""
    told = []
    for reason in dict.fromkeys(reason for _, reason in left_out):
        names = list(dict.fromkeys(result.name for result, why in left_out if why == reason))
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        told.append(f"{reason.capitalize()} {'; '.join(names[:NAMED])}{more}.")
    return told


def _uneven_seeds(drawn: Sequence[Point]) -> list[str]:
    """Each seed draws text of its own, so means over unlike seeds are not quite fair."""
    seeds = {tuple(result.seed for result in point.results) for point in drawn}
    if len(seeds) < 2:
        return []
    return ["Not all were run with the same seeds, and each seed draws calibration and evaluation text of its own."]
