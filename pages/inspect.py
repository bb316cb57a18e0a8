"""Which piece of which layer went where: the puzzle, one new layer opened, the merge tree, one channel, two runs."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from app import example_runs, formats, presenter
from app.components import poll, run_labels, run_words, widgets
from app.components.how_sure import how_sure
from app.figures import inspect, inspect_agreement, inspect_tree
from app.inspect import follow_unit, inspected_run, new_layer
from app.inspect.inspected_run import Inspected
from app.state import session, widget_state
from come.errors import ComeError
from come.plan.agreement import agreement
from come.plan.provenance import rewritten
from come.plan.steps import Part
from come.runs import Run

KEPT, CUT, STEPS, TWO_RUNS = "Kept", "Cut", "Steps", "Two runs"  # so short that a phone shows all four
PARTS: dict[Part, str] = {"ffn": "Feed-forward (FFN)", "attention": "Keys and values (KV)"}

READING = """
Left the layers of the original, right those of the pruned model: a ribbon carries the units that a new layer took
over, in their source layer's colour.

**Hatched ends**: units dropped, removed or silenced. **Pale ribbons**: layers that nothing touched. **Dotted pieces**:
averages, where no unit comes from one layer alone.

An **FFN channel** is a row of the maps into the feed-forward part and its column of `down_proj`; a **KV group** is a
key and value head with the query heads that share it. Both are read off the plan: no weights are loaded.
"""


def page() -> None:
    st.title("Inspect")
    runs = inspected_run.runs()
    if not runs:
        widgets.empty_state(
            "No run with a plan yet",
            "As soon as a run has taken its first step, this page shows which piece of which layer went where.",
            "run",
            "Start a run",
        )
        return
    run = _choose(runs)
    try:
        at_work = [inspected_run.growth(run)] if run.state().active else []
        inspected = inspected_run.inspect(run)
    except ComeError as error:
        st.error(formats.sentence(str(error)), icon=":material/error:")
        return
    if at_work:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            words = "The run is still at work: its plan so far, which grows here by itself."
            st.caption(f":material/progress_activity: {words}", width="content")
            widgets.next_step("run", "Watch the run", run=run.id)
    new_layers = list(range(len(inspected.ffn.final)))
    widget_state.keep_among("new-layer", new_layers, inspected.ffn.most_mixed())
    part: Part = session.value("part")
    picture, opened = st.columns([1.15, 1], gap="large")
    with picture:
        _puzzle(inspected, part)
    with opened:
        new_layer.pieces(inspected)
    _views(inspected, part, runs)
    poll.follow(at_work)


def _views(inspected: Inspected, part: Part, runs: list[Run]) -> None:
    """What else there is to see, one at a time: only what is looked at is drawn."""
    by_unit = new_layer.by_unit(inspected, part)
    views: dict[str, Callable[[], None]] = {
        KEPT: lambda: _units(inspected, part, by_unit),
        **({CUT: lambda: new_layer.curves(inspected, part)} if by_unit else {}),
        STEPS: lambda: _tree(inspected, part),
        TWO_RUNS: lambda: _two_runs(inspected, part, runs),
    }
    names = list(views)
    # Unmeasured, tiles in the order of their index say little: what says more, once measured, offers to.
    says_most = CUT if by_unit and not (session.value("find") or new_layer.measured(inspected, part)) else names[0]
    widget_state.keep_among("view", names, says_most)
    for name, tab in zip(names, st.tabs(names, key="view", on_change="rerun"), strict=True):
        if tab.open:
            with tab:
                views[name]()


def _units(inspected: Inspected, part: Part, by_unit: bool) -> None:
    """Every unit of the open layer's sources, and where one of them went."""
    if by_unit:
        new_layer.tiles(inspected, part)
    follow_unit.section(inspected, part)


def _choose(runs: list[Run]) -> Run:
    """The run that is looked at, and the part of it."""
    by_id = {run.id: run for run in reversed(runs)}
    ids = list(dict.fromkeys(run.id for run in runs))
    asked = st.query_params.get("run")
    shown = widget_state.keep_among("run", ids, inspected_run.shown_at_first(runs).id, passing=True)
    if wanted := inspected_run.missing(asked, shown, ids):
        st.warning(f"{run_words.missing(wanted)} Another run is shown.", icon=":material/search_off:")
    widget_state.keep_among("part", list(inspect.NAMES), "ffn")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key=presenter.first("run")):
        st.selectbox(
            "Run",
            ids,
            key="run",
            format_func=run_labels.of_runs(runs).__getitem__,
            on_change=_open_most_mixed,
            args=(by_id,),
            width=360,
        )
        st.segmented_control("Part", list(PARTS), format_func=PARTS.__getitem__, key="part", required=True)
        widgets.info("How to read this", READING, key="reading")
    return by_id[session.value("run")]


def _open_most_mixed(by_id: dict[str, Run]) -> None:
    """Another run: the layer that was open means nothing there."""
    try:
        session.put("new-layer", inspected_run.inspect(by_id[session.value("run")]).ffn.most_mixed())
    except ComeError:
        session.put("new-layer", 0)  # the page says what is wrong with it


def _puzzle(inspected: Inspected, part: Part) -> None:
    widgets.chart(
        inspect.puzzle(inspected.origins(part), session.value("new-layer")),
        key="puzzle-map",
        on_select=_open_clicked,
        alt="Ribbons from the layers of the original to those of the pruned model; the table beside it lists one layer",
    )
    example = " :material/bookmark: Shipped example." if example_runs.is_example(inspected.run) else ""
    st.caption(f"Click a layer to open it.{example}")
    if not inspected.counted:
        st.caption("The model cannot be read now, so layers are shown whole, without counts.")


def _open_clicked() -> None:
    points = session.clicked("puzzle-map")
    if points and int(points[0]["customdata"][0]) >= 0:
        session.put("new-layer", int(points[0]["customdata"][0]))


def _tree(inspected: Inspected, part: Part) -> None:
    widgets.chart(
        inspect_tree.tree(inspected.origins(part), inspected.plan.in_words(), rewritten(inspected.plan)),
        key="merge-tree",
        alt="The layers from the original, above, to the pruned model, below, one row per step",
    )
    with st.expander("The steps in words"):
        st.markdown("\n".join(f"{number}. {words}" for number, words in enumerate(inspected.plan.in_words(), 1)))


def _two_runs(inspected: Inspected, part: Part, runs: list[Run]) -> None:
    candidates = {run.id: run for run in inspected_run.others(inspected, runs)}
    if not candidates:
        st.caption("A second run of this model shows here how many units both keep.")
        return
    ids = list(candidates)
    first = inspected_run.first_shown(list(candidates.values())).id
    widget_state.keep_among("other", ids, first)
    names = run_labels.of_runs(candidates.values())
    st.selectbox("Compare with", ids, key="other", width=460, format_func=names.__getitem__)
    origins = inspected.origins(part)
    try:
        other = inspected_run.followed_like(candidates[session.value("other")], origins)
    except ComeError as error:
        st.warning(formats.sentence(str(error)))
        return
    found = agreement(origins, other)
    widgets.chart(
        inspect_agreement.agreement(found, part),
        key="agreement",
        alt="Jaccard overlap of the units that both runs keep, by original layer",
    )
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(inspect_agreement.marks(found), width="content")
        how_sure(inspect_agreement.how_sure(found, part), key="sure-of-overlap")


page()
