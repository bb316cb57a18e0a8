"""Which piece of which layer went where: the puzzle, one new layer opened, the merge tree, one channel, two runs."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from app import example, found_unit, inspecting, session, widgets
from app.agreement import agreement
from app.figures import inspect, inspect_agreement, inspect_curves, inspect_layer, inspect_tree
from app.inspecting import Subject
from app.origins import Part, retouched
from come.errors import ComeError
from come.runs import Run

PARTS: dict[Part, str] = {"ffn": "FFN channels", "attention": "KV groups"}
ORDERS: dict[inspect_layer.Order, str] = {"rank": "By sensitivity", "index": "By index"}

READING = """
On the left every layer of the original, on the right every layer of the pruned model, in proportion: a ribbon
carries the units that a new layer took over from a source layer, in that layer's colour.

**Ends hatched in grey** are units that were dropped, removed or silenced. **Pale ribbons** are layers that nothing
touched. **Striped pieces** are averages: each of their weights is a weighted sum, so no unit is anyone's own.

An **FFN channel** is a row of the maps into the feed-forward part and its column of `down_proj`; a **KV group** is a
key and value head with the query heads that share it. Both are read off the plan alone: no weights are loaded.
"""


def page() -> None:
    st.title("Inspect")
    runs = inspecting.runs()
    if not runs:
        widgets.empty_state(
            "No run with a plan yet",
            "As soon as a run has taken its first step, this page shows which piece of which layer went where.",
            "run",
            "Start a run",
        )
        return
    st.caption("Which pieces of which layers the pruned model is made of. Click a layer to open it.")
    run = _choose(runs)
    try:
        subject = inspecting.subject(run)
    except ComeError as error:
        st.error(str(error), icon=":material/error:")
        return
    if example.is_example(run):
        st.caption(":material/bookmark: Shipped example: computed by this program on the bundled model.")
    if run.state().active:
        st.info("The run is still at work: this is its plan so far. Reload to see more of it.")
    new_layers = list(range(len(subject.ffn.final)))
    session.keep_among("new-layer", new_layers, subject.ffn.most_mixed())
    part: Part = session.value("part")
    picture, opened = st.columns([1.25, 1], gap="large")
    with picture:
        _puzzle(subject, part)
    with opened:
        _new_layer(subject)
        _tiles(subject, part)
    curves, found = st.columns([1.25, 1], gap="large")
    with curves:
        _curves(subject, part)
    with found:
        found_unit.section(subject, part)
    _tree(subject, part)
    _two_runs(subject, part, runs)


def _choose(runs: list[Run]) -> Run:
    """The run that is looked at, and the part of it."""
    by_id = {run.id: run for run in reversed(runs)}
    session.keep_among("run", list(dict.fromkeys(run.id for run in runs)), inspecting.first_shown(runs).id)
    session.keep_among("part", list(PARTS), "ffn")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.selectbox(
            "Run",
            list(dict.fromkeys(run.id for run in runs)),
            key="run",
            format_func=lambda run_id: inspecting.label(by_id[run_id]),
            on_change=_open_most_mixed,
            args=(by_id,),
            width=460,
        )
        st.segmented_control("Part", list(PARTS), format_func=PARTS.__getitem__, key="part", required=True)
        widgets.info("How to read this", READING, key="reading")
    return by_id[session.value("run")]


def _open_most_mixed(by_id: dict[str, Run]) -> None:
    """Another run: the layer that was open means nothing there."""
    try:
        session.put("new-layer", inspecting.subject(by_id[session.value("run")]).ffn.most_mixed())
    except ComeError:
        session.put("new-layer", 0)  # the page says what is wrong with it


# --- the puzzle, and one layer of it -----------------------------------------------------------------


def _puzzle(subject: Subject, part: Part) -> None:
    widgets.figure(
        inspect.puzzle(subject.origins(part), session.value("new-layer")),
        key="puzzle",
        on_select=_open_clicked,
        alt="Ribbons from the layers of the original to those of the pruned model; the table beside it lists one layer",
    )
    if not subject.counted:
        st.caption("The model cannot be read now, so layers are shown whole, without counts.")


def _open_clicked() -> None:
    points = session.clicked("puzzle")
    if points and int(points[0]["customdata"][0]) >= 0:
        session.put("new-layer", int(points[0]["customdata"][0]))


def _new_layer(subject: Subject) -> None:
    head, choose = st.columns([1, 1.2], vertical_alignment="bottom")
    place = session.value("new-layer")
    with choose:
        st.selectbox(
            "New layer",
            list(range(len(subject.ffn.final))),
            key="new-layer",
            format_func=lambda each: f"{each} · from {inspect.listed(subject.ffn.final[each].group)}",
        )
    head.subheader(f"New layer {place}")
    widgets.figure(
        inspect_layer.pieces_bar(subject.ffn, subject.attention, place),
        key="pieces",
        alt="The pieces of the new layer; the table below holds them",
    )
    st.dataframe(
        pd.DataFrame(_rows(subject, place)),
        hide_index=True,
        height="content",
        key="pieces-table",
        column_config={
            "FFN share": st.column_config.NumberColumn(format="%.0f %%"),
            "KV share": st.column_config.NumberColumn(format="%.0f %%"),
            "Weight": st.column_config.NumberColumn(format="%.3g"),
        },
    )
    steps = retouched(subject.plan).get(place, [])
    if steps:
        names = inspect.listed([step + 1 for step in steps])
        st.caption(
            f"Step{'s' if len(steps) > 1 else ''} {names} put new values in place of weights of this layer: "
            "the pieces come from where they are shown, and were changed after."
        )


def _rows(subject: Subject, place: int) -> list[dict[str, Any]]:
    """A line for each source of a new layer, and one for what was silenced."""
    ffn, attention = (
        {piece.source: piece for piece in origins.final[place].pieces} for origins in (subject.ffn, subject.attention)
    )
    rows = []
    for source in [*subject.ffn.final[place].group, -1]:
        channels, groups = ffn.get(source), attention.get(source)
        if source < 0 and not (channels or groups):
            continue
        row: dict[str, Any] = {"Source layer": "silenced" if source < 0 else str(source)}
        piece = channels or groups
        if piece is not None and piece.kind == "averaged":
            row |= {"How": "averaged", "Weight": piece.weight}
        elif subject.counted:
            row |= {
                "FFN channels": channels.count if channels else 0,
                "FFN share": 100 * channels.share if channels else 0.0,
                "KV groups": groups.count if groups else 0,
                "KV share": 100 * groups.share if groups else 0.0,
            }
        else:
            row["How"] = "whole"
        rows.append(row)
    return rows


# --- its sources -------------------------------------------------------------------------------------


def _by_unit(subject: Subject, part: Part) -> bool:
    """Whether each unit of the open layer's sources is kept or not: none is, where all were averaged."""
    pieces = subject.origins(part).final[session.value("new-layer")].pieces
    return subject.counted and all(piece.kind != "averaged" for piece in pieces)


