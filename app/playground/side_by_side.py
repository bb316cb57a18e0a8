"""The answers of the original and the pruned models side by side, as they come."""

from __future__ import annotations

import streamlit as st

from app import formats, presenter
from app.components import widgets
from app.figures.inspect import listed
from app.playground import answers_html, asked_before, blind_round, candidates, next_tokens
from app.playground.form import TALK
from app.playground.generation import ORIGINAL, Asked, Generation
from app.state import session

EVERY = 0.3


def draw(asked: Asked, chat: bool) -> None:
    """The newest answers, and the models' next tokens along a text."""
    generation: Generation | None = session.value(TALK)
    asked_before.follow(generation)
    shown = "" if presenter.is_on() else asked.prompt  # before a room, the field with the prompt is below
    if generation is not None:
        blind_round.votes().note(generation, list(generation.answers))
    if generation is None:
        names = formats.literal(listed([asked.names[each] for each in (ORIGINAL, *asked.plans)]))
        st.markdown(f"**Not asked yet:** {names}. The first time loads them.")
    elif generation.active:
        _live(generation, shown)
    elif generation.recorded and set(generation.asked.plans) != set(asked.plans):
        with st.expander("Example: recorded answers of other models than chosen above"):
            _answers(generation, shown)
    else:
        with st.container():  # as a fragment has one: what was said stays where it is when the last word has come
            _answers(generation, shown)
    next_tokens.section(asked, generation, chat)
    if generation is None:
        _example()


def _example() -> None:
    """What the example's models said: framed and last, for all above it is of the chosen models."""
    example = candidates.example()
    if example is not None:
        blind_round.votes().note(example, list(example.answers))
        with st.container(border=True, key="playground-example"):  # long answers scroll: nobody asked for them
            st.caption(f":material/bookmark: {_of_the_example(example)}")
            st.html(answers_html.answers(example))
            st.html(answers_html.LEGEND)


def _of_the_example(example: Generation) -> str:
    """Whose recorded answers these are, and to what."""
    title, prompt = (formats.literal(each) for each in (candidates.title(example.asked.model), example.asked.prompt))
    return f"Shipped example: {title} and pruned models of it, asked before: “{prompt}”"


@st.fragment(run_every=EVERY)
def _live(generation: Generation, shown: str) -> None:
    generation.look()
    if not generation.active:
        st.rerun()
    _answers(generation, shown)


def _answers(generation: Generation, shown: str) -> None:
    st.html(answers_html.asked(generation, shown))
    if generation.status == "failed":
        st.error(formats.sentence(generation.problem), icon=":material/error:")
        if not generation.start:
            return
    st.html(answers_html.answers(generation))
    st.html(answers_html.LEGEND)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption("One prompt is no measure of a model: perplexity and accuracy are.", width="content")
        widgets.next_step("compare", "Compare them")
    if not generation.active:
        _notes(generation)


def _notes(generation: Generation) -> None:
    """What a reader may stumble over."""
    at_once = [generation.asked.names[answer.name] for answer in generation.answers.values() if answer.stopped_at_once]
    if at_once:
        raw = generation.start is not None and not generation.start.chat
        why = "a raw prompt can look like a finished text" if raw else "it held the turn to be finished"
        hint = "Leave the prompt open, in the middle of a sentence" if raw else "Try another prompt"
        if raw and candidates.answers_questions(generation.asked.model):
            hint += ", or turn the chat template on"
        st.info(f"{formats.literal(', '.join(at_once))}: ended the text at once; {why}. {hint}.")
    if generation.start is not None and not generation.start.chat and generation.asked.chat is None:
        st.caption("This model has no chat template: it was given the raw prompt.")
