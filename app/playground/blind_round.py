"""The playground's blind vote: two answers without names, three buttons, then who it was, and the votes so far."""

from __future__ import annotations

from html import escape

import streamlit as st

from app import formats, theme
from app.playground import vote
from app.playground.answers_html import color
from app.playground.candidates import Offer
from app.playground.generation import ORIGINAL, Asked, generate
from app.playground.vote import TIE, A, B, BlindVote, Round, Tally
from app.server import downloads
from app.state import session, widget_state

EVERY = 0.4
NEUTRAL = "rgba(128, 136, 148, 1)"  # of both answers, as long as they have no names
_KEY = "_blind"


def votes() -> BlindVote:
    """This visit's."""
    held: BlindVote | None = session.value(_KEY)
    if held is None:
        held = BlindVote(session.visitor())
        session.put(_KEY, held)
    return held


def choose(offer: Offer) -> tuple[str, str]:
    """Two fields for the two models; whom they name."""
    speakers = [ORIGINAL, *offer.candidates]
    labels = {ORIGINAL: f"Original, {offer.title}", **{run: found.label for run, found in offer.candidates.items()}}
    left, right = st.columns(2)
    one = widget_state.keep_among("blind-one", speakers, ORIGINAL)
    left.selectbox("One model", speakers, key="blind-one", format_func=labels.__getitem__)
    others = [speaker for speaker in speakers if speaker != one]
    # The harshest of the default ones: its answers differ most.
    default = next((run for run in reversed(offer.default()) if run in others), others[0])
    other = widget_state.keep_among("blind-other", others, default)
    right.selectbox("The other", others, key="blind-other", format_func=labels.__getitem__)
    return one, other


def why_not(asked: Asked, pair: tuple[str, str]) -> str:
    """Why this cannot be asked blind, as a sentence; "" where it can."""
    held = votes()
    if not held.knows(asked, pair):
        return ""
    voted = held.round is not None and held.round.voted and held.round.generation.asked.prompt == asked.prompt
    if voted:
        return "You have voted on this prompt. Write or choose another one for the next vote."
    return "An answer to this prompt was shown with its model's name. Write or choose another one."


def button(asked: Asked, pair: tuple[str, str], disabled: bool) -> None:
    """The button that asks both, or stops them."""
    current = votes().round
    if current is not None and current.generation.active:
        st.button("Stop", key="stop-blind", icon=":material/stop_circle:", on_click=current.generation.stop, width=130)
        return
    label, icon = "Ask both, unnamed", ":material/visibility_off:"
    if st.button(label, key="ask-blind", type="primary", icon=icon, disabled=disabled):
        # No callback: its arguments would be from before what was typed last.
        votes().begin(generate(asked, session.visitor()), pair)
        st.rerun()


def section() -> None:
    """The round, and the votes so far."""
    st.html(STYLE)
    held = votes()
    current = held.round
    if current is None:
        with st.container(border=True):
            st.markdown(
                "**Nothing asked yet.** Both models answer your prompt as A and B, in an order drawn by chance. "
                "You say which is better; only then you see which is which."
            )
    elif current.generation.active:
        _waiting(current)
    else:
        with st.container():  # as a fragment has one: what stands below stays there
            _ended(held, current)
    _votes(held)


@st.fragment(run_every=EVERY)
def _waiting(current: Round) -> None:
    current.generation.look()
    if not current.generation.active:
        st.rerun()
    # Words that come one by one would tell by their pace who writes them.
    loading = "The models are loaded…" if current.generation.status == "waiting" else "Both models answer…"
    st.caption(f":material/hourglass: {loading} Their answers appear together.")


def _ended(held: BlindVote, current: Round) -> None:
    if current.generation.status == "done":
        _answered(held, current)
    elif current.generation.status == "failed":
        st.error(formats.sentence(current.generation.problem), icon=":material/error:")
    else:
        st.caption("Stopped before both had answered. Ask again.")


