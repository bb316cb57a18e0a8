"""Where a visit begins: what this is, a demo to run, what was run before; the way through the pages, one click off."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import streamlit as st
from streamlit.errors import StreamlitAPIException

import come
import come.runs
from app import example_runs, formats
from app.components import cost_line, glossary, machine, run_words, widgets
from app.components.how_sure import how_sure
from app.figures import compare as figures
from app.run import demo, sentences
from app.state import cached, foreseen, session, visit
from come.errors import ComeError
from come.models import Facts
from come.report import comparison, verdict
from come.report.metrics import number
from come.runs import Run

RECENT = 5


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
    what, picture = st.columns([1, 1.25], gap="large")
    with what:
        st.markdown(
            "Make a language model smaller: neighbouring layers become one, which keeps the channels of each that "
            "matter most (**Co**ncatenation-based **Me**rging). See which, try plans, compare methods, take it home."
        )
        _demo()
    with picture:
        _picture()
    _tour()
    _recent()


# --- the demo ----------------------------------------------------------------------------------------


def _demo() -> None:
    running_now = demo.active_run()
    facts, fault = _facts()
    cost = cost_line.cost(demo.requests(), facts, None, usual=True) if facts is not None else None
    seconds = cost.seconds if cost is not None else None
    label = "Run the demo" if seconds is None else f"Run the demo, about {formats.about(seconds)}"
    if running_now is not None:
        label = "See the demo that is running"
    if st.button(label, key="demo", type="primary", icon=":material/play_arrow:"):
        _open_demo(running_now)
    problem = session.take_problem()
    if problem:
        st.error(problem, icon=":material/error:")
    if facts is None or cost is None:
        st.warning(formats.sentence(fault), icon=":material/error:")
        return
    st.caption(
        f"CoMe-Joint, CoMe and ShortGPT take {facts.title} from {facts.layers} to {demo.DRAFT.target_layers} layers."
    )
    cost_line.draw(cost)
    _whose_layers()
    with st.popover("What runs?", icon=":material/info:", type="tertiary", key="what-runs"):
        st.markdown(
            f"Calibrated on {demo.CHOICE.tokens:,} tokens of {demo.CHOICE.text}, judged on held-out ones. "
            "It keeps the plans alone: the run's page makes the model from its plan, to download."
        )
        machine.draw()


def _whose_layers() -> None:
    """Which of the numbers of layers on the page is of what."""
    with suppress(ComeError):  # of a plan or a model that cannot be read the strip says so
        own = foreseen.target_layers(visit.planned(), visit.facts())
        shipped = {entry.pruned.layers for entry in comparison.entries(example_runs.runs()) if entry.pruned}
        listed = ", ".join(str(layers) for layers in sorted(shipped - {None}, reverse=True))
        st.caption(
            f"The line at the top is your own plan: {own} layers until you change it, {demo.DRAFT.target_layers} once "
            f"the demo runs. The chart shows shipped runs at {listed}."
        )


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


# --- the example -------------------------------------------------------------------------------------


def _picture() -> None:
    """The shipped example's chart, with its verdict."""
    entries = comparison.entries(example_runs.runs())
    results = [entry.pruned for entry in entries if entry.pruned]
    originals = [entry.original for entry in entries if entry.original]
    if not results:
        return
    titles = {name: method.title for name, method in come.methods().items()}
    figure = figures.perplexity_figure(results, originals[0] if originals else None, titles)
    first, *rest = verdict.sentences(results, originals)
    figure.update_layout(title_text=first, height=350)
    widgets.chart(figure, key="home-example", alt=f"Perplexity against layers left. {first} {' '.join(rest)}")
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(":material/bookmark: Shipped example", width="content")
        words = f"{len(results)} runs on the bundled model, computed by this program. Bars are ± 1 standard error."
        how_sure("\n\n".join([" ".join(rest), words]), key="sure-of-example")
        widgets.info("What is perplexity?", glossary.PERPLEXITY, key="perplexity")
    if "before recovery" in first:
        st.caption("Before recovery: as pruning leaves the model, with no training after it.")


# --- the way on, and what was run --------------------------------------------------------------------


def _recent() -> None:
    rows = [(run, sentences.row(run)) for run in come.runs.list_runs()[:RECENT]]
    st.header("Recent runs")
    if not rows:
        st.caption("None yet. What you run stays here.")
        return
    for run, row in rows:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            widgets.next_step("run", formats.literal(str(row["name"])), ":material/play_circle:", run=run.id)
            st.caption(recent_sentence(row))


def recent_sentence(row: dict[str, object]) -> str:
    """How a run of the table of runs went, in a few words (markdown)."""
    when = row["queued"]
    words = [run_words.STATUS[str(row["status"])], formats.literal(f"{row['method']} on {row['model']}")]
    if row["layers"] is not None:
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
