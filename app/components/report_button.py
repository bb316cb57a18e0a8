"""The button that downloads runs as a report: one HTML file to hand in, made when it is clicked."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app import example_runs
from app.components import packing
from app.server import downloads
from app.state import session
from come.report.html import document
from come.runs import Run

LABEL, NAME = "Download the report", "come-lab-report.html"
HELP = "One HTML file to hand in: it opens and prints anywhere, without a network, and its charts still zoom."


def draw(runs: Sequence[Run]) -> None:
    """The button for these runs; in a public demonstration, for those of the visit and the shipped ones."""
    wanted = {run.path: run for run in runs if run.config.kind == "compress"}
    allowed = [run for run in wanted.values() if session.owns(run) or example_runs.is_example(run)]
    if allowed:
        of = "\0".join(str(run.path) for run in allowed)
        downloads.made_button(LABEL, lambda: document(allowed), of, NAME, "text/html", "report", HELP)
    elif wanted:
        st.button(LABEL, key="report", icon=":material/download:", disabled=True, help=packing.NOT_YOURS)
