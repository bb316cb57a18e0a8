"""The settings of a method, drawn from the model of its options: a field is a widget, its type says which.

A new method needs no code here: bounds and help texts are its fields', and their defaults what "unchanged" means.
"""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, Union, get_args, get_origin

import streamlit as st

from app.state import session
from come.options import Option, Options, options_in

CALLED = {"sweep": "Pass over all output maps"}  # a sweep is several runs
DECIDED = {"auto": None, "on": True, "off": False}
Change = Callable[[str, Any], None]
"""(name, new value): told when a visitor changes an option."""


def drawn(options: type[Options]) -> list[Option]:
    """Every option that a widget can hold, in its order, with the type to draw."""
    kinds = [(option, _plain_type(option.type)) for option in options_in(options).values()]
    return [replace(option, type=kind) for option, kind in kinds if kind is not None]


def draw(options: type[Options], chosen: dict[str, Any], on_change: Change, skip: tuple[str, ...] = ()) -> None:
    """A widget for each option; `chosen` holds those that differ from their defaults."""
    for option in drawn(options):
        if option.name not in skip:
            _widget(option, chosen.get(option.name, option.default), on_change)


def changed(options: type[Options], chosen: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """`chosen` with an option set; one that is at its default is left out."""
    rest = {key: setting for key, setting in chosen.items() if key != name}
    return rest if options_in(options)[name].default == value else rest | {name: value}


def label(name: str) -> str:
    """An option's name in words: "no_repeat" -> "No repeat"."""
    if name in CALLED:
        return CALLED[name]
    words = re.sub(r"_+", " ", name).strip()
    return (words[:1].upper() + words[1:]).replace("Sbi", "SBI")


def _widget(option: Option, value: Any, on_change: Change) -> None:
    key = f"option-{option.name}"
    session.put(key, value)

    undecided = option.type is bool and option.default is None  # left to the method: neither on nor off
    if undecided:
        session.put(key, next(word for word, each in DECIDED.items() if each is value))

    def told() -> None:
        new = session.value(key)
        if new is not None:
            on_change(option.name, DECIDED[new] if undecided else new)

    common: dict[str, Any] = {"key": key, "help": option.description or None, "on_change": told}
    if get_origin(option.type) is Literal:
        st.segmented_control(label(option.name), [str(choice) for choice in get_args(option.type)], **common)
    elif undecided:
        st.segmented_control(label(option.name), list(DECIDED), required=True, **common)
    elif option.type is bool:
        st.toggle(label(option.name), **common)
    elif option.type in (int, float):
        session.put(key, None if value is None else option.type(value))
        low, high = (None if bound is None else option.type(bound) for bound in (option.least, option.most))
        form: dict[str, Any] = {"step": 1} if option.type is int else {"step": 0.1, "format": "%.2f"}
        st.number_input(label(option.name), low, high, **form, **common)
    else:
        st.text_input(label(option.name), **common)


def _plain_type(hint: Any) -> Any:
    """The type to draw for a hint, or None where no single widget holds it (lists, tuples)."""
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(hint) if kind is not type(None)]
        return _plain_type(kinds[0]) if len(kinds) == 1 else None
    if get_origin(hint) is Literal or hint in (bool, int, float, str):
        return hint
    return None
