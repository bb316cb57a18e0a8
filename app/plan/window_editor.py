"""The plan page's editor of plans by hand: tiles to merge or drop, and of each window its place and its ratio."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

import come
from app.plan import edits, tiles
from app.state import session, visit
from app.state.choice import Draft
from come.models import Facts
from come.pruning.draft import DraftWindow

# Buttons of a window are icons; their words are for those who hear the page.
_STYLE = """<style>
[class*=st-key-window-actions] button [data-testid=stMarkdownContainer] {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
}
</style>"""


def draw(facts: Facts, windows: list[DraftWindow]) -> None:
    """The tiles; each window as two numbers, and its ratio as sliders where the visitor wants to choose it."""
    tiles.draw(facts)
    st.html(_STYLE)
    draft = session.draft()
    chosen = draft.windows or []
    if draft.is_empty:
        st.info("Nothing is merged or dropped yet. Choose layers above, or a cell of the matrix on the layers page.")
    if chosen and "ratios" in come.methods()[draft.method].defaults():
        session.put("own-ratios", draft.ratios is not None)
        st.toggle(
            "Choose the ratios",
            key="own-ratios",
            on_change=_set_own_ratios,
            args=(windows, facts),
            disabled=draft.ratios is None and not _fit(draft, facts),
            help="How much each layer of a window gives. When off, this follows its block influence (BI).",
        )
    for place, (first, last) in enumerate(chosen):
        with st.container(border=True):
            _actions(draft, place, facts)
            left, right = st.columns(2)
            for column, label, number in ((left, "First layer", first), (right, "Last layer", last)):
                key = f"{label.split()[0].lower()}-{place}"
                session.put(key, number)
                column.number_input(
                    label,
                    *edits.reach(number, facts),
                    step=1,
                    key=key,
                    on_change=_set_window,
                    args=(place, facts),
                )
            if draft.ratios is not None and place < len(draft.ratios):
                _ratio(place, first, draft.ratios[place])
    free = edits.next_window(draft, facts, visit.listed_costs())
    st.button(
        "Add a window",
        key="add-window",
        icon=":material/add:",
        disabled=free is None,
        on_click=visit.add_window,
        args=free,
    )


def _actions(draft: Draft, place: int, facts: Facts) -> None:
    """A row of buttons: move the window by a layer, drop its layers instead, or take it out."""
    first, last = (draft.windows or [])[place]
    name, down, up = f"{first}–{last}", edits.moved(draft, place, -1, facts), edits.moved(draft, place, 1, facts)
    dropped = edits.with_dropped(draft, range(first, last + 1)) if 0 <= first <= last < facts.layers else None
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"window-actions-{place}"):
        st.markdown(f"**{name}**", width="content")
        for key, label, icon, to in (
            (f"down-{place}", f"Move {name} down by one layer", "arrow_back", down),
            (f"up-{place}", f"Move {name} up by one layer", "arrow_forward", up),
            (f"drop-{place}", f"Drop layers {name} instead of merging them", "layers_clear", dropped),
            (
                f"remove-{place}",
                f"Take the window {name} out; its layers stay",
                "close",
                edits.without_window(draft, place),
            ),
        ):
            st.button(
                label,
                key=key,
                icon=f":material/{icon}:",
                type="tertiary",
                help=label,
                disabled=to is None,
                on_click=session.set_draft,
                args=(to,),
            )


# A browser may still send what it shows of a plan that has changed since: a place may be none any more.


def _set_window(place: int, facts: Facts) -> None:
    draft = session.draft()
    first, last = session.value(f"first-{place}"), session.value(f"last-{place}")
    if first is not None and last is not None and place < len(draft.windows or []):
        ends = []
        for old, new in zip((draft.windows or [])[place], (first, last), strict=True):
            low, high = edits.reach(old, facts)
            ends.append(min(max(int(new), low), high))
        session.set_draft(edits.with_window(draft, place, *ends))


def _fit(draft: Draft, facts: Facts) -> bool:
    """Whether all windows lie in the model; else there is no telling how many shares they would need."""
    return all(0 <= first <= last < facts.layers for first, last in draft.windows or [])


def _set_own_ratios(windows: list[DraftWindow], facts: Facts) -> None:
    draft = session.draft()
    if not session.value("own-ratios") or draft.windows is None or not _fit(draft, facts):
        session.set_draft(replace(draft, ratios=None))
        return
    automatic = {(window.first, window.last): window.ratio for window in windows}
    sizes = [(first, last) for first, last in draft.windows or []]
    ratios = [automatic.get(window, edits.equal(window[1] - window[0] + 1)) for window in sizes]
    session.set_draft(replace(draft, ratios=[edits.from_cuts(edits.cuts(ratio)) for ratio in ratios]))


def _ratio(place: int, first: int, ratio: tuple[float, ...]) -> None:
    """One slider for two layers, one with two handles for three, a number a layer for more."""
    if len(ratio) in (2, 3):
        key = f"cut-{place}"
        cuts = edits.cuts(ratio)
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
    _set_ratio(place, edits.from_cuts(value if isinstance(value, tuple) else (value,)))


def _set_shares(place: int, count: int) -> None:
    _set_ratio(place, tuple(session.value(f"share-{place}-{i}", 0.0) / 100 for i in range(count)))


def _set_ratio(place: int, ratio: tuple[float, ...]) -> None:
    draft = session.draft()
    ratios = list(draft.ratios or [])
    if place < len(ratios) and len(ratio) == len(ratios[place]):
        ratios[place] = ratio
        session.set_draft(replace(draft, ratios=ratios))
