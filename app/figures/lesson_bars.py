"""Bars of the lesson: perplexities, parameters, one channel's activations, the answers of the quiz.

Pure functions: values in, a plotly figure out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from app import theme

ROW_ON_THE_WAY = 30  # pixels: what is told below the chart stands above Back and Next on a small screen, too


def perplexities(
    names: Sequence[str], values: Sequence[float], errors: Sequence[float], colors: Sequence[str], title: str
) -> go.Figure:
    """A bar a model, its value written at its end; the whiskers are one standard error."""
    return _bars(names, values, errors, colors, title, "Perplexity (lower is better)", 1)


def stages(
    names: Sequence[str], values: Sequence[float], errors: Sequence[float], shown: Sequence[bool], title: str
) -> go.Figure:
    """A model's perplexity on its way, the original first; what is not shown yet has its row, and no bar.

    The axis has room for all of them, so that nothing moves when the next is shown, and a line is at the original.
    """
    colors = [theme.QUIET, theme.MARK, *[theme.ACCENT] * (len(names) - 2)]
    own = [[item for item, there in zip(each, shown, strict=True) if there] for each in (names, values, errors, colors)]
    figure = perplexities(*own, title)
    figure.add_vline(x=values[0], line={"color": theme.ORIGINAL, "width": 1, "dash": "dot"})
    figure.update_xaxes(range=[0, max(map(sum, zip(values, errors, strict=True))) * 1.2])
    figure.update_yaxes(range=[len(names) - 0.5, -0.5], autorange=False)
    for place in (place for place, there in enumerate(shown) if not there):
        figure.add_annotation(
            x=0, y=place, text=f"  {names[place]}: ?", showarrow=False, xanchor="left", font={"color": theme.INK}
        )
    return figure.update_layout(height=105 + ROW_ON_THE_WAY * len(names))


def differences(
    names: Sequence[str], values: Sequence[float], errors: Sequence[float], colors: Sequence[str], title: str
) -> go.Figure:
    """A bar a difference of losses on the same sequences, in nats per token, with its own standard error."""
    axis = "Loss added, nats per token"
    return _bars(names, values, errors, colors, title, axis, 3)


def _bars(
    names: Sequence[str],
    values: Sequence[float],
    errors: Sequence[float],
    colors: Sequence[str],
    title: str,
    axis: str,
    places: int,
) -> go.Figure:
    figure = go.Figure(
        go.Bar(
            y=list(names),
            x=list(values),
            orientation="h",
            marker={"color": list(colors)},
            error_x={"array": list(errors), "thickness": 1.5, "width": 5, "color": "#858d99"},
            hovertemplate="%{y}: %{x:.4g}<extra></extra>",
        )
    )
    whiskers = [error if error == error else 0.0 for error in errors]
    ends = [value + whisker for value, whisker in zip(values, whiskers, strict=True)]
    for name, value, end, error in zip(names, values, ends, errors, strict=True):
        told = f"{value:.{places}f}" + (f" ± {error:.{places}f}" if error == error else "")
        figure.add_annotation(
            y=name,
            x=max(end, 0.0),
            text=f"  {told}".replace("-", "−"),
            showarrow=False,
            xanchor="left",
            font={"size": 13},
        )
    theme.finish(figure, title, x=axis, height=105 + 50 * len(names))
    lowest = min(0.0, *(value - whisker for value, whisker in zip(values, whiskers, strict=True)))
    figure.update_xaxes(range=[lowest * 1.1, max(ends) * 1.5], fixedrange=True)
    return figure.update_yaxes(autorange="reversed", fixedrange=True, ticksuffix="  ")


def parts(names: Sequence[str], values: Sequence[int], moved: Sequence[bool], title: str) -> go.Figure:
    """The parameters of one layer by part; those that are moved in colour."""
    figure = go.Figure(
        go.Bar(
            y=list(names),
            x=list(values),
            orientation="h",
            marker={"color": [theme.ACCENT if each else theme.QUIET for each in moved]},
            hovertemplate="%{y}: %{x:,d} parameters<extra></extra>",
        )
    )
    theme.finish(figure, title, x="Parameters of one layer", height=105 + 34 * len(names))
    figure.update_xaxes(fixedrange=True)
    return figure.update_yaxes(autorange="reversed", fixedrange=True, ticksuffix="  ")


def activations(
    words: Sequence[str], values: np.ndarray, *, moved: int, original: float, color: str, title: str
) -> go.Figure:
    """The activation of a channel at each token, the moved one marked, and their mean.

    Args:
        words: the tokens, as they read.
        values: |x_t|, with the moved one as it is now, (tokens,).
        moved: which token's value may be moved. original: what it was.
        color: of the channel's layer. title: the finding.
    """
    figure = go.Figure(
        go.Bar(
            x=list(range(len(words))),
            y=values,
            marker={"color": [theme.MARK if place == moved else color for place in range(len(words))]},
            customdata=[shown(word) for word in words],
            hovertemplate="token “%{customdata}”: |x| = %{y:.3g}<extra></extra>",
        )
    )
    figure.add_hline(
        y=float(values.mean()),
        line={"color": theme.MARK, "width": 1.5, "dash": "dash"},
        annotation={"text": f"mean {values.mean():.3g}", "font": {"size": 12}},
        annotation_position="top right",
    )
    if original != values[moved]:
        figure.add_trace(
            go.Scatter(
                x=[moved],
                y=[original],
                mode="markers",
                marker={"symbol": "line-ew", "size": 26, "line": {"width": 2.5, "color": theme.MARK}},
                hovertemplate="as it was: |x| = %{y:.3g}<extra></extra>",
            )
        )
    theme.finish(figure, title, x="Token", y="Activation |x|", height=320)
    figure.update_xaxes(
        tickvals=list(range(len(words))), ticktext=[shown(word) for word in words], tickangle=-50, fixedrange=True
    )
    return figure.update_yaxes(rangemode="tozero", fixedrange=True)


def shown(word: str) -> str:
    """A token so that blanks and line breaks can be seen."""
    return word.replace("\n", "↵").strip() or ("↵" if "\n" in word else "␣")


def score(answered: Sequence[bool], right: Sequence[bool]) -> go.Figure:
    """A tile a question; what it says is written under it, so that colour is not needed."""
    words = ["right" if good else "wrong" if done else "open" for done, good in zip(answered, right, strict=True)]
    colors = [
        theme.ACCENT if good else theme.MARK if done else theme.QUIET
        for done, good in zip(answered, right, strict=True)
    ]
    places = list(range(1, len(words) + 1))
    figure = go.Figure(
        go.Bar(
            x=places,
            y=[1] * len(words),
            marker={"color": colors},
            customdata=words,
            hovertemplate="question %{x}: %{customdata}<extra></extra>",
        )
    )
    theme.finish(figure, _title(answered, right), height=100)
    figure.update_xaxes(
        tickvals=places,
        ticktext=[f"{place}: {word}" for place, word in zip(places, words, strict=True)],
        tickangle=0,
        tickfont={"size": 12},
        showgrid=False,
        fixedrange=True,
    )
    figure.update_yaxes(visible=False, fixedrange=True)
    return figure.update_layout(bargap=0.06)


def _title(answered: Sequence[bool], right: Sequence[bool]) -> str:
    if not any(answered):
        return f"{len(answered)} questions, none answered yet"
    return f"{sum(right)} of {len(right)} right" + ("" if all(answered) else f", {len(answered) - sum(answered)} open")
