"""What the runs say: the verdict, a metric against what is left of the model, method by target, the table."""

from __future__ import annotations

from typing import Any

import streamlit as st

import come.runs
from app import example_runs, formats
from app.compare import charts, controls, newest, table
from app.components import glossary, poll, report_button, widgets
from app.run import sweeps
from app.state import session, unread
from come.report import comparison, verdict
from come.report.chart import chart_of
from come.report.comparison import Entry
from come.report.measured import over_shared_tasks
from come.report.metrics import LAYERS
from come.report.points import of_original, points


def page() -> None:
    charts.leave_for_chosen()
    if session.last_opened() is None:  # else it may be the run page's
        unread.refuse("run", "runs")
    st.title("Compare")
    known = come.runs.list_runs()
    own = comparison.entries(known)
    active = [item.run for item in own if item.run.state().active]
    shipped = not any(item.pruned for item in own)
    groups = comparison.groups(comparison.entries(example_runs.runs()) if shipped else own)
    told = st.empty()
    _compared(own, groups, shipped)
    sweeps.section(known, lambda run: charts.open_runs([run]), followed=False)
    if active:
        poll.follow([poll.runs(told, active, {run.id for run in known})])


def _compared(own: list[Entry], groups: dict[tuple[Any, ...], list[Entry]], shipped: bool) -> None:
    """All that there is to say of the runs."""
    if not groups:
        widgets.empty_state(
            "No finished run yet",
            "A run shows here as soon as it has been evaluated.",
            "run",
            "Start a run",
        )
        table.left_out(comparison.left_out(own, None))
        return
    key = controls.group(groups)
    st.html(controls.STYLE)
    main = st.container(key=controls.MAIN)
    words = main.container()  # the verdict comes first, but depends on the choice below it
    with main, st.container(key="compare-controls"):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            metric, size, kind = controls.metric(groups[key]), controls.size(), controls.kind()
            against_whom = st.container(width="content")
            chosen = controls.chosen(groups[key], key)
        places_among = st.container(horizontal=True, vertical_alignment="bottom", width="content")
    results, originals = over_shared_tasks(
        [item.pruned for item in chosen if item.pruned], [item.original for item in chosen if item.original]
    )
    if not results:
        st.markdown("Your filters leave no run. Remove one of them under **Choose runs**.")
        return
    with places_among:
        after = controls.after_recovery(results)
    judged = verdict.judged_of(results, after)
    places = verdict.by_place(points(judged, metric, LAYERS), metric)
    part = ", held-out part" if key[1] else ""
    on = f"{formats.literal(groups[key][0].title)}{part}"
    layers = reference = original = None
    if places:
        with places_among:
            newest.follow(groups[key])
            layers = charts.place(places, verdict.usual_place(places) if shipped else newest.opening(places, chosen))
        with against_whom:
            original = of_original(originals, metric, LAYERS, like=judged)
            reference = charts.reference(places[layers], original, metric)
        if reference is not None:
            with main:
                charts.differences(places[layers], reference, metric, kind)
    with words:
        first, *rest = verdict.sentences(results, originals, metric, LAYERS, layers, after, brief=True)
        st.markdown(f"## {formats.literal(first)}")
        if rest:
            st.markdown(formats.literal(" ".join(rest)))
        if places and not shipped:
            newest.alone(places, layers, chosen, original, metric)
        of = f" of {comparison.count(groups[key])}" if len(chosen) < len(groups[key]) else ""
        whose = f":material/bookmark: Shipped example: {on}" if shipped else on
        with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
            read = controls.calibrated_on(chosen)
            st.caption(f"{whose} · {comparison.count(chosen)}{of}{read}", width="content")
            widgets.info("How to read this", glossary.COMPARED, key="compared-terms")
    shown = chart_of(results, originals, metric, size)
    if reference is None or layers is None or len(shown.points) > len(places[layers]):  # else said above
        controls.against()
        charts.lines(shown, kind, on, after)
    charts.offered(shown)
    charts.heatmap(results, metric, kind, after)
    table.draw(results, originals)
    report_button.draw([item.run for item in chosen])
    table.left_out(comparison.left_out(own, key))


page()
