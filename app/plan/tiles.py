"""The plan page's tiles: every layer of the model, to be merged with its neighbours, dropped, or kept."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app import formats, theme
from app.plan import edits
from app.state import session, visit
from app.state.choice import Draft
from come.models import Facts

KEY = "layer-tiles"
NAMED = 3  # so many layers are named on a button, more are counted
GAP, WIDTH, ROW = ".3rem", "2.3rem", 6  # a row holds as many tiles whatever the plan is: none of them ever moves
DROPPED = "repeating-linear-gradient(135deg, rgba(128, 136, 148, .55) 0 2px, transparent 2px 6px)"


def draw(facts: Facts) -> None:
    """The tiles, and what can be done with the chosen ones."""
    draft = session.draft()
    st.html(_style(draft, facts.layers))
    session.put(KEY, [layer for layer in session.value(KEY) or [] if layer < facts.layers])  # another model has others
    with st.container(key="tiles", gap="small"):
        chosen: list[int] = sorted(
            st.pills(
                "Choose layers, then merge or drop them",
                range(facts.layers),
                key=KEY,
                selection_mode="multi",
                format_func=lambda layer: f"~~{layer}~~" if layer in draft.dropped else str(layer),
                help="To merge a window, choose its first and last layer; the layers between them are included.",
            )
        )
        first, last = (chosen[0], chosen[-1]) if chosen else (0, 0)
        with st.container(key="tiles-actions"):
            st.button(
                _merges(first, last, draft) if last > first else "Merge",
                key="tiles-merge",
                disabled=last == first,
                on_click=_merge,
                args=(first, last),
                width="stretch",
            )
            st.button(
                f"Drop {_named(chosen)}".strip(),
                key="tiles-drop",
                disabled=not chosen or set(chosen) <= set(draft.dropped),
                on_click=_set,
                args=(edits.with_dropped(draft, chosen),),
                width="stretch",
            )
            kept = edits.kept_whole(draft, chosen)
            st.button(
                f"Keep {_named(chosen)}".strip(),
                key="tiles-keep",
                disabled=kept == draft,
                help="Neither merged nor dropped.",
                on_click=_set,
                args=(kept,),
                width="stretch",
            )
        if draft.dropped:
            st.caption(
                f"Dropped (hatched): layer{'' if len(draft.dropped) == 1 else 's'} {formats.ranges(draft.dropped)}."
            )


def _merges(first: int, last: int, draft: Draft) -> str:
    """What merging does: windows that these layers overlap give way."""
    replaced = visit.replaced(first, last, draft.windows or [])
    return f"{replaced} by {first}–{last}" if replaced else f"Merge {first}–{last}"


def _merge(first: int, last: int) -> None:
    session.put(KEY, [])
    visit.add_window(first, last)


def _set(draft: Draft) -> None:
    session.put(KEY, [])
    session.set_draft(draft)


def _named(layers: Sequence[int]) -> str:
    return formats.ranges(layers) if len(layers) <= NAMED else f"{len(layers)} layers"


def _style(draft: Draft, layers: int) -> str:
    """Each tile stands on its layer's colour; a window's tiles are joined, dropped ones hatched grey."""
    rules = []
    for layer in range(layers):
        tile = _tile(layer)
        if layer in draft.dropped:
            rules.append(f"{tile} {{ background-image: {DROPPED}; border-bottom-color: {theme.QUIET}; opacity: .8; }}")
        else:
            rules.append(f"{tile} {{ border-bottom-color: {theme.layer_color(layer, layers)}; }}")
    for first, last in draft.windows or []:
        for layer in range(max(first, 0), min(last, layers - 1) + 1):
            fill = f"color-mix(in srgb, {theme.layer_color(layer, layers)} 38%, transparent)"
            rules.append(f"{_tile(layer)} {{ background-color: {fill}; }}")
            if layer > first and layer % ROW:  # up to the tile before it; at the start of a row there is none
                rules.append(f"{_tile(layer)} {{ margin-left: -{GAP}; }}")
    return f"<style>{_TILE}{''.join(rules)}</style>"


def _tile(layer: int) -> str:
    return f".st-key-{KEY} [data-variant=pills]:nth-of-type({layer + 1})"


_TILE = f"""
.st-key-{KEY} :has(> [data-variant=pills]) {{
  display: grid; grid-template-columns: repeat({ROW}, minmax(0, {WIDTH})); gap: {GAP};
}}
.st-key-{KEY} [data-variant=pills] {{
  width: auto; min-width: 0; max-width: none; min-height: 1.9rem; padding: .1rem .3rem;
  border-radius: 4px; border-bottom-width: 4px;
  font-variant-numeric: tabular-nums; justify-content: center;
}}
.st-key-{KEY} [data-variant=pills][data-selected] {{ outline: 2px solid {theme.MARK}; outline-offset: 1px; }}
.st-key-tiles-actions {{ display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .5rem; }}
.st-key-tiles-actions > :first-child {{ grid-column: 1 / -1; }}
.st-key-tiles-actions button {{ padding-inline: .5rem; }}
.st-key-tiles-actions button p {{ white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }}
"""
