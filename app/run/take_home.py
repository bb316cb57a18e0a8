"""What a visitor takes from a finished run: its plan, its model, the proof that it reloads; and the room it takes."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping
from datetime import datetime

import streamlit as st

import come.runs
from app import formats
from app.components import packing
from app.run import push
from app.server import downloads
from app.state import session
from come.errors import ComeError
from come.export.gguf_families import BYTES as GGUF_BYTES
from come.files import size_of
from come.models.facts import BYTES
from come.runs import Run
from come.runs.command_line import command_line
from come.runs.kept_model import stored_dtype
from come.runs.materialize import why_no_gguf
from come.runs.run import MODEL, TAKEAWAY
from come.serving import pack
from come.serving import reload_check as reloading
from come.serving.limits import is_demo, without_paths
from come.serving.pack import DTYPES, GGUF, PLAN
from come.serving.side_jobs import SideJob

FORMS = {"folder": "Transformers folder", "gguf": "GGUF file"}
BITS = {"q8_0": "q8_0, 8 bits"}  # a dtype that does not speak for itself


def section(run: Run) -> None:
    """All of it, for a run that is done."""
    if not (run.path / "plan.json").is_file():
        return
    st.header("Take it home")
    plan, model, check = st.columns(3, gap="medium")
    with plan, st.container(border=True, height="stretch"):
        _plan(run)
    with model, st.container(border=True, height="stretch"):
        _model(run)
        push.offer(run)
    with check, st.container(border=True, height="stretch"):
        _check(run)
    card = card_of(run)
    if card:
        with st.expander("The model card"):
            st.markdown(readable(card))
            downloads.button("Download the model card", card, "README.md", "text/markdown", f"card-{run.id}")
    with st.expander("The same on the command line"):
        st.caption(
            "The whole run; the model from its plan alone, the same weights bit for bit; and a GGUF file of it, where "
            "GGUF can hold its family."
        )
        st.code(without_paths(commands(run)), language="bash")
    _disk(run)


# --- the plan ----------------------------------------------------------------------------------------


def _plan(run: Run) -> None:
    files = pack.plan_files(run)
    st.markdown("**The plan**")
    size = sum(path.stat().st_size for path in files)
    if len(files) > 1:
        tensors = f"{len(files) - 1} file{'s' if len(files) > 2 else ''}"
        st.markdown(
            f"Which channels of which layers are kept, and {tensors} of trained weights: {formats.human_bytes(size)}."
        )
        packing.offer(run, PLAN, "Download plan and weights", size)
        return
    st.markdown(f"Which channels of which layers are kept: {formats.human_bytes(size)}. The model is made from it.")
    downloads.plan_button(run, "Download the plan", f"plan-{run.id}")


# --- the model ---------------------------------------------------------------------------------------


def _model(run: Run) -> None:
    st.markdown("**The model**")
    refused = why_no_gguf(run)
    form = "folder"
    if not refused:
        form = st.segmented_control(
            "As",
            tuple(FORMS),
            key=f"take-form-{run.id}",
            default="folder",
            required=True,
            wrap=True,
            format_func=FORMS.__getitem__,
        )
    if form == "gguf":
        st.markdown(
            "One file with tokenizer and chat template, which llama.cpp, Ollama and LM Studio run. Transformers reads "
            "it back with `gguf_file=`."
        )
        _weights_in(run, GGUF_BYTES, "float16", GGUF)
        return
    stored = stored_dtype(run)
    kept = (
        f"Kept in {stored}; another dtype is made from the plan."
        if stored
        else "It is made from the plan, which takes a minute or so."
    )
    st.markdown(f"A plain Transformers folder as one .zip, with `plan.json`. {kept}")
    _weights_in(run, BYTES, stored if stored in BYTES else "float32")
    if refused:
        st.caption(formats.sentence(refused))


def _weights_in(run: Run, sizes: Mapping[str, float], default: str, form: str = "") -> None:
    """The choice of a dtype, with its bytes, and the button that packs the model in it; one that is packed is first."""

    def label(dtype: str) -> str:
        name, expected = BITS.get(dtype, dtype), pack.expected_bytes(run, form + dtype)
        return f"{name} · about {formats.human_bytes(expected)}" if expected else name

    kinds = list(sizes)
    default = next((dtype for dtype in kinds if pack.packed(run, form + dtype).file), default)
    key = f"take-{form}dtype-{run.id}"
    dtype = st.radio("Weights in", kinds, kinds.index(default), key=key, format_func=label)
    packing.offer(run, form + dtype, "Download the model", pack.expected_bytes(run, form + dtype))


# --- does it reload ----------------------------------------------------------------------------------


def _check(run: Run) -> None:
    st.markdown("**Does it reload?**")
    packing.followed(lambda: reloading.reloaded(run), lambda job: _reloaded(run, job))


def _reloaded(run: Run, job: SideJob) -> None:
    if job.status == "done":
        st.markdown(f":material/check_circle: {reload_sentence(job)}")
    else:
        packing.failed(job)
        st.markdown("Loads the folder with Transformers' own `from_pretrained`, for one forward pass: no code of ours.")
    there = stored_dtype(run) is not None or any(pack.packed(run, dtype).file for dtype in DTYPES)
    if not there:
        st.caption("First download the Transformers folder: it is what is checked.")
    st.button(
        "Check again" if job.status == "done" else "Check in plain Transformers",
        key=f"reload-{run.id}",
        icon=":material/fact_check:",
        on_click=packing.begin,
        args=(reloading.start, run),
        disabled=not there or not session.owns(run),
        help=None if session.owns(run) else packing.NOT_YOURS,
    )


def reload_sentence(job: SideJob) -> str:
    """What a reload check found, in two sentences (markdown)."""
    found = job.values
    when = datetime.fromtimestamp(float(found["time"]))
    said = str(found["next"]).strip() or "(a space)"
    return (
        f"It reloads in plain Transformers {found['transformers']}: {found['layers']} layers, "
        f"{formats.human_count(found['parameters'])} parameters in {found['dtype']}, loaded in "
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
    """The run as a command line, its model from the plan, and that in the engines that run it."""
    plan = run.path / "plan.json"
    lines = [command_line(run.config), f"come rebuild {plan} --out pruned-model", "come check pruned-model"]
    lines += ["vllm serve ./pruned-model"]
    if not why_no_gguf(run):
        lines += ["come export pruned-model --gguf pruned.gguf", "llama-quantize pruned.gguf pruned-q4.gguf Q4_K_M"]
        lines += ['echo "FROM ./pruned-q4.gguf" > Modelfile && ollama create pruned-model']
    return "\n".join(lines)


def _disk(run: Run) -> None:
    """What the runs take on the disk, and a way to have it back."""
    runs = come.runs.list_runs()
    own, everything = removable(run), sum(each.size_bytes() for each in runs)
    finished = [each for each in runs if each.state().status == "done" and (each.path / "plan.json").is_file()]
    models = sum(removable(each) for each in finished)
    free = shutil.disk_usage(run.path).free
    with st.container(horizontal=True, vertical_alignment="center"):
        every = f", all {len(runs)} runs {formats.human_bytes(everything)}" if len(runs) > 1 else ""
        st.caption(
            f"On the disk: this run {formats.human_bytes(run.size_bytes())}{every}, of which "
            f"{formats.human_bytes(models)} are models; {formats.human_bytes(free)} are free."
        )
        if not models or is_demo():
            return
        with st.popover("Free space", icon=":material/delete_sweep:"):
            st.markdown(
                "Removes models and packed downloads for good. Plans and results stay; a plan makes its model again."
            )
            if own:
                st.button(
                    f"Remove this run's model, {formats.human_bytes(own)}",
                    key="drop-own",
                    on_click=_drop,
                    args=([run],),
                )
            st.button(
                f"Remove the models of all finished runs, {formats.human_bytes(models)}",
                key="drop-all",
                on_click=_drop,
                args=(finished,),
            )


def removable(run: Run) -> int:
    """Bytes that removing a run's model would free."""
    packed = [path for path in (run.path / TAKEAWAY).glob("*") if path.suffix in downloads.KINDS]
    return size_of(run.path / MODEL) + sum(path.stat().st_size for path in packed)


def _drop(runs: list[Run]) -> None:
    try:
        for run in runs:
            session.check_owned(run)
            pack.drop_model(run)
    except ComeError as error:
        session.set_problem(str(error))
