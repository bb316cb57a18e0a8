"""Pieces that more than one page shows: the strip, progress, notes, the info mark."""

from __future__ import annotations

import time
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import plotly.graph_objects as go
import streamlit as st

import come.runs
from app import theme
from app.components import plain_text
from app.plan import kept_units, planning
from app.run import timing
from app.state import session, visit
from come.errors import ComeError
from come.models import Facts
from come.request import RunConfig
from come.runs import Run
from come.serving import limits
from come.serving.demo import is_demo, without_paths

if TYPE_CHECKING:
    from app.components.cost_line import Cost

PAGES = Path(__file__).resolve().parents[2] / "pages"
ENDED = ("done", "failed", "cancelled", "interrupted")


# --- the strip ---------------------------------------------------------------------------------------


def strip() -> None:
    """The slim strip on top of every page: the plan in tiles and numbers, and where it stands."""
    try:
        known = visit.facts()
        layers = planning.target(session.draft(), known, visit.config_of_draft())
        removed = 1 - known.parameters_at(layers) / known.parameters
        cells = [
            escape(known.title),
            _tiles(_groups(known), known.layers),
            f"<b>{known.layers} → {layers} layers</b> · {percent(-removed)} parameters",
            f"<span class='quiet'>{escape(_standing())}</span>",
        ]
    except ComeError as error:
        name = Path(session.choice().model).name
        cells = [escape(name), f"<span class='quiet'>{escape(without_paths(error.what))}</span>"]
    st.html("<div class='come-strip'>" + "".join(f"<span>{cell}</span>" for cell in cells) + "</div>")
    left_out = session.misread()
    if left_out:
        st.warning(f"The link holds {plain_text.literal(', '.join(left_out))}, which cannot be read; it was left out.")
    if is_demo():
        _demo_note()


def _demo_note() -> None:
    """What is different in a public demonstration, on every page."""
    allowed = limits.current()
    with st.container(horizontal=True, vertical_alignment="center"):
        info(
            "Public demonstration",
            f"- Models: {', '.join(allowed.models or ())}.\n"
            f"- Up to {allowed.run_tokens:,} tokens per run, and known texts only.\n"
            f"- One request runs at a time, {allowed.waiting} may wait. Runs are seen by everyone.\n"
            "- You may end or delete only runs that you started, until you reload the page.\n\n"
            "On a machine of your own, nothing of this holds.",
            key="demo-note",
        )
        st.caption(f"{len(allowed.models or ())} models, {allowed.run_tokens:,} tokens per run, one request at a time.")


def _groups(known: Facts) -> list[list[int]]:
    """Which original layers each layer of the plan stands for, as far as that is known before it runs."""
    kept = kept_units.now(visit.analysis()[0], known)
    if kept is not None:
        return kept.groups
    draft = session.draft()
    return kept_units.groups_of(dict(draft.windows or []), known.layers, draft.dropped)


def _tiles(groups: list[list[int]], layers: int) -> str:
    """The layers in a row: merged ones joined, removed ones hatched."""
    present = {layer for group in groups for layer in group}
    colors = [f"<i style='background:{theme.layer_color(layer, layers)}'></i>" for layer in range(layers)]
    tiles = [(group[0], "".join(colors[layer] for layer in group)) for group in groups]
    tiles += [(layer, "<i class='gone'></i>") for layer in range(layers) if layer not in present]
    row = "".join(f"<span>{tile}</span>" for _, tile in sorted(tiles))
    return f"<span class='come-tiles' role='img' aria-label='{len(groups)} layers'>{row}</span>"


def _standing() -> str:
    """Where the plan stands, in a few words, and how many runs are at work or waiting."""
    run = visit.run_of_draft()
    own = [] if run is None else [run.id]
    others = [other for other in come.runs.list_runs()[:50] if other.id not in own and other.state().active]
    count = f"{len(others)} {'other run' if run else 'run'}{'' if len(others) == 1 else 's'} at work or waiting"
    return _own_standing(run) + (f" · {count}" if others else "")


