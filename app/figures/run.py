"""Charts of the run page: what each step of a finished run decided, and how its recovery was trained.

Pure functions: a run's history (results.json) or losses in, a plotly figure out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from app import theme
from come.numbers import ranges
from come.pruning.result import StepRecord
from come.report.colors import ORIGINAL as INK


def steps(history: Sequence[Mapping[str, Any]], merged: Sequence[Sequence[int]] = ()) -> go.Figure | None:
    """The windows that merges chose, or the layers that a removal took; None where nothing was measured.

    Args:
        history: one record a step: window, ratio, block_influence, skip_influence, measured.
        merged: the original layers of each of the plan's merges; the newest are those of the history.
    """
    if not history:
        return None
    if history[0]["ratio"]:
        known = merged[-len(history) :] if len(merged) >= len(history) else [_window(record) for record in history]
        return _merges(history, [ranges(layers) for layers in known])
    return _removals(history) if history[0]["block_influence"] else None


def losses(part: str, found: Mapping[str, pd.Series]) -> go.Figure:
    """The losses of one way and layer by step, training and held out, the lowest held-out one marked.

    Args:
        part: which way and layer, in words.
        found: by kind ("training", "held out"), the losses by step.
    """
    figure = go.Figure()
    looks = {"training": (theme.ACCENT, "lines"), "held out": (theme.MARK, "lines+markers")}
    for kind, series in found.items():
        color, mode = looks[kind]
        figure.add_scatter(
            x=list(series.index),
            y=list(series),
            mode="markers" if len(series) == 1 else mode,
            name=kind,
            line={"color": color, "width": 2},
            marker={"color": color, "size": 7},
            hovertemplate=f"step %{{x}}<br>{kind} %{{y:.4g}}<extra></extra>",
        )
    every = [value for series in found.values() for value in series]
    log = min(every) > 0 and max(every) / min(every) > 8
    name, held = f"{part[:1].upper()}{part[1:]}", found.get("held out")
    if held is None:
        trained = found["training"]
        title = f"{name}: training loss {trained.iloc[0]:.3g} at first, {trained.iloc[-1]:.3g} at the end"
    else:
        among = f", the lowest of {len(held)} checks" if len(held) > 1 else ""
        title = f"{name}: held-out loss {held.min():.3g} after step {held.idxmin()}{among}"
    theme.finish(figure, title, x="step", y=f"loss{' (log)' if log else ''}", height=300, legend=True)
    return figure.update_yaxes(type="log" if log else "linear", nticks=6).update_xaxes(showgrid=False)


def _merges(history: Sequence[Mapping[str, Any]], names: Sequence[str]) -> go.Figure | None:
    """SBI of every window at every step, the merged one marked."""
    known = [(number, record) for number, record in enumerate(history, start=1) if _chosen(record) is not None]
    if not known:
        return None
    width = max(len(record["skip_influence"]) for _, record in known)
    rows = [[*record["skip_influence"], *[None] * (width - len(record["skip_influence"]))] for _, record in known]
    values = sorted(value for row in rows for value in row if value is not None)
    figure = go.Figure(
        [
            go.Heatmap(
                z=rows,
                x=list(range(width)),
                y=[f"{number}" for number, _ in known],
                colorscale=theme.sequential(),
                zmin=values[0],
                zmax=values[int(0.9 * (len(values) - 1))],  # the first and last layers would take the whole scale
                xgap=1,
                ygap=2,
                hoverongaps=False,
                hovertemplate="step %{y}, window from layer %{x}<br>SBI %{z:.4f}<extra></extra>",
                colorbar={"title": {"text": "SBI"}, "thickness": 10, "len": 1, "outlinewidth": 0, "nticks": 3},
            ),
            go.Scatter(
                x=[_measured(record)[0] for _, record in known],
                y=[f"{number}" for number, _ in known],
                mode="markers",
                marker={"symbol": "circle", "size": 10, "color": theme.MARK, "line": {"width": 1.5, "color": "white"}},
                hovertext=[_words(number, names[number - 1], record) for number, record in known],
                hovertemplate="%{hovertext}<extra></extra>",
            ),
        ]
    )
    title = f"{'The one step' if len(history) == 1 else 'The first step'} merged layers {names[0]}"
    if len(known) > 1:
        times = (_chosen(known[-1][1]) or 0.0) / (_chosen(known[0][1]) or 1.0)
        title += f"; the last one's window turned the state {times:.1f} times as far"
    numbered = ", as numbered by then" if len(known) > 1 else ""
    theme.finish(
        figure,
        title,
        x=f"first layer of the window{numbered} (● merged); colour: skip block influence (SBI)",
        y="step",
        height=120 + min(26 * len(known), 420),
    )
    return figure.update_yaxes(autorange="reversed", showgrid=False).update_xaxes(showgrid=False)


def _window(record: Mapping[str, Any]) -> Sequence[int]:
    first, last = record["window"]
    return range(first, last + 1)


def _words(number: int, layers: str, record: Mapping[str, Any]) -> str:
    ratio = " : ".join(f"{share:.2f}" for share in record["ratio"])
    return f"<b>step {number}</b> merged layers {layers}<br>ratio {ratio}<br>SBI {_chosen(record):.4f}"


def _removals(history: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Block influence of every layer, in its colour; the removed ones hollow and grey."""
    influence = history[0]["block_influence"]
    layers = len(influence)
    windows = [record["window"] for record in history]
    gone = {layer for first, last in windows for layer in range(first, min(last + 1, layers))}
    kept = [layer for layer in range(layers) if layer not in gone]
    figure = go.Figure()
    for name, chosen in (("kept", kept), ("removed", sorted(gone))):
        colors = [theme.layer_color(layer, layers) for layer in chosen]
        figure.add_scatter(
            x=chosen,
            y=[influence[layer] for layer in chosen],
            mode="markers",
            marker={"size": 12, "symbol": "square", "color": colors}
            if name == "kept"
            else {"size": 12, "symbol": "x-thin", "line": {"width": 2, "color": INK}},
            name=name,
            hovertemplate=f"layer %{{x}}, {name}<br>block influence %{{y:.4f}}<extra></extra>",
        )
    names = ", ".join(str(layer) for layer in sorted(gone)[:8]) + ("…" if len(gone) > 8 else "")
    subject = f"Layers {names} changed their" if len(gone) != 1 else f"Layer {names} changed its"
    theme.finish(
        figure,
        f"{subject} input least and went",
        x="layer",
        y="block influence (BI), log",
        height=300,
        legend=True,
    )
    return figure.update_yaxes(type="log", dtick=1).update_xaxes(showgrid=False)


def _measured(record: Mapping[str, Any]) -> tuple[int, int]:
    """The window in the numbering of what was measured; windows after one pass are in that of the pass."""
    first, last = record.get("measured") or record["window"]
    return first, last


def _chosen(record: Mapping[str, Any]) -> float | None:
    return StepRecord(**record).chosen_skip_influence
