"""What a run's probe says, below its result: one task at a time, or the mean of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import formats
from app.components import widgets
from app.figures import probe as figures
from app.run import card
from come.errors import ComeError
from come.report.probes import TITLE, groups_of, pairs_of
from come.runs import Run, reported

WHAT = """
Each choice of a question is read by both models. A mix of what all layers hold at its last word, and a score of that
mix, are learned on 7 of 10 questions and judged on the others. A layer's weight is its share of the mix.

A weight is not an importance: layers beside each other hold nearly the same, and one may stand for the other.
*ELMo* (arXiv 1802.05365) and *BERMo* (arXiv 2110.15802) mix layers so.
"""


def draw(run: Run, results: Mapping[str, Any]) -> None:
    """The section; nothing where the run was not asked for it."""
    pairs, missing = {pair.name: pair for pair in pairs_of(results)}, reported.not_probed(results)
    if not (pairs or missing):
        return
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.markdown(f"**{TITLE}**", width="content")
        widgets.info("How is this measured?", WHAT, key="formula-probe")
    if pairs:
        names = list(pairs)
        chosen = names[0]
        if len(names) > 1:
            chosen = st.segmented_control(
                "Task",
                names,
                default=names[0],
                required=True,
                wrap=True,
                key="probed-task",
                format_func=formats.literal,
                label_visibility="collapsed",
            )
        pair = pairs.get(chosen, pairs[names[0]])
        try:
            groups = groups_of(run)
        except ComeError:  # the numbers stand without it
            groups = []
        widgets.chart(figures.mix(pair, groups), key="probe-mix", alt=f"{TITLE}: {pair.name}")
        st.html(card.table(pair.card))
        st.caption(formats.literal(pair.worth))
    if missing:
        st.caption(formats.literal(" ".join(missing)))
