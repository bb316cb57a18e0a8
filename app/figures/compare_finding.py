"""What a chart of the compare page says, in a few words: its title."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from come.report import paired
from come.report.metrics import Metric
from come.report.points import Point, best_by_size
from come.report.verdict import contested, points_judged


def finding(drawn: Sequence[Point], metric: Metric, recovered: bool | None = None) -> str:
    """What the points say, in a few words: those that the verdict judges (`points_judged`)."""
    judged, when = points_judged(drawn, recovered)
    return f"{when.capitalize()}: {_said(judged, metric)}" if when else _said(judged, metric)


def _said(drawn: Sequence[Point], metric: Metric) -> str:
    if not drawn:
        return f"{metric.title}: no run to show yet"
    if len({point.method for point in drawn}) == 1:
        if len(drawn) == 1:
            return f"{drawn[0].series}: {metric.axis} {metric.say(drawn[0].value)}"
        return f"{metric.title} of {drawn[0].series} by size"
    shared = list(contested(best_by_size(drawn, metric)).values())
    if not shared:
        return "No two methods were run at the same number of layers yet"
    alone = [ranked[0].series for ranked in shared if paired.leads(ranked, metric)]
    if not alone and paired.can_differ(metric):
        return f"{metric.title}: the best cannot be told apart"
    if not alone:
        return f"{metric.title}: the best are alike at every size"
    if len(leaders := {name.partition(", windows ")[0] for name in alone}) == 1 < len(set(alone)):
        alone = [*leaders] * len(alone)  # one method, whoever chose its windows
    winner, wins = Counter(alone).most_common(1)[0]
    if wins == len(shared):
        all_of_them = "both sizes" if wins == 2 else f"all {wins} sizes"
        where = f"at {shared[0][0].layers} layers" if wins == 1 else f"at {all_of_them}"
        if len(shared) < len({point.layers for point in drawn}):  # the others have nobody to judge
            where += ", the one size with rivals" if wins == 1 else " with rivals"
        return f"{winner} {metric.best} {where}"
    if wins > len(shared) / 2:
        return f"{winner} {metric.best} at {wins} of {len(shared)} sizes"
    return f"Which method {metric.best} depends on the size"
