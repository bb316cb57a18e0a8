"""Models answer one prompt: side by side, with what each expects next along a text, or two of them without names."""

from __future__ import annotations

import streamlit as st

from app import formats
from app.components import widgets
from app.components.background_job import Job
from app.playground import answers_html, asked_before, blind_round, candidates, form, side_by_side
from app.playground.candidates import Offer
from app.playground.form import TALK
from app.playground.next_tokens import LOOK
from app.state import session, widget_state

OF = "_talk_of"  # and of which model they are
MODES = {"side": "Side by side", "blind": "Blind vote"}


def page() -> None:
    chosen = session.choice().model
    offer = candidates.offer(chosen)
    blind = widget_state.keep_among("mode", list(MODES), "side") == "blind"
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute", gap="small"):
        st.title("Playground", width="content")
        st.segmented_control(
            "How to compare",
            list(MODES),
            key="mode",
            format_func=MODES.__getitem__,
            required=True,
            label_visibility="collapsed",
            on_change=_change_mode,
            args=(offer,),
        )
    if offer.borrowed:
        name = chosen.rstrip("/").rsplit("/", 1)[-1]
        st.info(
            f"There is no finished run of {formats.literal(name)} yet, so the shipped example speaks: "
            f"{formats.literal(offer.title)}, pruned."
        )
    _begin(offer)
    asked, chat = form.draw(offer, blind)
    st.html(answers_html.STYLE)
    if blind:
        blind_round.section()
    else:
        side_by_side.draw(asked, chat)
    if offer.borrowed:
        widgets.next_step("run", "Prune the chosen model, to hear it here")


def _begin(offer: Offer) -> None:
    """A new visit starts with what its link shows, or the recording; answers of another model are put away."""
    if session.value(OF) == offer.model:
        return
    session.put(OF, offer.model)
    for key in (TALK, LOOK):
        job: Job | None = session.value(key)
        if job is not None:
            job.stop()
    blind_round.votes().end()
    again, kept = asked_before.linked(offer), candidates.recording(offer)
    session.put(TALK, again or (kept[0] if kept else None))
    session.put(LOOK, kept[1] if kept and not again else None)


def _change_mode(offer: Offer) -> None:
    """A blind vote begins with a prompt whose answers were not shown with names."""
    held, prompt = blind_round.votes(), session.value("prompt", "")
    if session.value("mode") == "blind" and held.has_read(prompt):
        fresh = [text for text in form.examples(offer).values() if not held.has_read(text)]
        session.put("prompt", fresh[0] if fresh else prompt)


page()
