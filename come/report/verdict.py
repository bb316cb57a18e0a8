"""The verdict of a comparison in a few sentences: of the metric and size that a chart shows, with its error."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from come.pruning.registry import PAPER, methods
from come.report import paired
from come.report.measured import MEANS, Result
from come.report.metrics import LAYERS, PERPLEXITY, Metric, Size
from come.report.points import Point, of_original, overlap, points

FEW = 4  # lines, up to which each is named with its value
TOLD = 3  # targets or names, up to which each is told
ABOVE_CHANCE = 2.0  # standard errors by which the original must beat chance for an accuracy to tell something


def sentences(
    results: Sequence[Result],
    originals: Sequence[Result],
    metric: Metric = PERPLEXITY,
    size: Size = LAYERS,
    layers: int | None = None,
    recovered: bool = False,
    brief: bool = False,
) -> list[str]:
    """What the runs say of a metric, the answer first.

    Who is best at one size, by how much and whether that is sure; the values; who is best at the other sizes. What
    recovery gave is a sentence of its own.

    Args:
        results: the compared runs, newest first. originals: the model as it was.
        metric: what the chart shows. size: what it is drawn against.
        layers: at how many layers they are judged; by default, at what `usual_place` says.
        recovered: judge them as they are after recovery.
        brief: of several lines leave the values to the charts; the original's is told.
    """
    if not results:
        return ["No finished run to compare yet."]
    judged = judged_of(results, recovered)
    places = by_place(points(judged, metric, size), metric)
    if not any(metric.key in result.values for result in judged):
        return [f"These runs say nothing of {metric.axis}."]
    if not places:
        return ["These runs left a number of layers that is not known."]
    layers = layers if layers in places else usual_place(places)
    ranked = places[layers]
    original = of_original(originals, metric, size, like=judged)
    where = place_words(ranked[0], size)
    if len(judged) < len(results):
        where = f"{where}, {_when(recovered)},"
    told = [
        _first(ranked, original, metric, where),
        _values(ranked if not brief else ranked[:1], original, metric),
        _standing(ranked, metric),
        _otherwise(places, layers, metric),
        _recovery(results, metric),
        _chance(original, metric),
    ]
    return [sentence for sentence in told if sentence]


def judged_of(results: Sequence[Result], recovered: bool = False) -> list[Result]:
    """The models as they are before any recovery, or after it; all of them where there are none such."""
    return [result for result in results if result.recovered == recovered] or list(results)


def points_judged(drawn: Sequence[Point], recovered: bool | None) -> tuple[list[Point], str]:
    """Of a chart's points those that `judged_of` judges; and which these are, in words, where it holds others too.

    Of None that is all of them.
    """
    judged = [point for point in drawn if recovered in (None, point.results[0].recovered)] or list(drawn)
    return judged, "" if recovered is None or len(judged) == len(drawn) else _when(recovered)


def by_place(drawn: Sequence[Point], metric: Metric) -> dict[int, list[Point]]:
    """By layers left, the most first: the points there, from best to worst."""
    known = sorted({point.layers for point in drawn if point.layers is not None}, reverse=True)
    return {layers: paired.ranked([p for p in drawn if p.layers == layers], metric) for layers in known}


def contested(places: dict[int, list[Point]]) -> dict[int, list[Point]]:
    """Of points by layers left, best first, the sizes with a verdict: two methods ran there, a reference not counted.

    Where there is no such size, those with two points.
    """
    known = methods()
    references = {name for name in known if known[name].reference}
    rivals = {at: {point.method for point in ranked} - references for at, ranked in places.items()}
    met = {at: ranked for at, ranked in places.items() if len(rivals[at]) > 1}
    return met or {at: ranked for at, ranked in places.items() if len(ranked) > 1}


def usual_place(places: dict[int, list[Point]]) -> int:
    """The size at which most were run; of several, the largest."""
    return max(places, key=lambda layers: len(places[layers]))


def place_words(point: Point, size: Size) -> str:
    """Where a point stands, as a sentence begins: "At 27 layers"."""
    if size.key == "parameters":
        return f"At {point.size:,.1f} M parameters"
    if size.key == "sparsity":
        return f"With {point.size:.1f}% of the parameters removed"
    return f"At {point.layers} layers"


def _when(recovered: bool) -> str:
    return "after recovery" if recovered else "before recovery"


# --- the answer ---------------------------------------------------------------------------------------


def _first(ranked: Sequence[Point], original: Point | None, metric: Metric, where: str) -> str:
    best = ranked[0]
    value = f"{metric.noun} {metric.say(best.value)}"
    if len(ranked) == 1:
        return f"{where} {best.series} has {metric.noun} {_with_error(best, metric)}; run another method to judge it."
    if not paired.can_differ(metric):
        return _by_value(ranked, metric, where)
    found = {point.series: paired.difference(point, best, metric) for point in ranked[1:]}
    second = found[ranked[1].series]
    unsure = [name for name, each in found.items() if each.told != "worse"]
    if second.few:
        tasks, asked = paired.questions(best.results[0], metric)
        of = f" of {tasks} tasks" if tasks > 1 else ""
        return f"{where} there are too few questions to tell: {asked}{of}."
    if not unsure:
        return f"{where} {_subject(best.series)} {metric.best}: {value}{_ahead(ranked[1], second, metric)}."
    if all(found[name].told == "even" for name in unsure):
        return f"{where} {_names([best.series, *unsure])} come out even: {value}."
    why = _why_open([found[name] for name in unsure])
    return f"{where} {_subject(best.series)} is ahead, {value}, but {why} to tell it from {_names(unsure)}."


def _why_open(unsure: Sequence[paired.Difference]) -> str:
    first = unsure[0]
    if first.stderr is None:
        return "no error is known"
    if not first.paired:
        return "the errors are too wide"
    if first.of == "question":
        return f"{first.count:,} questions are too few" if first.count else "there are too few questions"
    return f"{first.count:,} sequences are too few" if first.count else "the text is too short"


def _ahead(second: Point, found: paired.Difference, metric: Metric) -> str:
    """By how much the best is better than the second."""
    if metric.key == "perplexity":
        return f", {_of(second.series)} {paired.say(found, metric, named=True).removeprefix('× ')} times as high"
    size = paired.say(replace(found, value=abs(found.value)), metric, named=True).removeprefix("+")
    return f", {size} {'below' if metric.lower else 'above'} {second.series}"


def _by_value(ranked: Sequence[Point], metric: Metric, where: str) -> str:
    best, second = ranked[0], ranked[1]
    said = metric.say(best.value)
    if said == metric.say(second.value):
        alike = [point.series for point in ranked if metric.say(point.value) == said]
        return f"{where} {_names(alike)} come out even: {metric.noun} {said}."
    unsure = ", though the bars overlap" if overlap(best, second) else ""
    told = f"{metric.noun} {said}, {second.series} {metric.say(second.value)}"
    return f"{where} {best.series} {metric.best}: {told}{unsure}."


def _values(ranked: Sequence[Point], original: Point | None, metric: Metric) -> str:
    """The values of a few lines, and the original's; on how many questions."""
    tasks, asked = paired.questions(ranked[0].results[0], metric)
    over = f", {f'{tasks} tasks, ' if tasks > 1 else ''}{asked:,} questions" if asked else ""
    told = [f"{point.series} {_with_error(point, metric)}" for point in ranked] if 1 < len(ranked) <= FEW else []
    known = original is not None and metric.original is None
    whole = f"the original {_with_error(original, metric)}" if original is not None and known else ""
    if not told:
        error = " (one standard error)" if "±" in whole else ""
        return f"The original has {metric.noun} {whole.removeprefix('the original ')}{error}{over}." if whole else ""
    title = metric.title.removesuffix(", mean of the tasks")
    return f"{title}{over}: {'; '.join(part for part in (', '.join(told), whole) if part)}."


