"""A download that is packed first: one press, how far the packing is, then the file is sent, from the disk."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import streamlit as st

from app import formats
from app.server import downloads
from app.state import session
from come.errors import ComeError
from come.runs import Run
from come.serving import pack
from come.serving.limits import is_demo
from come.serving.pack import Packed
from come.serving.side_jobs import SideJob

THROUGH_MEMORY = 64 << 20  # bytes, up to which a download may pass through Streamlit's memory
_WANTED = "_wanted-"  # of what a visitor pressed for: a mark, by which a browser knows that it was sent
NOT_YOURS = "In this public demonstration, only for runs that you started in this visit."


def offer(run: Run, what: str, label: str, size: int) -> None:
    """A button that packs, then how far it is; then the download begins, for who pressed, and stays to be had."""
    followed(lambda: pack.packed(run, what).job, lambda job: _packed(run, what, label, size, job))


def _packed(run: Run, what: str, label: str, size: int, job: SideJob) -> None:
    found = pack.packed(run, what)
    if found.file is not None:
        _download(run, found)
        if mark := session.value(f"{_WANTED}{what}-{run.id}"):
            st.html(f"<span class='come-begin-download' id='come-{mark}'></span>")
        return
    failed(job)
    st.button(
        label,
        key=f"pack-{what}-{run.id}",
        icon=":material/download:",
        type="secondary" if what == pack.PLAN else "primary",
        on_click=_wanted,
        args=(run, what),
        disabled=not session.owns(run),
        help=f"About {formats.human_bytes(size)}, packed on the server's disk first."
        if session.owns(run)
        else NOT_YOURS,
    )


def _wanted(run: Run, what: str) -> None:
    session.put(f"{_WANTED}{what}-{run.id}", uuid.uuid4().hex)
    begin(pack.start, run, what)


def _download(run: Run, found: Packed) -> None:
    assert found.file is not None
    label = f"Download {formats.human_bytes(found.bytes)}"
    if downloads.served:
        where = downloads.address(run, found.file.name)
        st.link_button(label, where, type="primary", icon=":material/download:")
    elif found.bytes <= THROUGH_MEMORY:
        small(found.file, label, downloads.KINDS[found.file.suffix], f"packed-{found.file.name}")
    elif is_demo():
        size = formats.human_bytes(found.bytes)
        st.caption(f"This server cannot send {size}. Download the plan and make the model with `come rebuild`.")
    else:
        st.markdown(
            f"It is ready, {formats.human_bytes(found.bytes)}, in the file below. This server was started without "
            "`app/serve.py`, so sending it would need as much memory."
        )
        st.code(str(found.file), language=None)


def small(path: Path, label: str, kind: str, key: str) -> None:
    """A download by Streamlit's button, for what may be held in memory; read when it is clicked."""
    st.download_button(label, path.read_bytes, path.name, kind, key=key, icon=":material/download:", on_click="ignore")


def begin(start: Callable[..., None], run: Run, *arguments: object) -> None:
    """Start a job of a run, or end it; what stands against it is shown at the head of the page. Of buttons."""
    try:
        session.check_owned(run)
        start(run, *arguments)
    except ComeError as error:
        session.set_problem(str(error))


def followed(look: Callable[[], SideJob], draw: Callable[[SideJob], None]) -> None:
    """What a side job does now, looked at each second while it is at work; when it is not, what ``draw`` draws."""
    working = look().status == "working"
    st.fragment(run_every=1.0 if working else None)(_followed)(look, draw, working)


def _followed(look: Callable[[], SideJob], draw: Callable[[SideJob], None], working: bool) -> None:
    job = look()
    if working != (job.status == "working"):
        st.rerun()
    if working:
        doing = formats.sentence(job.message) or "At work"
        st.markdown(f":material/progress_activity: {doing} … You may leave this page.")
    else:
        draw(job)


def failed(job: SideJob) -> None:
    """How a job failed, if it did."""
    if job.status == "failed":
        st.error(formats.sentence(f"{job.error} {job.hint}"), icon=":material/error:")
