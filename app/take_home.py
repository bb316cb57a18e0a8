"""What a visitor takes from a finished run: its plan, its model, the proof that it reloads; and the room it takes."""

from __future__ import annotations

import shutil
import zipfile
from datetime import datetime
from pathlib import Path

import streamlit as st

import come.runs
from app import downloads, request, session, widgets
from come import settings
from come.errors import ComeError
from come.models.facts import BYTES
from come.redact import shown
from come.runs import Run, pack
from come.runs import reload as reloading
from come.runs.aside import Aside
from come.runs.pack import DTYPES, PLAN, Packed
from come.runs.store import MODEL, TAKEAWAY, size_of

THROUGH_MEMORY = 64 << 20  # bytes, up to which a download may pass through Streamlit's memory
NOT_YOURS = "In this public demonstration, only for runs that you started in this visit."


def section(run: Run) -> None:
    """All of it, for a run that is done."""
    if not (run.path / "plan.json").is_file():
        return
    st.subheader("Take it home")
    plan, model, check = st.columns(3, gap="medium")
    with plan, st.container(border=True, height="stretch"):
        _plan(run)
    with model, st.container(border=True, height="stretch"):
        _model(run)
    with check, st.container(border=True, height="stretch"):
        _check(run)
    card = card_of(run)
    if card:
        with st.expander("The model card"):
            st.markdown(readable(card))
            st.download_button(
                "Download the model card",
                card,
                "README.md",
                "text/markdown",
                key=f"card-{run.id}",
                icon=":material/download:",
                on_click="ignore",
            )
    with st.expander("The same on the command line"):
        st.caption("The whole run, then the model from its plan alone: the same weights, bit for bit.")
        st.code(shown(commands(run)), language="bash", wrap_lines=True)
    _disk(run)


# --- the plan ----------------------------------------------------------------------------------------


def _plan(run: Run) -> None:
    files = pack.plan_files(run)
    st.markdown("**The plan**")
    size = sum(path.stat().st_size for path in files)
    if len(files) > 1:
        tensors = f"{len(files) - 1} file{'s' if len(files) > 2 else ''}"
        st.markdown(
            f"Which channels of which layers are kept, and {tensors} of trained weights: {widgets.human_bytes(size)}."
        )
        _packing(run, PLAN, "Prepare plan and weights", size)
        return
    st.markdown(f"Which channels of which layers are kept: {widgets.human_bytes(size)}. The model is made from it.")
    _small(run.path / "plan.json", "Download the plan", "application/json", f"plan-{run.id}")


# --- the model ---------------------------------------------------------------------------------------


def _model(run: Run) -> None:
    st.markdown("**The model**")
    stored = pack.stored_dtype(run)
    parameters = int((run.results().get("pruned") or {}).get("parameters") or 0)
    kept = f"The run keeps it in {stored}" if stored else "The run keeps the plan only"
    rest = (
        "another dtype is made from the plan." if stored else "the model is made from it, which takes a minute or so."
    )
    st.markdown(f"A plain Transformers folder as one .zip. {kept}; {rest}")
    dtype = st.segmented_control(
        "Weights in",
        DTYPES,
        key=f"take-dtype-{run.id}",
        default=stored if stored in DTYPES else "float32",
        required=True,
        wrap=True,
        format_func=lambda kind: f"{kind} · {widgets.human_bytes(parameters * BYTES[kind])}" if parameters else kind,
    )
    if dtype:
        _packing(run, dtype, "Prepare the download", parameters * BYTES[dtype])


def _packing(run: Run, what: str, label: str, size: int) -> None:
    """A button that packs, then how far it is, then the download; polled while it is at work."""
    working = pack.packed(run, what).job.status == "working"
    st.fragment(run_every=1.0 if working else None)(_packed)(run, what, label, size, working)


def _packed(run: Run, what: str, label: str, size: int, working: bool) -> None:
    found = pack.packed(run, what)
    if working != (found.job.status == "working"):
        st.rerun()
    if working:
        _at_work(found.job)
    elif found.file is not None:
        _download(run, found)
    else:
        _failed(found.job)
        st.button(
            label,
            key=f"pack-{what}-{run.id}",
            icon=":material/inventory_2:",
            on_click=_start,
            args=(pack.start, run, what),
            disabled=not session.owns(run),
            help=f"Written on the server's disk, about {widgets.human_bytes(size)}; then it is sent from there."
            if session.owns(run)
            else NOT_YOURS,
        )


def _download(run: Run, found: Packed) -> None:
    assert found.file is not None
    label = f"Download {widgets.human_bytes(found.bytes)}"
    if downloads.served:
        where = downloads.address(run, found.file.name)
        st.link_button(label, where, type="primary", icon=":material/download:")
    elif found.bytes <= THROUGH_MEMORY:
        _small(found.file, label, "application/zip", f"zip-{found.file.stem}")
    elif settings.demo():
        st.caption(f"{label[9:]} are too much for this server. Take the plan, and make the model with `come rebuild`.")
    else:
        st.markdown(
            f"It is ready, {widgets.human_bytes(found.bytes)}, in the file below. This server was started without "
            "`app/serve.py`, so sending it would need as much memory."
        )
        st.code(str(found.file), language=None, wrap_lines=True)