def _own_standing(run: Run | None) -> str:
    if run is None:
        automatic = session.draft().windows is None
        return ("automatic plan" if automatic else "plan by hand") + ", not run yet"
    state = run.state()
    if state.status == "done":
        results = run.results()
        before, after = ((results.get(side) or {}).get("perplexity") for side in ("original", "pruned"))
        return f"run: perplexity {before:.1f} → {after:.1f}" if before and after else "run: done"
    if state.status == "running":
        return f"running: {state.stage}, {timing.share(state):.0%}"
    return {"queued": "waiting to run"}.get(state.status, f"last run {state.status}")


# --- progress ----------------------------------------------------------------------------------------


def progress(run: Run) -> None:
    """Live progress of a run, with a cancel button; when it ends the whole page runs again.

    Draw it only while the run is active (``run.state().status in session.ACTIVE``).
    """
    _progress(run)


@st.fragment(run_every=1.0)
def _progress(run: Run) -> None:
    state = run.state()
    if state.status in ENDED:
        st.rerun()
    now = time.time()
    left = timing.left_in_stage(run.events(), now)
    what = plain_text.sentence(state.message) or state.stage or "Waiting to start"
    with st.container(border=True):
        done = timing.share(state)
        st.progress(done, text=f"**{what}**{f' · {done:.0%}' if done else ''}")
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            remaining = f" · about {duration(left)} left in this stage" if left is not None else ""
            st.caption(
                f"{duration(timing.elapsed(state, now))} so far{remaining}. You may leave this page; the run goes on."
            )
            if session.owns(run):
                st.button(
                    "Cancel",
                    key=f"cancel-{run.id}",
                    icon=":material/stop_circle:",
                    on_click=session.cancel,
                    args=(run,),
                )


def ended_badly(run: Run) -> None:
    """One sentence for a run that failed, was cancelled or interrupted."""
    state = run.state()
    if state.status == "failed":
        st.error(plain_text.sentence(f"{state.error} {state.hint}"), icon=":material/error:")
    elif state.status == "interrupted":
        st.warning("The run stopped without ending: its process is gone. Resume it on the run page.")
    elif state.status == "cancelled":
        st.info("The run was cancelled.")


def launch_analysis(label: str = "Prepare and analyse", key: str = "launch-analysis") -> None:
    """The button that starts an analysis of the choice; a sentence instead where it cannot start."""
    st.button(label, key=key, type="primary", icon=":material/monitoring:", on_click=_launch_analysis)
    problem = session.take_problem()
    if problem:
        st.error(problem, icon=":material/error:")


def _launch_analysis() -> None:
    chosen = session.choice()
    try:
        config = RunConfig(
            kind="analyze",
            model=chosen.model,
            text=chosen.text,
            n_tokens=chosen.tokens,
            seq_len=chosen.seq_len,
            seed=chosen.seed,
        )
        run = come.runs.create(config, allowed=limits.current())
        session.own(run)
        come.runs.launch(run)
    except ComeError as error:
        session.set_problem(str(error))


# --- small pieces ------------------------------------------------------------------------------------


def figure(
    drawn: go.Figure,
    key: str,
    *,
    alt: str,
    on_select: Callable[[], None] | None = None,
    width: int | Literal["stretch"] = "stretch",
    image: Literal["svg", "png"] = "svg",
) -> None:
    """Show a figure of ``app.figures`` with its title as text above it.

    Plotly does not wrap titles, and on a narrow screen cuts them off; text on the page wraps.

    Args:
        drawn: the figure; its title is taken out of it.
        key: the chart's key, also for ``session.clicked``.
        alt: what it shows, for those who cannot see it.
        on_select: called after a click on one of its points.
        width: pixels at most, or the whole column.
        image: what the camera above the figure saves.
    """
    title = drawn.layout.title.text or ""
    drawn.update_layout(title_text="", margin_t=drawn.layout.margin.t - theme.title_room(title))
    config = {
        **theme.PLOT_CONFIG,
        "toImageButtonOptions": {"format": image, "filename": key, "scale": 2 if image == "png" else 1},
    }
    with st.container(gap=None):
        # Streamlit holds no place for a figure that is not drawn yet: what is below it would jump.
        place = f"<style>.st-key-{key} {{ min-height: {drawn.layout.height}px }}</style>"
        st.html(f"<p class='come-finding'>{plain_text.title(title)}</p>{place}")
        if on_select is None:
            st.plotly_chart(drawn, key=key, config=config, alt=alt, width=width)
        else:
            st.plotly_chart(
                drawn, key=key, config=config, alt=alt, width=width, on_select=on_select, selection_mode="points"
            )


