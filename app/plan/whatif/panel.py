"""The plan page's what-if: what the plan would come to, told while it is being changed."""

from __future__ import annotations

import time
from collections.abc import Sequence

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

import come
from app import formats
from app.components import widgets
from app.components.cost_line import NOT_MEASURED, Cost
from app.components.how_sure import how_sure
from app.components.poll import Look
from app.figures import whatif as figures
from app.plan.whatif import ask, example, suggestion, words
from app.plan.whatif.ask import Predicted, Prediction
from app.plan.whatif.measured import measured
from app.plan.whatif.memory import Answered, Memory, key_of, memory
from app.state import session, visit
from app.state.choice import Draft, comparable
from come.errors import ComeError
from come.models import Facts
from come.pruning.forecast import Forecast
from come.pruning.registry import fits_windows
from come.runs import Run
from come.serving.whatif.answer import change
from come.serving.whatif.question import Question, Subject

AT_ONCE = 0.15  # seconds; an answer that is known already is there by then, and nothing flickers


def draw(verdict: DeltaGenerator, facts: Facts, analysis: Run | None, found: Forecast | None, cost: Cost) -> list[Look]:
    """The prediction of the plan, or why there can be none; and what the full run would cost.

    Args:
        verdict: an empty place above the plan's chart, for the prediction in one sentence.
        facts: of the model.
        analysis: the run that measured it, if there is one.
        found: what is foreseen of the plan, if anything is.
        cost: of the full run.

    Returns:
        What the page has to follow at its end.
    """
    memory().open.clear()
    memory().shown = None
    st.html(words.STYLE)
    with st.container(border=True, key="whatif"):
        told, run = st.container(), st.container(key="whatif-run")
        with told:
            _predicted(verdict, facts, analysis, found)
        with run:
            if cost.sentence and cost.sentence != NOT_MEASURED:
                st.caption(f"**The run of this plan alone.** {cost.sentence}", help=cost.basis or None)
            for warning in cost.warnings:
                st.warning(warning, icon=":material/memory:")
    return memory().open


def answered() -> Predicted | None:
    """The prediction that the panel shows now; None where it shows none, or an older one."""
    return memory().shown


def _predicted(verdict: DeltaGenerator, facts: Facts, analysis: Run | None, found: Forecast | None) -> None:
    draft, held = session.draft(), memory()
    try:
        subject = ask.subject(session.choice(), analysis)
        by_run = measured(visit.run_of_draft(), subject, facts)
        if by_run is not None:
            _measured(verdict, held, subject, by_run)
            return
        if found is None and draft.windows is None:
            _leave(held)
            _not_foreseen(draft)
            return
        question = ask.question(draft, found)
    except (ComeError, ValueError) as error:
        _leave(held)
        st.caption(
            f"No prediction: {formats.sentence(str(error))}"
            if isinstance(error, ComeError)
            else "This plan cannot be predicted."
        )
        return
    if not question.touched:
        _leave(held)
        st.markdown(f"**Nothing is merged or dropped yet**: all {facts.layers} layers stay.")
        suggestion.draw(held, subject, question, facts, found, None)
        return
    provisos = _provisos(found.doubt if found else "")
    answered = _answer(verdict, held, subject, question, facts, provisos)
    if answered is not None:
        held.shown = answered.found
        last = held.last_before(key_of(subject, question), subject)
        _told(verdict, answered, last)
        with st.container():
            _surety(answered, last, provisos)
            if not question.is_fitted:
                suggestion.draw(held, subject, question, facts, found, answered.found)
            _tried(held, subject, answered)


def _measured(verdict: DeltaGenerator, held: Memory, subject: Subject, found: Predicted) -> None:
    """What the plan's own run measured, in the place of a prediction."""
    _leave(held)
    key = key_of(subject, found.run)
    held.remember(key, subject, found, come.methods()[session.draft().method].title)
    held.shown = found
    answered, last = held.answers[key], held.last_before(key, subject)
    _told(verdict, answered, last)
    with st.container():
        _surety(answered, last, [])
        _tried(held, subject, answered)


def _not_foreseen(draft: Draft) -> None:
    """Why nothing is known of a plan that is not by hand."""
    method = come.methods()[draft.method]
    if method.forecast is None:
        st.caption(f"What {method.title} prunes, and what that costs, is known only after a run.")
        return
    st.markdown("**What-if needs an analysis here**: an automatic plan takes its layers from it.")
    widgets.next_step("model", "Analyse the model")


def _answer(
    verdict: DeltaGenerator,
    held: Memory,
    subject: Subject,
    question: Question,
    facts: Facts,
    provisos: Sequence[str],
) -> Answered | None:
    """The answer; else what is drawn is the way to it: a button, what is going on, or what went wrong."""
    key, method = key_of(subject, question), come.methods()[session.draft().method].title
    if key not in held.answers:
        why = ask.why_ask_first(session.draft(), facts)
        shipped = None if key in held.allowed else example.prediction(subject, question)
        if shipped is not None:  # of these edits, whoever chose them: nothing is asked that is known
            _leave(held)
            _shipped(verdict, held, key, shipped, [why, *provisos])
            return None
        if why and key not in held.allowed:
            _leave(held)
            _not_asked(verdict, held, key, why)
            return None
        job = _asked(held, key, subject, question)
        job.wait(AT_ONCE)
        if job.active:
            seconds = None
            if subject.analysis is None:
                seconds = ask.measuring_seconds(session.choice(), facts)
            place = st.empty()
            held.draw_until_ended(job, lambda: _wait(verdict, place, job, held, subject, seconds))
            st.empty()  # takes away what stood below another plan's table; Streamlit would when the script ends
            return None
        if job.outcome is None:
            st.warning(formats.sentence(job.problem) or "The question was given up.", icon=":material/power_off:")
            st.button("Ask again", key="whatif-again", icon=":material/refresh:", on_click=_leave, args=(held,))
            return None
        held.remember(key, subject, job.outcome, method)
    _leave(held, but=key)
    held.look_at(key, method)
    return held.answers[key]


