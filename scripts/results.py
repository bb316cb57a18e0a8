"""The table and figures of docs/results.md, from a folder of runs: .venv/bin/python -m scripts.results RUNS.

Prints one Markdown line per method and size, as the compare page's download has them, and writes two figures as SVG,
in docs/images or --out: perplexity and retention of accuracy against layers. Of several models or texts the one with
most runs counts.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from urllib.parse import unquote_to_bytes

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

import come
import come.runs
from app.figures import compare as figures
from come.report import comparison, tables
from come.report.chart import chart_of, notes
from come.report.comparison import Entry
from come.report.measured import Result
from come.report.metrics import LAYERS, metric
from come.runs import Run
from scripts.browser import browser

COLUMNS = ("perplexity", "accuracy", "retention", "kl", "seconds")
DRAWN = ("perplexity", "retention")
WIDTH = 960  # pixels
FONT = "system-ui, sans-serif"
ENTRY = 30  # pixels of height that a line of the legend takes
# Plotly answers with a data address, in which the picture stands percent-encoded.
PICTURE = """async figure => await Plotly.toImage(
    figure, {format: 'svg', width: figure.layout.width, height: figure.layout.height})"""


def main() -> None:
    """Print the table, and write the figures."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("runs", type=Path, help="a folder of runs; it is only read")
    asked.add_argument("--out", type=Path, default=Path("docs/images"), help="where the figures go")
    options = asked.parse_args()
    known = come.runs.list_runs(options.runs)
    chosen = largest(known)
    if not chosen:
        sys.exit(f"{options.runs} holds no finished run that was evaluated.")
    for item, reason in comparison.left_out(comparison.entries(known), chosen[0].key):
        print(f"left out: {item.name}: {reason}", file=sys.stderr)
    print(f"{chosen[0].title}; {comparison.count(chosen)}.\n")
    print(table(chosen))
    options.out.mkdir(parents=True, exist_ok=True)
    for name, (drawn, remarks) in drawings(chosen).items():
        target = options.out / f"sweep-{name}.svg"
        target.write_bytes(svg(drawn))
        print(f"{target}: {' '.join(remarks)}", file=sys.stderr)


def largest(runs: list[Run]) -> list[Entry]:
    """The comparable runs of that model and text that most of them are of."""
    return max(comparison.groups(comparison.entries(runs)).values(), key=len, default=[])


def table(chosen: list[Entry]) -> str:
    """One Markdown line per method and size."""
    return tables.to_markdown(*_sides(chosen), COLUMNS)


def drawings(chosen: list[Entry]) -> dict[str, tuple[go.Figure, list[str]]]:
    """The figures by name, each with what belongs under it; one whose metric was not measured is left out."""
    results, originals = _sides(chosen)
    made = {}
    for key in DRAWN:
        shown = chart_of(results, originals, metric(key), LAYERS)
        if shown.points:
            figure = figures.lines(shown.points, shown.original, shown.metric, LAYERS, list(come.methods()))
            made[key] = (figure, notes(shown))
    return made


def svg(figure: go.Figure) -> bytes:
    """A figure as it is drawn on paper: black on white, the legend beside it."""
    figure.update_layout(
        template="plotly_white",
        font_family=FONT,
        font_color="#1a2330",
        legend={"orientation": "v", "x": 1.01, "y": 1, "yanchor": "top"},
        margin={"l": 8, "r": 8, "t": 44, "b": 8},
        width=WIDTH,
        height=max(480, 90 + ENTRY * sum(trace.showlegend is not False for trace in figure.data)),
    )
    with browser() as opened:
        page = opened.new_page()
        page.add_script_tag(content=get_plotlyjs())
        address: str = page.evaluate(PICTURE, json.loads(figure.to_json()))
    return unquote_to_bytes(address.split(",", 1)[1])


def _sides(chosen: list[Entry]) -> tuple[list[Result], list[Result]]:
    results = [item.pruned for item in chosen if item.pruned]
    return results, [item.original for item in chosen if item.original]


if __name__ == "__main__":
    main()
