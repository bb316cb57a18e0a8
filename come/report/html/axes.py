"""What the charts of a report share: ground, type and axes, round marks, error bars.

No word of colour for text or ground is said in a chart: those are the document's (page.css), so that one chart is right
in light, in dark and on paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from come.report.chart import TICKS
from come.report.colors import HAIRLINE, ORIGINAL

Figure = dict[str, Any]  # {"data": [...], "layout": {...}}, as plotly reads it

CLEAR = "rgba(0,0,0,0)"


def laid_out(data: list[dict[str, Any]], height: int, x: str, y: str, shapes: Sequence[dict[str, Any]] = ()) -> Figure:
    """Traces under the layout that all charts have, with a legend where one of them has a name there.

    Args:
        data: the traces. height: pixels.
        x, y: titles of the axes, with their units.
        shapes: lines of reference.
    """
    axis = {"zeroline": False, "automargin": True, "gridcolor": HAIRLINE}
    top = 34 if any(trace.get("showlegend") for trace in data) else 12
    return {
        "data": data,
        "layout": {
            "height": height,
            "margin": {
                "l": 62 if y else 12,
                "r": 12,
                "t": top,
                "b": 50,
            },
            "paper_bgcolor": CLEAR,
            "plot_bgcolor": CLEAR,
            "font": {"family": "system-ui, sans-serif", "size": 12, "color": ORIGINAL},
            "xaxis": {**axis, "title": {"text": x, "standoff": 8}},
            "yaxis": {**axis, "title": {"text": y, "standoff": 12}},
            "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1, "yanchor": "bottom"},
            "hovermode": "closest",
            "hoverlabel": {"align": "left"},
            "modebar": {"orientation": "h", "bgcolor": CLEAR},
            "shapes": list(shapes),
        },
    }


def round_marks(low: float, high: float) -> dict[str, Any]:
    """A logarithmic axis with round marks: 1, 2, 5 a decade, or powers of ten."""
    marks = [tick for tick in (*(10.0**power for power in range(-9, -4)), *TICKS) if low / 2.5 <= tick <= high * 2.5]
    if len(marks) > 10:
        marks = [mark for mark in marks if f"{mark:e}".startswith("1")]
    return {"type": "log", "tickvals": marks, "ticktext": [f"{mark:,.4g}" for mark in marks]}


def error_bars(above: Sequence[float], below: Sequence[float], color: str, thickness: float = 1.2) -> dict[str, Any]:
    """Error bars."""
    if not any((*above, *below)):
        return {"visible": False}
    bars = {"type": "data", "symmetric": False, "array": list(above), "arrayminus": list(below)}
    return {**bars, "color": color, "thickness": thickness, "width": 4}
