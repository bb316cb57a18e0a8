"""What a visitor has chosen: model, text, plan. This folder alone touches session state and the URL.

Everything shared between pages is held in the session and mirrored to the URL, so that a link and a reload restore it:

    ?model=smollm2-135m&text=python-docs&tokens=4096&windows=4-5,9-11&ratios=0.3-0.7,0.2-0.3-0.5

A page's own view (which layer is open) is mirrored by ``app.state.widget_state`` while it is shown.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

import come.runs
from app import formats
from app.state import incoming
from app.state.choice import DEFAULT_SPARSITY as DEFAULT_SPARSITY
from app.state.choice import Choice as Choice
from app.state.choice import Draft as Draft
from app.state.choice import plan_fields as plan_fields
from app.state.link import PARAMS, from_params, to_params
from come.errors import ComeError
from come.runs import Run
from come.serving import limits

ACTIVE = ("queued", "running")
_ECHO_SECONDS = 3.0  # a URL written this recently may still be on its way to the browser
WHERE = "where"  # the widget that says on which machines runs execute
_UNDO_DEPTH = 50


# --- the visit: called once a run by app/main.py ---------------------------------------------------


def begin() -> None:
    """Take over what the URL says if the visitor changed it, then write the session's state to it.

    Back and Forward lead to another page, with the model and the plan as they are now: an earlier URL changes neither.
    """
    cut = incoming.cut_link()
    incoming.cut_widgets()
    shown = {key: st.query_params[key] for key in PARAMS if key in st.query_params}
    written: list[tuple[float, dict[str, str]]] = st.session_state.setdefault("_written", [])
    recent = [query for when, query in written if time.monotonic() - when < _ECHO_SECONDS]
    changed = shown not in recent and (not written or shown != written[-1][1])
    if shown and changed and not (written and _goes_through_history()):
        choice, draft, misread = from_params(shown)
        st.session_state["_choice"] = choice
        if draft != st.session_state.get("_draft", Draft()):
            if written:  # what a visit begins with has nothing before it
                _remember()
            st.session_state["_draft"] = draft
            if "run" not in st.query_params:
                open_run(None)
        st.session_state["_misread"] = misread
        st.session_state["_cut"] = False
    if cut:
        st.session_state["_cut"] = True
    _publish()


def link_is_cut() -> bool:
    """Whether the link was longer than a page reads, so that some of it was left out."""
    return bool(st.session_state.get("_cut"))


def misread() -> list[str]:
    """Parameters of the link that could not be read and were left out, as "name=value"."""
    return list(st.session_state.get("_misread", []))


# --- choice ----------------------------------------------------------------------------------------


def choice() -> Choice:
    """The chosen model and text."""
    chosen: Choice = st.session_state.get("_choice", Choice())
    return chosen


def set_choice(new: Choice) -> None:
    """Choose; another model starts from the default plan (the old one stays in undo)."""
    if new.model != choice().model and draft() != Draft():
        set_draft(Draft())
    st.session_state["_choice"] = new
    st.session_state["_misread"] = []
    st.session_state["_cut"] = False
    _publish()


# --- draft -----------------------------------------------------------------------------------------


def draft() -> Draft:
    """The plan as it stands."""
    plan: Draft = st.session_state.get("_draft", Draft())
    return plan


def plan_named() -> str:
    """What the plan is called in a sentence: nobody has touched the suggested one yet."""
    return "the suggested plan" if draft() == Draft() else "your plan"


def set_draft(new: Draft) -> None:
    """Replace the plan; the one before can be had back by :func:`undo`. The run page shows it next, and no run."""
    if new == draft():
        return
    _remember()
    open_run(None)
    st.session_state["_draft"] = new
    st.session_state["_misread"] = []
    st.session_state["_cut"] = False
    _publish()


def undo() -> None:
    """Go back one plan."""
    _step("_undo", "_redo")


def redo() -> None:
    """Go forward one plan."""
    _step("_redo", "_undo")


def can_undo() -> bool:
    """Whether there is a plan to go back to."""
    return bool(st.session_state.get("_undo"))


def can_redo() -> bool:
    """Whether there is a plan to go forward to."""
    return bool(st.session_state.get("_redo"))


# --- the visitor -----------------------------------------------------------------------------------


def visitor() -> str:
    """A name of this visit, the same for its whole time: what the resident process tells visitors apart by."""
    name: str = st.session_state.setdefault("_visitor", uuid.uuid4().hex)
    return name


# --- charts and widgets ----------------------------------------------------------------------------


def clicked(key: str) -> list[dict[str, Any]]:
    """The points last clicked on the chart of that key, each with plotly's fields (x, y, customdata as a list)."""
    event = st.session_state.get(key)
    points = [dict(point) for point in event["selection"]["points"]] if event else []
    for point in points:
        data = point.get("customdata")
        if isinstance(data, dict):  # so the browser sends what was an array of numbers
            point["customdata"] = [data[place] for place in sorted(data, key=int)]
    return points


