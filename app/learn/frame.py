"""What every step of the lesson has: its number and idea, its chart, Back and Next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from app import presenter
from app.components import widgets
from app.learn.material import Material
from app.state import session, widget_state

STEP = "step"


@dataclass(frozen=True)
class Step:
    """One step: its name, its idea in one sentence, and what draws it."""

    title: str
    idea: str
    draw: Callable[[Material], None]


def head(steps: list[Step]) -> Step:
    """The page's title with the row of steps, and the idea of the one that is shown, which it gives."""
    numbers = list(range(1, len(steps) + 1))
    widget_state.keep_among(STEP, numbers, 1)
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute", gap="small"):
        st.title("Learn", width="content")
        st.segmented_control(
            f"Step, 1 to {len(steps)}",
            numbers,
            key=STEP,
            required=True,
            format_func=lambda number: f"{number}",
            label_visibility="collapsed",
        )
    step = steps[session.value(STEP) - 1]
    with st.container(gap="small"):
        st.header(f"{session.value(STEP)} of {len(steps)} · {step.title}")
        st.markdown(step.idea)
    return step


def foot(steps: list[Step]) -> None:
    """Back and Next."""
    number = session.value(STEP)
    back, on = presenter.KEYS if presenter.is_on() else (None, None)
    with st.container(horizontal=True, gap="small"):
        st.button(
            "Back",
            key="lesson-back",
            icon=":material/arrow_back:",
            shortcut=back,
            disabled=number == 1,
            on_click=session.put,
            args=(STEP, number - 1),
        )
        if number < len(steps):
            st.button(
                f"Next: {steps[number].title.lower()}",
                key="lesson-next",
                type="primary",
                icon=":material/arrow_forward:",
                shortcut=on,
                on_click=session.put,
                args=(STEP, number + 1),
            )
        else:
            widgets.next_step("model", "Now your own: choose a model")


def todo(text: str) -> None:
    """The one thing to do in a step."""
    st.markdown(f":material/touch_app: **Try it.** {text}")
