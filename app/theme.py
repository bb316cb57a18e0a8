"""Colour, type and layout of every figure and of the page, in one place.

The figures are shown by ``st.plotly_chart(theme="streamlit")``, which colours text, grid and background
after the reader's light or dark theme. So nothing here names a text or background colour: a figure
names only the colours that carry data, and those are legible on both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas  # noqa: F401 - plotly looks for it half-imported when two visitors come first at the same time
import plotly.graph_objects as go

from come.report.colors import ACCENT as ACCENT
from come.report.colors import CATEGORIES as CATEGORIES
from come.report.colors import HAIRLINE as HAIRLINE
from come.report.colors import MARK as MARK
from come.report.colors import ORIGINAL as ORIGINAL
from come.report.colors import QUIET as QUIET
from come.report.colors import layer_color as layer_color
from come.report.colors import rgb

INK = "#767d88"  # words on the page's ground where a figure must name a colour; css() puts the page's own in its place

DOTS = 0.4  # how strong the dots on a layer's colour are
# Low to high, even in lightness, blue to yellow (safe without red and green); reads on white and on black.
SEQUENTIAL = ["#0d1b3e", "#173a6b", "#2c5d86", "#4f7f8e", "#7c9f8c", "#b0b980", "#e0d07a", "#fff1a8"]


def ink_on(color: str) -> str:
    """Black or white, whichever is easier to read on that colour."""
    red, green, blue = rgb(color)
    return "#10151d" if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else "#ffffff"


def dots(color: str, second: bool) -> dict[str, str | float]:
    """The pattern of a bar in a layer's colour: every second source is dotted, as neighbours look alike to a room.

    Dotted, as what is hatched is left out.
    """
    if not second:
        return {"shape": ""}
    return {
        "shape": ".",
        "fillmode": "overlay",
        "fgcolor": ink_on(color),
        "fgopacity": DOTS,
        "size": 6,
        "solidity": 0.16,
    }


def faded(color: str, opacity: float) -> str:
    """A hex colour, see-through."""
    return f"rgba({', '.join(str(int(color[i : i + 2], 16)) for i in (1, 3, 5))}, {opacity})"


def sequential() -> list[list[float | str]]:
    """The low-to-high scale in plotly's form: [[0.0, colour], ... [1.0, colour]]."""
    last = len(SEQUENTIAL) - 1
    return [[i / last, color] for i, color in enumerate(SEQUENTIAL)]


def log_marks(low: float, high: float) -> list[float]:
    """Round values from low to high for a logarithmic scale: 1, 2, 5 a decade; over two decades, powers of ten."""
    steps = (1, 2, 5) if high < 100 * low else (1,)
    exponents = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    marks = [step * 10.0**exponent for exponent in exponents for step in steps]
    return [mark for mark in marks if low <= mark <= high]


def finish(
    figure: go.Figure,
    title: str,
    *,
    x: str = "",
    y: str = "",
    height: int = 360,
    legend: bool = False,
    colorbar: bool = False,
    above: bool = False,
) -> go.Figure:
    """Give a figure the house's layout: the finding as title, named axes, little ink.

    The margins hold the usual labels from the start: where plotly finds that it must make room, it draws all again.

    Args:
        figure: the figure to lay out; changed in place and returned.
        title: the finding, as a sentence; may hold a second line after ``<br>``.
        x: title of the horizontal axis, with its unit.
        y: title of the vertical axis, with its unit.
        height: pixels.
        legend: show the legend, above the plot.
        colorbar: there is one on the right; the margins are then fixed, as the axes' labels are layers and units.
        above: there is a titled axis above the plot, too.
    """
    axes = {"zeroline": False, "automargin": not colorbar}
    house = {
        "title": {
            "text": title,
            "x": 0,
            "xref": "container",
            "xanchor": "left",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 6, "l": 2},
            "font": {"size": 15, "weight": 600},
        },
        "height": height,
        "margin": {
            "l": 62 if y else 8,
            "r": 88 if colorbar else 16,
            "t": 10 + title_room(title) + (32 if legend else 0) + (40 if above else 0),
            "b": 58 if colorbar else 54 if x else 8,
        },
        "showlegend": legend,
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1,
            "yanchor": "bottom",
            "title": {"text": ""},
            "font": {"size": 12},
        },
        "hoverlabel": {"align": "left"},
        "bargap": 0.25,
        "dragmode": False,
        "modebar": {"orientation": "h"},
    }
    layout = figure.layout.to_plotly_json()
    layout.pop("template", None)  # plotly puts its own again, without looking through it
    for name in {"xaxis", "yaxis", *(key for key in layout if key.startswith(("xaxis", "yaxis")))}:
        across = name.startswith("x")
        words = {"text": x if across else y, "standoff": 8 if across else 14, "font": {"size": 12}}
        house[name] = {"title": words, **axes}
    # In one go: what plotly checks for each of ``update_layout`` and ``update_xaxes`` takes six times as long.
    figure.layout = _with(layout, house)
    return figure


