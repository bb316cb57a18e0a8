"""Options of methods and of ways of recovery hold what their types say, whoever wrote them."""

from __future__ import annotations

import json
import math
import typing
from typing import Annotated, Any, get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from come.errors import ComeError
from come.growing import growths
from come.options import options_in, takes
from come.pruning.registry import methods
from come.recovery.registry import parse, ways

LINK = "<a style=position:fixed;inset:0 href=//evil.example>x</a>"
NESTED: list[Any] = []
for _ in range(10_000):
    NESTED = [NESTED]

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)
OF_METHODS = sorted((name, each.name) for name, one in methods().items() for each in options_in(one.options).values())
OF_WAYS = sorted((name, option) for name, way in ways().items() for option in way.option_names)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"refit": LINK}, "The option refit of come cannot be '<a .* It takes true or false."),
        ({"refit": 1}, "refit of come cannot be 1. It takes true or false."),
        ({"span": "abc"}, "span of come cannot be 'abc'. It takes a whole number."),
        ({"span": True}, "span of come cannot be True. It takes a whole number."),
        ({"span": 2.5}, "span of come cannot be 2.5. It takes a whole number."),
        ({"span": NESTED}, "span of come cannot be so long a value. It takes a whole number."),
        ({"span": 10**5000}, "span of come cannot be so long a value. It takes a whole number."),
        ({"batch_size": [1]}, r"batch_size of come cannot be \[1\]. It takes a whole number or nothing."),
        ({"exponent": "x"}, "exponent of come cannot be 'x'. It takes a number."),
        ({"exponent": 10**400}, "exponent of come cannot be 1000.* It takes a finite number."),
        ({"exponent": math.nan}, "exponent of come cannot be nan. It takes a finite number."),
        ({"windows": "ab"}, "windows of come cannot be 'ab'. It takes a list of lists of whole numbers or nothing."),
        ({"sbi_tokens": "most"}, "sbi_tokens of come cannot be 'most'. It takes all or last."),
        ({"windows": [[0, 1]], "ratios": [[math.inf, 0.5]]}, "It takes a finite number."),
    ],
)
def test_a_value_of_another_kind_gets_one_sentence(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ComeError, match=words):
        methods()["come"].parse(options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": "x"}, "lr of logits cannot be 'x'. It takes a number."),
        ({"logits.minutes": math.inf}, "minutes of logits cannot be inf. It takes a finite number."),
        ({"gradient_checkpointing": LINK}, "It takes true or false."),
    ],
)
def test_ways_of_recovery_refuse_them_too(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ComeError, match=words):
        parse("logits", options)


@pytest.mark.parametrize(
    "options",
    [
        {"exponent": 1, "floor": 0, "span": np.int64(3), "batch_size": None},
        {"windows": [[1, 2]], "ratios": [[0.5, 0.5]], "drop": (4,)},
        {"windows": [(1, 2)], "ratios": [(1, 0)], "drop": range(4, 6)},
        {"windows": [(1, 2), (3, 4)], "ratios": [None, (0.25, 0.75)]},
        {"windows": ((1, 2),)},
    ],
)
def test_values_of_a_near_kind_are_taken(options: dict[str, Any]) -> None:
    parsed = methods()["come"].parse(options)
    assert plain({name: getattr(parsed, name) for name in options}) == plain(options)


def plain(value: Any) -> Any:
    """Lists for whatever holds several, so that kinds of them are told apart no more."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple | range) else value


def test_pairs_of_unlike_kinds_have_words() -> None:
    pairs = list[tuple[int, Annotated[float, Field(gt=0)]]] | None
    assert takes(pairs) == "a list of lists of a whole number and a number or nothing"
    with pytest.raises(ComeError, match=r"cannot be \[\[1, -1\]\]\. In it a number should be greater than 0\."):
        methods()["fisher"].parse({"ffn_seconds": [[1, -1]]})


def test_every_option_has_words() -> None:
    for owner in (*methods().values(), *ways().values(), *growths().values()):
        for hint in get_type_hints(owner.options).values():
            assert "typing" not in takes(hint) and "<class" not in takes(hint)


@given(st.sampled_from([*OF_METHODS, *((way, option) for way, option in OF_WAYS)]), ANY)
def test_whatever_is_given_is_of_the_options_type_or_refused(option: tuple[str, str], value: Any) -> None:
    owner, name = option
    try:
        if owner in methods():
            parsed = methods()[owner].parse({name: value})
        else:
            ((_, parsed),) = parse(owner, {name: value})
    except ComeError as error:
        assert error.what and error.hint
        return
    held = getattr(parsed, name)
    json.dumps(held, allow_nan=False)
    hint = get_type_hints(type(parsed))[name]
    kinds = [hint, *get_args(hint)]
    if isinstance(held, bool):
        assert bool in kinds
    elif isinstance(held, str):
        assert str in kinds or any(held in get_args(kind) for kind in kinds if typing.get_origin(kind)) or held in kinds
