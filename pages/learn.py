"""The lesson: CoMe in eight small steps, on the shipped example."""

from __future__ import annotations

import streamlit as st

from app.components import widgets
from app.learn import angle, averaging, frame, joining, looping, material, quiz, recovering, sensitivity, stack
from app.learn.frame import Step

STEPS = [
    Step(part.TITLE, part.IDEA, part.draw)
    for part in (stack, sensitivity, angle, joining, averaging, looping, recovering, quiz)
]


def page() -> None:
    of = material.load()
    if of is None:
        st.title("Learn")
        widgets.empty_state(
            "The lesson's example is not here",
            "The lesson reads the example that ships with the project (app/example); this installation lacks it.",
            "model",
            "Choose a model instead",
        )
        return
    step = frame.head(STEPS)
    step.draw(of)
    frame.foot(STEPS)


page()
