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


def toolbar(steps: list[Step]) -> Step:
    """The row of steps; gives the step that is shown."""
    numbers = list(range(1, len(steps) + 1))
    widget_state.keep_among(STEP, numbers, 1)
    st.segmented_control(
        f"Step, 1 to {len(steps)}",
        numbers,
        key=STEP,
        required=True,
        format_func=lambda number: f"{number}",
        help="\n".join(f"{number}. {step.title}" for number, step in enumerate(steps, 1)),
    )
    return steps[session.value(STEP) - 1]


def head(step: Step, steps: list[Step]) -> None:
    """Title and idea of a step."""
    st.header(f"{steps.index(step) + 1} of {len(steps)} · {step.title}")
    st.markdown(step.idea)


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
