"""The card of one channel: how sensitive it is, what excites it, which words it speaks for, where it went."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
import streamlit as st

from app import formats
from app.channels import asking
from app.channels.asking import Answer
from app.components import widgets
from app.components.poll import Look
from app.figures.inspect import FIRST_ATTENTION, NAMES
from app.inspect import follow_unit
from app.playground.answers_html import visible
from app.state import session, visit
from come.measurement.next_words import NextWords
from come.measurement.top_contexts import Context
from come.models import Facts
from come.plan.provenance import Part
from come.plan.trace import trace
from come.pruning.kept_units import KeptByLayer
from come.pruning.registry import fits_windows, keeps_first_attention
from come.runs import Run

ITSELF = 1.5e9  # parameters; a larger model is loaded only when the visitor asks
SHOWN = 6  # contexts

WHAT = r"""
**Tokens**: where the channel's activation, what enters `down_proj`, is farthest from zero.

**Promotes, suppresses**: next words that it makes likelier and less likely where its activation has the sign that is
named; at the other sign the two change places. Its column of `down_proj` goes straight through the final norm and
the unembedding: what the layers between make of it is left out.
"""

_IN_A_ROW = """<style>
.st-key-channel-card .come-facts {
  grid-template-columns: repeat(3, auto); justify-content: start; column-gap: 2.5rem; margin: 0;
}
.st-key-channel-card h2 { padding: 0; }
.st-key-channel-card > div { gap: .5rem; }
.st-key-channel-card { padding-top: .75rem; }
</style>"""
STYLE = """<style>
.come-contexts { width: 100%; border-collapse: collapse; font-size: .875rem; line-height: 1.4; }
.come-contexts th { text-align: left; font-weight: 400; font-size: .8rem; opacity: .78; padding-bottom: .2rem; }
.come-contexts td { border-top: 1px solid var(--come-line); padding: .25rem 0; overflow-wrap: anywhere; }
.come-contexts :is(td, th):first-child {
  white-space: nowrap; padding-right: .75rem; font-variant-numeric: tabular-nums;
}
.come-contexts mark { padding: 0 .1em; border-radius: 2px; }
.come-words { margin: 0 0 .75rem; font-size: .875rem; }
.come-words b { display: block; font-weight: 400; font-size: .8rem; opacity: .78; padding-bottom: .2rem; }
.come-words span {
  display: inline-block; border: 1px solid var(--come-line); border-radius: 4px; padding: 0 .35rem;
  margin: 0 .25rem .25rem 0; max-width: 100%; overflow-wrap: anywhere;
}
.come-words.against span { border-style: dashed; }
</style>"""


def draw(
    run: Run, facts: Facts, values: np.ndarray, part: Part, layer: int, channel: int, plan: KeptByLayer | None
) -> list[Look]:
    """The card; what the page is to follow while the model is asked.

    Args:
        run: the analysis.
        facts: of its model.
        values: (channels,) sensitivities of the layer.
        part: which part the channel is of.
        layer, channel: which.
        plan: which units the visitor's plan keeps; None where only a run tells.
    """
    answer = _asked(run, facts, layer, channel) if part == "ffn" else None
    unit = _unit(facts, part, channel, len(values))
    with st.container(border=True, key="channel-card"):
        st.html(_IN_A_ROW)
        st.header(f"Channel {channel:,} of layer {layer}", anchor=False)
        if answer is None:  # little to tell: it takes the card's whole width
            made_by = _where(part, layer, unit, plan)  # first: what is in sight of a small screen is the answer
            with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
                _numbers(values, channel)
                _in_inspect(made_by, part, layer, unit)
                if part == "ffn":
                    _ask_button(run, layer, channel)
                else:
                    st.caption("Words and tokens: of feed-forward channels alone.", width="content")
            return []
        st.html(STYLE)
        own, told = st.columns([1, 1.15], gap="large")
        with own:
            made_by = _where(part, layer, unit, plan)
            _numbers(values, channel)
            _in_inspect(made_by, part, layer, unit)
            if answer.words is not None:
                st.html(spoken_for(answer.words, answer.contexts))
        with told:
            if answer.contexts is not None:
                st.html(follow_unit.table(answer.contexts[:SHOWN]))
                widgets.info("What are these?", WHAT, key="formula-channel")
            if answer.status == "failed":
                st.warning(formats.sentence(answer.problem))
            return [_followed(answer)] if answer.active else []


def _numbers(values: np.ndarray, channel: int) -> None:
    """How sensitive the channel is, among the others of its layer."""
    rank = int((values > values[channel]).sum()) + 1
    widgets.facts_grid(
        {
            "Sensitivity S": _three(float(values[channel])),
            f"Rank of {len(values):,}": f"{rank:,}",
            "× median": f"{values[channel] / max(float(np.median(values)), 1e-30):.1f}",
        }
    )


def _in_inspect(made_by: Run | None, part: Part, layer: int, unit: int) -> None:
    """The way to the finished run that says where the unit went, if one does."""
    if made_by is not None:
        find = follow_unit.written(part, layer, unit)
        widgets.next_step("inspect", "Open in Inspect", ":material/extension:", run=made_by.id, part=part, find=find)


def _three(number: float) -> str:
    return f"{number:.3g}" if number < 1000 else f"{number:,.0f}"


def _unit(facts: Facts, part: Part, channel: int, channels: int) -> int:
    """What of it a plan keeps or drops: the channel itself, or its KV group."""
    return channel if part == "ffn" else channel * facts.num_key_value_heads // channels


def _where(part: Part, layer: int, unit: int, plan: KeptByLayer | None) -> Run | None:
    """Say where the unit goes; the finished run that says so, if one does."""
    run = visit.run_of_draft() if plan is not None and plan.exact else None
    made = run.plan() if run is not None else None
    if made is None:
        st.markdown(foreseen(plan, part, layer, unit))
        return None
    st.markdown(follow_unit.sentence(trace(made, part, layer, unit), made, part, layer, unit))
    return run


def foreseen(plan: KeptByLayer | None, part: Part, layer: int, unit: int) -> str:
    """What a plan that was not run yet would do to a unit, in a sentence (markdown)."""
    one = "It" if part == "ffn" else f"Its {NAMES[part][0]} {unit}"
    draft, guess = session.draft(), ""
    if part == "attention" and keeps_first_attention(draft.method, draft.options):
        guess = f" {FIRST_ATTENTION}"
    elif fits_windows(draft.method):
        guess = " An estimate: the run goes by what channels give together."
    if plan is None:
        return f"Whether it stays, only a run of {session.plan_named()} tells."
    group = next((group for group in plan.groups if layer in group), None)
    if group is None:
        return f"{session.plan_named().capitalize()} would **remove** layer {layer}, and all in it."
    if layer not in plan.layers:
        return f"{session.plan_named().capitalize()} leaves layer {layer} whole."
    kept = plan.layers[layer]
    if unit in (kept.channels if part == "ffn" else kept.kv_groups):
        return f"{one} would be **kept**, in what layers {group[0]} to {group[-1]} become.{guess}"
    return f"{one} would be **dropped** when layers {group[0]} to {group[-1]} are merged.{guess}"


# --- what the model says -----------------------------------------------------------------------------


def _asked(run: Run, facts: Facts, layer: int, channel: int) -> Answer | None:
    """What was asked of the channel; a click on one of a small model asks."""
    config, opened = run.config, session.value("channel") is not None
    answer = asking.known(config, layer, channel)
    if opened and facts.parameters <= ITSELF and (answer is None or answer.status == "stopped"):
        asking.begin(config, layer, channel)
        answer = asking.known(config, layer, channel)
    return None if answer is None or answer.status == "stopped" else answer


def _ask_button(run: Run, layer: int, channel: int) -> None:
    st.button(
        "What excites it?",
        key="ask-channel",
        icon=":material/format_quote:",
        on_click=asking.begin,
        args=(run.config, layer, channel),
        help=f"And which next words it promotes: loads the model and reads {run.config.n_tokens:,} tokens.",
    )


def spoken_for(found: NextWords, contexts: Sequence[Context] | None) -> str:
    """The words of a channel, as HTML, for the sign that its activation has at most of the tokens below."""
    promoted, suppressed, sign, other = found.promoted, found.suppressed, "positive (+)", "negative (−)"
    if contexts is not None and sum(each.activation for each in contexts[:SHOWN]) < 0:
        promoted, suppressed, sign, other = suppressed, promoted, other, sign
    return words(promoted, f"Where its activation is {sign}, promotes") + words(
        suppressed, f"and suppresses; where {other}, the other way round", "against"
    )


def words(shown: Sequence[str], title: str, look: str = "") -> str:
    """Tokens in boxes, as HTML."""
    boxes = "".join(f"<span>{escape(visible(word)[1:-1])}</span>" for word in shown)
    return f"<div class='come-words {look}'><b>{title}</b>{boxes}</div>"


def _followed(answer: Answer) -> Look:
    """Tells how far the answer is; and when there is more of it."""
    place = st.empty()
    before = answer.words is not None

    def look() -> bool:
        answer.look()
        place.caption(f":material/progress_activity: {formats.sentence(answer.news or 'Asking the model')} …")
        return not answer.active or (answer.words is not None) != before

    look()
    return look
