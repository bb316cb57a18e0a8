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


def draw(material: Material) -> None:
    """Two vectors with the measured mean angle over a window."""
    widget_state.keep_among("turn-span", list(SPANS), 2)
    span = session.value("turn-span")
    angles = degrees(material, span)
    starts = list(range(len(angles)))
    widget_state.keep_among("turn-first", starts, starts[len(starts) // 2])
    frame.todo("Find the window that turns the state least. Of pairs, CoMe merges that one first.")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.select_slider("First layer", starts, key="turn-first", width=420)
        st.segmented_control("Layers in the window", SPANS, key="turn-span", required=True)
    first = session.value("turn-first")
    last = first + span - 1
    rank = int((angles < angles[first]).sum()) + 1
    name = f"Layer {first} turns" if span == 1 else f"Layers {first} to {last} turn"
    place = "less than any other" if rank == 1 else f"the {ordinal(rank)} least of {len(angles)}"
    frame.chart(
        lesson_angle.turned(
            float(angles[first]),
            angles,
            first=first,
            last=last,
            layers=material.layers,
            title=f"{name} the hidden state by {angles[first]:.1f}° on average: {place}",
        ),
        key="lesson-angle",
        alt=f"Two vectors at an angle of {angles[first]:.1f} degrees",
    )
    cosine = material.measured.similarity["cosine"]
    shown = {
        "Mean angle": f"{angles[first]:.1f}°",
        "SBI = angle / 180°": f"{angles[first] / 180:.4f}",
        "Mean cosine": f"{float(cosine[first, last + 1]):.3f}",
    }
    if span == 1:
        shown["BI = 1 − mean cosine"] = f"{float(material.measured.block_influence[first]):.4f}"
    widgets.facts_grid(shown | {f"Rank of {len(angles)}": f"{rank}"})
    how_sure(
        f"Means over {material.measured.n_tokens:,} tokens; the state has many dimensions, the drawing two, but the "
        "angle between two vectors is the same. What merging a window costs is another number: "
        "step 6 has it.",
        key="sure-of-angle",
    )


def degrees(material: Material, span: int) -> np.ndarray:
    """The mean angle over each window of ``span`` layers, (layers - span + 1,)."""
    return np.diagonal(material.measured.similarity["angular"].numpy(), offset=span) * 180


def ordinal(number: int) -> str:
    """2 -> "2nd"."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
