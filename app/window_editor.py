"""The plan page's editor of windows by hand: two numbers a window, and its ratio as sliders."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from app import planning, session, visit
from come.merge import DraftWindow
from come.models import Facts


def draw(facts: Facts, windows: list[DraftWindow]) -> None:
    """Each window as two numbers, and its ratio as sliders where the visitor wants to choose it."""
    draft = session.draft()
    chosen = draft.windows or []
    if not chosen:
        st.info("No window yet. Add one here, or click a cell of the matrix on the layers page.")
    if chosen:
        session.put("own-ratios", draft.ratios is not None)
        st.toggle(
            "Choose the ratios",
            key="own-ratios",
            on_change=_set_own_ratios,
            args=(windows,),
            help="How much each layer of a window gives. Else: in proportion to its block influence (BI).",
        )
    for place, (first, last) in enumerate(chosen):
        with st.container(border=True):
            left, right, away = st.columns([3, 3, 1], vertical_alignment="bottom")
            for column, label, number in ((left, "First layer", first), (right, "Last layer", last)):
                key = f"{label.split()[0].lower()}-{place}"
                session.put(key, number)
                column.number_input(label, step=1, key=key, on_change=_set_window, args=(place,))
            away.button(
                "",
                key=f"remove-{place}",
                icon=":material/close:",
                type="tertiary",
                help="Take this window out",
                on_click=lambda place=place: session.set_draft(planning.without_window(session.draft(), place)),
            )
            if draft.ratios is not None and place < len(draft.ratios):
                _ratio(place, first, draft.ratios[place])
    free = planning.next_window(draft, facts)
    st.button(
        "Add a window",
        key="add-window",
        icon=":material/add:",
        disabled=free is None,
        on_click=lambda: free and visit.add_window(*free),
    )


def _set_window(place: int) -> None:
    first, last = session.value(f"first-{place}"), session.value(f"last-{place}")
    if first is not None and last is not None:
        session.set_draft(planning.with_window(session.draft(), place, int(first), int(last)))


def _set_own_ratios(windows: list[DraftWindow]) -> None:
    draft = session.draft()
    if not session.value("own-ratios"):
        session.set_draft(replace(draft, ratios=None))
        return
    automatic = {(window.first, window.last): window.ratio for window in windows}
    sizes = [(first, last) for first, last in draft.windows or []]
    ratios = [automatic.get(window, planning.equal(window[1] - window[0] + 1)) for window in sizes]
    session.set_draft(replace(draft, ratios=[planning.from_cuts(planning.cuts(ratio)) for ratio in ratios]))


def _ratio(place: int, first: int, ratio: tuple[float, ...]) -> None:
    """One slider for two layers, one with two handles for three, a number a layer for more."""
    if len(ratio) in (2, 3):
        key = f"cut-{place}"
        cuts = planning.cuts(ratio)
        session.put(key, cuts[0] if len(cuts) == 1 else tuple(cuts))
        shares = " · ".join(f"{first + i}: {share:.0%}" for i, share in enumerate(ratio))
        st.slider(f"Share of layer {shares}", 0, 100, key=key, format="%d%%", on_change=_set_cuts, args=(place,))
        return
    columns = st.columns(min(len(ratio), 3))
    for i, share in enumerate(ratio):
        key = f"share-{place}-{i}"
        session.put(key, round(100 * share, 1))
        columns[i % len(columns)].number_input(
            f"Layer {first + i}, %",
            0.0,
            100.0,
            step=5.0,
            key=key,
            on_change=_set_shares,
            args=(place, len(ratio)),
        )


def _set_cuts(place: int) -> None:
    value = session.value(f"cut-{place}")
    _set_ratio(place, planning.from_cuts(value if isinstance(value, tuple) else (value,)))


def _set_shares(place: int, count: int) -> None:
    _set_ratio(place, tuple(session.value(f"share-{place}-{i}", 0.0) / 100 for i in range(count)))


def _set_ratio(place: int, ratio: tuple[float, ...]) -> None:
    draft = session.draft()
    ratios = list(draft.ratios or [])
    ratios[place] = ratio
    session.set_draft(replace(draft, ratios=ratios))
