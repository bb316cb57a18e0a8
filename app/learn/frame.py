"""What every step of the lesson has: its number and idea, its chart, Back and Next, and the presenter's large type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import plotly.graph_objects as go
import streamlit as st

from app.components import widgets
from app.learn.material import Material
from app.state import session, widget_state

PRESENT = "present"  # the URL's, and the toggle's, name
STEP = "step"

# Streamlit's sizes are in rem, so that one size makes all type larger; the rest lets a hall see the figure.
_LARGE = """<style>
html { font-size: clamp(19px, 1.4vw, 30px) !important; }
.come-strip, h1, [data-testid="stSidebar"] { display: none; }
[data-testid="stMainBlockContainer"] { max-width: 1800px; padding-top: 1rem; }
.come-finding { font-size: 1.2rem; }
</style>"""


@dataclass(frozen=True)
class Step:
    """One step: its name, its idea in one sentence, and what draws it."""

    title: str
    idea: str
    draw: Callable[[Material], None]


def presenting() -> bool:
    """Whether type is to be large."""
    return bool(session.value(PRESENT))


def toolbar(steps: list[Step]) -> Step:
    """The row of steps and the presenter's toggle; gives the step that is shown."""
    numbers = list(range(1, len(steps) + 1))
    widget_state.keep_among(STEP, numbers, 1)
    widget_state.keep_flag(PRESENT)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.segmented_control(
            f"Step, 1 to {len(steps)}",
            numbers,
            key=STEP,
            required=True,
            format_func=lambda number: f"{number}",
            help="\n".join(f"{number}. {step.title}" for number, step in enumerate(steps, 1)),
        )
        st.toggle("Presenter mode", key=PRESENT, help="Large type, for a hall. The link keeps it.")
    if presenting():
        st.html(_LARGE)
    return steps[session.value(STEP) - 1]


def head(step: Step, steps: list[Step]) -> None:
    """Title and idea of a step."""
    st.header(f"{steps.index(step) + 1} of {len(steps)} · {step.title}")
    st.markdown(step.idea)


def foot(steps: list[Step]) -> None:
    """Back and Next."""
    number = session.value(STEP)
    with st.container(horizontal=True, gap="small"):
        st.button(
            "Back",
            key="lesson-back",
            icon=":material/arrow_back:",
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
                on_click=session.put,
                args=(STEP, number + 1),
            )
        else:
            widgets.next_step("model", "Now your own: choose a model")


def todo(text: str) -> None:
    """The one thing to do in a step."""
    st.markdown(f":material/touch_app: **Try it.** {text}")


def chart(drawn: go.Figure, key: str, alt: str) -> None:
    """Show a chart; larger for a hall."""
    if presenting():
        scale = 1.45
        drawn.update_layout(height=(drawn.layout.height or 360) * 1.1, font_size=19)
        drawn.for_each_xaxis(lambda axis: axis.update(title_font_size=19, tickfont_size=19))
        drawn.for_each_yaxis(lambda axis: axis.update(title_font_size=19, tickfont_size=19))
        drawn.for_each_annotation(lambda note: note.update(font_size=(note.font.size or 12) * scale))
        drawn.for_each_trace(
            lambda trace: trace.update(textfont_size=(trace.textfont.size or 12) * scale), selector={"mode": "text"}
        )
    widgets.chart(drawn, key=key, alt=alt)