def value(key: str, default: Any = None) -> Any:
    """What the widget or chart of that key holds."""
    return incoming.bounded(st.session_state.get(key, default))


def put(key: str, new: Any) -> None:
    """Set the widget of that key; call it from a callback, before the widget is drawn again."""
    st.session_state[key] = new


# --- the open run ----------------------------------------------------------------------------------


def opened_run() -> str | None:
    """The id of the run that the run page shows, from the URL's ``run``; a reload shows the same."""
    shown = st.query_params.get("run")
    known: str | None
    known, before, since = st.session_state.get("_run", (None, None, 0.0))
    late = shown == before and time.monotonic() - since < _ECHO_SECONDS
    if shown and shown != known and not late:
        open_run(shown)
        return shown
    if known and shown != known:
        st.query_params["run"] = known
    return known


def last_opened() -> str | None:
    """The run that the run page showed last, wherever the visitor is now; None where none is open on it."""
    opened: str | None = st.session_state.get("_run", (None, None, 0.0))[0]
    return opened


def open_run(run_id: str | None) -> None:
    """Show a run on the run page, or none."""
    known = st.session_state.get("_run", (None, None, 0.0))[0]
    st.session_state["_run"] = (run_id, known, time.monotonic())
    if run_id:
        st.query_params["run"] = run_id
    elif "run" in st.query_params:
        del st.query_params["run"]


def visit() -> str:
    """What runs of this visit are marked with (``State.visit``), where visitors are strangers; "" elsewhere.

    Who reads it cannot tell the visitor's name, by which the resident process knows them.
    """
    return hashlib.sha256(visitor().encode()).hexdigest()[:16] if limits.current().own_runs_only else ""


def owns(run: Run) -> bool:
    """Whether the visitor may end, resume or delete a run: in a public demonstration, only those of this visit."""
    return not limits.current().own_runs_only or run.written_state().visit == visit()


def check_owned(run: Run) -> None:
    """Refuse to change a run of somebody else's: a browser may send clicks on buttons that it was never shown.

    Raises:
        ComeError: it is not the visitor's.
    """
    if not owns(run):
        raise ComeError(f"The run {run.id} was not started in this visit.", "Start one of your own.")


def cancel(run: Run) -> None:
    """End a run; one that has ended or was deleted meanwhile is told of."""
    try:
        check_owned(run)
        come.runs.cancel(run)
    except ComeError as error:
        set_problem(str(error))


# --- messages from callbacks -----------------------------------------------------------------------


def set_problem(sentence: str, place: str = "") -> None:
    """Keep a sentence from a callback until the page is drawn, for the head of the page or a place of its own."""
    st.session_state[f"_problem{place}"] = sentence


def take_problem(place: str = "") -> str | None:
    """The sentence kept by the last callback for that place, once (markdown)."""
    problem: str | None = st.session_state.pop(f"_problem{place}", None)
    return problem and formats.sentence(problem)


# --- the URL ---------------------------------------------------------------------------------------


def _publish() -> None:
    """Write the session's state to the URL; what is at its default stays out of it, but the model."""
    query = to_params(choice(), draft())
    for key in PARAMS:
        if key in query:
            if st.query_params.get(key) != query[key]:
                st.query_params[key] = query[key]
        elif key in st.query_params:
            del st.query_params[key]
    written = st.session_state.setdefault("_written", [])
    if not written or written[-1][1] != query:
        written.append((time.monotonic(), query))
        del written[:-10]


def _goes_through_history() -> bool:
    """Whether Back or Forward asked for this run of the page."""
    context = get_script_run_ctx()
    return context is not None and context.is_history_navigation


def _remember() -> None:
    stack = st.session_state.setdefault("_undo", [])
    stack.append(draft())
    del stack[:-_UNDO_DEPTH]
    st.session_state["_redo"] = []


def _step(source: str, target: str) -> None:
    stack = st.session_state.get(source)
    if stack:
        st.session_state.setdefault(target, []).append(draft())
        st.session_state["_draft"] = stack.pop()
        open_run(None)
        _publish()
