"""Follow a sentence: layer by layer, how far a pruned model's hidden states lie from the original's."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from app import formats
from app.components import widgets
from app.components.how_sure import how_sure
from app.figures import sentence as figures
from app.playground.generation import Comparison
from app.state import widget_state

STRIPS = "sentence-strips"  # the chart
FOLLOWED = "followed"  # the pruned model that is followed

MEANING = r"""
The same text goes through both models. After each layer of the pruned one, its hidden state $q_t$ of every token is
compared with the state $h_t$ that the original has after the layers in whose place that layer is:

$$\theta_t = \arccos\frac{h_t \cdot q_t}{\lVert h_t\rVert\,\lVert q_t\rVert}$$

0°: the same direction. Layers below the first merge lie at 0; what a merge turns, later layers carry on, lessen or add
to. The dotted line is at the chosen token, of which *Next token* tells more; a click chooses another.
"""


def section(look: Comparison, clicked: Callable[[], None]) -> None:
    """The strips of one pruned model, by what is known of the text.

    Args:
        look: the answer.
        clicked: called after a click on a token.
    """
    found = look.found
    assert found is not None
    known = [run for run in look.asked.plans if found.angles.get(run)]
    if not known:
        return
    names = look.asked.names
    run = known[0]
    if len(known) > 1:
        run = widget_state.keep_among(FOLLOWED, known, known[0])
        st.segmented_control(
            "Pruned model", known, key=FOLLOWED, format_func=lambda each: formats.literal(names[each]), required=True
        )
    at = look.at if look.at is not None else found.at
    widgets.chart(
        figures.strips(names[run], found.pieces, found.spans[run], found.angles[run], at, look.since),
        key=STRIPS,
        on_select=clicked,
        alt=f"Angle between the hidden states of {names[run]} and the original, by layer and token",
    )
    with st.container(horizontal=True, gap="small"):
        widgets.info("How to read this", MEANING, key="meaning-of-angles")
        how_sure(
            f"{figures.at_the_end(found.pieces, found.angles[run], look.since)}\n\n{figures.depths(found.spans[run])}",
            key="how-sure-sentence",
        )
