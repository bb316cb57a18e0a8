"""A report's charts of one run: block influence and what the plan did, losses before and after, its recovery."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from come.plan.plan import Plan
from come.report.colors import ACCENT, CATEGORIES, MARK, ORIGINAL, layer_color
from come.report.html.axes import Figure, laid_out, round_marks
from come.report.probes import Pair, states_of

MOST = 400  # points of a line of losses; of more, every so many


def influence(plan: Plan, measured: Sequence[float]) -> Figure | None:
    """Block influence of every layer before the first step, and what the plan did with it.

    Args:
        plan: the run's.
        measured: (layers,), 1 - cosine; None comes back where it is not of the plan's model.
    """
    layers = plan.base.layers
    if len(measured) != layers or min(measured) <= 0:
        return None
    groups = plan.groups()
    merged = {layer for group in groups if len(group) > 1 for layer in group}
    gone = set(range(layers)) - {layer for group in groups for layer in group}
    kinds = (
        ("stays", "square", set(range(layers)) - merged - gone),
        ("merged", "diamond", merged),
        ("removed", "x", gone),
    )
    data = [
        {
            "type": "scatter",
            "name": name,
            "x": sorted(chosen),
            "y": [measured[layer] for layer in sorted(chosen)],
            "mode": "markers",
            "marker": {
                "symbol": symbol,
                "size": 9 if name == "stays" else 12,
                "color": [layer_color(layer, layers) for layer in sorted(chosen)],
                "line": {"width": 0 if name == "stays" else 1.5, "color": MARK},
            },
            "hovertemplate": f"layer %{{x}}, {name}<br>block influence %{{y:.4f}}<extra></extra>",
            "showlegend": True,
        }
        for name, symbol, chosen in kinds
        if chosen
    ]
    figure = laid_out(data, 240, "layer", "block influence (log)")
    figure["layout"]["xaxis"]["showgrid"] = False
    figure["layout"]["yaxis"] |= round_marks(min(measured), max(measured))
    return figure


def sequences(original: Sequence[float], pruned: Sequence[float]) -> Figure | None:
    """The loss of each held-out sequence before and after; None where they are not of the same sequences."""
    if not original or len(original) != len(pruned) or len(original) > MOST:
        return None
    data = []
    for name, losses, color, symbol in (
        ("before", original, ORIGINAL, "circle"),
        ("after", pruned, ACCENT, "diamond"),
    ):
        data.append(
            {
                "type": "scatter",
                "name": name,
                "x": list(range(1, len(losses) + 1)),
                "y": list(losses),
                "mode": "lines+markers",
                "line": {"color": color, "width": 1, "dash": "dot"},
                "marker": {"color": color, "symbol": symbol, "size": 8},
                "hovertemplate": f"sequence %{{x}}, {name}<br>%{{y:.3f}} nats per token<extra></extra>",
                "showlegend": True,
            }
        )
    figure = laid_out(data, 240, "held-out sequence", "loss, nats per token")
    few = {"dtick": 1} if len(original) <= 16 else {}
    figure["layout"]["xaxis"] |= {"showgrid": False, **few}
    return figure


def mix(pair: Pair, groups: Sequence[Sequence[int]]) -> Figure:
    """The weight of each layer in the mix that a task is read from, of both models, over the share of the depth.

    Args:
        pair: the probes of both.
        groups: the original's layers that each layer of the pruned model stands for.
    """
    data = []
    for name, probe, stands_for, color, symbol in (
        ("before", pair.before, (), ORIGINAL, "circle"),
        ("after", pair.after, groups, ACCENT, "diamond"),
    ):
        last = len(probe.weights) - 1
        data.append(
            {
                "type": "scatter",
                "name": name,
                "x": [state / last for state in range(last + 1)],
                "y": list(probe.weights),
                "customdata": states_of(probe, stands_for),
                "mode": "lines+markers",
                "line": {"color": color, "width": 1, "dash": "dot"},
                "marker": {"color": color, "symbol": symbol, "size": 8},
                "hovertemplate": f"{name}, %{{customdata}}<br>weight %{{y:.1%}}<extra></extra>",
                "showlegend": True,
            }
        )
    figure = laid_out(data, 240, "depth: 0% the embeddings, 100% the last layer", "share of the mix")
    figure["layout"]["xaxis"] |= {"tickformat": ".0%", "showgrid": False}
    figure["layout"]["yaxis"] |= {"tickformat": ".0%", "rangemode": "tozero"}
    return figure


def training(by_part: Mapping[str, Mapping[str, pd.Series]]) -> Figure:
    """The losses of a recovery: a colour for each way and layer, training as a line, held out as points on one.

    Args:
        by_part: by way and layer, in words, and by kind ("training", "held out"): the losses by step.
    """
    data = []
    for place, (part, found) in enumerate(by_part.items()):
        color = CATEGORIES[place % len(CATEGORIES)]
        for kind, losses in found.items():
            losses = losses[losses.map(math.isfinite)]
            each = losses.iloc[:: math.ceil(len(losses) / MOST) or 1]
            data.append(
                {
                    "type": "scatter",
                    "name": f"{part}, {kind}",
                    "x": [int(step) for step in each.index],
                    "y": [float(loss) for loss in each],
                    "mode": "lines" if kind == "training" and len(each) > 1 else "lines+markers",
                    "line": {"color": color, "width": 1.5, "dash": "solid" if kind == "training" else "dot"},
                    "hovertemplate": f"step %{{x}}<br>{part}, {kind}: %{{y:.4g}}<extra></extra>",
                    "showlegend": True,
                }
            )
    return laid_out(data, 260, "step", "loss")
