"""The verdict of a comparison in one to four sentences: is CoMe better than just dropping layers?"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

from come.pruning.registry import PAPER, concatenates, methods
from come.report.measured import Result
from come.report.metrics import PERPLEXITY, metric, number
from come.report.points import Point, best_by_size, of_original, overlap, points

FEW = 4  # methods, up to which each is named with its perplexity
TOLD = 3  # targets, up to which each is told


def sentences(results: Sequence[Result], originals: Sequence[Result]) -> list[str]:
    """What the runs say, the answer first.

    Of few methods each perplexity, at the size at which most of them were run (of several, the largest), and at which
    other sizes another one is better; of many, where CoMe ranks and which is best at each size. Methods are judged as
    they are, before any recovery; what that gave is a sentence of its own. Then, if accuracy was measured, what is left
    of it.
    """
    if not results:
        return ["No finished run to compare yet."]
    judged = [result for result in results if not result.recovered] or results
    drawn = points(judged, PERPLEXITY)
    if not drawn:
        told = ["These runs say nothing of perplexity."]
    else:
        original = of_original(originals, PERPLEXITY, like=judged)
        by_size = best_by_size(drawn, PERPLEXITY)
        told = _few(by_size, original) if len({p.method for p in drawn}) <= FEW else _many(by_size, original)
    return [sentence for sentence in [*told, _recovery(results), _retention(judged)] if sentence]


# --- few methods --------------------------------------------------------------------------------------


def _few(by_size: dict[int, list[Point]], original: Point | None) -> list[str]:
    layers = max(by_size, key=lambda size: len(by_size[size]), default=None)
    if layers is None:
        return ["These runs left a number of layers that is not known."]
    ranked = by_size[layers]
    named = sorted(ranked, key=lambda point: not concatenates(point.method))  # merges first, each from best to worst
    told = [f"{named[0].series} has perplexity {number(named[0].value)}"]
    told += [f"{point.series} {number(point.value)}" for point in named[1:]]
    first = f"At {layers} layers {', '.join(told)}"
    first += f"; the original has {number(original.value)}." if original else "."
    judgement, otherwise = _judgement(ranked, original), _otherwise(by_size, layers)
    return [first, f"{judgement.removesuffix('.')}; {otherwise}." if judgement and otherwise else judgement]


def _otherwise(by_size: dict[int, list[Point]], layers: int) -> str:
    """At which other sizes another one is best: "at 27 and 26 layers ShortGPT is better"."""
    wins: dict[str, list[int]] = {}
    for size, ranked in by_size.items():
        told_apart = len(ranked) > 1 and number(ranked[0].value) != number(ranked[1].value)
        if size != layers and told_apart and ranked[0].series != by_size[layers][0].series:
            wins.setdefault(ranked[0].series, []).append(size)
    told: list[str] = []
    for name, sizes in wins.items():
        where = f"{_joined(list(map(str, sizes)))} layers" if len(sizes) <= TOLD else f"{len(sizes)} other sizes"
        told.append(f"at {where} {name}{'' if told else ' is better'}")
    return ", ".join(told)


def _judgement(ranked: Sequence[Point], original: Point | None) -> str:
    first = ranked[0]
    if len(ranked) == 1:
        if original is None:
            return ""
        cost = first.value / original.value
        return f"That is {cost:.1f} times the original's; run another method to see whether it is good."
    second = ranked[1]
    if number(first.value) == number(second.value):
        return f"On this text {first.series} and {second.series} come out even."
    rest = ranked[1:]
    if _merges(first) and all(map(_drops, rest)):
        better = "merging is better than removal"
    elif _drops(first) and not methods()[first.method].reference and any(map(_merges, rest)):
        better = "removal is better"
    else:
        better = f"{first.series} is better"
    return f"On this text {better}{', though the error bars overlap' if overlap(first, second) else ''}."


# --- many methods -------------------------------------------------------------------------------------


def _many(by_size: dict[int, list[Point]], original: Point | None) -> list[str]:
    most = max((len(ranked) for ranked in by_size.values()), default=0)
    fair = {size: ranked for size, ranked in by_size.items() if len(ranked) > most / 2}
    if not fair:
        return ["These runs left a number of layers that is not known."]
    ranks = {size: _rank(ranked) for size, ranked in fair.items() if _rank(ranked)}
    return [_standing(fair, ranks), _best(fair, ranks, original)]


def _rank(ranked: Sequence[Point]) -> int:
    """CoMe's place, 1 the best; 0 where it was not run."""
    return next((place for place, point in enumerate(ranked, start=1) if point.method == PAPER), 0)


def _standing(fair: dict[int, list[Point]], ranks: dict[int, int]) -> str:
    """Where CoMe ranks, and whether dropping layers does better."""
    if not ranks:
        return ""
    sizes = list(ranks)
    if len(sizes) <= TOLD:
        told = []
        for size in sizes:
            count = len(fair[size])
            of = f" of {count}" if size == sizes[0] or count != len(fair[sizes[0]]) else ""
            told.append(f"{_ordinal(ranks[size])}{of} at {size}{' layers' if size == sizes[0] else ''}")
        standing = f"CoMe is {_joined(told)}"
    else:
        span = _span([_ordinal(ranks[size]) for size in sorted(sizes, key=lambda size: ranks[size])])
        most = max(len(fair[size]) for size in sizes)
        standing = f"CoMe is {span} of {most} methods at {len(sizes)} sizes from {sizes[0]} to {sizes[-1]} layers"
    lost = [size for size in sizes if _drops_above(fair[size])]
    if not any(_drops(point) for size in sizes for point in fair[size]):
        return f"{standing}."
    if not lost:
        return f"{standing}: better than every way of dropping layers."
    names = _joined(list(dict.fromkeys(_drops_above(fair[size])[0].series for size in lost)), "or")
    if len(lost) == len(sizes):
        where = ""
    else:
        where = f" at {_joined(list(map(str, lost)))}" if len(lost) <= TOLD else f" at {len(lost)} of them"
    return f"{standing}: dropping layers by {names} is better{where}."


