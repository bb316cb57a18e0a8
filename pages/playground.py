"""Models answer one prompt: side by side, with what each expects next along a text, or two of them without names."""

from __future__ import annotations

import streamlit as st

from app.components import plain_text, widgets
from app.components.background_job import Job
from app.playground import answers, blind_round, candidates, next_tokens
from app.playground import conversation as talks
from app.playground.candidates import Offer
from app.playground.conversation import Asked, Talk
from app.playground.next_tokens import LOOK
from app.state import session, widget_state
from come.serving.playground.speech import Sampling

TALK = "_talk"  # where the session holds the newest answers
OF = "_talk_of"  # and of which model they are
EVERY = 0.3
MODES = {"side": "Side by side", "blind": "Blind vote"}
INTRODUCTIONS = {
    "side": "One prompt, the original and pruned models side by side. Marked: where each first says something else.",
    "blind": "One prompt, two models without names. Say which answers better; then you see which is which.",
}
TEMPERATURES = [tenths / 10 for tenths in range(16)]
SHARES = [tenths / 20 for tenths in range(2, 21)]
LENGTHS = [8, 16, 32, 64, 96, 128, 192, 256]


def page() -> None:
    st.title("Playground")
    chosen = session.choice().model
    offer = candidates.offer(chosen)
    blind = widget_state.keep_among("mode", list(MODES), "side") == "blind"
    st.caption(INTRODUCTIONS["blind" if blind else "side"])
    if offer.borrowed:
        name = chosen.rstrip("/").rsplit("/", 1)[-1]
        st.info(
            f"There is no finished run of {plain_text.literal(name)} yet, so the shipped example speaks: "
            f"{plain_text.literal(offer.title)}, pruned."
        )
    _begin(offer)
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
    asked, chat = _form(offer, blind)
    st.html(answers.STYLE)
    if blind:
        blind_round.section()
    else:
        _side_by_side(asked, chat)
    if offer.borrowed:
        widgets.next_step("run", "Prune the chosen model, to hear it here")


def _side_by_side(asked: Asked, chat: bool) -> None:
    talk: Talk | None = session.value(TALK)
    if talk is not None:
        blind_round.booth().note(talk, list(talk.voices))
    if talk is None:
        with st.container(border=True):
            st.markdown("**Nothing said yet.** Choose a prompt and let the models answer: the first time loads them.")
    elif talk.active:
        _live(talk)
    else:
        with st.container():  # as a fragment has one: what was said stays where it is when the last word has come
            _answers(talk)
    next_tokens.section(asked, talk, chat)


def _begin(offer: Offer) -> None:
    """A new visit starts with the recording; answers of another model are put away."""
    if session.value(OF) == offer.model:
        return
    session.put(OF, offer.model)
    for key in (TALK, LOOK):
        job: Job | None = session.value(key)
        if job is not None:
            job.stop()
    blind_round.booth().end()
    kept = candidates.recording(offer)
    session.put(TALK, kept[0] if kept else None)
    session.put(LOOK, kept[1] if kept else None)


def _change_mode(offer: Offer) -> None:
    """A blind vote begins with a prompt whose answers were not shown with names."""
    held, prompt = blind_round.booth(), session.value("prompt", "")
    if session.value("mode") == "blind" and held.has_read(prompt):
        fresh = [text for text in _examples(offer).values() if not held.has_read(text)]
        session.put("prompt", fresh[0] if fresh else prompt)


def _examples(offer: Offer) -> dict[str, str]:
    return candidates.QUESTIONS if _chat(offer) else candidates.BEGINNINGS


def _chat(offer: Offer) -> bool:
    """Whether the prompt is put by the chat template."""
    # Unknown before the model is loaded: used if there is one.
    template = candidates.answers_questions(offer.model)
    return template is not False and bool(widget_state.keep_among("chat", [True, False], True))


def _choose(offer: Offer) -> list[str]:
    """The field for the pruned models; which were chosen."""
    options = list(offer.candidates)
    runs = widget_state.keep_several("with", options, offer.default(), candidates.MOST)
    st.multiselect(
        f"Beside the original, {offer.title} (up to {candidates.MOST})",
        options,
        key="with",
        max_selections=candidates.MOST,
        format_func=lambda run: offer.candidates[run].label,
        placeholder="Choose pruned models",
    )
    return runs