def _standing(ranked: Sequence[Point], metric: Metric) -> str:
    """Whether merging or removal is better where that is sure; of many lines, where CoMe ranks."""
    sure = [p for p in ranked[1:] if paired.can_differ(metric) and _sure(p, ranked[0], metric)]
    if len(ranked) <= FEW:
        rivals = ranked[1:]
        if rivals and _merges(ranked[0]) and all(map(_drops, rivals)) and len(sure) == len(rivals):
            return "Merging is better than removal here."
        reference = methods()[ranked[0].method].reference if ranked[0].method in methods() else True
        if _drops(ranked[0]) and not reference and any(map(_merges, sure)):
            return "Removal is better than merging here."
        return ""
    place = next((place for place, point in enumerate(ranked) if point.method == PAPER), 0)
    if not place:
        return ""
    come = ranked[place]
    if not paired.can_differ(metric):
        if metric.say(come.value) == metric.say(ranked[0].value):
            return ""
        return f"{come.series} is {_ordinal(place + 1)} of {len(ranked)}: {metric.say(come.value)}."
    found = paired.say(paired.difference(come, ranked[0], metric), metric).removeprefix("× ")
    than = f"times {_of(ranked[0].series)}" if metric.key == "perplexity" else f"against {ranked[0].series}"
    return f"{come.series} is {_ordinal(place + 1)} of {len(ranked)}: {found} {than}."