def _drops_above(ranked: Sequence[Point]) -> list[Point]:
    """The ways of dropping layers that stand before CoMe, the best first."""
    return [point for point in ranked[: max(_rank(ranked) - 1, 0)] if _drops(point)]


def _best(fair: dict[int, list[Point]], ranks: dict[int, int], original: Point | None) -> str:
    """Which method is best at each size, against the original; where CoMe cannot be told from the best."""
    wins: dict[str, list[int]] = {}
    for size, ranked in fair.items():
        wins.setdefault(ranked[0].series, []).append(size)
    if len(fair) <= TOLD:
        first = next(iter(fair))
        told = [
            f"{name} at "
            + _joined([f"{size}{' layers' if size == first else ''} ({number(fair[size][0].value)})" for size in sizes])
            for name, sizes in wins.items()
        ]
        best = f"Lowest perplexity: {', '.join(told)}"
    else:
        counts = Counter({name: len(sizes) for name, sizes in wins.items()}).most_common(TOLD)
        told = [f"{name} at {count} of {len(fair)} sizes" for name, count in counts]
        told = told if len(counts) > 1 else [f"{counts[0][0]} at all {len(fair)} sizes"]
        best = f"Lowest perplexity: {_joined(told)}"
    if original is not None:
        best += f"; the original has {number(original.value)}"
    near = [size for size, rank in ranks.items() if rank and len(fair[size]) > 1 and _near(fair[size], rank)]
    if not near:
        return f"{best}."
    rivals = "the second's" if all(ranks[size] == 1 for size in near) else "the best's"
    where = "everywhere" if len(near) == len(fair) > 1 else f"at {_joined(list(map(str, near)))}"
    if len(near) > TOLD and where != "everywhere":
        where = f"at {len(near)} sizes"
    return f"{best}; CoMe's error bars overlap {rivals} {where}."


def _near(ranked: Sequence[Point], rank: int) -> bool:
    """Whether CoMe's error bar overlaps the best's, or, where CoMe is best, the second's."""
    return overlap(ranked[rank - 1], ranked[1 if rank == 1 else 0])


# --- recovery -----------------------------------------------------------------------------------------


def _recovery(results: Sequence[Result]) -> str:
    """What recovery made of the perplexity, of the runs that are there with it and without."""
    held = [result for result in results if "perplexity" in result.values]
    before = {result.run: result for result in held if not result.recovered}
    pairs = [(before[result.run], result) for result in held if result.recovered and result.run in before]
    if not pairs:
        return ""
    moved = [(now.name, was.values["perplexity"].value, now.values["perplexity"].value) for was, now in pairs]
    lower = sum(now < was for _, was, now in moved)
    if len(moved) <= TOLD:
        told = [f"{_at(name)} from {number(was)} to {number(now)}" for name, was, now in moved]
        does = {len(moved): "lowers", 0: "raises"}.get(lower, "changes")
        return f"Recovery {does} perplexity: {', '.join(told)}."
    share = statistics.median(now / was for _, was, now in moved)
    return (
        f"Recovery lowers the perplexity in {lower} of {len(pairs)} runs, at the median to {share:.0%} of what it was."
    )


# --- accuracy -----------------------------------------------------------------------------------------


def _retention(results: Sequence[Result]) -> str:
    """How much of the accuracy above chance is left; nothing where no accuracy was measured."""
    kept = metric("retention")
    by_size = best_by_size(points(results, kept), kept)
    if not by_size:
        measured = any("accuracy" in result.values for result in results)
        return "The original is not above chance on these tasks, so accuracy tells nothing here." if measured else ""
    sizes = [size for size, ranked in by_size.items() if _rank(ranked)]
    if not sizes:
        size = max(by_size, key=lambda size: len(by_size[size]))
        best = by_size[size][0]
        return f"At {size} layers {best.series} keeps the most accuracy above chance: {best.value:.0%}."
    sizes = sizes if len(sizes) <= TOLD else [sizes[0], sizes[-1]]
    ours = [f"{by_size[size][_rank(by_size[size]) - 1].value:.0%}" for size in sizes]
    told = f"Of the accuracy above chance CoMe keeps {_joined(ours)} at {_joined(list(map(str, sizes)))} layers"
    others = [next((p for p in by_size[size] if p.method != PAPER), None) for size in sizes]
    if any(other is None for other in others):
        return f"{told}."
    rivals = [f"{other.value:.0%} ({other.series})" for other in others if other is not None]
    return f"{told}, the best of the others {_joined(rivals)}."


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


def _span(ordered: Sequence[str]) -> str:
    return ordered[0] if ordered[0] == ordered[-1] else f"{ordered[0]} to {ordered[-1]}"