def _with(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """One nested mapping laid over another."""
    both = dict(below)
    for key, value in above.items():
        under = both.get(key)
        both[key] = _with(under, value) if isinstance(under, dict) and isinstance(value, Mapping) else value
    return both


def title_room(title: str) -> int:
    """Pixels that a figure's title takes above it."""
    return 6 + 20 * (1 + title.count("<br>"))


def sensitivity_axis(figure: go.Figure, low: float, high: float, *, log: bool) -> go.Figure:
    """Make a figure's vertical axis, of values from low to high (>= 0), logarithmic with round marks, or linear."""
    if not log:
        return figure.update_yaxes(type="linear")
    high = max(high, 1e-30)
    marks = log_marks(max(low, high * 1e-12), high)
    if len(marks) < 2:  # too narrow for round values: plotly finds others
        return figure.update_yaxes(type="log")
    return figure.update_yaxes(type="log", tickvals=marks, ticktext=[f"{mark:g}" for mark in marks])


def outline_row(figure: go.Figure, layer: int, left: float, right: float) -> None:
    """Frame one row of a heatmap as the selected one, from x = left to x = right."""
    figure.add_shape(
        type="rect",
        x0=left,
        x1=right,
        y0=layer - 0.5,
        y1=layer + 0.5,
        xref="x",
        yref="y",
        line={"color": MARK, "width": 2},
    )


def dividers(figure: go.Figure, edges: Sequence[float], rows: int, *, opacity: float, width: float) -> None:
    """White vertical lines over a heatmap of that many rows, at x = each of the edges."""
    if len(edges):
        # One shape: plotly, in Python and in the browser, takes long over each.
        path = "".join(f"M{edge},-0.5V{rows - 0.5}" for edge in edges)
        line = {"color": f"rgba(255,255,255,{opacity})", "width": width}
        figure.add_shape(type="path", path=path, xref="x", yref="y", line=line)


# plotly's own toolbar, only what a reader uses; figures are exported in the browser.
PLOT_CONFIG = {
    "displaylogo": False,
    "plotGlPixelRatio": 1,  # only unseen points, for hover and clicks, are drawn by WebGL: fine canvases are wasted
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "zoomIn2d", "zoomOut2d", "autoScale2d", "pan2d"],
    "toImageButtonOptions": {"format": "svg", "filename": "come-lab"},
}


def css() -> str:
    """The page's few own styles, as one <style> element.

    Streamlit offers no variables for its colours, so these come from ``currentColor``: the words' own, in either theme.
    """
    return _CSS.replace("LINE", HAIRLINE).replace("INK", f"rgb({', '.join(f'{part:.0f}' for part in rgb(INK))})")


