"""No number that is none, or larger than anything is counted in, gets past whoever is asked to do something with it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

import come
from come.errors import ComeError
from come.growing import growths
from come.numbers import LARGEST_WHOLE, out_of_bounds, ranges
from come.options import options_in, parse_options
from come.pruning.allocate import check_ratio
from come.pruning.registry import methods
from come.recovery.registry import ways
from come.request import RunConfig
from come.serving.whatif.question import Merge, Question, Subject, parse
from tests.tiny import tiny_bundle, tiny_tokens

NONE = [math.nan, math.inf, -math.inf]
LARGE = [10**16, -(10**16), 1e300, 10**400]
OWNERS: dict[str, dict[str, Any]] = {"method": methods(), "way": ways(), "growth": growths()}
KINDS = {f"{kind} {name}": each for kind, known in OWNERS.items() for name, each in known.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_no_option_of_any_method_or_way_takes_them(kind: str) -> None:
    owner = KINDS[kind]
    for name, option in options_in(owner.options).items():
        for value in [*NONE, *LARGE]:
            for given in (value, [value], [[value, 0.5]], {"a": value}, (value,) * 3):
                with pytest.raises(ComeError):
                    parse_options(owner.options, {name: given}, owner.name)
        assert option.default is None or not out_of_bounds(option.default)


@pytest.mark.parametrize("given", ["x" * 200_000, [0] * 200_000, json.loads("[" * 20 + "]" * 20)])
def test_no_option_takes_endless_lists(given: Any) -> None:
    come_options = methods()["come"].options
    for name in options_in(come_options):
        with pytest.raises(ComeError):
            parse_options(come_options, {name: given}, "come")


@pytest.mark.parametrize("name", [name for name in RunConfig.model_fields if name not in ("kind", "dtype", "bos")])
def test_no_request_takes_them(name: str) -> None:
    for value in [*NONE, *LARGE, "x" * 200_000, ["x"] * 200_000, {"a": [math.nan]}]:
        with pytest.raises(ComeError) as caught:
            RunConfig.model_validate({name: value})
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("given", [{}, {"ratio": 0.5}, {"target_layers": 4, "sparsity": 0.2}])
def test_a_request_that_is_sound_stays_so(given: dict[str, Any]) -> None:
    if "ratio" in given:
        with pytest.raises(ComeError):
            RunConfig.model_validate(given)
    else:
        assert RunConfig.model_validate(given).model_dump()


def test_a_question_takes_none_of_them() -> None:
    for value in [*NONE, *LARGE]:
        for kind, values in (
            (Question, {"exponent": value}),
            (Question, {"floor": value}),
            (Question, {"merges": [{"first": 0, "last": 1, "ratio": [value, 0.5]}]}),
            (Question, {"dropped": [value]}),
            (Merge, {"first": value, "last": 1}),
            (Subject, {"model": "x", "n_tokens": value}),
            (Subject, {"model": "x", "seed": value}),
        ):
            with pytest.raises(ComeError):
                parse(kind, values)


@pytest.mark.parametrize(
    "ratio", [(math.nan, 0.5), (math.nan, math.nan), (math.inf, -math.inf), (1e308, -1e308), (2, -1)]
)
def test_no_ratio_is_of_them(ratio: tuple[float, float]) -> None:
    with pytest.raises(ComeError):
        check_ratio(ratio, 2)


CALLS: dict[str, Callable[[Any], object]] = {
    "compress to layers": lambda value: come.compress(tiny_bundle(), tiny_tokens(), "shortgpt", target_layers=value),
    "compress by sparsity": lambda value: come.compress(tiny_bundle(), tiny_tokens(), "shortgpt", sparsity=value),
    "compress with an option": lambda value: come.compress(
        tiny_bundle(), tiny_tokens(), "come", target_layers=4, exponent=value
    ),
    "compress with ratios": lambda value: come.compress(
        tiny_bundle(), tiny_tokens(), "come", windows=[(1, 2)], ratios=[(value, 0.5)]
    ),
    "compress windows": lambda value: come.compress(tiny_bundle(), tiny_tokens(), "come", windows=[(1, value)]),
    "recover": lambda value: come.recover(
        tiny_bundle(), tiny_bundle(layers=4), tiny_tokens(), ways=["lora"], options={"lr": value}
    ),
    "draw tokens": lambda value: come.tokens(tiny_bundle(), "python-docs", n_tokens=value),
    "draw long sequences": lambda value: come.tokens(tiny_bundle(), "python-docs", seq_len=value),
    "draw by a seed": lambda value: come.tokens(tiny_bundle(), "python-docs", n_tokens=512, seq_len=64, seed=value),
    "draft": lambda value: come.draft(_measured(), value),
    "draft by an exponent": lambda value: come.draft(_measured(), 4, exponent=value),
    "draft by a floor": lambda value: come.draft(_measured(), 4, floor=value),
    "draft a ratio": lambda value: come.draft(_measured(), windows=[(1, 2)], ratios=[(value, 0.5)]),
    "draft a span": lambda value: come.draft(_measured(), 4, span=value),
}
_KEPT: list[Any] = []


def _measured() -> Any:
    if not _KEPT:
        _KEPT.append(come.measure(tiny_bundle(), tiny_tokens()))
    return _KEPT[0]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, 4.5, "4", None, True])
def test_no_function_takes_them(call: str, value: Any) -> None:
    if value is True or (value == 4.5 and call in ("compress with an option", "draft by an exponent")):
        return  # a truth value is a whole number to Python; and this is an exponent like any other
    with pytest.raises((ComeError, TypeError)) as caught:
        CALLS[call](value)
    if isinstance(value, float):
        assert isinstance(caught.value, ComeError), caught.value


def test_what_is_within_bounds_is_let_be() -> None:
    for value in (0, 1.5, LARGEST_WHOLE, "x", [1, (2.0, None)], {"a": {"b": [True]}}, object(), torch.ones(2)):
        assert out_of_bounds(value) == ""


def test_numbers_in_a_row_read_as_a_range() -> None:
    for numbers, words in (
        ([], ""),
        ([4], "4"),
        ([4, 5], "4 and 5"),
        (list(range(9, 18)), "9 to 17"),
        ([1, 3, 9, 10, 11], "1, 3 and 9 to 11"),
        ([1, 2, 3, 7, 8], "1 to 3, 7 and 8"),
    ):
        assert ranges(numbers) == words
