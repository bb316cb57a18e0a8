"""Who answers in the playground, which prompt, and how tokens are drawn."""

from __future__ import annotations

import streamlit as st

from app import formats
from app.playground import asked_before, blind_round, candidates
from app.playground.candidates import Offer
from app.playground.generation import Asked, Generation, generate
from app.state import session, widget_state
from come.serving.playground.speech import Sampling

TEMPERATURES = [tenths / 10 for tenths in range(16)]
SHARES = [tenths / 20 for tenths in range(2, 21)]
LENGTHS = [8, 16, 32, 64, 96, 128, 192, 256]
TALK = "_talk"  # where the session holds the newest answers


def examples(offer: Offer) -> dict[str, str]:
    """Prompts to begin with, by their labels."""
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
        "Beside the original",
        options,
        key="with",
        max_selections=candidates.MOST,
        format_func=lambda run: offer.candidates[run].label,
        placeholder="Choose pruned models",
        help=f"{offer.title}, as it was, answers first; beside it up to {candidates.MOST} pruned models.",
    )
    return runs


def draw(offer: Offer, blind: bool) -> tuple[Asked, bool]:
    """Who speaks, the prompt, and how; what they come to, and whether the chat template is used."""
    chat, prompts, sampling = _chat(offer), examples(offer), _sampling_settled()
    first = next(iter(prompts.values()))
    prompt = widget_state.keep_text("prompt", first, candidates.LONGEST_PROMPT, candidates.LONGEST_LINK)
    st.text_area("Prompt", key="prompt", height=68, max_chars=candidates.LONGEST_PROMPT, label_visibility="collapsed")
    with st.container(horizontal=True, gap="small", vertical_alignment="center", key="playground-asking"):
        asking = st.container(width="content")  # the button comes first, but depends on the choices beside it
        with st.popover(_settings_named(sampling), icon=":material/tune:"):
            pair = blind_round.choose(offer) if blind else None
            runs = _choose(offer) if pair is None else [speaker for speaker in pair if speaker in offer.candidates]
            _sampling(sampling)
            _template(offer)
        for label, text in prompts.items():
            st.button(label, key=f"example-{label}", on_click=session.put, args=("prompt", text), type="tertiary")
    asked = Asked(
        model=offer.model,
        prompt=prompt,
        plans={run: offer.candidates[run].plan for run in runs},
        names=offer.names,
        sampling=sampling,
        chat=None if chat else False,
        methods=offer.methods,
    )
    problem = offer.unlike(runs) or ("" if prompt.strip() else "The prompt is empty. Write a few words.")
    known = blind_round.why_not(asked, pair) if pair else ""
    if pair is None and not problem:
        _speak_again(asked)
    with asking:
        if pair is None:
            _ask_button("Let them answer" if chat else "Let them go on", asked, bool(problem))
        else:
            blind_round.button(asked, pair, bool(problem or known))
    if problem:
        st.warning(formats.sentence(problem))
    elif known:
        st.caption(known)
    return asked, chat


def _ask_button(label: str, asked: Asked, disabled: bool) -> None:
    """The button that lets them answer, or stops them."""
    generation: Generation | None = session.value(TALK)
    if generation is not None and generation.active:
        st.button("Stop", key="stop-talk", icon=":material/stop_circle:", on_click=generation.stop, width=130)
        return
    if st.button(label, key="talk", type="primary", icon=":material/play_arrow:", disabled=disabled):
        # No callback: its arguments would be from before what was typed last.
        _speak(asked)
        st.rerun()


def _sampling_settled() -> Sampling:
    """How tokens are chosen, as the popover has it."""
    return Sampling(
        temperature=widget_state.keep_among("temperature", TEMPERATURES, 0.0),
        top_p=widget_state.keep_among("top-p", SHARES, 1.0),
        new_tokens=widget_state.keep_among("new-tokens", LENGTHS, 64),
        seed=widget_state.keep_among("draw", list(range(100)), 0),
        top=10,
    )


def _settings_named(sampling: Sampling) -> str:
    drawn = "greedy" if sampling.temperature == 0 else f"temperature {sampling.temperature:g}"
    return f"Models, {drawn}, {sampling.new_tokens} tokens"


def _sampling(sampling: Sampling) -> None:
    """How tokens are chosen."""
    greedy = sampling.temperature == 0
    st.select_slider("New tokens, at most", LENGTHS, key="new-tokens")
    st.select_slider(
        "Temperature (0: the likeliest token every time)",
        TEMPERATURES,
        key="temperature",
    )
    st.select_slider("Top-p: draw from the likeliest, up to this chance", SHARES, key="top-p", disabled=greedy)
    st.number_input("Seed", 0, 99, key="draw", disabled=greedy)
    st.caption("All models meet the same random numbers, so their words differ only where their chances do.")


def _template(offer: Offer) -> None:
    """Whether the prompt is put by the chat template."""
    if candidates.answers_questions(offer.model) is False:
        st.toggle("Chat template", value=False, disabled=True, key="no-chat", help="This model has none.")
        return
    st.toggle(
        "Chat template",
        key="chat",
        help="Puts the prompt as a user's turn, as instruct models expect. Off: raw text, to go on from.",
    )


def _speak(asked: Asked) -> None:
    before: Generation | None = session.value(TALK)
    if before is not None:
        before.stop()
    new = generate(asked, session.visitor())
    asked_before.keep(new)
    session.put(TALK, new)


def _speak_again(asked: Asked) -> None:
    """Ask what the link shows the answers of, where none are held: they were asked for in another visit."""
    held: Generation | None = session.value(TALK)
    if (held is None or held.recorded) and asked_before.is_linked(asked):
        _speak(asked)
