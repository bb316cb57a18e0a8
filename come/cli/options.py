"""`--option key=value`: text from the command line to the values that a method's options have."""

from __future__ import annotations

import difflib
import json
import typing
from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from come.errors import ComeError


def parse_options(pairs: Sequence[str], method: str, options: type) -> dict[str, Any]:
    """The options given as ``key=value``, by the types of a method's dataclass of options.

    Args:
        pairs: such as "span=3", "no_repeat=false", "windows=[[4, 5], [9, 11]]"; the last of a key counts.
        method: the method's name, for the sentences.
        options: the dataclass.

    Raises:
        ComeError: a pair has no "=", the method has no such option, or the value is not of its type.
    """
    types = typing.get_type_hints(options)
    return dict(_parse(pair, method, types) for pair in pairs)


def _parse(pair: str, method: str, types: dict[str, Any]) -> tuple[str, Any]:
    key, equals, text = pair.partition("=")
    key = key.strip().replace("-", "_")
    if not equals:
        raise ComeError(f"The option {pair!r} has no value.", "Write it as key=value, such as span=3.")
    if key not in types:
        near = difflib.get_close_matches(key, types, n=2)
        hint = f"Did you mean {' or '.join(near)}?" if near else f"It has {', '.join(sorted(types)) or 'none'}."
        raise ComeError(f"The method {method!r} has no option {key!r}.", hint)
    adapter: TypeAdapter[Any] = TypeAdapter(types[key])
    for value in _readings(text.strip()):
        try:
            return key, adapter.validate_python(value)
        except ValidationError:
            continue
    raise ComeError(f"The option {key} of {method!r} cannot be {text!r}.", _expected(types[key]))


def _readings(text: str) -> list[Any]:
    """What a value may mean: the text itself, and what it is as JSON."""
    try:
        return [text, None if text.lower() == "none" else json.loads(text)]
    except ValueError:
        return [text]


def _expected(kind: Any) -> str:
    if typing.get_origin(kind) is typing.Literal:
        return f"Choose {' or '.join(map(str, typing.get_args(kind)))}."
    name = kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
    return f"It takes {name}; lists are written as JSON, such as [[4, 5], [9, 11]]."
