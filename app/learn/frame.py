"""What every step of the lesson has: its number and idea, its chart, Back and Next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import plotly.graph_objects as go
import streamlit as st

from app import presenter
from app.components import widgets
from app.learn.material import Material
from app.state import session, widget_state

STEP = "step"
PRESENTED_TALLER = 1.6
STYLE = """<style>
/* Back and Next stay in reach, however long a step is. */
:has(> .st-key-lesson-turns) {
  position: sticky; bottom: 0; z-index: 10; padding: .6rem 0;
  background: light-dark(rgba(255, 255, 255, .88), rgba(17, 22, 29, .88)); backdrop-filter: blur(6px);
}
.st-key-lesson-joined .shapelayer path { stroke: light-dark(#ffffff, #11161d) !important; }  /* the page's ground */
</style>"""
# The chart and its numbers first, below them the idea and what moves them. The questions keep their order.
PRESENTED = """<style>
:has(> .st-key-lesson-turns) {
  position: fixed !important; left: 5rem; bottom: .3rem; width: auto !important; padding: 0;
  background: none; backdrop-filter: none;
}
.st-key-join-numbers .come-facts { display: flex; flex-wrap: wrap; gap: 0 2rem; margin: 0; }
.st-key-join-numbers .come-facts div span { display: inline; margin-right: .4rem; }
.st-key-join-numbers .come-facts div b { font-size: 1rem; }
.st-key-lesson-turns kbd { display: none !important; }  /* they are in the tooltips */
[data-testid="stMainBlockContainer"]:has(.st-key-lesson-turns) {
  > [data-testid="stVerticalBlock"] { gap: .4rem; }
  > [data-testid="stVerticalBlock"]:not(:has(.st-key-lesson-quiz)) {
    > * { order: 3; }
    > :has(h1) { order: 1; }
    > :is(:has(.js-plotly-plot), :has(.js-plotly-plot) ~ *) { order: 2; }
    > [class*="st-key-sure-of"], > :has(> [class*="st-key-sure-of"]) { order: 4; }
    > :has(> :is(.st-key-join-own, .st-key-recovery-more)) { order: 4; }
  }
}
</style>"""


@dataclass(frozen=True)
class Step:
    """One step: its name, its idea in one sentence, and what draws it."""

    title: str
    idea: str
    draw: Callable[[Material], None]


def head(steps: list[Step]) -> Step:
    """The step's title with the row of steps, and its idea; gives the step."""
    numbers = list(range(1, len(steps) + 1))
    widget_state.keep_among(STEP, numbers, 1)
    step = steps[session.value(STEP) - 1]
    st.html(STYLE + (PRESENTED if presenter.is_on() else ""))
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute", gap="small"):
        st.title(f"{session.value(STEP)} of {len(steps)} · {step.title}", width="content")
        st.segmented_control(
            f"Step, 1 to {len(steps)}",
            numbers,
            key=STEP,
            required=True,
            format_func=lambda number: f"{number}",
            label_visibility="collapsed",
        )
    st.markdown(step.idea)
    return step


def foot(steps: list[Step]) -> None:
    """Back and Next."""
    number = session.value(STEP)
    back, on = presenter.KEYS if presenter.is_on() else (None, None)
    with st.container(key="lesson-turns", horizontal=True, vertical_alignment="center", gap="small"):
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
            if presenter.is_on() and st.button("To the layers", key="lesson-end", type="tertiary", shortcut=on):
                st.switch_page(widgets.PAGES / "layers.py")


def chart(drawn: go.Figure, key: str, *, alt: str, tallest: int = 340) -> None:
    """A step's chart; before a room taller, but not than that (pixels): what moves it must be in sight with it."""
    if presenter.is_on():
        drawn.update_layout(height=min(PRESENTED_TALLER * drawn.layout.height, tallest) / presenter.TALLER)
    widgets.chart(drawn, key=key, alt=alt)


def todo(text: str) -> None:
    """The one thing to do in a step."""
    st.markdown(f":material/touch_app: **Try it.** {text}")