def _tiles(subject: Subject, part: Part) -> None:
    if not _by_unit(subject, part):
        return
    origins, place = subject.origins(part), session.value("new-layer")
    values = inspecting.sensitivity(inspecting.measurement(subject.config), origins)
    session.keep_among("order", list(ORDERS), "rank")
    widgets.figure(
        inspect_layer.tiles(origins, place, values, session.value("order")),
        key="tiles",
        on_select=_find_clicked,
        alt=f"Every one of the {PARTS[part]} of the sources, coloured where it is kept, grey where not",
    )
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.segmented_control(
            "Order of the tiles",
            list(ORDERS),
            key="order",
            format_func=ORDERS.__getitem__,
            required=True,
            disabled=values is None,
            label_visibility="collapsed",
        )
        st.caption("Coloured: kept. Grey: not. Click a tile to follow it.")


def _curves(subject: Subject, part: Part) -> None:
    if not _by_unit(subject, part):
        return
    st.subheader("How sharp the cut was")
    origins, place = subject.origins(part), session.value("new-layer")
    values = inspecting.sensitivity(inspecting.measurement(subject.config), origins)
    if values is None:
        _not_measured(subject)
        return
    session.keep_among("curve-scale", ["log", "linear"], "log")
    widgets.figure(
        inspect_curves.curves(origins, place, values, log=session.value("curve-scale") == "log"),
        key="source-curves",
        alt="Sorted sensitivities of the source layers, with the cut of each",
    )
    st.segmented_control(
        "Scale of the sensitivity", ["log", "linear"], key="curve-scale", required=True, label_visibility="collapsed"
    )
    st.caption(
        "Solid: kept; dotted: not. The red mark is the cut: as many were kept as lie left of it. S is that of "
        "the original model; a run measures again after each merge, so it need not keep exactly these."
    )


