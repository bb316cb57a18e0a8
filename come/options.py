"""The values of options against the types that their dataclass gives them: a link or a document may hold anything."""

from __future__ import annotations

import functools
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Union

from pydantic import ConfigDict, TypeAdapter, ValidationError

from come.errors import ComeError

_LONGEST = 60  # characters of a value that a sentence repeats
_WORDS = {
    bool: ("true or false", "truths"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
    type(None): ("nothing", "nothing"),
}


def options_of(kind: type, values: Mapping[str, Any], owner: str) -> Any:
    """A dataclass of options from names and values; the values are kept as they are given.

    Args:
        kind: the dataclass; it has every one of the names.
        values: whole numbers may stand for numbers, lists for tuples and tuples for lists, as in JSON.
        owner: the method or the way of recovery, for the sentence.

    Raises:
        ComeError: a value is of another kind than its option takes, is not finite, or makes no sense.
    """
    try:
        made = kind(**values)
    except ComeError:
        raise
    except Exception:  # it compared a text with a number, say: the check tells which value that is
        _check(kind, values, owner)
        raise
    _check(kind, values, owner)
    return made


def takes(hint: Any, several: bool = False) -> str:
    """What an option of a type takes, in words; ``several`` for what a list of them holds."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin in (Union, types.UnionType):
        return " or ".join(takes(each, several) for each in inner)
    if origin is not None and inner:
        return f"{'lists' if several else 'a list'} of {takes(inner[0], several=True)}"
    one, more = _WORDS.get(hint, (str(hint), str(hint)))
    return more if several else one


def check(kind: type, name: str, value: Any, owner: str) -> None:
    """Refuse a value of another kind than an option takes; whether it makes sense, its dataclass says.

    Raises:
        ComeError: it is of another kind, or not finite.
    """
    hint, adapter = _adapters(kind)[name]
    try:
        # As JSON, where a list may be a tuple, but neither a text a number nor a number a yes.
        adapter.validate_json(json.dumps(value, default=_plain), strict=True)
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, ValidationError) and _is_infinite(error):
            reason = "It takes a finite number."
        else:
            reason = f"It takes {takes(hint)}."
        raise ComeError(f"The option {name} of {owner} cannot be {_shown(value)}.", reason) from None


def _check(kind: type, values: Mapping[str, Any], owner: str) -> None:
    for name, value in values.items():
        check(kind, name, value, owner)


def _is_infinite(error: ValidationError) -> bool:
    return any(each["type"] == "finite_number" for each in error.errors(include_url=False))


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deep, or a whole number of thousands of digits
        return "so long a value"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _plain(value: Any) -> Any:
    """What JSON has no word for: numbers of numpy and torch, ranges and arrays."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, str | bytes):
        raise TypeError(value)
    return list(value)


@functools.cache
def _adapters(kind: type) -> dict[str, tuple[Any, TypeAdapter[Any]]]:
    config = ConfigDict(allow_inf_nan=False)
    return {name: (hint, TypeAdapter(hint, config=config)) for name, hint in typing.get_type_hints(kind).items()}
