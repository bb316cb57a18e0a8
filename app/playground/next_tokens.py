"""What the models expect next along one text: KL by position as a strip, the likeliest tokens after one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape

import streamlit as st

from app import formats
from app.components import widgets
from app.components.background_job import Job
from app.components.how_sure import how_sure
from app.figures import playground as figures
from app.playground import sentence
from app.playground.answers_html import color, visible
from app.playground.generation import ORIGINAL, Asked, Comparison, Generation, compare_along
from app.state import session, widget_state

STRIP = "kl-strip"  # the chart
LOOK = "_look"  # where the session holds the newest question
AFTER = "after-token"
TEXTS = {"prompt": "The prompt", "answer": "Prompt and the original's answer"}
EVERY = 0.4

MEANING = r"""
All models read **the same text**. After each token $t$ each has a chance for every possible next token; the strip shows
how far those of a pruned model $q$ lie from the original's $p$:

$$\mathrm{KL}_t = \sum_v p_t(v)\,\log\frac{p_t(v)}{q_t(v)} \quad\text{nats}$$

0 nats: it expects just the same. A nat is the unit of natural logarithms, 1.44 bits. Below are the ten likeliest next
tokens after one token.
"""


def section(asked: Asked, generation: Generation | None, chat: bool) -> None:
    """The button that asks, and the answer once there is one.

    Args:
        asked: the prompt and the models as they are chosen now.
        generation: the answers above, if there are any.
        chat: whether the prompt is put by the chat template.
    """
    with st.expander("Next token", icon=":material/query_stats:"):
        _next_token(asked, generation, chat)
    look: Comparison | None = session.value(LOOK)
    with st.expander("Follow the sentence", icon=":material/stacks:"):
        if look is not None and look.found is not None and any(look.found.angles.values()):
            sentence.section(look, partial(_clicked, sentence.STRIPS))
        else:
            st.caption("Shows layer by layer how far a pruned model turns what it holds of each token.")
            _compare("Follow it through the layers", "follow-along", asked, generation, chat)


def _next_token(asked: Asked, generation: Generation | None, chat: bool) -> None:
    """The choice of a text, and what was found along it."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        widget_state.keep_among("along", list(TEXTS), "prompt" if generation is None else "answer")
        st.segmented_control(
            "Text to compare along",
            list(TEXTS),
            format_func=TEXTS.__getitem__,
            key="along",
            required=True,
        )
        _compare("Compare along this text", "compare-along", asked, generation, chat)
        widgets.info("How to read this", MEANING, key="meaning-of-kl")
    current: Comparison | None = session.value(LOOK)
    st.caption("Shows after which tokens the pruned models depart from the original, and what each expects next.")
    if current is not None and current.active:
        _live(current)
    elif current is not None:
        with st.container():  # as a fragment has one
            _drawn(current)


def _compare(label: str, key: str, asked: Asked, generation: Generation | None, chat: bool) -> None:
    """The button that has the models read the chosen text."""
    answered = generation is not None and not generation.active and bool(generation.answers[ORIGINAL].text)
    current: Comparison | None = session.value(LOOK)
    missing = _missing(asked, generation if answered else None)
    waits = bool(missing) or (current is not None and current.active)
    if st.button(label, icon=":material/query_stats:", key=key, disabled=waits, help=missing or None):
        _ask(asked, generation if answered else None, chat)
        st.rerun()


def _missing(asked: Asked, generation: Generation | None) -> str:
    """What there must be before the models can be compared, as a sentence; "" where all is there."""
    if session.value("along") == "answer":
        if generation is None:
            return "First let the models answer, to the end or until you stop them."
        return "" if generation.asked.plans else "Let at least one pruned model answer beside the original."
    if not asked.prompt.strip():
        return "The prompt is empty."
    return "" if asked.plans else "Choose at least one pruned model."


