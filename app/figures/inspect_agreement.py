"""How far two runs keep the same units: an agreement in, a plotly figure out."""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go

from app import theme
from app.figures.inspect import NAMES
from come.plan.agreement import Agreement
from come.plan.steps import Part

PALE = 0.35  # of a bar that is chance by construction


def agreement(found: Agreement, part: Part) -> go.Figure:
    """Jaccard of the kept sets, a bar a layer; dashes are what chance would come to.

    Layers that neither run touched are grey, those in which not both choose pale, for there the overlap is chance; a
    cross marks those of which neither keeps anything, or that one of the runs averaged.
    """
    layers = len(found.jaccard)
    every = np.arange(layers)
    known = ~np.isnan(found.jaccard)
    colors = [theme.layer_color(layer, layers) if found.touched[layer] else theme.HAIRLINE for layer in every]
    opacity = np.where(found.touched & ~found.chosen, PALE, 1.0)
    hover = [_words(found, layer) for layer in every]
    figure = go.Figure(
        go.Bar(
            x=every,
            y=np.where(known, found.jaccard, 0.0),
            marker={"color": colors, "opacity": opacity, "line": {"width": 0}},
            text=hover,
            textposition="none",
            hovertemplate="%{text}<extra></extra>",
            showlegend=False,
        )
    )
    dashes = found.chosen
    undefined = ~known
    for places, heights, marker in (
        (
            every[dashes],
            found.chance[dashes],
            {"symbol": "line-ew", "size": 11, "line": {"width": 2, "color": theme.INK}},
        ),
        (
            every[undefined],
            np.full(int(undefined.sum()), 0.03),
            {"symbol": "x-thin", "size": 7, "line": {"width": 1.5, "color": theme.INK}},
        ),
    ):
        if len(places):
            figure.add_trace(
                go.Scatter(
                    x=places,
                    y=heights,
                    mode="markers",
                    marker=marker,
                    text=[hover[place] for place in places],
                    hovertemplate="%{text}<extra></extra>",
                    showlegend=False,
                )
            )
    theme.finish(figure, finding(found, part), x="Original layer", y="Overlap (Jaccard)", height=280)
    figure.update_yaxes(range=[0, 1.04], dtick=0.25)
    return figure.update_xaxes(range=[-0.7, layers - 0.3], showgrid=False, dtick=1 if layers <= 16 else 5)


def finding(found: Agreement, part: Part) -> str:
    """The mean over the layers in which both runs chose, against chance, and of how many layers that is."""
    many, count = NAMES[part][1], int(found.chosen.sum())
    if not found.touched.any() and not found.averaged.any():
        return f"Neither run touches the {many}: they agree on all"
    if np.isnan(found.jaccard[found.touched]).all():
        if found.averaged.any():
            return f"Nothing to compare: layers that are averaged keep no {many} as they were"
        return f"Nothing to compare: both runs drop all {many} of the same layers"
    if not count:
        return f"Nothing to compare: in no layer do both runs choose among the {many}"
    layers = "the layer" if count == 1 else f"the {count} layers"
    return (
        f"In {layers} where both runs choose, they share {found.mean:.0%} of the {many} kept by one or both; "
        f"chance would give {found.mean_chance:.0%}"
    )


def marks(found: Agreement) -> str:
    """What the marks mean that are drawn."""
    known = ~np.isnan(found.jaccard)
    gone = "nothing of it stays in either run" + ", or one averaged it" * bool(found.averaged.any())
    meanings = {
        "Dashes: chance.": found.chosen,
        "Pale: not both runs choose, so overlap is chance.": found.touched & ~found.chosen & (found.jaccard > 0),
        "No bar: nothing shared.": found.jaccard == 0,
        "Grey: neither prunes.": known & ~found.touched,
        f"✕: {gone}.": ~known,
    }
    return " ".join(words for words, layers in meanings.items() if layers.any())


def how_sure(found: Agreement, part: Part) -> str:
    """What the overlap is, and which layers say nothing of a choice."""
    many, chooses = NAMES[part][1], found.chosen.any()
    chance = " Chance: what two random choices of these sizes would share." if chooses else ""
    out = ": the title leaves such layers out" if chooses else ""
    return (
        f"Jaccard overlap: {many} kept by both runs, over those kept by either.{chance} Where a run keeps all or "
        f"nothing of a layer, the overlap follows from how many the other keeps, whichever they are{out}."
    )


def _words(found: Agreement, layer: int) -> str:
    if found.averaged[layer]:
        return f"Layer {layer}: averaged by one of the runs, so no unit of it is kept or dropped"
    if math.isnan(found.jaccard[layer]):
        return f"Layer {layer}: neither run keeps anything of it"
    if not found.touched[layer]:
        return f"Layer {layer}: whole in both"
    if not found.chosen[layer]:
        return f"Layer {layer}: Jaccard {found.jaccard[layer]:.2f}, as by chance: not both runs choose there"
    return f"Layer {layer}: Jaccard {found.jaccard[layer]:.2f}, by chance {found.chance[layer]:.2f}"
