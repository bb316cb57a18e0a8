"""Step 8: five questions, answered by reading or running something real."""

from __future__ import annotations

import streamlit as st

from app.figures import lesson_quiz
from app.learn import frame
from app.learn.material import Material
from app.learn.questions import Asked, questions
from app.state import session, widget_state

TITLE = "Five questions"
IDEA = "You need not remember anything: the button under each question opens the step where the answer can be found."
_SETS = 50


def draw(of: Material) -> None:
    """The questions, with what was answered so far."""
    widget_state.keep_among("quiz", list(range(1, _SETS + 1)), 1)
    number = session.value("quiz")
    asked = questions(of, number)
    frame.todo("Guess, then look it up: the answers were computed from the example's arrays just now.")
    for place, question in enumerate(asked):
        widget_state.keep_answer(_key(number, place), list(range(len(question.options))))
    given = [session.value(_key(number, place)) for place in range(len(asked))]
    right = [each is not None and each == question.answer for each, question in zip(given, asked, strict=True)]
    answered = [each is not None for each in given]
    frame.figure(
        lesson_quiz.score(answered, right), key="lesson-quiz", alt=f"{sum(right)} of {len(asked)} questions right"
    )
    for place, question in enumerate(asked):
        _ask(number, place, question)
    st.button(
        "Ask about other layers",
        key="quiz-other",
        icon=":material/casino:",
        on_click=session.put,
        args=("quiz", number % _SETS + 1),
    )


def _ask(number: int, place: int, question: Asked) -> None:
    key = _key(number, place)
    with st.container(border=True):
        chosen = st.radio(
            f"{place + 1}. {question.text}",
            list(range(len(question.options))),
            key=key,
            index=None,
            horizontal=True,
            format_func=question.options.__getitem__,
        )
        if chosen is not None:
            verdict = ":material/check_circle: **Right.**" if chosen == question.answer else ":material/cancel: **No.**"
            best = "" if chosen == question.answer else f" It is {question.options[question.answer]}."
            st.markdown(f"{verdict}{best} {question.why}.")
        st.button(
            f"Find out in step {question.step}",
            key=f"{key}-look",
            type="tertiary",
            icon=":material/search:",
            on_click=_look,
            args=(question,),
        )


def _look(question: Asked) -> None:
    for key, value in question.view.items():
        session.put(key, value)
    session.put(frame.STEP, question.step)


def _key(number: int, place: int) -> str:
    return f"quiz-{number}-{place + 1}"
