"""A run's result as one card: the model before and after, each number with its error, and what became of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from come.files import human_bytes
from come.numbers import human_count, percent
from come.report.measured import Value, samples, values
from come.report.metrics import ends, factor, metric, number
from come.report.paired import FAR, factor_of, of_losses

ROWS = ("perplexity", "kl", "accuracy", "decode_rate", "prefill_rate", "peak_memory")
ALWAYS = {"perplexity": "Perplexity", "accuracy": "Accuracy", "decode_rate": "Speed"}  # said even if not measured
NAMES = {
    "kl": "KL divergence from the original, held-out text",
    "accuracy": "Accuracy",
    "decode_rate": "Speed, writing",
    "prefill_rate": "Speed, reading",
    "peak_memory": "Peak memory",
}
UNITS = {"decode_rate": "tokens/s", "prefill_rate": "tokens/s"}


@dataclass(frozen=True)
class Cell:
    """A number, and what stands small beside it: its error and unit, or that it was not measured."""

    value: str = ""
    beside: str = ""


@dataclass(frozen=True)
class Row:
    """One number of all models: a cell for each, and what became of it; `part` of the row above, such as one task."""

    name: str
    cells: tuple[Cell, ...]
    change: Cell = Cell()
    part: bool = False


@dataclass(frozen=True)
class Card:
    """The rows under the names of the models: before, after, and between them what a recovery began with."""

    heads: tuple[str, ...]
    rows: tuple[Row, ...]


def card_of(results: Mapping[str, Any]) -> Card | None:
    """The card of results.json; None where it does not hold both models."""
    original, pruned, between = (results.get(side) or {} for side in ("original", "pruned", "unrecovered"))
    if not (original and pruned):
        return None
    sides = [original, *([between] if between else []), pruned]
    heads = ("Before", *(("Pruned", "Recovered") if between else ("After",)), "Change")
    named = ALWAYS.keys() - ({"accuracy"} if pruned.get("probe") else set())  # a probe's table says accuracies
    interval = _interval(original, pruned, results.get("evaluation") or {})
    rows = (*_sizes(sides), *_metrics([values(side, original) for side in sides], named, interval))
    return Card(heads, rows)


def sentence(results: Mapping[str, Any]) -> str:
    """What a finished run that prunes found, in one sentence."""
    before, after = results.get("original") or {}, results.get("pruned") or {}
    if not {"layers", "parameters"} <= before.keys() & after.keys():
        return "The run is done."
    removed = 1 - after["parameters"] / before["parameters"]
    size = f"{before['layers']} layers became {after['layers']} ({removed:.0%} fewer parameters)"
    if not (before.get("perplexity") and after.get("perplexity")):
        return f"{size}."
    was, now = before["perplexity"], after["perplexity"]
    between = results.get("unrecovered") or {}
    if pruned := between.get("perplexity"):
        more = after["layers"] - between.get("layers", after["layers"])
        to, back = (f" to {between['layers']}", f", which put {more} back,") if more else ("", "")
        return (
            f"{size}; pruning{to} took perplexity from {number(was)} to {number(pruned)} ({factor(pruned / was)} times "
            f"the original's), recovery{back} to {number(now)} ({factor(now / was)} times)."
        )
    return f"{size}; perplexity went from {number(was)} to {number(now)} ({factor(now / was)} times as high)."


def taken_on(results: Mapping[str, Any]) -> str:
    """On what the numbers were taken, and what their errors are."""
    held_out = results.get("evaluation") or {}
    tokens, text = held_out.get("n_tokens"), held_out.get("text")
    words = f"Perplexity on {tokens:,} held-out tokens of {text}. " if tokens and text else ""
    pruned = results.get("pruned") or {}
    sure = " Behind a change: its 95% interval, taken sequence by sequence." if pruned.get("losses") else ""
    timed = " Speed: median and quartiles." if pruned.get("speed") else ""
    return f"{words}± is one standard error.{sure}{timed}"


# --- rows ------------------------------------------------------------------------------------------------


def _sizes(sides: list[dict[str, Any]]) -> list[Row]:
    rows = [Row("Layers", tuple(Cell(_whole(side.get("layers"))) for side in sides))]
    if all(side.get("parameters") for side in sides):
        counts = [side["parameters"] for side in sides]
        change = Cell(percent(counts[-1] / counts[0] - 1))
        rows.append(Row("Parameters", tuple(Cell(human_count(count)) for count in counts), change))
    if all(side.get("bytes") for side in sides):
        rows.append(Row("Weights", tuple(Cell(human_bytes(side["bytes"])) for side in sides)))
    return rows


def _metrics(known: list[dict[str, Value]], named: Collection[str], interval: str) -> list[Row]:
    rows: list[Row] = []
    without: list[str] = []
    for key in ROWS:
        if any(key in each for each in known):
            row = _measured(key, known)
            rows.append(replace(row, change=replace(row.change, beside=interval)) if key == "perplexity" else row)
            rows += _tasks(known) if key == "accuracy" else []
        elif key in named:
            without.append(ALWAYS[key])
    if without:
        rows.append(Row(", ".join(without), (Cell(beside="not measured"), *[Cell()] * (len(known) - 1))))
    return rows


def _interval(original: Mapping[str, Any], pruned: Mapping[str, Any], text: Mapping[str, Any]) -> str:
    """The 95% interval of how many times as high the perplexity is, sequence by sequence; "" where that is not known.

    It is far narrower than the errors of the two perplexities: both models find the same sequences hard.
    """
    before, after = (samples(side, original, text).get("perplexity") for side in (original, pruned))
    if before is None or after is None:
        return ""
    found = of_losses(before.each, after.each)
    if found is None or found.reach is None or found.value > math.log(FAR):
        return ""
    return "({}–{})".format(*(factor(factor_of(found.value + side * found.reach)) for side in (-1, 1)))


def _measured(key: str, known: list[dict[str, Value]], part: bool = False) -> Row:
    """A metric of all models."""
    shown = metric(key)
    name = NAMES.get(key) or (shown.title.partition(": ")[2].capitalize() if part else shown.title)
    if key == "accuracy" and (tasks := sum(each.startswith("accuracy/") for each in known[-1])) > 1:
        name = f"{name}, mean of {tasks} sets"
    cells = [_with_error(key, each[key]) if key in each else Cell() for each in known]
    if key == "kl":
        cells[0] = Cell()  # of itself
    return Row(name, tuple(cells), Cell(_change(key, known[0].get(key), known[-1].get(key))), part)


def _tasks(known: list[dict[str, Value]]) -> list[Row]:
    """The sets of questions one by one, where there are several."""
    tasks = [key for key in known[-1] if key.startswith("accuracy/")]
    return [_measured(key, known, part=True) for key in tasks] if len(tasks) > 1 else []


def _with_error(key: str, value: Value) -> Cell:
    shown, (low, high) = metric(key), ends(value)
    error = ""
    if low is not None and high is not None:
        error = f"± {shown.bare(high - value.value, value.value)}"
        if value.quartiles is not None:
            error = f"({shown.bare(low, value.value)}–{shown.bare(high, value.value)})"
    return Cell(shown.say(value.value), f"{error} {UNITS.get(key, '')}".strip())


def _change(key: str, before: Value | None, after: Value | None) -> str:
    """What became of a number: a factor, or points of an accuracy."""
    if before is None or after is None or not before.value or key == "kl":
        return ""
    if key.startswith("accuracy"):
        return f"{100 * (after.value - before.value):+.1f} points".replace("-", "−")
    if key == "peak_memory":
        return percent(after.value / before.value - 1)
    ratio = after.value / before.value
    return f"{ratio:.2f}×" if ratio < 100 else f"{ratio:,.0f}×"


def _whole(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else ""