def _ask(asked: Asked, generation: Generation | None, chat: bool) -> None:
    _end(session.value(LOOK))
    by_answer = session.value("along") == "answer" and generation is not None
    if by_answer and generation is not None:
        # The answer's own models: the choice may be another one by now.
        new = compare_along(generation.asked, generation.whole_text(), session.visitor(), chat=False)
    else:
        new = compare_along(asked, asked.prompt, session.visitor(), chat=chat)
    session.put(LOOK, new)
    session.put(AFTER, None)


def _ask_after() -> None:
    """The same text, another position."""
    old: Comparison = session.value(LOOK)
    at = session.value(AFTER)
    if old.found is None or at is None or at == old.found.at:
        return
    _end(old)
    new = compare_along(old.asked, old.text, session.visitor(), chat=old.chat, at=at, before=old.found)
    session.put(LOOK, new)


def _clicked(chart: str) -> None:
    points = session.clicked(chart)
    if points:
        session.put(AFTER, int(points[0]["customdata"][0]))
        _ask_after()


def _end(job: Job | None) -> None:
    if job is not None:
        job.stop()


@st.fragment(run_every=EVERY)
def _live(look: Comparison) -> None:
    look.look()
    if not look.active:
        st.rerun()
    _drawn(look)


def _drawn(look: Comparison) -> None:
    found = look.found
    if look.status == "failed":
        st.error(formats.sentence(look.problem), icon=":material/error:")
    elif look.active:
        st.caption(f":material/hourglass: {look.news or 'The models read the text'}…")
    elif look.status == "stopped":
        st.caption("Stopped before there was an answer. Ask again.")
    if found is None:
        return
    names = look.asked.names
    at = look.at if look.at is not None else found.at
    widgets.chart(
        figures.strip(found.pieces, {names[run]: values for run, values in found.kl.items()}, at, look.since),
        key=STRIP,
        on_select=partial(_clicked, STRIP),
        alt="KL divergence from the original after each token of the text, one row a pruned model",
    )
    last = len(found.tokens) - 1
    if last > 0:
        held = session.value(AFTER)
        session.put(AFTER, held if isinstance(held, int) and 0 <= held <= last else at)
        st.slider(
            "After which token",
            0,
            last,
            key=AFTER,
            on_change=_ask_after,
            disabled=look.active,
            help="A click on the strip chooses it, too.",
        )
    before = visible("".join(found.pieces[: found.at + 1])[-60:])
    reference = [token for token, _, _ in found.top[ORIGINAL]]
    st.html(f"<p class='come-legend'>What was read ends in {escape(before)}{_faint(found.top, reference)}</p>")
    with st.container(key="next-tokens"):  # its columns wrap: see playground_words.STYLE
        columns = st.columns(len(found.top), gap="medium")
    highest = max((chance for top in found.top.values() for _, _, chance in top), default=0.0)
    for place, (column, (speaker, top)) in enumerate(zip(columns, found.top.items(), strict=True)):
        with column:
            widgets.chart(
                figures.bars(
                    names[speaker], top, color(speaker, look.asked.methods), reference if place else (), highest
                ),
                key=f"next-{place}",
                alt=f"The likeliest next tokens of {names[speaker]}",
            )
    origin = "Recorded with the example, along" if look.recorded else "Along"
    how_sure(
        f"{figures.means({names[run]: values for run, values in found.kl.items()})}\n\n"
        f"{origin} {formats.literal(visible(_shortened(look.text)))}",
        key="how-sure-next",
    )


def _faint(top: Mapping[str, Sequence[tuple[int, str, float]]], reference: Sequence[int]) -> str:
    """What a faint bar is, where there is one."""
    others = any(token not in reference for found in top.values() for token, _, _ in found)
    return f" · Faint: not among the original's {len(reference)} likeliest." if others else ""


def _shortened(text: str) -> str:
    """The end of a text: it begins with the template, which is always the same."""
    return text if len(text) <= 120 else "…" + text[-119:]