def _answered(held: BlindVote, current: Round) -> None:
    prompt = " ".join(current.generation.asked.prompt.split())
    st.html(f"<p class='come-legend'>“{escape(prompt if len(prompt) <= 120 else prompt[:119] + '…')}”</p>")
    st.html(cards(current))
    if current.voted:
        st.markdown(_revealed(current))
        return
    known = held.knows(current.generation.asked, current.behind)
    with st.container(horizontal=True, gap="small"):
        for choice, label, icon, off in (
            (A, "A is better", "thumb_up", current.alike or known),
            (B, "B is better", "thumb_up", current.alike or known),
            (TIE, "Cannot tell", "balance", known),
        ):
            st.button(
                label,
                key=f"vote-{choice.lower()}",
                icon=f":material/{icon}:",
                disabled=off,
                on_click=held.vote,
                args=(choice,),
            )
    if known:
        st.caption("One of these answers was shown with its model's name meanwhile: this is no blind vote any more.")
    elif current.alike:
        st.caption("Both answers are the same, word for word.")


def cards(current: Round) -> str:
    """A and B side by side; with names only once there was a vote."""
    shown = "".join(_card(current, letter) for letter in (A, B))
    return f"<div class='come-side'><div class='come-answers' style='--count:2'>{shown}</div></div>"


def _card(current: Round, letter: str) -> str:
    answer, name, tint = current.answer(letter), "", NEUTRAL
    if current.voted:
        name, tint = current.name(letter), color(answer.name, current.generation.asked.methods)
    head = f"<b>{letter}</b>" + (f"<span>{escape(name)}</span>" if name else "")
    body = (
        escape(answer.text)
        if answer.text.strip()
        else "<span class='quiet'>No words: it ended the text at once.</span>"
    )
    cut = "cut off" if answer.end is not None and answer.end.reason == "length" else ""
    return (
        f"<section class='come-answer' style='--voice:{tint}' aria-label='Answer {letter}'>"
        f"<header>{head}</header><p>{body}</p><footer>{cut}</footer></section>"
    )


def _revealed(current: Round) -> str:
    a, b = formats.literal(current.name(A)), formats.literal(current.name(B))
    if current.voted == TIE:
        return f"You could not tell **{a}** (A) from **{b}** (B)."
    better, other = (a, b) if current.voted == A else (b, a)
    return f"You preferred **{better}** ({current.voted}) to {other}."


def _votes(held: BlindVote) -> None:
    tallies = held.tallies()
    if not tallies:
        return
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        st.header("Votes of this visit")
        downloads.button(
            "Download the votes",
            held.to_csv(),
            "blind-votes.csv",
            "text/csv",
            "download-votes",
            "One line a vote: prompt, both answers, which was which, and the vote.",
        )
    for tally in tallies:
        st.html(bar(tally))
        st.caption(formats.literal(vote.in_words(tally)))
    st.caption("Yours alone, on prompts of your choice: they say what you prefer there, not how good a model is.")


def bar(tally: Tally) -> str:
    """The votes as one bar: for the first, undecided, for the second."""
    first, second = map(escape, tally.names)
    parts = (
        (tally.wins[0], f"background:{color(tally.speakers[0], tally.methods)}", first),
        (tally.ties, "", "cannot tell"),
        (tally.wins[1], f"background:{color(tally.speakers[1], tally.methods)}", second),
    )
    filled = "".join(
        f"<i style='flex:{count};{style}' title='{name}: {count}'>{count}</i>" for count, style, name in parts if count
    )
    told = f"{first} {tally.wins[0]}, cannot tell {tally.ties}, {second} {tally.wins[1]}"
    whole = f'<div role="img" aria-label="{told}">{filled}</div>'
    return f"<div class='come-votes'><b>{first}</b>{whole}<b>{second}</b></div>"


STYLE = f"""<style>
.come-votes {{ display: flex; flex-wrap: wrap; align-items: center; gap: .2rem .75rem; font-size: .875rem; }}
.come-votes div {{ flex: 1 1 12rem; display: flex; gap: 2px; border-radius: 4px; overflow: hidden; }}
.come-votes i {{
  font-style: normal; font-variant-numeric: tabular-nums; text-align: center; line-height: 1.6rem; color: #fff;
  background: repeating-linear-gradient(135deg, {theme.QUIET} 0 3px, transparent 3px 8px);
  text-shadow: 0 0 3px #000;
}}
</style>"""
