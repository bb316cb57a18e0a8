"""The plan page's "Fit into": so much memory, a file of such a size, so many times the speed, told as layers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import streamlit as st

import come
from app import formats
from app.components.background_job import Job
from app.state import request, session, visit
from come.errors import ComeError
from come.estimation.latency import known_latency
from come.estimation.needs import dtype_of
from come.estimation.resolve import with_layers_for
from come.estimation.targets import file_at, memory_at
from come.models import Facts
from come.request import CONTEXT, Asked, RunConfig
from come.serving.limits import is_demo
from come.serving.resident import client
from come.serving.whatif.question import Subject

KINDS = {"memory": "Memory", "file": "File size", "speed": "Speed-up"}
COUNTED = {
    "memory": "The weights in {dtype}, and the keys and values of {context:,} tokens. Such as 400 MiB or 2 GB.",
    "file": "The saved files of weights in {dtype}. Such as 200 MiB or 2 GB.",
    "speed": "How many times as fast tokens are written after a prompt, one sequence at a time.",
}
ROOM = 0.8  # of what the original takes: what is asked for to begin with
FASTER = 1.25
LONGEST = 20  # characters of a size
_OPEN = "fit"
_TIMING = "_timing-the-model"


def draw(facts: Facts) -> None:
    """The control; it asks files alone, and computes nothing that takes long."""
    draft = session.draft()
    if come.methods()[draft.method].target == "parameters":  # it leaves memory, files and speed as they are
        return
    with st.popover("Fit into", icon=":material/fit_screen:", key=_OPEN, on_change="rerun"):
        kinds = st.pills(
            "Fit into",
            list(KINDS),
            selection_mode="multi",
            default=["memory"],
            key="fit-kind",
            format_func=KINDS.__getitem__,
            label_visibility="collapsed",
        )
        if not kinds:
            st.caption("Choose one of them, or several: the plan then meets them all.")
            return
        try:
            wanted = _request()
            limits = _limits(kinds, facts, dtype_of(wanted, facts))
            if "speedup" in limits and known_latency(facts, dtype_of(wanted, facts), wanted.device) is None:
                _not_timed(wanted, dtype_of(wanted, facts))
                return
            found = with_layers_for(wanted, **limits)
        except ComeError as error:
            st.warning(formats.sentence(str(error)))
            return
        if found.asked is None or found.target_layers is None:
            return
        st.markdown(formats.literal(found.asked.answer))
        if "memory" in kinds:
            st.caption(_memory(facts, found.target_layers, dtype_of(wanted, facts)))
        st.button(
            f"Leave {found.target_layers} of {facts.layers} layers",
            key="fit-take",
            icon=":material/check:",
            on_click=_take,
            args=(found.target_layers, found.asked),
            disabled=draft.target_layers == found.target_layers,
        )


def reason() -> None:
    """What the plan's layers were chosen for, where that was here: "22 layers for at most 250 MiB of memory ..."."""
    if (asked := visit.asked()) is not None:
        layers = asked.answer.partition(":")[0]
        st.caption(formats.literal(f"{layers} for {asked.limits}."), help=formats.literal(asked.sentence))


def _request() -> RunConfig:
    """The visitor's, as it says nothing yet of how far to prune."""
    draft = replace(session.draft(), windows=None, ratios=None, dropped=())
    return request.config(session.choice(), draft, target_layers=None, sparsity=None)


def _limits(kinds: list[str], facts: Facts, dtype: str) -> dict[str, Any]:
    """What is asked for, side by side, as `with_layers_for` takes it."""
    limits = {}
    chosen = [kind for kind in KINDS if kind in kinds]
    for kind, column in zip(chosen, st.columns(len(chosen)), strict=True):
        with column:
            name, most = _limit(kind, facts, dtype)
        limits[name] = most
    return limits


def _limit(kind: str, facts: Facts, dtype: str) -> tuple[str, str | float]:
    context = min(CONTEXT, facts.max_position_embeddings or CONTEXT)
    about = COUNTED[kind].format(dtype=dtype, context=context)
    if kind == "speed":
        return "speedup", st.number_input("Times as fast", 1.0, 100.0, FASTER, 0.05, key="fit-speed", help=about)
    takes = file_at(facts, facts.layers, dtype) if kind == "file" else memory_at(facts, facts.layers, dtype, context)
    begin = f"{max(1, int(ROOM * takes) >> 20)} MiB"
    size = st.text_input(f"{KINDS[kind]}, at most", begin, key=f"fit-{kind}", max_chars=LONGEST, help=about)
    return "max_bytes" if kind == "file" else "max_memory", size[:LONGEST]


def _memory(facts: Facts, layers: int, dtype: str) -> str:
    """What memory so many layers take, by what takes it."""
    context = min(CONTEXT, facts.max_position_embeddings or CONTEXT)
    weights = facts.bytes_at(layers, dtype)
    states = memory_at(facts, layers, dtype, context) - weights
    held = f"{formats.human_bytes(states)} of keys and values for {context:,} tokens"
    return f"{formats.human_bytes(weights)} of weights in {dtype}, {held}."


def _not_timed(wanted: RunConfig, dtype: str) -> None:
    """Why there is no answer to how fast, and a button that finds it out; how far that is."""
    if is_demo():
        st.markdown("The model was not timed on this server, so a speed-up is no number of layers here. Choose a size.")
        return
    subject = Subject(model=wanted.model, device=wanted.device, dtype=dtype)
    working = _is_timed_now(subject)
    st.fragment(run_every=1.0 if working else None)(_timing)(subject, working)


def _timing(subject: Subject, working: bool) -> None:
    if working != _is_timed_now(subject):  # a click in here draws no more than this
        st.rerun()
    job = _job(subject)
    if job is not None and working:
        st.markdown(f":material/progress_activity: Timing the model. {formats.sentence(job.news)}")
        return
    if job is not None and job.problem:
        st.warning(formats.sentence(job.problem))
    st.markdown("This model was not timed on this machine yet.")
    st.button(
        "Time it",
        key="time-model",
        icon=":material/timer:",
        on_click=_begin,
        args=(subject,),
        help="It writes a few tokens at three depths: about a minute for the bundled model. The times are kept.",
    )


def _job(subject: Subject) -> Job | None:
    """What times that model, or timed it last in this visit."""
    job: Job | None = session.value(_TIMING)
    return job if job is not None and job.key == subject.model_dump_json() else None


def _is_timed_now(subject: Subject) -> bool:
    job = _job(subject)
    return job is not None and job.active


def _begin(subject: Subject) -> None:
    job, visitor = Job(subject.model_dump_json()), session.visitor()
    session.put(_TIMING, job)
    job.begin(lambda: client.latency(subject, key=visitor, on_progress=job.told))


def _take(layers: int, asked: Asked) -> None:
    blank = replace(session.draft(), windows=None, ratios=None, dropped=(), sparsity=None)
    session.set_draft(replace(blank, target_layers=layers))
    visit.keep_asked(asked)
    session.put(_OPEN, False)  # else it lies over what has changed
