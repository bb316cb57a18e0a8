"""The settings of a method, drawn from its options dataclass: a field is a widget, its type says which.

A new method needs no code here: its dataclass is read, with the defaults as what "unchanged" means.
"""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Callable
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import streamlit as st

from app.state import session

Change = Callable[[str, Any], None]
"""(name, new value): told when a visitor changes an option."""

# What the terms mean; an option that is not here is still drawn, by its name alone.
HELP = {
    "span": "How many adjacent layers one step merges (m).",
    "exponent": "p: the share of a layer is proportional to its BI to the power p. 0 shares equally.",
    "floor": "The largest share is at least floor^(1/(k-1)), k the original layers of a window. 0 is off.",
    "no_repeat": "Layers that were merged before are not merged again until no others are left.",
    "sbi_tokens": "Which tokens the skip block influence is the mean of.",
    "last_state": "The last hidden state with or without the final norm.",
    "seed": "The same seed gives the same choice.",
    "refit": "After each merge, adjusts the new layer's output weights by least squares on the calibration text.",
    "granularity": "G: the ratios tried are 0, 1/G, 2/G and so on up to 1.",
    "search": "Grid tries every ratio; coarse-to-fine at most nine of them.",
    "passes": "Over how many measuring passes the merges are spread; empty for a pass before every merge.",
    "batch_size": "Sequences that go through the model at once; empty for about 2,048 tokens.",
    "memory_budget": "Bytes for hidden states; empty for a quarter of the free memory. The result does not change.",
    "plus": "Keeps the first four and the last two layers, as the paper's better variant does.",
    "keep_last": "How many of the very last layers are kept.",
    "distance_tokens": "The angle of the last token of each sequence, as in the paper, or of all tokens.",
    "sequences": "How many calibration sequences candidates are judged on; empty for all.",
    "seq_len": "How many tokens of each of these; empty for all.",
    "similarity": "How the last hidden states of two models are compared.",
    "metric": "How the logits of two models are compared.",
    "window": "How many layers one merge takes.",
    "interval": "How far below a merge the next one is tried.",
    "sample": "How many tokens the similarity of layers is taken on.",
    "rearrange": "Exchanges units within a sub-layer, by how they act together.",
    "tune": "Scales the kept units so that outputs come nearest to the original's.",
}
# Where an option of that name is a switch, not a number.
SWITCHES = {"keep_last": "Leaves the very last layer as it is."}


def fields(options: type) -> list[tuple[str, Any, Any]]:
    """(name, type, default) of every option of a dataclass that a widget can hold, in its order."""
    hints = get_type_hints(options)
    found = []
    for field in dataclasses.fields(options):
        default = field.default if field.default is not dataclasses.MISSING else None
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        kind = _plain_type(hints[field.name])
        if kind is not None:
            found.append((field.name, kind, default))
    return found


def draw(options: type, chosen: dict[str, Any], on_change: Change, skip: tuple[str, ...] = ()) -> None:
    """A widget for each option; `chosen` holds those that differ from their defaults."""
    for name, kind, default in fields(options):
        if name not in skip:
            _widget(name, kind, chosen.get(name, default), on_change)


def changed(options: type, chosen: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """`chosen` with an option set; one that is at its default is left out."""
    defaults = {field: default for field, _, default in fields(options)}
    rest = {key: setting for key, setting in chosen.items() if key != name}
    return rest if defaults.get(name) == value else rest | {name: value}


def label(name: str) -> str:
    """An option's name in words: "no_repeat" -> "No repeat"."""
    words = re.sub(r"_+", " ", name).strip()
    return (words[:1].upper() + words[1:]).replace("Sbi", "SBI")


def help_of(name: str, kind: Any) -> str | None:
    """What an option of that name and type means, if it is known."""
    return (SWITCHES.get(name) if kind is bool else None) or HELP.get(name)


def _widget(name: str, kind: Any, value: Any, on_change: Change) -> None:
    key = f"option-{name}"
    session.put(key, value)

    def told() -> None:
        new = session.value(key)
        if new is not None:
            on_change(name, new)

    common: dict[str, Any] = {"key": key, "help": help_of(name, kind), "on_change": told}
    if get_origin(kind) is Literal:
        st.segmented_control(label(name), [str(choice) for choice in get_args(kind)], **common)
    elif kind is bool:
        st.toggle(label(name), **common)
    elif kind is int:
        st.number_input(label(name), step=1, **common)
    elif kind is float:
        session.put(key, None if value is None else float(value))
        st.number_input(label(name), step=0.1, format="%.2f", **common)
    else:
        st.text_input(label(name), **common)


def _plain_type(hint: Any) -> Any:
    """The type to draw for a hint, or None where no single widget holds it (lists, tuples)."""
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(hint) if kind is not type(None)]
        return _plain_type(kinds[0]) if len(kinds) == 1 else None
    if get_origin(hint) is Literal or hint in (bool, int, float, str):
        return hint
    return None
