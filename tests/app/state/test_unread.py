"""What a page's own part of a link holds that cannot be read: one sentence, gone with the next click."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.conftest import Lab

Visit = Callable[..., AppTest]


def told(at: AppTest) -> list[str]:
    assert not at.exception and not at.error
    return [each.value for each in at.warning if each.value.startswith("The link holds")]


@pytest.mark.parametrize(
    ("page", "link"),
    [
        ("layers", {"first": "x", "last": "99"}),
        ("playground", {"with": "zzz"}),
        ("compare", {"run": "zzz", "runs": "zzz"}),
        ("learn", {"step": "99"}),
        ("channels", {"zoom": "9-1"}),
        ("channels", {"zoom": "a"}),
    ],
)
def test_it_is_told_once(visit: Visit, lab: Lab, page: str, link: dict[str, str]) -> None:
    at = visit(page, **link)
    (sentence,) = told(at)
    assert all(f"{name}={value}" in sentence for name, value in link.items())
    assert not told(at.run())


@pytest.mark.parametrize(
    ("page", "link"), [("layers", {"first": "1", "last": "2"}), ("learn", {"step": "2"}), ("channels", {"zoom": "1-9"})]
)
def test_a_link_that_can_be_read_is_not_spoken_of(visit: Visit, lab: Lab, page: str, link: dict[str, str]) -> None:
    assert not told(visit(page, **link))


def test_it_stands_in_one_sentence_with_the_plans_parts(visit: Visit, lab: Lab) -> None:
    (sentence,) = told(visit("layers", windows="abc", first="*x*"))
    assert "windows=abc, first=\\*x\\*, which" in sentence