def laid_out() -> None:
    """Say that all of the page is there, before its script goes on to follow something: it is shown then."""
    st.html("<span class='come-laid-out'></span>")


def facts_grid(shown: dict[str, str]) -> None:
    """Figures with their names, in a grid that fits any width."""
    cells = "".join(f"<div><span>{escape(name)}</span><b>{escape(value)}</b></div>" for name, value in shown.items())
    st.html(f"<div class='come-facts'>{cells}</div>")


def info(term: str, text: str, key: str | None = None) -> None:
    """An info mark: the term as a quiet button that opens its formula or explanation (markdown, LaTeX)."""
    with st.popover(term, icon=":material/info:", type="tertiary", key=key):
        st.markdown(text)


def example_note() -> None:
    """Say that what is shown is the shipped example, wherever it is."""
    measured, known, is_example, run = visit.analysis()
    if not is_example or measured is None or run is None:
        return
    config = run.config
    st.caption(
        f":material/bookmark: Shipped example: {plain_text.literal(known.title)} over {measured.n_tokens:,} tokens of "
        f"{plain_text.literal(config.text)}, computed by this program. Analyse your own choice on the model page."
    )


def empty_state(title: str, text: str, page: str | None = None, label: str = "") -> None:
    """What a page shows when it has nothing to show: why, and the way to something."""
    with st.container(border=True):
        st.markdown(f"**{title}**")
        st.markdown(text)
        if page:
            next_step(page, label)


def no_analysis() -> None:
    """What a page of figures shows where the choice was not measured yet: progress, or the way to start."""
    active = visit.analysis_run()
    if active is not None:
        progress(active)
        return
    chosen = session.choice()
    known = visit.facts()
    if not known.supported:
        empty_state("This model cannot be measured", plain_text.sentence(known.reason), "model", "Choose another model")
        return
    with st.container(border=True):
        st.markdown(f"**{plain_text.literal(known.title)} has not been measured over this text yet.**")
        st.markdown(f"One pass over {chosen.tokens:,} tokens shows which channels, heads and layers matter.")
        launch_analysis()
        next_step("model", "Choose another model or text")


def next_step(page: str, label: str, icon: str = ":material/arrow_forward:", **query: str) -> None:
    """A link to a page that comes next in a visit, if there is one; `query` are parameters of its address."""
    if (PAGES / f"{page}.py").is_file():
        st.page_link(PAGES / f"{page}.py", label=label, icon=icon, query_params=query or None)


# --- numbers in words --------------------------------------------------------------------------------


def expected(cost: Cost) -> None:
    """What runs will take, and what does not fit."""
    st.caption(cost.sentence)
    for warning in cost.warnings:
        st.warning(warning, icon=":material/memory:")


def human_bytes(count: float) -> str:
    """1536 -> "1.5 KiB"; binary units, as memory is counted."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def human_count(count: float) -> str:
    """134515008 -> "134.5 M"."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(count) >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f}"


def percent(share: float) -> str:
    """-0.0789 -> "−8%", with a true minus sign."""
    return f"{share:+.0%}".replace("-", "−").replace("+0%", "0%").replace("−0%", "0%")


def duration(seconds: float) -> str:
    """83 -> "1 min 23 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
