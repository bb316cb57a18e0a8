"""A finished run's model to the hub: a popover that says what would be sent, how far it is, and the link."""

from __future__ import annotations

import streamlit as st

from app import formats
from app.components import packing
from app.state import session
from come.errors import ComeError
from come.export import hub
from come.export.hub import Destination
from come.runs import Run
from come.runs.push import Preview, preview
from come.serving import push as pushing
from come.serving.limits import is_demo
from come.serving.side_jobs import SideJob


def offer(run: Run) -> None:
    """All of it; nothing where visitors are strangers, who would push in the name of the server's owner."""
    if not is_demo():
        packing.followed(lambda: pushing.pushed(run), lambda job: _push(run, job))


def _push(run: Run, job: SideJob) -> None:
    if job.status == "done":
        st.markdown(f":material/check_circle: On the hub: [{job.values['repo']}]({job.values['url']})")
    packing.failed(job)
    if not hub.has_token():
        st.caption("To push it to the hub, start this server with a token in `HF_TOKEN`.")
        return
    with st.popover("Push to the hub", icon=":material/cloud_upload:"):
        _form(run)


def _form(run: Run) -> None:
    repo = st.text_input("Name on the hub", key=_key(run, "name"), placeholder="owner/name").strip()
    st.checkbox("Private", value=True, key=_key(run, "private"), help="Of a new one: only its owner sees it.")
    refused, ahead = "", None
    try:
        ahead = preview(run, repo or f"owner/{run.id}")
    except ComeError as error:
        refused = formats.sentence(str(error))
    st.button(
        "Push",
        key=_key(run, "start"),
        type="primary",
        on_click=_start,
        args=(run,),
        disabled=not repo or bool(refused) or not session.owns(run),
        help="In the name of the token that this server was started with.",
    )
    if ahead is None:
        st.caption(formats.literal(refused))
    else:
        _what(ahead)


def _what(ahead: Preview) -> None:
    """What would be sent: the files and the head of the card."""
    size, files = formats.human_bytes(ahead.bytes), ", ".join(ahead.files)
    if ahead.made_bytes:
        st.caption(f"About {size}: the model in {ahead.dtype}, made from the plan first, with its card; {files}.")
    else:
        st.caption(f"{size}, weights in {ahead.dtype}: {files}.")
    st.code(ahead.card, language="yaml", height=150)


def _start(run: Run) -> None:
    to = Destination(str(session.value(_key(run, "name"), "")).strip(), bool(session.value(_key(run, "private"), True)))
    packing.begin(pushing.start, run, to)


def _key(run: Run, what: str) -> str:
    return f"push-{what}-{run.id}"
