"""The plan page's buttons: ready-made plans, undo and redo; and to run the plan or take it along as a file."""

from __future__ import annotations

from contextlib import suppress

import streamlit as st
from streamlit.runtime.uploaded_file_manager import UploadedFile

import come
import come.models
from app.components import widgets
from app.plan import edits, saved_plans, uploaded
from app.server import downloads, held_back
from app.state import foreseen, request, session, visit
from app.state.choice import plan_fields
from come.errors import ComeError
from come.measurement.measurement import Measurement
from come.models import Facts
from come.pruning.registry import method
from come.serving import limits
from come.serving.limits import is_demo


def start_from(measured: Measurement | None, facts: Facts) -> None:
    """Presets, undo and redo, in one row."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="plan-presets"):
        st.markdown("Start from", width="content")
        for preset in edits.PRESETS:
            st.button(
                f"−{preset.label}" if preset.share else preset.label,
                key=f"preset-{preset.label}",
                help=preset.help if preset.share or measured else f"{preset.help} Needs an analysis first.",
                disabled=preset.pairs is not None and measured is None,
                on_click=_apply,
                args=(preset, measured, facts),
            )
        st.button(
            "Undo",
            key="undo",
            icon=":material/undo:",
            type="tertiary",
            help="Alt+Z",
            shortcut="Alt+Z",
            on_click=session.undo,
            disabled=not session.can_undo(),
        )
        st.button(
            "Redo",
            key="redo",
            icon=":material/redo:",
            type="tertiary",
            help="Alt+Shift+Z",
            shortcut="Alt+Shift+Z",
            on_click=session.redo,
            disabled=not session.can_redo(),
        )


def _apply(preset: edits.Preset, measured: Measurement | None, facts: Facts) -> None:
    try:
        session.set_draft(edits.apply(preset, session.draft(), measured, facts, visit.costs()))
    except ComeError as error:
        session.set_problem(str(error))


def go_on(fault: str, measured_by: str) -> None:
    """The way to the run page; download, upload and plans kept by name.

    Args:
        fault: why the plan cannot be run; "" where it can.
        measured_by: the run whose numbers the page shows; "" where it shows none's.
    """
    draft = session.draft()
    ready = not fault and not draft.is_empty
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
        if measured_by and st.button("See its run", key="see-run", type="primary", icon=":material/task_alt:"):
            _to_run(measured_by)
        if st.button(
            "Run it again" if measured_by else "Go to run",
            key="go-to-run",
            type="secondary" if measured_by else "primary",
            icon=":material/arrow_forward:",
            disabled=not ready,
        ):
            _to_run(None)
        if ready:
            document = request.to_json(visit.requested())
            downloads.button("Download", document, "plan-request.json", "application/json", "download")
        if not is_demo():  # saved plans are everybody's: not among strangers
            saved_plans.draw(ready)
        with st.popover("Upload", icon=":material/upload:"):
            st.file_uploader(  # of any type: the browser's own refusal hides in a tooltip
                "A plan that was downloaded here, or its text",
                key="upload",
                on_change=_upload,
                help=".json, .yaml, or .zip with weights. The weights are left aside: a run fits them anew.",
            )
            place = st.empty()  # which takes away the last one's while the page goes on
            if problem := session.take_problem("upload"):  # where the click was
                place.error(problem, icon=":material/error:")


def _to_run(run_id: str | None) -> None:
    """The run page with a run open, or with its form."""
    session.open_run(run_id)
    st.switch_page(widgets.PAGES / "run.py")


def _upload() -> None:
    file = session.value("upload")
    if not isinstance(file, UploadedFile):  # taken away, or let go of when it was read
        return
    try:
        limits.current().check("bytes", file.size, min(uploaded.longest(file.name), limits.current().upload_bytes))
        document = file.getvalue()
        held_back.forget(file)
        choice, draft = uploaded.read(file.name, document)
        known = method(draft.method)
        limits.current().check_model(choice.model)  # before it is looked for: the answer would tell what lies here
        facts = come.models.describe(choice.model)
        known.parse(plan_fields(draft)["options"])
        if not draft.is_empty:
            foreseen.target_layers(draft, facts)
        session.set_choice(choice)
        session.set_draft(draft)
        st.toast(
            f"The uploaded plan is open. {_of_weights(file.name)}".strip(),
            icon=":material/upload:",
            duration="long" if uploaded.is_zip(file.name) else "short",
        )
    except ComeError as error:
        session.set_problem(str(error), "upload")


def _of_weights(name: str) -> str:
    """What becomes of the weights beside an uploaded plan, as a sentence; "" where none came with it."""
    if not uploaded.is_zip(name):
        return ""
    with suppress(ComeError):  # which the page says
        if visit.run_of_draft() is not None:
            return "Its run is here."
    return "Its weights are left aside: a run fits them anew."
