"""The run page's lists: what is at work and what waits, and all runs."""

from __future__ import annotations

import pandas as pd
import streamlit as st

import come.runs
from app import formats
from app.components import run_labels, run_words
from app.run import sentences
from app.state import session, time_left
from come.report import comparison, sweeps
from come.report.metrics import number
from come.runs import Run


def queue(opened: Run | None) -> None:
    """What is at work and what waits, while there is any beside the open run."""
    others = [run for run in _active() if opened is None or run.id != opened.id]
    if others:
        st.header("At work and waiting")
        _waiting(others)


@st.fragment(run_every=2.0)
def _waiting(others: list[Run]) -> None:
    states = {run.id: run.state() for run in others}
    if not all(state.active for state in states.values()):
        st.rerun()
    each = time_left.of_runs(others)
    for run in others:
        state = states[run.id]
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button(
                formats.literal(comparison.run_name(run)),
                key=f"open-{run.id}",
                icon=":material/schedule:" if state.status == "queued" else ":material/progress_activity:",
                on_click=session.open_run,
                args=(run.id,),
            )
            how_far = f"{each[run.id].share:.0%} · " if run.id in each else ""
            running = state.status == "running"
            st.caption(f"{how_far}{formats.sentence(state.message)}" if running else run_words.waiting(run))
            if session.owns(run):
                st.button("Cancel", key=f"cancel-{run.id}", type="tertiary", on_click=session.cancel, args=(run,))


def everything(opened: Run | None) -> None:
    """Every run, to open by a click on its line or by its name."""
    rows = [sentences.row(run) for run in come.runs.list_runs()]
    if not rows:
        return
    st.header("All runs")
    ids = [row["run"] for row in rows]
    names = run_labels.distinct({row["run"]: f"{row['name']} · {row['queued']:%d %b %H:%M}" for row in rows})
    listed = opened.id if opened and opened.id in names else None  # a shipped one is not in the list
    # A key for each open run: what a browser that has not drawn it yet says is of the field before, and tells nothing.
    key = f"open-run-{listed or ''}"
    st.selectbox(
        "Open a run",
        ids,
        index=ids.index(listed) if listed else None,
        key=key,
        format_func=names.__getitem__,
        placeholder="Choose one, or click its line below",
        on_change=_open_chosen,
        args=(key, ids, listed),
    )
    table = pd.DataFrame(rows).drop(columns="run").astype({"perplexity": float})
    if table["model"].nunique() == 1:  # of which every line would say the same
        table = table.drop(columns="model")
    place = st.container() if opened is None else st.expander("As a table")  # a run's page is long enough
    place.dataframe(
        table.style.format({"perplexity": number}, na_rep=""),
        hide_index=True,
        height="content" if len(rows) < 12 else 460,
        key="runs-table",
        on_select=lambda: _open_line(ids),
        selection_mode="single-row",
        placeholder="–",
        column_config={
            "name": "Run",
            "status": st.column_config.TextColumn("Status", width=80),
            "method": "Method",
            "model": "Model",
            "layers": st.column_config.NumberColumn("Layers", format="%d", width=65),
            "seed": st.column_config.NumberColumn("Seed", format="%d", width=55),
            "perplexity": st.column_config.NumberColumn("Perplexity", width=90),
            "seconds": st.column_config.NumberColumn("Time (s)", format="%.0f", width=75),
            "queued": st.column_config.DatetimeColumn("Queued", format="D MMM, HH:mm"),
        },
    )


def _open_chosen(key: str, ids: list[str], opened: str | None) -> None:
    chosen = session.value(key)
    known = chosen is None or chosen in ids  # a label of before, which a browser may still send, is none of them
    if known and chosen != opened:
        session.open_run(chosen)


def _open_line(ids: list[str]) -> None:
    rows = session.value("runs-table")["selection"]["rows"]
    if rows and rows[0] < len(ids):
        session.open_run(ids[rows[0]])


def _active() -> list[Run]:
    """The runs at work or waiting, oldest first, without those of sweeps."""
    known = come.runs.list_runs()
    in_sweeps = {cell.run.id for sweep in sweeps.sweeps(known) for cell in sweep.cells}
    return [run for run in reversed(known) if run.id not in in_sweeps and run.state().active]