_CSS = """<style>
:root { --come-line: LINE; --come-ink: color-mix(in srgb, currentColor 76%, transparent); }
.stApp [data-testid="stMainBlockContainer"] {
  max-width: 1800px; padding-top: 3.25rem; padding-bottom: 4rem;
}
.come-strip {
  display: flex; flex-wrap: wrap; align-items: center; gap: .35rem 1rem;
  padding: .5rem 0 .6rem; border-bottom: 1px solid var(--come-line);
  font-size: .875rem; line-height: 1.35; font-variant-numeric: tabular-nums;
}
@media (min-width: 641px) {  /* one line on every page, so that nothing below it moves from page to page */
  .come-strip { flex-wrap: nowrap; height: 2.35rem; white-space: nowrap; }
  .come-strip > span { min-width: 0; overflow: hidden; text-overflow: ellipsis; }
  .come-strip > :has(b) { flex-shrink: 0; }
  .come-strip > :first-child { flex-shrink: 200; min-width: 5rem; }  /* names are cut before numbers */
  .come-strip > :has(.called) { flex-shrink: 100; min-width: 6rem; }
  .come-strip > :has(.come-tiles) { flex: 0 100000 auto; min-width: 7rem; }  /* tiles give way first */
  .come-strip .come-tiles { display: flex; flex-wrap: nowrap; }
  .come-strip .come-tiles > span { flex: 0 1 auto; min-width: 0; }
  .come-strip .come-tiles i { flex: 0 1 6px; min-width: 1px; }
}
@media (min-width: 1100px) {  /* what a run says is cut before the model's name */
  .come-strip > :first-child { flex-shrink: 0; max-width: 30%; }
}
@media (hover: none) {  /* else they lie on the chart, or on what stands above a table, always */
  .js-plotly-plot .modebar, [data-testid="stElementToolbar"] { display: none !important; }
}
.come-strip b { font-weight: 600; }
.st-key-find-channel [data-testid="InputInstructions"] { display: none; }  /* it would lie on what is typed */
.come-told {  /* a word that is told where one points */
  text-decoration: underline dotted; text-underline-offset: .2em; cursor: help;
}
.come-strip .quiet { opacity: .72; }
.stMain h1 { padding: .35rem 0 .6rem !important; }
.stMain p > code { overflow-wrap: normal; word-break: normal; }  /* no word of code is split */
.stMain kbd { color: inherit !important; opacity: .78 !important; }
.stMain [data-variant="segmented_control"] { min-height: 2.5rem; }  /* as high as what stands beside it */
[data-testid="stCaptionContainer"] { opacity: .78; }  /* Streamlit's .6 is too faint in light */
/* What a figure writes on the page's ground: one grey would be too faint in one of the themes. */
.js-plotly-plot :is(.xaxislayer-above, .xaxislayer-below, .yaxislayer-above, .yaxislayer-below, .infolayer) text,
.js-plotly-plot :is(text[style*="INK"], .hovertext .nums) { fill: var(--come-ink) !important; }
/* The dark theme's accent is light: white words on it would be too faint. White where the words around are dark, and
   the other way round; light-dark() would not do, as popovers hang outside of what Streamlit gives a colour scheme. */
:is([data-testid="stBaseButton-primary"], [data-testid="stBaseLinkButton-primary"], [data-tag]):not(:disabled) {
  color: oklch(from currentColor clamp(.18, (.6 - l) * 1000, 1) 0 0) !important;
}
:is([data-testid="stBaseButton-primary"], [data-testid="stBaseLinkButton-primary"], [data-tag]):not(:disabled)
  :is(p, span, button, svg) { color: inherit !important; }
/* A number out of range is not taken: its sentence is shown, and nothing is begun by the number before it. */
[data-testid="stNumberInputContainer"]:has([aria-invalid="true"]) { position: relative; overflow: visible; }
[data-testid="stNumberInputContainer"] > [id$="-validation-error"] {
  position: absolute; inset: calc(100% + 3px) auto auto 0; z-index: 20; width: max-content; height: auto; margin: 0;
  max-width: min(16rem, 80vw); padding: .25rem .5rem; clip: auto; clip-path: none; overflow: visible;
  border: 1px solid currentColor; border-radius: 6px; white-space: normal; font-size: .8rem; line-height: 1.35;
  background: light-dark(#fff4f2, #2a1715); color: light-dark(#8f1d12, #ffb4a9);
}
.stMain:has([data-testid="stNumberInputField"][aria-invalid="true"]) [data-testid="stBaseButton-primary"] {
  pointer-events: none; opacity: .4;
}
/* The plan page's narrow column holds three choices; where it would be too narrow, the answer goes below. */
.st-key-aim [data-variant="segmented_control"] { padding-inline: .5rem; }
:is(.st-key-plan-presets, .st-key-presenter) kbd { display: none !important; }  /* they are in the tooltips */
@media (max-width: 1100px) {
  .st-key-plan-body > * > [data-testid="stHorizontalBlock"], .st-key-plan-body > [data-testid="stHorizontalBlock"] {
    flex-wrap: wrap;
  }
  .st-key-plan-body > * > * > [data-testid="stColumn"], .st-key-plan-body > * > [data-testid="stColumn"] {
    flex: 1 1 100% !important; min-width: 100% !important;
  }
}
@media (min-width: 641px) and (max-width: 1100px) {
  .st-key-plan-choices:not(:has(.st-key-tiles)) { flex-direction: row !important; flex-wrap: wrap; }
  .st-key-plan-choices:not(:has(.st-key-tiles)) > * { flex: 1 1 13rem; width: auto !important; }
}
.come-tiles {
  display: inline-flex; flex-wrap: wrap; gap: 2px; min-height: 14px; max-width: 100%; vertical-align: middle;
}
.come-tiles > span { display: inline-flex; border-radius: 2px; overflow: hidden; height: 14px; }
.come-tiles i { display: block; width: 6px; height: 100%; }
.come-tiles i.gone {
  background: repeating-linear-gradient(45deg, rgba(128,136,148,.8) 0 1.5px, transparent 1.5px 4px);
}
[data-testid="stPopoverBody"]:has([data-testid="stSkeleton"]) { min-height: 20rem; }  /* until formulas are there */
[data-testid="stElementContainer"]:has(.come-laid-out) { display: none; }
.come-finding { margin: 0; padding: .25rem 0 .1rem; font-weight: 600; line-height: 1.35; }
.come-copy {
  position: absolute; top: .3rem; right: 0; font: inherit; font-size: .75rem; line-height: 1; padding: .2rem .4rem;
  cursor: pointer; color: inherit; background: none; border: 1px solid var(--come-line); border-radius: 4px;
  opacity: .8;
}
:has(> .come-copy) { position: relative; padding-right: 3.4rem; }
.come-copy:is(:hover, :focus-visible) { opacity: 1; }
.come-facts {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(7.5rem, 1fr));
  gap: .9rem 1.25rem; margin: .25rem 0 .5rem;
}
.come-facts div span { display: block; font-size: .8rem; opacity: .72; }
.come-facts div b + span { display: inline; margin-left: .4rem; }
.come-facts div b { font-size: 1.2rem; font-weight: 600; font-variant-numeric: tabular-nums; }
@media (max-width: 640px) {
  .stApp [data-testid="stMainBlockContainer"] { padding-left: 1rem; padding-right: 1rem; }
  .come-facts { grid-template-columns: repeat(2, minmax(0, 1fr)); }
}
</style>"""
