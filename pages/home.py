"""Where a visit begins: what this is, a demo to run, the newest result, what was run before; a tour, one click off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import streamlit as st
from streamlit.errors import StreamlitAPIException

import come
import come.runs
from app import formats
from app.components import cost_line, machine, run_words, widgets
from app.home import headline, ribbons
from app.run import demo, sentences
from app.state import cached, session
from come.errors import ComeError
from come.models import Facts
from come.report.metrics import number
from come.runs import Run

RECENT = 4
STYLE = """<style>
.st-key-home-recent h2 { padding-top: 0; }  /* level with the chart's title */
.st-key-home-recent [data-testid="stCaptionContainer"] { padding-left: 2.1rem; }  /* under the run's name */
</style>"""


@dataclass(frozen=True)
class Stop:
    """One page of the tour: its name in the address, its title, its icon, and what one does there."""

    page: str
    title: str
    icon: str
    what: str


TOUR = (
    Stop("model", "Model", "deployed_code", "Choose a model and a text."),
    Stop("channels", "Channels", "grid_on", "Which channels matter, layer by layer."),
    Stop("layers", "Layers", "layers", "Which neighbours could become one."),
    Stop("plan", "Plan", "edit_note", "Merge windows, and see what is left."),
    Stop("run", "Run", "play_circle", "Run it beside other methods. Take it home."),
    Stop("compare", "Compare", "compare_arrows", "What each method costs at each size."),
    Stop("inspect", "Inspect", "extension", "What each new layer is made of."),
    Stop("playground", "Playground", "forum", "One prompt, original and pruned side by side."),
    Stop("learn", "Learn", "school", "CoMe in eight small steps."),
)


def page() -> None:
    st.title("CoMe Lab")
    st.html(STYLE)
    st.markdown(
        "Make a language model smaller: neighbouring layers become one, which keeps the channels of each that "
        "matter most (**Co**ncatenation-based **Me**rging). See which, try plans, compare methods, take it home."
    )
    known = come.runs.list_runs()
    _demo()
    found = headline.of(known)
    if found is not None:
        ribbons.draw(found.pictured)
    chart, recent = st.columns([1.35, 1], gap="large") if known else (st.container(), None)
    if found is not None:
        with chart:
            headline.draw(found)
    if recent is not None:
        with recent, st.container(key="home-recent"):
            _recent(known[:RECENT])
    _tour()


# --- the demo ----------------------------------------------------------------------------------------


def _demo() -> None:
    """The demo, as what to do first, and the lesson beside it."""
    running_now = demo.active_run()
    facts, fault = _facts()
    cost = cost_line.cost(demo.requests(), facts, None, usual=True) if facts is not None else None
    seconds = cost.seconds if cost is not None else None
    label = "Run the demo" if seconds is None else f"Run the demo, about {formats.about(seconds)}"
    if running_now is not None:
        label = "See the demo that is running"
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        pressed = st.button(label, key="demo", type="primary", icon=":material/play_arrow:")
        if facts is not None and cost is not None:
            _what_runs(facts, cost)
        widgets.next_step("learn", "Learn it in eight steps", ":material/school:")
    if pressed:
        _open_demo(running_now)
    problem = session.take_problem()
    if problem:
        st.error(problem, icon=":material/error:")
    if facts is None or cost is None:
        st.warning(formats.sentence(fault), icon=":material/error:")
        return
    cost_line.problems(cost)


def _what_runs(facts: Facts, cost: cost_line.Cost) -> None:
    with st.popover("What runs?", icon=":material/info:", type="tertiary", key="what-runs"):
        st.markdown(f"{facts.layers} to {demo.DRAFT.target_layers} layers, three ways: {_told()}.")
        st.markdown(
            f"{_named()} prune {facts.title}, calibrated on {demo.CHOICE.tokens:,} tokens of "
            f"{demo.CHOICE.text}, judged on held-out ones. The runs keep plans alone: a run's page makes the model "
            "from its plan, to download."
        )
        st.caption(f"{cost.sentence} {cost.basis}")
        machine.draw()


def _named() -> str:
    """The demo's methods in words."""
    *others, last = (come.methods()[name].title for name in demo.METHODS)
    return f"{', '.join(others)} and {last}"


def _told() -> str:
    """The demo's methods, with what each does."""
    return "; ".join(f"{come.methods()[name].title} {does}" for name, does in demo.METHODS.items())


def _facts() -> tuple[Facts | None, str]:
    """The facts of the demo's model, or why there are none."""
    try:
        return cached.facts(demo.CHOICE.model), ""
    except ComeError as error:
        return None, str(error)


def _open_demo(running_now: Run | None) -> None:
    """Start the demo unless it runs, choose what it is about, and go where it is watched."""
    try:
        made = [running_now] if running_now is not None else demo.start()
    except ComeError as error:
        session.set_problem(str(error))
        return
    if running_now is None:
        session.set_choice(demo.CHOICE)
        session.set_draft(demo.DRAFT)
    session.open_run(made[0].id)
    st.switch_page(widgets.PAGES / "run.py")


# --- the way on, and what was run --------------------------------------------------------------------


def _recent(newest: Sequence[Run]) -> None:
    """The last runs, where there are any: an empty list would say nothing."""
    if not newest:
        return
    st.header("Recent runs")
    rows = [(run, sentences.row(run)) for run in newest]
    several = len({row["model"] for _, row in rows}) > 1
    for run, row in rows:
        with st.container(gap=None):
            widgets.next_step("run", formats.literal(str(row["name"])), ":material/play_circle:", run=run.id)
            st.caption(recent_sentence(row, several))


def recent_sentence(row: dict[str, object], several: bool) -> str:
    """How a run of the table of runs went, in a few words (markdown); its model where there are several."""
    when, method = row["queued"], come.methods().get(str(row["method"]))
    words = [run_words.STATUS[str(row["status"])], *([formats.literal(str(row["model"]))] if several else [])]
    if method is not None and method.title not in str(row["name"]):  # which stands before it
        words.append(formats.literal(method.title))
    if row["layers"] is not None and "layers" not in str(row["name"]):
        words.append(f"{row['layers']} layers")
    if isinstance(row["perplexity"], float):
        words.append(f"perplexity {number(row['perplexity'])}")
    if isinstance(when, datetime):
        words.append(f"{when:%d %b %H:%M}")
    return " · ".join(words)


def _tour() -> None:
    there = [stop for stop in TOUR if (widgets.PAGES / f"{stop.page}.py").is_file()]
    columns = 3
    with st.expander("Guided tour", icon=":material/tour:"):
        for start in range(0, len(there), columns):
            row = st.columns(columns, gap="small")
            for place, stop in enumerate(there[start : start + columns], start=start + 1):
                with row[(place - 1) % columns], st.container(gap=None):
                    try:
                        st.page_link(
                            widgets.PAGES / f"{stop.page}.py",
                            label=f"**{place}. {stop.title}**",
                            icon=f":material/{stop.icon}:",
                        )
                    except StreamlitAPIException:  # the page is there, but not in the navigation
                        st.markdown(f"**{place}. {stop.title}**")
                    st.caption(stop.what)


page()
