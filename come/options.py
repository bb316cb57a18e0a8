"""Options of methods and of ways of recovery: a model of fields with bounds and words, whoever gives the values."""

from __future__ import annotations

import functools
import json
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn, TypeVar, Union

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic_core import from_json

from come.errors import ComeError, did_you_mean
from come.numbers import out_of_bounds

_LONGEST = 60  # characters of a value that a sentence repeats
_WORDS = {
    bool: ("true or false", "truths"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
    type(None): ("nothing", "nothing"),
}
_OUT_OF_BOUNDS = {"greater_than_equal", "less_than_equal", "greater_than"}


class Options(BaseModel):
    """The options of a method or of a way of recovery.

    A field is an option: ``span: int = Field(2, ge=2, description="...")``. Its type, bounds, default and description
    are what the page's widgets, the command line's help and the sentences of refusals are made from. What must hold
    between options, a ``model_validator(mode="after")`` says, which raises a ``ComeError`` itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Kind = TypeVar("Kind", bound=Options)


@dataclass(frozen=True)
class Option:
    """One option: what a widget or a line of help is made from.

    Attributes:
        name: the field's name.
        type: its type, such as ``int | None``.
        default: its default.
        description: what it means, in a sentence or two.
        least, most: its bounds, inclusive; None where there is none.
        above: it must be above ``least``.
    """

    name: str
    type: Any
    default: Any
    description: str
    least: float | None = None
    most: float | None = None
    above: bool = False

    @property
    def takes(self) -> str:
        """What it takes, in words, such as "a whole number or nothing"."""
        return takes(self.type)

    @property
    def says(self) -> str:
        """What it takes and its bounds, such as "a whole number, 2 or more"."""
        return f"{self.takes}, {self.bounds}" if self.bounds else self.takes

    @property
    def bounds(self) -> str:
        """Its bounds, in words, such as "2 or more"; empty where there are none."""
        if self.least is None:
            return f"{self.most:g} or less" if self.most is not None else ""
        low = f"more than {self.least:g}" if self.above else f"{self.least:g}"
        if self.most is None:
            return low if self.above else f"{low} or more"
        return f"{low}{' and at most' if self.above else ' to'} {self.most:g}"


@functools.cache
def options_in(kind: type[Options]) -> dict[str, Option]:
    """The options of a model, by name, in its order."""
    found = {}
    for name, field in kind.model_fields.items():
        limits: dict[str, Any] = {}
        for limit in field.metadata:
            match limit:
                case Ge(ge=bound):
                    limits |= {"least": bound}
                case Gt(gt=bound):
                    limits |= {"least": bound, "above": True}
                case Le(le=bound):
                    limits |= {"most": bound}
        default = field.get_default(call_default_factory=True)
        found[name] = Option(name, field.annotation, default, field.description or "", **limits)
    return found


def parse_options(kind: type[Kind], values: Mapping[str, Any], owner: str, what: str = "method") -> Kind:
    """Options from names and values, which a link, a document or a caller may have written.

    Args:
        kind: the model of the options.
        values: whole numbers may stand for numbers, and tuples, ranges and arrays for lists, as in JSON; but neither
            a text for a number nor a number for a truth.
        owner: the name of the method or the way, for the sentence.
        what: that it is a "method" or a "recovery".

    Raises:
        ComeError: there is no such option, its value is of another kind than it takes, is not finite, out of its
            bounds, or does not go with the others.
    """
    known = options_in(kind)
    for name in values:
        if name not in known:
            raise unknown_option(name, known, f"The {what} {owner} has")
    texts, plain = [], {}
    for name, value in values.items():
        try:
            text = json.dumps(value, default=_plain)
            plain[name] = from_json(text)  # half of a surrogate pair is no text
            texts.append(f"{json.dumps(name)}: {text}")
        except (TypeError, ValueError, RecursionError):
            _refuse(known[name], value, owner, f"It takes {known[name].takes}.")
    try:
        # As JSON, where a list may be a tuple.
        parsed = kind.model_validate_json(f"{{{', '.join(texts)}}}")
    except ValidationError as error:
        errors = error.errors(include_url=False)
    else:
        for name, value in plain.items():
            if reason := out_of_bounds(value):
                _refuse(known[name], values[name], owner, f"It {reason}.")
        return parsed
    option = known[str(errors[0]["loc"][0])]
    reasons = {each["type"] for each in errors if each["loc"][0] == option.name}
    if "finite_number" in reasons:
        reason = "It takes a finite number."
    elif reasons & _OUT_OF_BOUNDS and option.bounds:
        reason = f"Give {option.bounds}."
    elif errors[0]["type"] in _OUT_OF_BOUNDS:
        reason = f"In it a number {errors[0]['msg'].removeprefix('Input ')}."
    else:
        reason = f"It takes {option.takes}."
    _refuse(option, values[option.name], owner, reason)


def parse_option(kind: type[Options], name: str, value: Any, owner: str, what: str = "method") -> Any:
    """The value of one option, whatever the others are.

    Raises:
        ComeError: as ``parse_options`` does, but for what must hold between options.
    """
    return getattr(parse_options(_apart(kind), {name: value}, owner, what), name)


def unknown_option(name: str, known: Iterable[str], whose: str) -> ComeError:
    """The refusal of a name that is no option: ``whose`` is such as "The method come has"."""
    names = list(known)
    others = f"Its options: {', '.join(names) or 'none'}."
    return ComeError(f"{whose} no option {name!r}.", did_you_mean(name, names, others))


def takes(hint: Any, several: bool = False) -> str:
    """What an option of a type takes, in words; ``several`` for what a list of them holds."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin in (Union, types.UnionType):
        return " or ".join(takes(each, several) for each in inner)
    if origin is Annotated:
        return takes(inner[0], several)
    if origin is not None and inner:
        each = {takes(part): takes(part, several=True) for part in inner if part is not Ellipsis}
        held = next(iter(each.values())) if len(each) == 1 else " and ".join(each)
        return f"{'lists' if several else 'a list'} of {held}"
    one, more = _WORDS.get(hint, (str(hint), str(hint)))
    return more if several else one


@functools.cache
def _apart(kind: type[Options]) -> type[Options]:
    """A model of the same options without what must hold between them."""
    fields: dict[str, Any] = {name: (field.annotation, field) for name, field in kind.model_fields.items()}
    return create_model(kind.__name__, __base__=Options, **fields)


def _refuse(option: Option, value: Any, owner: str, reason: str) -> NoReturn:
    raise ComeError(f"The option {option.name} of {owner} cannot be {_shown(value)}.", reason) from None


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
