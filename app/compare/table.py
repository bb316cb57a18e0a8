"""The compare page's table of all metrics, its downloads, and the runs that are not in it."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app import formats
from app.compare import charts, controls
from app.components import run_labels
from app.server import downloads
from app.state import session
from come.report import comparison, tables
from come.report.comparison import Entry
from come.report.measured import Result

FEW_LINES = 12
WIDEST, WIDEST_LAST = 320, 480  # pixels of a column of names: the first must leave room for numbers


def draw(results: list[Result], originals: list[Result]) -> None:
    """A line a run, to open by a tick or by its name."""
    st.header("All metrics")
    lines = tables.rows(results, originals)
    ids = [line.run for line in lines]
    form = {
        name: st.column_config.NumberColumn(format=f"%,.{digits}f") for name, digits in tables.decimals(lines).items()
    }
    table = pd.DataFrame(tables.columns(lines))
    named = {
        "Method": st.column_config.TextColumn(width=_width([line.series for line in lines])),  # pinned, it is grey
        "Run": st.column_config.TextColumn(width=_width([line.name for line in lines], WIDEST_LAST)),
    }
    height = "content" if len(lines) <= FEW_LINES else 460
    names = run_labels.distinct(
        {
            line.run: f"{line.name.removesuffix(comparison.BEFORE)}, seed {line.seed}"
            for line in lines
            if line.method != "original"
        }
    )
    st.selectbox(
        "Open a run",
        list(names),
        index=None,
        key="open-compared",
        format_func=names.__getitem__,
        label_visibility="collapsed",
        placeholder="Open a run: choose one, tick its line below, or click its point above",
        on_change=_open_chosen,
        args=(list(names),),
    )
    st.dataframe(
        table,
        hide_index=True,
        height=height,
        key="compared-table",
        column_config=named | form,
        placeholder="–",
        on_select=lambda: _open_line(ids),
        selection_mode="single-row",
    )
    _downloads(lines, results, originals)


def _width(names: list[str], widest: int = WIDEST) -> int:
    """Pixels for a column of names, so that none is cut."""
    return min(round(28 + 6.4 * max(map(len, names))), widest)


def _open_chosen(ids: list[str]) -> None:
    if session.value("open-compared") in ids:
        charts.open_runs([session.value("open-compared")])


def _open_line(ids: list[str]) -> None:
    rows = session.value("compared-table")["selection"]["rows"]
    if rows and rows[0] < len(ids):
        charts.open_runs([ids[rows[0]]])


def _downloads(lines: list[Result], results: list[Result], originals: list[Result]) -> None:
    documents = (
        ("CSV", tables.to_csv(lines), "csv", "text/csv", "One line per run, every number unrounded."),
        (
            "Markdown",
            tables.to_markdown(results, originals),
            "md",
            "text/markdown",
            "One line per method and size, ± error.",
        ),
        (
            "LaTeX",
            tables.to_latex(results, originals),
            "tex",
            "text/x-tex",
            "The same as a booktabs table, best in bold.",
        ),
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        for label, text, ending, mime, about in documents:
            downloads.button(label, text, f"come-lab-comparison.{ending}", mime, ending, about)
        controls.pictures()


def left_out(items: list[tuple[Entry, str]]) -> None:
    """The runs that cannot be compared with these, each with the reason."""
    if not items:
        return
    with st.expander(f"{len(items)} run{'s' if len(items) != 1 else ''} not shown"):
        for item, reason in items:
            st.markdown(f":gray[{formats.literal(item.name)}: {formats.sentence(reason)}]")
