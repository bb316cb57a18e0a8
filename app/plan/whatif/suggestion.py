"""The next window by SBI: asked for by a button, told with its cost and stability, taken by another."""

from __future__ import annotations

import time

import streamlit as st

from app.components.background_job import Job
from app.components.how_sure import how_sure
from app.plan.whatif import ask, words
from app.plan.whatif.ask import Predicted
from app.plan.whatif.memory import Memory, key_of
from app.state import session
from come.models import Facts
from come.pruning.forecast import Forecast
from come.serving.whatif.answer import Suggestion
from come.serving.whatif.question import Question, Subject

BY_HAND = " The automatic plan becomes a plan by hand: the windows foreseen for it, and this one."


def draw(
    held: Memory,
    subject: Subject,
    question: Question,
    facts: Facts,
    found: Forecast | None,
    now: Predicted | None,
) -> None:
    """The button that asks, what is going on, or the suggestion.

    Args:
        held: what the visit remembers; the open question goes there.
        subject, question: the plan as it stands.
        facts: of the model.
        found: what is foreseen of the plan, if it is not by hand.
        now: what the plan itself comes to, if that is known.
    """
    key = f"next:{key_of(subject, question)}"
    job = held.suggestion
    if job is not None and job.key != key:
        job.stop()
        job = held.suggestion = None
    if job is not None and job.active:
        measuring = ask.measuring_seconds(session.choice(), facts) if subject.analysis is None else None
        place = st.empty()
        held.draw_until_ended(job, lambda: place.caption(_waiting(job, measuring)))
        return
    with st.container():  # one thing, so that what is said while a question is open takes its place as a whole
        if job is None:
            st.button(
                "Suggest the next window",
                key="whatif-suggest",
                icon=":material/lightbulb:",
                on_click=_ask,
                args=(held, subject, question, key),
                help="Finds, among the layers the plan leaves untouched, the window with the lowest skip block "
                "influence (SBI), and predicts the plan with it added.",
            )
        elif job.outcome is None:
            st.caption(f":material/lightbulb: {job.problem or 'The question was given up.'}")
        else:
            _told(job.outcome, found, now)


def _ask(held: Memory, subject: Subject, question: Question, key: str) -> None:
    held.suggestion = ask.suggest(subject, question, session.visitor(), key)


def _waiting(job: Job, measuring: float | None) -> str:
    doing = words.status(job.event, measuring, time.monotonic() - job.began)
    return f":material/lightbulb: Looking for the next window. {doing}"


def _told(hint: Suggestion, found: Forecast | None, now: Predicted | None) -> None:
    st.markdown(words.next_window(hint, now))
    automatic = session.draft().windows is None
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.button(
            "Take it",
            key="whatif-take",
            icon=":material/add:",
            on_click=_take,
            args=(found, hint.first, hint.last),
            help="Adds the window to the plan." + (BY_HAND if automatic else ""),
        )
        how_sure(words.how_stable(hint), key="how-sure-suggestion")


def _take(found: Forecast | None, first: int, last: int) -> None:
    session.set_draft(ask.with_window(session.draft(), found, first, last))
