"""The slim strip on top of every page: the plan in tiles and numbers, and where it stands."""

from __future__ import annotations

from html import escape
from pathlib import Path

import streamlit as st

import come.runs
from app import formats, theme
from app.components import run_words, widgets
from app.state import foreseen, session, unread, visit
from app.state.choice import Draft
from come.errors import ComeError
from come.models import Facts, catalogue
from come.pruning import kept_units
from come.report import comparison
from come.runs import Run
from come.serving import limits
from come.serving.limits import is_demo, without_paths

SUGGESTED = "The plan page begins with it: a fifth of the parameters gone, by the method that loses least"


def draw(shown: Run | None = None, *, begins: bool = False) -> None:
    """The strip; under it what a link holds that cannot be read, and what a demonstration does not allow.

    Args:
        shown: the run that the page is about; without one it is about the visitor's plan.
        begins: a plan that nobody has touched is not spoken of here: the page shows no plan's model, or not that one's.
    """
    cells = (_of_model() if begins else []) or (_of_plan() if shown is None else _of_run(shown))
    st.html("<div class='come-strip'>" + "".join(f"<span>{cell}</span>" for cell in cells) + "</div>")
    if session.link_is_cut():
        st.warning("The link is too long: what came first was read, and the rest of it was left out.")
    unread.begin(session.misread())
    if is_demo():
        _demo_note()


def _of_model() -> list[str]:
    """The visitor's model as it is, while nobody has touched the plan or run it (HTML); else empty."""
    try:
        known = visit.facts()
        if session.draft() != Draft() or visit.run_of_draft() is not None:
            return []
    except ComeError:  # which the plan's cells say
        return []
    tiles = _tiles([[layer] for layer in range(known.layers)], known.layers)
    return [escape(known.title), tiles, f"<b>{known.layers} layers</b>", _said(f"the original{_others(None)}")]


def _of_plan() -> list[str]:
    """The visitor's model and plan, and where they stand (HTML)."""
    try:
        known = visit.facts()
        layers = foreseen.target_layers(session.draft(), known)
        removed = 1 - known.parameters_at(layers) / known.parameters
        return [
            escape(known.title),
            _tiles(_groups(known), known.layers),
            _sizes(known.layers, layers, removed),
            _said(_standing(), SUGGESTED if session.draft() == Draft() else ""),
        ]
    except ComeError as error:
        name = Path(session.choice().model).name
        return [escape(name), _said(without_paths(error.what))]


def _of_run(run: Run) -> list[str]:
    """The model and the plan of a run, and where it stands (HTML)."""
    standing = _said(f"{run_words.standing(run)}{_others(run)}")
    try:
        run.check()
        config, plan, name = run.config, run.plan(), escape(comparison.run_name(run))
    except ComeError:
        return [escape(run.id), standing]
    entry = catalogue.known(config.model)
    title = escape(entry.title if entry else Path(config.model).name)
    if config.kind == "analyze":
        return [title, name, standing]
    if plan is None:
        return [title, f"<b>{name}</b>", standing]
    after = run.results().get("pruned") or {}
    parameters = after.get("parameters")
    removed = 1 - parameters / plan.base.parameters if parameters and plan.base.parameters else None
    sizes = _sizes(plan.base.layers, plan.layers, removed)
    called = f"<span class='called'>{name.removesuffix(f', {plan.layers} layers')}</span>"  # which stand beside it
    return [title, called, _tiles(plan.groups(), plan.base.layers), sizes, standing]


def _said(standing: str, told: str = "") -> str:
    """Where it stands, quietly; cut off where there is no room, and then to be pointed at, as is what is told of it."""
    title = f"{standing}. {told}" if told else standing
    return f"<span class='quiet' title='{escape(title, quote=True)}'>{escape(standing)}</span>"


def _sizes(before: int, after: int, removed: float | None) -> str:
    share = "" if removed is None else f" · {formats.percent(-removed)} parameters"
    return f"<b>{before} → {after} layers</b>{share}"


def _demo_note() -> None:
    """What is different in a public demonstration, on every page."""
    allowed = limits.current()
    with st.container(horizontal=True, vertical_alignment="center"):
        widgets.info(
            "Public demonstration",
            f"- Models: {', '.join(allowed.models or ())}.\n"
            f"- Up to {allowed.run_tokens:,} tokens per run, and known texts only.\n"
            f"- One request runs at a time, {allowed.waiting} may wait; visitors take turns.\n"
            f"- A run that is expected to take more than {allowed.run_minutes:g} minutes is not started. After "
            f"{allowed.run_minutes_at_most:g} it is stopped, and keeps what it has.\n"
            "- Runs are seen by everyone.\n"
            "- You may end or delete only runs that you started, until you reload the page.\n"
            "- When runs take too much of the disk, the oldest ended ones are deleted for new ones.\n\n"
            "On a machine of your own, nothing of this holds.",
            key="demo-note",
        )
        st.caption(f"{len(allowed.models or ())} models, {allowed.run_tokens:,} tokens per run, one request at a time.")


def _groups(known: Facts) -> list[list[int]]:
    """Which original layers each layer of the plan stands for, as far as that is known before it runs."""
    kept = visit.units_kept(visit.measurement(), known)
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
    """Where the plan stands, in a few words, and how many runs are active."""
    run = visit.run_of_draft()
    return _own_standing(run) + _others(run)


def _others(own: Run | None) -> str:
    """How many runs beside the plan's are active: at work or waiting; "" where none is."""
    others = [run for run in come.runs.list_runs()[:50] if (own is None or run.id != own.id) and run.state().active]
    runs = "more" if own else "run" if len(others) == 1 else "runs"
    count = f"{len(others)} {runs} active"
    return f" · {count}" if others else ""


def _own_standing(run: Run | None) -> str:
    if run is None:
        draft = session.draft()
        by = "suggested plan" if draft == Draft() else "automatic plan" if draft.windows is None else "plan by hand"
        return f"{by}, not run yet"
    return f"its run: {run_words.standing(run)}"