def _find_clicked() -> None:
    points = session.clicked("tiles")
    if points:
        layer, unit = (int(number) for number in points[0]["customdata"][:2])
        session.put("find", found_unit.written(session.value("part"), layer, unit))


def _not_measured(subject: Subject) -> None:
    """Where there is no measurement: progress, or the way to one."""
    active = inspecting.analysis_at_work(subject.config)
    if active is not None:
        widgets.progress(active)
        return
    with st.container(border=True):
        st.markdown("**The sensitivities of this model on this text were not measured.**")
        st.markdown(
            f"One pass over {subject.config.n_tokens:,} tokens shows how each channel ranks, "
            "and how sharp the cut was. All else on this page comes from the plan alone."
        )
        st.button(
            "Run the analysis", key="analyse-run", icon=":material/monitoring:", on_click=_analyse, args=(subject,)
        )
    problem = session.take_problem()
    if problem:
        st.error(problem, icon=":material/error:")


def _analyse(subject: Subject) -> None:
    try:
        inspecting.analyse(subject.config)
    except ComeError as error:
        session.set_problem(str(error))


# --- the tree, and two runs --------------------------------------------------------------------------


def _tree(subject: Subject, part: Part) -> None:
    st.subheader("Step by step")
    widgets.figure(
        inspect_tree.tree(subject.origins(part), [step.describe() for step in subject.plan.steps]),
        key="merge-tree",
        alt="The layers from the original, above, to the pruned model, below, one row a step",
    )
    with st.expander("The steps in words"):
        st.markdown("\n".join(f"{number}. {step.describe()}" for number, step in enumerate(subject.plan.steps, 1)))


def _two_runs(subject: Subject, part: Part, runs: list[Run]) -> None:
    candidates = {run.id: run for run in inspecting.others(subject, runs)}
    st.subheader("Two runs")
    if not candidates:
        st.caption("A second run of the same model would show here how far both keep the same units.")
        return
    ids = list(candidates)
    first = next((run.id for run in candidates.values() if run.config.method.startswith("come")), ids[0])
    session.keep_among("other", ids, first)
    st.selectbox(
        "Compare with", ids, key="other", width=460, format_func=lambda run_id: inspecting.label(candidates[run_id])
    )
    origins = subject.origins(part)
    try:
        other = inspecting.followed_like(candidates[session.value("other")], origins)
    except ComeError as error:
        st.warning(str(error))
        return
    widgets.figure(
        inspect_agreement.agreement(agreement(origins, other), part),
        key="agreement",
        alt="Jaccard overlap of the units that both runs keep, by original layer",
    )
    st.caption(
        f"Jaccard: {PARTS[part]} kept by both runs, over those kept by either. Dashes: what two random choices of "
        "these sizes would share. Grey bars: layers that neither run touches."
    )


page()
