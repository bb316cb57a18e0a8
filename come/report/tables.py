"""The compare page's tables: every run with all that was measured, and a summary for a paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from come.report.measured import Result, Value
from come.report.metrics import PARAMETERS, Metric, measured
from come.report.points import Point, of_original, points

FIELDS = ("run", "name", "series", "method", "layers", "parameters", "bytes", "removed", "seed")
_MISSING = Value(math.nan)
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": r"$-$",
    "×": r"$\times$",
    "–": "--",
    **{sign: f"$^{digit}$" for digit, sign in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def originals_once(originals: Sequence[Result]) -> list[Result]:
    """The original of each seed once: of the first run, which is the newest, that holds most metrics of it."""
    found: dict[int, Result] = {}
    for result in originals:
        if result.seed not in found or len(result.values) > len(found[result.seed].values):
            found[result.seed] = result
    return list(found.values())


def rows(results: Sequence[Result], originals: Sequence[Result]) -> list[Result]:
    """The lines of the table: the original, then from large to small, each size from the best to the worst."""

    def place(result: Result) -> tuple[float, float, str]:
        perplexity = result.values.get("perplexity")
        return (-(result.layers or 0), perplexity.value if perplexity else float("inf"), result.series)

    return [*originals_once(originals), *sorted(results, key=place)]


def columns(lines: Sequence[Result]) -> dict[str, Any]:
    """The table as columns by title: sizes, then each metric in its unit, with its standard error."""
    alone = sum(line.method == "original" for line in lines) == 1  # several differ by their seeds
    table: dict[str, Any] = {
        "Method": [line.series for line in lines],
        "Layers": [line.layers for line in lines],
        "Seed": pd.array([None if alone and line.method == "original" else line.seed for line in lines], "Int64"),
        "Parameters (M)": [line.parameters / 1e6 for line in lines],
        "Removed (%)": [100 * line.removed for line in lines],
    }
    for metric in measured(lines):
        held = [line.values.get(metric.key) for line in lines]
        table[_title(metric)] = [value.value * metric.scale if value else None for value in held]
        if any(value and value.stderr is not None for value in held):
            table[f"± {_title(metric)}"] = [
                value.stderr * metric.scale if value and value.stderr is not None else None for value in held
            ]
    return table | {"Run": [f"with {line.name}" if line.method == "original" else line.name for line in lines]}


def decimals(lines: Sequence[Result]) -> dict[str, int]:
    """How many digits behind the point each column of `columns` is shown with."""
    digits = {"Parameters (M)": 1, "Removed (%)": 1}
    for metric in measured(lines):
        digits |= {_title(metric): metric.digits, f"± {_title(metric)}": metric.digits}
    return digits


def to_csv(lines: Sequence[Result]) -> str:
    """All numbers as they were measured, unrounded, in their own units: one line a run."""
    table = {name: [getattr(line, name) for line in lines] for name in FIELDS}
    for key in (metric.key for metric in measured(lines)):
        held = [line.values.get(key, _MISSING) for line in lines]
        quartiles = [value.quartiles or (None, None) for value in held]
        errors = {
            f"{key}_stderr": [value.stderr for value in held],
            f"{key}_q1": [low for low, _ in quartiles],
            f"{key}_q3": [high for _, high in quartiles],
        }
        table[key] = [value.value for value in held]
        table |= {name: column for name, column in errors.items() if any(each is not None for each in column)}
    text: str = pd.DataFrame(table, dtype=object).to_csv(index=False, lineterminator="\n")
    return text


def to_markdown(results: Sequence[Result], originals: Sequence[Result], keys: Sequence[str] = ()) -> str:
    """One line a method and size: means over seeds, ± one standard error or, over seeds, one standard deviation.

    Args:
        results: newest first. originals: the model as it was, of each.
        keys: the metrics that are columns, where measured, in this order; none: all that were measured.
    """
    heads, rows = summary(results, originals, keys)
    table = [heads, ["---", *["---:"] * (len(heads) - 1)]]
    table += [[f"**{cell}**" if best else cell for cell, best in row] for row in rows]
    return "".join("| " + " | ".join(_in_markdown(cell) for cell in row) + " |\n" for row in table)


def summary(
    results: Sequence[Result], originals: Sequence[Result], keys: Sequence[str] = ()
) -> tuple[list[str], list[list[tuple[str, bool]]]]:
    """The same as cells: the heads, and line by line each cell with whether it is the best of its size."""
    known = {metric.key: metric for metric in measured(results)}
    metrics = [known[key] for key in keys if key in known] if keys else list(known.values())
    heads = ["Method", "Layers", "Parameters (M)", *(_title(metric) for metric in metrics)]
    rows = []
    for line in _summary(results, originals, metrics):
        sizes = [line.series, _words(line.layers), f"{line.parameters / 1e6:,.1f}"]
        rows.append([*((size, False) for size in sizes), *((_cell(m, p), best) for m, p, best in line.cells)])
    return heads, rows


def to_latex(results: Sequence[Result], originals: Sequence[Result]) -> str:
    r"""The same as a booktabs tabular, a rule between sizes; the best of each size in bold."""
    metrics = measured(results)
    heads = ["Method", "Layers", "Params (M)", *(_title(metric) for metric in metrics)]
    out = [
        r"% Needs \usepackage{booktabs}. Means over seeds; +/-: one standard error, over seeds one standard deviation.",
        rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
        r"\toprule",
        " & ".join(escaped(head) for head in heads) + r" \\",
    ]
    before: object = out  # no line yet
    for line in _summary(results, originals, metrics):
        if line.layers != before:
            out.append(r"\midrule")
            before = line.layers
        cells = [_latex_cell(m, p, best) for m, p, best in line.cells]
        row = [escaped(line.series), _words(line.layers, "--"), f"{line.parameters / 1e6:.1f}", *cells]
        out.append(" & ".join(row) + r" \\")
    return "\n".join([*out, r"\bottomrule", r"\end{tabular}", ""])


def escaped(text: str) -> str:
    """Text as LaTeX shows it."""
    return "".join(_LATEX.get(sign, sign) for sign in " ".join(text.split()))


@dataclass(frozen=True)
class _Line:
    """A line of the summary: a series at one size; of each metric its point, and whether that is the best there."""

    series: str
    layers: int | None
    parameters: float
    cells: list[tuple[Metric, Point | None, bool]]


def _summary(results: Sequence[Result], originals: Sequence[Result], metrics: Sequence[Metric]) -> list[_Line]:
    """The original, then every series from the largest size to the smallest, each size from best to worst."""
    whole = [(metric, of_original(originals, metric, PARAMETERS, like=results), False) for metric in metrics]
    original = next((point for _, point, _ in whole if point), None)
    lines = [_Line("original", original.layers, original.parameters, whole)] if original else []
    drawn = {metric.key: points(results, metric, PARAMETERS) for metric in metrics}
    places: dict[tuple[str, int | None], Point] = {}
    for metric in metrics:
        for point in sorted(drawn[metric.key], key=lambda each: each.value, reverse=not metric.lower):
            places.setdefault((point.series, point.layers), point)
    for place, point in sorted(places.items(), key=lambda item: -(item[0][1] or 0)):
        cells = []
        for metric in metrics:
            held = next((p for p in drawn[metric.key] if (p.series, p.layers) == place), None)
            cells.append((metric, held, held is not None and _is_best(held, drawn[metric.key], metric)))
        lines.append(_Line(point.series, point.layers, point.parameters, cells))
    return lines


def _is_best(point: Point, drawn: Sequence[Point], metric: Metric) -> bool:
    if metric.key == "seconds":  # what a sweep measures once for several methods is in the time of the first alone
        return False
    rivals = [other.value for other in drawn if other.layers == point.layers]
    beats = any(metric.better(point.value, rival) for rival in rivals)
    return beats and not any(metric.better(rival, point.value) for rival in rivals)


def _cell(metric: Metric, point: Point | None) -> str:
    if point is None:
        return "–"
    return metric.say_with(point.value, point.low, point.high).replace(metric.unit, "", 1)


def _latex_cell(metric: Metric, point: Point | None, best: bool) -> str:
    if point is None:
        return "--"
    said = _cell(metric, point)
    value, plus, error = said.partition(" ± ")
    value = value.replace(",", "{,}").replace("−", "-")
    value, _, ends = value.partition(" (")
    shown = rf"\mathbf{{{value}}}" if best else value
    if plus:
        return rf"${shown} \pm {error.replace(',', '{,}')}$"
    return f"${shown}$" + (f" ({ends.replace('–', '--')}" if ends else "")


def _in_markdown(cell: str) -> str:
    return " ".join(cell.replace("|", r"\|").split())


def _words(layers: int | None, missing: str = "–") -> str:
    return missing if layers is None else str(layers)


def _title(metric: Metric) -> str:
    return f"{metric.title} ({metric.unit.strip()})" if metric.unit else metric.title