def _small(path: Path, label: str, kind: str, key: str) -> None:
    """A download by Streamlit's button, for what may be held in memory; read when it is clicked."""
    st.download_button(label, path.read_bytes, path.name, kind, key=key, icon=":material/download:", on_click="ignore")


# --- does it reload ----------------------------------------------------------------------------------


def _check(run: Run) -> None:
    st.markdown("**Does it reload?**")
    working = reloading.reloaded(run).status == "working"
    st.fragment(run_every=1.0 if working else None)(_reloaded)(run, working)


def _reloaded(run: Run, working: bool) -> None:
    job = reloading.reloaded(run)
    if working != (job.status == "working"):
        st.rerun()
    if working:
        _at_work(job)
        return
    if job.status == "done":
        st.markdown(f":material/check_circle: {reload_sentence(job)}")
    else:
        _failed(job)
        st.markdown(
            "`AutoModelForCausalLM.from_pretrained` on the folder, and one forward pass, without any code of ours."
        )
    there = pack.stored_dtype(run) is not None or any(pack.packed(run, dtype).file for dtype in DTYPES)
    if not there:
        st.caption("Prepare the model first.")
    st.button(
        "Check again" if job.status == "done" else "Check in plain Transformers",
        key=f"reload-{run.id}",
        icon=":material/fact_check:",
        on_click=_start,
        args=(reloading.start, run),
        disabled=not there or not session.owns(run),
        help=None if session.owns(run) else NOT_YOURS,
    )


def reload_sentence(job: Aside) -> str:
    """What a reload check found, in two sentences (markdown)."""
    found = job.values
    when = datetime.fromtimestamp(float(found["time"]))
    said = str(found["next"]).strip() or "(a space)"
    return (
        f"It reloads in plain Transformers {found['transformers']}: {found['layers']} layers, "
        f"{widgets.human_count(found['parameters'])} parameters in {found['dtype']}, loaded in "
        f"{found['load_seconds']:.1f} s. After “{found['prompt']}” it says “{said}”. "
        f"Checked {when:%d %b %H:%M} on `{found['checked']}`."
    )


# --- card, commands, disk ----------------------------------------------------------------------------


def card_of(run: Run) -> str:
    """The model card, from the model's folder or a packed model; "" where there is none."""
    path = run.path / MODEL / "README.md"
    if path.is_file():
        return path.read_text("utf-8")
    file = next((found.file for dtype in DTYPES if (found := pack.packed(run, dtype)).file), None)
    if file is None:
        return ""
    with zipfile.ZipFile(file) as packed:
        return packed.read(f"{file.stem}/README.md").decode("utf-8")


def readable(card: str) -> str:
    """A card without its front matter, its headings two levels lower, so that they fit below the page's own."""
    front = card.split("---\n", 2)
    body = front[2] if len(front) == 3 and not front[0] else card
    lines = (f"##{line}" if line.startswith("#") else line for line in body.strip().splitlines())
    return "\n".join(lines)


def commands(run: Run) -> str:
    """The run as a command line, and its model from the plan."""
    plan = run.path / "plan.json"
    return f"{request.command(run.config)}\ncome rebuild {plan} --out pruned-model"


def _disk(run: Run) -> None:
    """What the runs take on the disk, and a way to have it back."""
    runs = come.runs.list_runs()
    own, everything = removable(run), sum(each.size_bytes() for each in runs)
    finished = [each for each in runs if each.state().status == "done" and (each.path / "plan.json").is_file()]
    models = sum(removable(each) for each in finished)
    free = shutil.disk_usage(run.path).free
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            f"On the disk: this run {widgets.human_bytes(run.size_bytes())}, all {len(runs)} runs "
            f"{widgets.human_bytes(everything)}, of which {widgets.human_bytes(models)} are models; "
            f"{widgets.human_bytes(free)} are free."
        )
        if not models or settings.demo():
            return
        with st.popover("Free space", icon=":material/delete_sweep:"):
            st.markdown(
                "Removes models and packed downloads for good. Plans and results stay; a plan makes its model again."
            )
            if own:
                st.button(
                    f"Remove this run's model, {widgets.human_bytes(own)}",
                    key="drop-own",
                    on_click=_drop,
                    args=([run],),
                )
            st.button(
                f"Remove the models of all finished runs, {widgets.human_bytes(models)}",
                key="drop-all",
                on_click=_drop,
                args=(finished,),
            )


def removable(run: Run) -> int:
    """Bytes that removing a run's model would free."""
    return size_of(run.path / MODEL) + sum(path.stat().st_size for path in (run.path / TAKEAWAY).glob("*.zip"))


# --- callbacks and small pieces ----------------------------------------------------------------------


def _drop(runs: list[Run]) -> None:
    try:
        for run in runs:
            come.runs.drop_model(run)
    except ComeError as error:
        session.set_problem(str(error))


def _start(start: object, *arguments: object) -> None:
    try:
        start(*arguments)  # type: ignore[operator]
    except ComeError as error:
        session.set_problem(str(error))


def _at_work(job: Aside) -> None:
    st.markdown(f":material/progress_activity: {shown(job.message) or 'At work'} … You may leave this page.")


def _failed(job: Aside) -> None:
    if job.status == "failed":
        st.error(shown(f"{job.error} {job.hint}".strip()), icon=":material/error:")
