"""Sweeps as one object each, on the run page and the compare page: state, cells, what is left, cancel, resume."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
import streamlit as st

import come.runs
from app import formats
from app.components import run_labels, widgets
from app.components.run_words import STATUS
from app.state import session, time_left
from come.errors import ComeError
from come.report import sweeps
from come.report.metrics import number
from come.report.sweeps import Cell, SweepState
from come.runs import Run
from come.serving import limits

SHOWN = 5  # sweeps; the runs of older ones are in the list of all runs
FEW = 12  # cells, up to which a table shows all of them


Opens = Callable[[str], None]
"""Opens the run of an id: a callback."""


def section(known: Sequence[Run], opens: Opens, *, followed: bool) -> None:
    """Every sweep of these runs, the newest open.

    Args:
        known: all runs, newest first.
        opens: what a click on a cell does.
        followed: look again every two seconds while a sweep is at work; on a page that is drawn anew by itself, not.
    """
    found = sweeps.sweeps(known)[:SHOWN]
    if not found:
        return
    st.header("Sweeps")
    st.caption("A sweep is several runs that were started together, to be compared.")
    for place, sweep in enumerate(found):
        if followed and sweep.active:
            st.fragment(run_every=2.0)(_followed)(sweep, opens, place == 0, session.opened_run())
        else:
            _draw(sweep, opens, open_first=place == 0 and bool(sweep.active))


def _followed(sweep: SweepState, opens: Opens, open_first: bool, opened: str | None) -> None:
    if session.opened_run() != opened:  # a click in here draws no more than this
        st.rerun()
    now = sweeps.sweeps([cell.run for cell in reversed(sweep.cells) if cell.run.path.is_dir()])
    if not now or _stands(now[0]) != _stands(sweep):  # the lists below tell of its runs, too
        st.rerun()
    _draw(now[0], opens, open_first)


def _stands(sweep: SweepState) -> list[str]:
    """The states of its runs."""
    return [cell.state.status for cell in sweep.cells]


def _draw(sweep: SweepState, opens: Opens, open_first: bool) -> None:
    # The label of an expander is what the browser knows it by: what changes stands inside.
    with st.expander(formats.literal(run_labels.of_sweep(sweep)), expanded=open_first, key=f"sweep-of-{sweep.id}"):
        st.markdown(status(sweep))
        if session.opened_run() not in {cell.run.id for cell in sweep.cells}:  # whose own progress stands above
            st.progress(len(sweep.done) / len(sweep.cells))
        _actions(sweep)
        cells = _filtered(sweep)
        _table(sweep, cells, opens)
        if len({cell.seed for cell in sweep.cells}) > 1 and (lines := sweeps.means(cells)):
            st.markdown("**Mean over seeds**")
            st.dataframe(
                pd.DataFrame(lines).style.format({"Perplexity, mean": number, "Spread": number}, na_rep="–"),
                hide_index=True,
                key=f"means-{sweep.id}",
                column_config={"Spread": st.column_config.NumberColumn("Spread", help="One standard deviation.")},
            )


def status(sweep: SweepState) -> str:
    """Where a sweep stands, in one line (markdown)."""
    told = [STATUS[sweep.status], f"{len(sweep.done)} of {len(sweep.cells)} done"]
    failed = sum(cell.state.status == "failed" for cell in sweep.cells)
    if failed:
        told.append(f"{failed} failed")
    if sweep.active and (left := time_left.of_all([cell.run for cell in sweep.cells]).left) is not None:
        told.append(f"about {formats.about(left)} left")
    return " · ".join(told)


def _actions(sweep: SweepState) -> None:
    own = all(session.owns(cell.run) for cell in sweep.cells)
    with st.container(horizontal=True, vertical_alignment="center"):
        if own and sweep.active:
            st.button(
                "Cancel all",
                key=f"cancel-all-{sweep.id}",
                icon=":material/cancel:",
                on_click=_cancel,
                args=(sweep.id,),
            )
        elif own and sweep.stopped:
            st.button(
                f"Resume {len(sweep.stopped)}",
                key=f"resume-all-{sweep.id}",
                icon=":material/resume:",
                on_click=_resume,
                args=(sweep.id,),
                help="Goes on with what was cancelled, interrupted or failed.",
            )
        if sweep.done:
            widgets.next_step("compare", "Compare its runs", sweep=sweep.id)


def _filtered(sweep: SweepState) -> list[Cell]:
    """The cells that are left by the filters; nothing chosen means all."""
    cells = list(sweep.cells)
    if len(cells) <= FEW // 2:
        return cells
    with st.container(horizontal=True):
        methods = _choice(sweep, "Methods", list(dict.fromkeys(cell.series for cell in cells)))
        sizes = _choice(sweep, "Sizes", sorted({str(cell.layers) for cell in cells}, reverse=True))
        states = _choice(sweep, "States", list(dict.fromkeys(cell.state.status for cell in cells)))
    return [
        cell
        for cell in cells
        if (not methods or cell.series in methods)
        and (not sizes or str(cell.layers) in sizes)
        and (not states or cell.state.status in states)
    ]


def _choice(sweep: SweepState, label: str, options: list[str]) -> list[str]:
    key = f"{label.lower()}-of-{sweep.id}"
    if (held := st.session_state.get(key)) and not set(held) <= set(options):  # a state that no cell has any more
        st.session_state[key] = [each for each in held if each in options]
    return st.multiselect(label, options, key=key, placeholder="All", width=220)


def _table(sweep: SweepState, cells: Sequence[Cell], opens: Opens) -> None:
    ids = [cell.run.id for cell in cells]
    key = f"cells-{sweep.id}"
    table = pd.DataFrame(sweeps.rows(cells), columns=["Method", "Layers", "Seed", "State", "Perplexity", "Time (s)"])
    table = table.astype({"Perplexity": float, "Time (s)": float})
    st.dataframe(
        table.style.format({"Perplexity": number, "Time (s)": "{:.0f}"}, na_rep="–"),
        hide_index=True,
        height="content" if len(ids) <= FEW else 360,
        key=key,
        on_select=lambda: _open(key, ids, opens),
        selection_mode="single-row",
        placeholder="–",
    )


def _open(key: str, ids: Sequence[str], opens: Opens) -> None:
    rows = session.value(key)["selection"]["rows"]
    if rows and rows[0] < len(ids):
        opens(ids[rows[0]])


def _cancel(sweep: str) -> None:
    """End all of it: those that wait first, so that none of them begins when the one at work ends."""
    active = [run for run in come.runs.runs_of(sweep) if run.state().active]
    for run in sorted(active, key=lambda run: run.state().status == "running"):
        if run.state().active:
            session.cancel(run)


def _resume(sweep: str) -> None:
    try:
        runs = come.runs.runs_of(sweep)
        for run in runs:
            session.check_owned(run)
        come.runs.resume_all(runs, limits.current())
    except ComeError as error:
        session.set_problem(str(error))
