"""Links that nobody's page ever wrote: each page opens all the same, soon, and says what it left out."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from app.state import incoming
from app.state.choice import Choice, Draft
from app.state.link import PARAMS, from_params, read_windows

Visit = Callable[..., AppTest]

SECONDS = 60  # for a page on a busy machine; the attacks took minutes, or for ever

# What each page reads of its address, beside what all of them do.
OF_PAGES = {
    "home": (),
    "model": (),
    "channels": ("part", "view", "layer", "channel", "zoom", "scale"),
    "layers": ("first", "last", "heights", "similarity", "cost-size"),
    "plan": (),
    "run": ("run",),
    "compare": ("comparison", "metric", "against"),
    "inspect": ("run", "part", "new-layer", "other", "order", "curve-scale", "find"),
    "playground": ("mode", "chat", "with", "prompt", "temperature", "top-p", "new-tokens", "draw", "along"),
    "learn": ("step", "present", "quiz", "join-pair", "join-share", "stack-layer", "unit-rank", "merge-step"),
}
VALUES = {
    "empty": "",
    "space": " ",
    "nan": "NaN",
    "infinite": "1e999",
    "minus infinity": "-inf",
    "negative": "-1",
    "huge": "1" + "0" * 30,
    "digits": "9" * 5000,
    "largest": str(10**15),
    "a fraction": "0." + "3" * 400,
    "other digits": "٣",
    "superscript": "²",
    "no character": "\x00",
    "control": "\x1b[31m\r\n",
    "right to left": "\u202e4-5",
    "not a character": "\ufffe\uffff",
    "markdown": "[x](javascript:alert(1)) $\\frac{1}{0}$ :red[a]",
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "path up": "../../../../etc/passwd",
    "file": "file:///etc/passwd",
    "windows": ",".join(f"{layer}-{layer + 1}" for layer in range(0, 40_000, 2)),
    "same window": "1-2," * 250,
    "wide window": "0-999999999999999",
    "backwards": "9-1,1-9",
    "half": "4-,-5,-,--,4-5-6",
    "shares": "0.5-0.5,nan-nan,1e999-0,-1-2",
    "options": ",".join(f"o{number}:{number}" for number in range(3000)),
    "known options": "exponent:nan,floor:-1e999,span:999999999999999,batch_size:-5,seed:1e308",
    "long": "x" * 1_000_000,
    "quotes": "'\";--{}[]()%00%s%n{0}{__class__}",
    "emoji": "👩‍👩‍👧‍👦" * 300,
}


def opened(visit: Visit, page: str, **params: str) -> tuple[AppTest, float]:
    began = time.monotonic()
    at = visit(page, **params)
    return at, time.monotonic() - began


def check(at: AppTest, seconds: float) -> None:
    assert not at.exception, [each.value for each in at.exception]
    assert not [each.value for each in at.error if "fault of ours" in each.value]
    assert seconds < SECONDS


@pytest.mark.parametrize("name", VALUES)
def test_what_a_link_says_is_read_or_left_out(name: str) -> None:
    began = time.monotonic()
    for key in PARAMS:
        chosen, plan, misread = from_params({key: VALUES[name]})
        assert isinstance(chosen, Choice) and isinstance(plan, Draft)
        assert all(isinstance(each, str) for each in misread)
        assert 0 <= chosen.tokens <= 10**15 and 0 <= chosen.seed <= 10**15
        assert len(plan.windows or []) <= 256 and len(plan.options) <= 256
    assert time.monotonic() - began < SECONDS


@pytest.mark.parametrize("digits", ["٣-٤", "1_0-11", "+1-2", " 1-2", "1e1-12", "9" * 25 + "-1"])
def test_numbers_are_short_and_in_plain_digits(digits: str) -> None:
    try:
        found = read_windows(digits)
    except ValueError:
        return
    assert all(abs(number) <= 10**15 for window in found for number in window)


def test_a_link_that_is_too_long_is_read_as_far_as_it_may_be(visit: Visit) -> None:
    at, seconds = opened(visit, "layers", target="5", windows=VALUES["windows"], drop="1")
    check(at, seconds)
    said = [warning.value for warning in at.warning]
    assert any("The link is too long" in sentence for sentence in said)
    assert not any("300-301" in sentence for sentence in said)
    assert sum(len(str(value)) for value in at.query_params.values()) < incoming.LONGEST_LINK


def test_hundreds_of_parameters_are_too_long_a_link(visit: Visit) -> None:
    # Of more than 1,000, Streamlit itself reads none.
    at, seconds = opened(visit, "run", **{f"parameter-{number}": "1" for number in range(900)})
    check(at, seconds)
    assert any("The link is too long" in warning.value for warning in at.warning)


@pytest.mark.parametrize(("page", "name"), [("plan", "wide window"), ("channels", "huge"), ("playground", "long")])
def test_pages_open_by_hostile_links(visit: Visit, page: str, name: str) -> None:
    key = "windows" if page == "plan" else OF_PAGES[page][-1]
    check(*opened(visit, page, **{key: VALUES[name]}))


@pytest.mark.slow
@pytest.mark.attack
@pytest.mark.parametrize("page", OF_PAGES)
@pytest.mark.parametrize("name", VALUES)
def test_every_page_opens_by_every_hostile_link(visit: Visit, page: str, name: str) -> None:
    """310 links, with the value in all parameters of the page but model and text."""
    keys = [key for key in (*PARAMS, *OF_PAGES[page]) if key not in ("model", "text")]
    check(*opened(visit, page, **dict.fromkeys(keys, VALUES[name])))


@pytest.mark.slow
@pytest.mark.attack
@pytest.mark.parametrize("key", ["model", "text", "target", "remove", "windows", "drop", "options"])
@pytest.mark.parametrize("name", VALUES)
def test_the_plan_page_opens_by_each_parameter_alone(visit: Visit, key: str, name: str) -> None:
    """217 links more."""
    check(*opened(visit, "plan", **{key: VALUES[name]}))