def _form(offer: Offer, blind: bool) -> tuple[Asked, bool]:
    """Who speaks, the prompt, and how; what they come to, and whether the chat template is used."""
    chat, examples = _chat(offer), _examples(offer)
    pair = blind_round.choose(offer) if blind else None
    runs = _choose(offer) if pair is None else [speaker for speaker in pair if speaker in offer.candidates]
    prompt = widget_state.keep_text("prompt", next(iter(examples.values())), candidates.LONGEST_LINK)
    st.text_area("Prompt", key="prompt", height=90, max_chars=candidates.LONGEST_PROMPT)
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        for label, text in examples.items():
            st.button(label, key=f"example-{label}", on_click=session.put, args=("prompt", text), type="secondary")
    sampling = _sampling_settled()
    asked = Asked(
        model=offer.model,
        prompt=prompt,
        plans={run: offer.candidates[run].plan for run in runs},
        names=offer.names,
        sampling=sampling,
        chat=None if chat else False,
    )
    problem = offer.unlike(runs) or ("" if prompt.strip() else "The prompt is empty. Write a few words.")
    known = blind_round.why_not(asked, pair) if pair else ""
    with st.container(horizontal=True, gap="medium", vertical_alignment="center", key="playground-asking"):
        if pair is None:
            _ask_button("Let them answer" if chat else "Let them go on", asked, bool(problem))
        else:
            blind_round.button(asked, pair, bool(problem or known))
        _sampling_popover(sampling)
        if candidates.answers_questions(offer.model) is False:
            st.toggle("Chat template", value=False, disabled=True, key="no-chat", help="This model has none.")
        else:
            st.toggle(
                "Chat template",
                key="chat",
                help="Puts the prompt as a user's turn, as instruct models expect. Off: raw text, to go on from.",
            )
    if problem:
        st.warning(plain_text.sentence(problem))
    elif known:
        st.caption(known)
    return asked, chat


def _ask_button(label: str, asked: Asked, disabled: bool) -> None:
    """The button that lets them answer, or stops them."""
    talk: Talk | None = session.value(TALK)
    if talk is not None and talk.active:
        st.button("Stop", key="stop-talk", icon=":material/stop_circle:", on_click=talk.stop, width=130)
        return
    st.button(
        label,
        key="talk",
        type="primary",
        icon=":material/play_arrow:",
        on_click=_speak,
        args=(asked,),
        disabled=disabled,
    )


def _sampling_settled() -> Sampling:
    """How tokens are chosen, as the popover has it."""
    return Sampling(
        temperature=widget_state.keep_among("temperature", TEMPERATURES, 0.0),
        top_p=widget_state.keep_among("top-p", SHARES, 1.0),
        new_tokens=widget_state.keep_among("new-tokens", LENGTHS, 64),
        seed=widget_state.keep_among("draw", list(range(100)), 0),
        top=10,
    )


def _sampling_popover(sampling: Sampling) -> None:
    greedy = sampling.temperature == 0
    label = "Greedy" if greedy else f"Temperature {sampling.temperature:g}"
    with st.popover(f"{label}, {sampling.new_tokens} tokens", icon=":material/tune:"):
        st.select_slider("New tokens, at most", LENGTHS, key="new-tokens")
        st.select_slider(
            "Temperature (0: the likeliest token every time)",
            TEMPERATURES,
            key="temperature",
        )
        st.select_slider("Top-p: draw from the likeliest, up to this chance", SHARES, key="top-p", disabled=greedy)
        st.number_input("Seed", 0, 99, key="draw", disabled=greedy)
        st.caption("All models meet the same random numbers, so they part only where their chances differ.")


def _speak(asked: Asked) -> None:
    before: Talk | None = session.value(TALK)
    if before is not None:
        before.stop()
    session.put(TALK, talks.talk(asked, session.visitor()))


@st.fragment(run_every=EVERY)
def _live(talk: Talk) -> None:
    talk.look()
    if not talk.active:
        st.rerun()
    _answers(talk)


def _answers(talk: Talk) -> None:
    st.html(answers.asked(talk))
    if talk.status == "failed":
        st.error(plain_text.sentence(talk.problem), icon=":material/error:")
        if not talk.start:
            return
    st.html(answers.answers(talk))
    st.html(answers.LEGEND)
    if not talk.active:
        _notes(talk)


def _notes(talk: Talk) -> None:
    """What a reader may stumble over."""
    at_once = [talk.asked.names[voice.name] for voice in talk.voices.values() if voice.stopped_at_once]
    if at_once:
        raw = talk.start is not None and not talk.start.chat
        why = "a raw prompt can look like a finished text" if raw else "it held the turn to be finished"
        hint = "Leave the prompt open, in the middle of a sentence" if raw else "Try another prompt"
        if raw and candidates.answers_questions(talk.asked.model):
            hint += ", or turn the chat template on"
        st.info(f"{plain_text.literal(', '.join(at_once))}: ended the text at once; {why}. {hint}.")
    if talk.start is not None and not talk.start.chat and talk.asked.chat is None:
        st.caption("This model has no chat template: it was given the raw prompt.")


page()
