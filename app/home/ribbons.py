"""What pruning did to the layers, as a picture with one sentence: the first thing that a visitor sees of a result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import streamlit as st

import come
from app.components import widgets
from app.figures.plan import Piece
from app.plan.preview import ranges
from app.run import made_of
from come.runs import Run

HEIGHT = 178
NAMED_WINDOWS = 2
NAMED = 4  # layers, up to which each that is removed is named
READING = "Above the original, below the new model: ribbons carry what was kept; hatched is left out."


def draw(candidates: Iterable[Run]) -> None:
    """The first of these runs whose layers can be drawn, if there is one."""
    for run in candidates:
        made = made_of.of(run)
        if made is not None:
            said = sentence(made.facts.layers, made.final, come.methods()[run.config.method].title)
            figure = made.picture().update_layout(title_text=said, height=HEIGHT)
            with st.container(gap=None):
                widgets.chart(figure, key="home-ribbons", alt=f"{said}. {READING}", zooms=False)
                st.caption(READING)
            return


def sentence(layers: int, final: Sequence[Sequence[Piece]], method: str) -> str:
    """What became of a model's layers, and by which method."""
    merged = [pieces for pieces in final if len(pieces) > 1]
    standing = {piece.layer for pieces in final for piece in pieces}
    gone = [layer for layer in range(layers) if layer not in standing]
    whole = len(final) - len(merged)
    done = [*([_makes(merged)] if merged else []), *([_removes(gone)] if gone else [])]
    if not done:
        return f"{method} leaves all {layers} layers in place"
    stay = f"; {'1 stays as it is' if whole == 1 else f'{whole} stay as they are'}" if whole else ""
    return f"{layers} layers become {len(final)}: {method} {' and '.join(done)}{stay}"


def _makes(merged: Sequence[Sequence[Piece]]) -> str:
    if len(merged) > NAMED_WINDOWS:
        return f"makes {len(merged)} layers of {sum(map(len, merged))}"
    first, *others = (f"{pieces[0].layer}–{pieces[-1].layer}" for pieces in merged)
    return "".join([f"makes one of layers {first}", *(f" and one of {each}" for each in others)])


def _removes(gone: Sequence[int]) -> str:
    if len(gone) > NAMED:
        return f"removes {len(gone)}"
    return f"removes layer{'' if len(gone) == 1 else 's'} {ranges(gone)}"