def _not_asked(verdict: DeltaGenerator, held: Memory, key: str, why: str) -> None:
    """Why the visitor has to ask, and the button."""
    with verdict.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.html(_sentence("Not predicted yet"), width="content")
        _button(held, key, "Predict")
    st.html(words.table(words.rows(None), "Plan", None, stale=True))
    st.caption(why)


def _shipped(verdict: DeltaGenerator, held: Memory, key: str, found: Predicted, provisos: Sequence[str]) -> None:
    """What the example says of the plan, and a button to have it predicted here."""
    held.shown = found
    _say(verdict, words.finding(found))
    st.html(words.table(words.rows(found), "This plan", None))
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        _button(held, key, "Predict it here")
        st.caption(":material/bookmark: Shipped example", width="content")
        said = " ".join(["Computed by this program.", words.judged_on(found), *filter(None, provisos)])
        how_sure(f"{said}\n\n{words.HOW}", key="how-sure-whatif")


def _button(held: Memory, key: str, label: str) -> None:
    st.button(label, key="whatif-predict", icon=":material/bolt:", on_click=held.allowed.add, args=(key,))


def _asked(held: Memory, key: str, subject: Subject, question: Question) -> Prediction:
    """The question of that key: the open one, or a new one in place of it."""
    if held.prediction is None or held.prediction.key != key:
        _leave(held)
        held.prediction = ask.predict(subject, question, session.visitor(), key)
    return held.prediction


def _leave(held: Memory, but: str | None = None) -> None:
    """Wait no longer for what was asked, unless it is the question of that key."""
    if held.prediction is not None and held.prediction.key != but:
        held.prediction.stop()
        held.prediction = None


def _say(verdict: DeltaGenerator, sentence: str) -> None:
    verdict.html(_sentence(sentence))


def _sentence(said: str) -> str:
    return f"<p class='come-finding' role='status'>{said}</p>"


def _wait(
    verdict: DeltaGenerator,
    place: DeltaGenerator,
    job: Prediction,
    held: Memory,
    subject: Subject,
    measuring: float | None,
) -> None:
    """What is going on, and a first look, or the numbers of the plan before."""
    if job.first is not None:
        _say(verdict, words.first_look(job.first, subject, job.event))
        place.html(words.table(words.first_rows(job.first), "This plan", None, busy=True))
        return
    shown = next(reversed(held.tried(subject)), None)
    last = held.last_before(held.order[-1], subject) if shown else None
    status = words.status(job.event, measuring, time.monotonic() - job.began)
    rows = words.rows(shown.found if shown else None, last.found if last else None)
    name = "Plan before" if shown else "Plan"
    _say(verdict, status)
    place.html(words.table(rows, name, last.name if last else None, stale=True, busy=True))


def _told(verdict: DeltaGenerator, found: Answered, last: Answered | None) -> None:
    """The answer, and its change since the last one."""
    rows = words.rows(found.found, last.found if last else None)
    _say(verdict, words.finding(found.found))
    st.html(words.table(rows, "This plan", last.name if last else None))


def _surety(found: Answered, last: Answered | None, provisos: list[str]) -> None:
    """How sure the answer is, and of what."""
    told = [words.against("the original", change(found.found.original, found.found.answer))]
    if last is not None:
        name = f"the last plan answered ({last.name})"
        told.append(words.against(name, change(last.found.answer, found.found.answer)))
    how_sure("\n\n".join([*told, *provisos, words.judged_on(found.found), words.HOW]), key="how-sure-whatif")


def _provisos(doubt: str) -> list[str]:
    draft = session.draft()
    told = [f"Foreseen, not run: {doubt}."] if doubt else []
    usual = comparable(come.methods()[draft.method].defaults())
    options = usual | comparable(draft.options)
    aside = [name for option, name in ask.SET_ASIDE.items() if options.get(option)]
    if aside:
        told.append(f"Predicted without {' and '.join(aside)}, which the run adds.")
    changed = [name for name in ask.AS_USUAL if name in usual and options[name] != usual[name]]
    if changed:
        told.append(f"Predicted with the usual {' and '.join(changed)}; the run takes yours.")
    tokens = session.choice().tokens
    if fits_windows(draft.method) and tokens > ask.MEASURED_TOKENS:
        told.append(f"Fitted on {ask.MEASURED_TOKENS:,} tokens; the run fits on {tokens:,}.")
        if options.get("sweep") is None:
            told.append("With tokens enough, it ends with a pass over all output maps.")
    return told


def _tried(held: Memory, subject: Subject, now: Answered) -> None:
    """All plans answered in this visit, once there are two."""
    tried = held.tried(subject)
    if len(tried) < 2:
        return
    with st.expander(f"The {len(tried)} plans you have tried", icon=":material/scatter_plot:"):
        figure = figures.tried([each.found.answer for each in tried], now.found.answer, now.found.original)
        widgets.chart(figure, key="whatif-tried", alt="Predicted perplexity of each plan tried, against its parameters")
