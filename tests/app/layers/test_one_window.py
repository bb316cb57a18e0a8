"""The layers page's card of one window: what is wrong with one, and a plan of it alone."""

from __future__ import annotations

import re
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from app.layers.card import LONGEST, _problem

Visit = Callable[..., AppTest]


@given(st.integers(3, 80), st.data())
def test_what_is_wrong_is_mended_as_it_says(layers: int, data: st.DataObject) -> None:
    first, last = data.draw(st.integers(0, layers - 2)), data.draw(st.integers(1, layers - 1))
    problem = _problem(first, last, layers)
    assert bool(problem) == (not first < last < first + LONGEST)
    if problem:
        advised = int(re.findall(r"(\d+) (?:or more|at most)", problem)[-1])
        assert advised < layers and not _problem(first, advised, layers)
        assert all(int(number) <= max(layers, first + LONGEST) for number in re.findall(r"\d+", problem))


def test_backwards_layers_are_told_with_what_to_do(visit: Visit) -> None:
    at = visit("layers", first="3", last="1")
    (warning,) = at.warning
    assert (
        warning.value == "The last layer must come after the first: set it to 4 or more, or the first to a lower one."
    )
    assert at.button(key="change-plan").disabled and "take-only" not in [button.key for button in at.button]


def test_one_window_alone_becomes_the_plan_and_can_be_undone(visit: Visit) -> None:
    at = visit("layers", first="4", last="5", windows="0-1,2-3")
    before = at.query_params["windows"]
    at.button(key="take-only").click().run()
    assert not at.exception and at.query_params["windows"] in ("4-5", ["4-5"])
    assert "Your plan is 4–5 alone." in [caption.value for caption in at.caption]
    assert "take-only" not in [button.key for button in at.button], "it is alone already"
    at.button(key="undo-card").click().run()
    assert at.query_params["windows"] == before


def test_alone_is_not_offered_where_the_plan_holds_no_other(visit: Visit) -> None:
    at = visit("layers", first="4", last="5", windows="4-5")
    assert not at.exception and "take-only" not in [button.key for button in at.button]


def test_what_was_typed_last_is_no_window_and_changes_nothing(visit: Visit) -> None:
    for button in ("change-plan", "take-only"):
        at = visit("layers", first="4", last="5", windows="0-1")
        at.number_input(key="last").set_value(2)
        at.button(key=button).click().run()
        assert not at.exception and at.query_params["windows"] in ("0-1", ["0-1"])


def test_the_window_that_come_would_begin_with_is_called_so(visit: Visit) -> None:
    opened = visit("layers")  # it opens with that one
    first, last = (opened.number_input(key=key).value for key in ("first", "last"))
    assert any("CoMe would merge it first" in caption.value for caption in opened.caption)
    other = visit("layers", first=str(first - 1 or 3), last=str((first - 1 or 3) + last - first))
    assert not any("CoMe would merge it first" in caption.value for caption in other.caption)