def _otherwise(places: dict[int, list[Point]], layers: int, metric: Metric) -> str:
    """Who leads at the other sizes."""
    leads: dict[str, list[int]] = {}
    for place, ranked in contested(places).items():
        if place != layers:
            leads.setdefault(ranked[0].series if paired.leads(ranked, metric) else "", []).append(place)
    told = []
    for name, sizes in leads.items():
        where = f"at {_joined(list(map(str, sizes)))} layers" if len(sizes) <= TOLD else f"at {len(sizes)} other sizes"
        too = " too" if name == places[layers][0].series and paired.leads(places[layers], metric) else ""
        neither = "it is open" if paired.can_differ(metric) else "they are even"
        told.append(f"{where} {f'{_subject(name)} leads{too}' if name else neither}")
    words = "; ".join(told)
    return f"{words[:1].upper()}{words[1:]}." if words else ""


def _sure(point: Point, best: Point, metric: Metric) -> bool:
    return paired.difference(point, best, metric).told == "worse"


# --- recovery, chance ---------------------------------------------------------------------------------


def _recovery(results: Sequence[Result], metric: Metric) -> str:
    """What recovery made of the metric, of the runs that are there with it and without."""
    held = [result for result in results if metric.key in result.values]
    before = {result.run: result for result in held if not result.recovered}
    pairs = [(before[result.run], result) for result in held if result.recovered and result.run in before]
    pairs = [(was, now) for was, now in pairs if was.layers == now.layers]  # growing is more than recovery
    if not pairs:
        return ""
    moved = [(now.name, was.values[metric.key].value, now.values[metric.key].value) for was, now in pairs]
    better = sum(metric.better(now, was) for _, was, now in moved)
    if len(moved) <= TOLD:
        told = [f"{_at(name)} from {metric.say(was)} to {metric.say(now)}" for name, was, now in moved]
        does = {len(moved): "improves", 0: "worsens"}.get(better, "changes")
        return f"Recovery {does} {metric.noun}: {', '.join(told)}."
    if metric.key != PERPLEXITY.key:
        return f"Recovery improves {metric.noun} in {better} of {len(pairs)} runs."
    share = statistics.median(now / was for _, was, now in moved)
    return (
        f"Recovery improves perplexity in {better} of {len(pairs)} runs, at the median to {share:.0%} of what it was."
    )


def _chance(original: Point | None, metric: Metric) -> str:
    """That an accuracy tells nothing where the original only guesses."""
    if original is None or metric.key.partition("/")[0] != MEANS[0]:
        return ""
    value = original.results[0].values[metric.key]
    if value.chance is None or value.value - value.chance > ABOVE_CHANCE * (value.stderr or 0.0):
        return ""
    return "The original is not above chance here, so accuracy tells nothing."


# --- methods ------------------------------------------------------------------------------------------


def _merges(point: Point) -> bool:
    """Whether its method makes one layer of several."""
    known = methods().get(point.method)
    return known is not None and known.kind in ("merge", "average")


def _drops(point: Point) -> bool:
    """Whether its method takes whole layers out."""
    known = methods().get(point.method)
    return known is not None and known.kind == "remove"


# --- words --------------------------------------------------------------------------------------------


def _with_error(point: Point, metric: Metric) -> str:
    return metric.say_with(point.value, point.low, point.high)


def _subject(name: str) -> str:
    """A line's name before a verb: "CoMe, windows by hand," has a comma at its end, too."""
    return f"{name}," if ", " in name else name


def _of(name: str) -> str:
    """The genitive of a name."""
    return f"{name}'s"


def _names(names: Sequence[str]) -> str:
    return _joined(names) if len(names) <= TOLD else f"{', '.join(names[: TOLD - 1])} and {len(names) - TOLD + 1} more"


def _ordinal(place: int) -> str:
    """1 -> "1st", 12 -> "12th"."""
    ending = "th" if place % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending}"


def _joined(words: Sequence[str], last: str = "and") -> str:
    """a, b and c."""
    return f" {last} ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def _at(name: str) -> str:
    """A run's name within a list: "CoMe, 27 layers" -> "CoMe at 27 layers"."""
    method, comma, size = name.rpartition(", ")
    return f"{method} at {size}" if comma and size.endswith(" layers") else name
