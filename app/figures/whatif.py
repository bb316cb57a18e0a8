"""The chart of what-if: every plan tried in a visit, by size and predicted quality."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from app import theme
from come.numbers import perplexity_text
from come.report.metrics import number
from come.serving.whatif.answer import Answer


def tried(plans: Sequence[Answer], now: Answer, original: Answer) -> go.Figure:
    """Predicted perplexity against parameters, smaller models to the right.

    Args:
        plans: all that were answered on the same tokens; ``now`` is one of them.
        now: the plan as it stands.
        original: the model itself, on the same tokens.
    """
    others = [plan for plan in plans if plan != now]
    figure = go.Figure(
        [
            _points([original], "original", "circle-open", theme.QUIET),
            _points(others, "plans tried", "circle", theme.ACCENT),
            _points([now], "this plan", "diamond", theme.MARK),
        ]
    )
    figure.update_xaxes(autorange="reversed", ticksuffix=" M")
    known = [original, *plans]
    if max(plan.perplexity for plan in known) > 8 * min(plan.perplexity for plan in known):
        figure.update_yaxes(type="log")
    return theme.finish(
        figure,
        _finding(others, now),
        x="parameters, in millions",
        y="predicted perplexity (± one standard error)",
        height=300,
        legend=True,
    )


def _finding(others: Sequence[Answer], now: Answer) -> str:
    """Where the plan lies among the others of at most its size."""
    rivals = [plan for plan in others if plan.parameters <= now.parameters]
    if not rivals:
        return "This plan is the smallest so far"
    best = min(rivals, key=lambda plan: plan.perplexity)
    if best.perplexity < now.perplexity:
        own = number(now.perplexity)
        return f"A plan no larger than this one had perplexity {number(best.perplexity)}; this one has {own}"
    return f"No plan of this size or smaller has lower perplexity than this one's {number(now.perplexity)}"


def _points(plans: Sequence[Answer], name: str, symbol: str, color: str) -> go.Scatter:
    errors = [plan.perplexity_stderr if math.isfinite(plan.perplexity_stderr) else 0.0 for plan in plans]
    return go.Scatter(
        x=[plan.parameters / 1e6 for plan in plans],
        y=[plan.perplexity for plan in plans],
        error_y={"type": "data", "array": errors, "thickness": 1, "width": 3, "color": color},
        mode="markers",
        name=name,
        marker={"symbol": symbol, "size": 11, "color": color, "line": {"width": 1.5, "color": color}},
        customdata=[
            [plan.layers, error, perplexity_text(plan.perplexity)] for plan, error in zip(plans, errors, strict=True)
        ],
        hovertemplate="%{customdata[0]} layers, %{x:.1f} M parameters<br>"
        "perplexity %{customdata[2]} ± %{customdata[1]:.2f}<extra>%{fullData.name}</extra>",
    )
