"""What a report says of several runs on the same text: the verdict, metrics against the size, the table of them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from come.report import chart, comparison, paired, tables, verdict
from come.report.chart import Chart
from come.report.comparison import Entry
from come.report.html import figures
from come.report.html.cards import Drawn
from come.report.html.elements import Html, element, joined
from come.report.measured import Result, over_shared_tasks
from come.report.metrics import LAYERS, PERPLEXITY, Metric, measured
from come.report.points import Point, of_original, points

DRAWN = ("perplexity", "kl", "accuracy", "retention", "decode")  # each with a chart, where it was measured
PAIRED = ("perplexity", "accuracy")
COLUMNS = (*DRAWN, "weights", "seconds")


def titled(entries: Sequence[Entry]) -> str:
    """Which model and text comparable runs are of."""
    return f"{entries[0].title}{', held-out part' if entries[0].key[1] else ''}"


def compared(entries: Sequence[Entry], alone: bool, draw: Callable[[Drawn], Html]) -> Html:
    """All of it.

    Args:
        entries: comparable ones, of two runs or more.
        alone: whether it need not be said which model and text they are of.
        draw: makes an element of a chart.
    """
    results, originals = over_shared_tasks(
        [item.pruned for item in entries if item.pruned], [item.original for item in entries if item.original]
    )
    known = [metric for metric in measured(results) if metric.key in DRAWN]
    first, *rest = verdict.sentences(results, originals, known[0] if known else PERPLEXITY)
    parts = [
        element("h2", first),
        element("p", " ".join(rest)),
        Html("") if alone else element("p", f"{titled(entries)}. {comparison.count(entries)}.", class_="notes"),
    ]
    for place, metric in enumerate(known):
        if place:
            parts.append(element("h3", metric.title, class_="metric"))
            parts.append(element("p", " ".join(verdict.sentences(results, originals, metric))))
        if metric.key in PAIRED and (drawn := _differences(results, originals, metric)):
            parts.append(draw(drawn))
        shown = chart.chart_of(results, originals, metric, LAYERS)
        if shown.points:
            title = f"{metric.title} against the layers that are left ({_reading(shown)})"
            parts.append(draw(Drawn(title, figures.lines(shown), " ".join(chart.notes(shown)))))
    return element("section", *parts, element("h3", "All of them"), _table(results, originals), class_="compared")


def _reading(shown: Chart) -> str:
    """How a chart is to be read, in a few words."""
    drawn, metric = (shown.points, shown.original, shown.metric), shown.metric
    log = chart.logarithmic(*drawn)
    off = chart.ceiling(*drawn) is not None
    return (
        f"{'lower' if metric.lower else 'higher'} is better{', log' if log else ''}{', ▲ off the scale' if off else ''}"
    )


def _differences(results: list[Result], originals: list[Result], metric: Metric) -> Drawn | None:
    """How the models of the usual size differ from the best of them, or the only one from the original."""
    judged = verdict.judged_of(results)
    places = verdict.by_place(points(judged, metric, LAYERS), metric)
    if not places:
        return None
    layers = verdict.usual_place(places)
    ranked = places[layers]
    whole = of_original(originals, metric, LAYERS, like=judged)
    reference = ranked[0] if len(ranked) > 1 else whole
    if reference is None:
        return None
    drawn: list[Point] = ranked if len(ranked) > 1 else [reference, *ranked]
    found = [None if point is reference else paired.difference(point, reference, metric) for point in drawn]
    told = [each for each in found if each is not None]
    same = {f"{each.count:,} {each.of}s" for each in told if each.paired}
    title = f"Paired differences on the same {same.pop()}" if len(same) == 1 else "Differences"
    notes = "Bars and the numbers beside them: 95% intervals. Hollow: cannot be told from the line."
    if any(not each.paired for each in told):
        notes += " Some kept no numbers for each sequence or question: not paired, so their errors are too wide."
    return Drawn(f"{title}, at {layers} layers", figures.differences(drawn, found, reference, metric), notes)


def _table(results: list[Result], originals: list[Result]) -> Html:
    heads, rows = tables.summary(results, originals, COLUMNS)
    lines = [
        element("tr", *(element("td", element("b", cell) if best else cell) for cell, best in row)) for row in rows
    ]
    head = element("tr", *(element("th", words, scope="col") for words in heads))
    table = element("table", element("thead", head), element("tbody", *lines), class_="all")
    means = "± is one standard error, of several seeds one standard deviation over them. Bold: the best of its size."
    return joined(element("div", table, class_="wide"), element("p", means, class_="notes"))
