"""Step 3: influence is an angle."""

from __future__ import annotations

import numpy as np
import streamlit as st

from app.components import widgets
from app.components.how_sure import how_sure
from app.figures import lesson_angle
from app.learn import frame
from app.learn.material import Material
from app.state import session, widget_state

TITLE = "Which layers do little"
IDEA = (
    "A layer that hardly turns the hidden state can be spared. **Block influence** (BI), over one layer, is "
    r"$\operatorname{mean}_t(1 - \cos)$; **skip block influence** (SBI), over several, the mean angle over 180°."
)
SPANS = (1, 2, 3, 4)
SPAN, FIRST = 2, 0  # what the step opens with: the window that turns most, so that the least is still to be found
PLACES = 3  # decimals at most, of angles that are alike in fewer


def draw(material: Material) -> None:
    """Two vectors with the measured mean angle over a window."""
    widget_state.keep_among("turn-span", list(SPANS), SPAN)
    span = session.value("turn-span")
    angles = degrees(material, span)
    starts = list(range(len(angles)))
    widget_state.keep_among("turn-first", starts, FIRST)
    frame.todo("Find the window that turns the state least. Of pairs, CoMe merges that one first.")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.select_slider("First layer", starts, key="turn-first", width=420)
        st.segmented_control("Layers in the window", SPANS, key="turn-span", required=True)
    first = session.value("turn-first")
    last = first + span - 1
    rank, told = int((angles < angles[first]).sum()) + 1, in_degrees(angles, first)
    name = f"Layer {first} turns" if span == 1 else f"Layers {first} to {last} turn"
    place = "less than any other" if rank == 1 else f"the {ordinal(rank)} least of {len(angles)}"
    tried = (span, first) != (SPAN, FIRST)  # before, where a window stands among the others is not told
    frame.chart(
        lesson_angle.turned(
            float(angles[first]),
            angles,
            told=told,
            first=first,
            last=last,
            layers=material.layers,
            title=f"{name} the hidden state by {told} on average" + (f": {place}" if tried else ""),
        ),
        key="lesson-angle",
        alt=f"Two vectors at an angle of {told}",
    )
    cosine = material.measured.similarity["cosine"]
    shown = {
        "Mean angle": told,
        "SBI = angle / 180°": f"{angles[first] / 180:.4f}",
        "Mean cosine": f"{float(cosine[first, last + 1]):.3f}",
    }
    if span == 1:
        shown["BI = 1 − mean cosine"] = f"{float(material.measured.block_influence[first]):.4f}"
    widgets.facts_grid(shown | ({f"Rank of {len(angles)}, least first": f"{rank}"} if tried else {}))
    how_sure(
        f"Means over {material.measured.n_tokens:,} tokens; the state has many dimensions, the drawing two, but the "
        "angle between two vectors is the same. What merging a window costs is another number: "
        "step 6 has it.",
        key="sure-of-angle",
    )


def in_degrees(angles: np.ndarray, place: int) -> str:
    """One of several angles, in as many decimals as tell it from the others, up to PLACES."""
    others = np.delete(angles, place)
    for places in range(1, PLACES + 1):
        told = f"{angles[place]:.{places}f}"
        if told not in {f"{other:.{places}f}" for other in others}:
            break
    return f"{told}°"


def degrees(material: Material, span: int) -> np.ndarray:
    """The mean angle over each window of ``span`` layers, (layers - span + 1,)."""
    return np.diagonal(material.measured.similarity["angular"].numpy(), offset=span) * 180


def ordinal(number: int) -> str:
    """2 -> "2nd"."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
