"""Back and Forward in a real browser: each undoes or repeats a visit to a page, and nothing that was chosen."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlparse

import pytest

from tests.e2e.conftest import Server
from tests.e2e.test_visit import follow, go, unharmed

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

HEADINGS = {"model": "Choose a model", "layers": "Layers", "plan": "Plan"}


def test_back_and_forward_keep_the_plan(server: Callable[..., Server], page: Page, tiny_choice: dict[str, str]) -> None:
    started = server()
    go(page, started, "model", tiny_choice)
    entries = page.evaluate("history.length")
    follow(page, "Plan")
    assert page.evaluate("history.length") == entries + 1  # a visit to a page is one entry
    page.get_by_text("By hand", exact=True).click()
    page.get_by_role("button", name="Add a window").click()
    page.wait_for_url(re.compile(r"[?&]windows=\d"))
    planned = parse_qs(urlparse(page.url).query)
    follow(page, "Layers")
    follow(page, "Channels")
    assert page.evaluate("history.length") == entries + 3

    back, forth = page.go_back, page.go_forward
    for title, step in (("layers", back), ("plan", back), ("model", back), ("plan", forth)):
        step()
        page.wait_for_url(re.compile(rf"/{title}\?"))
        page.get_by_role("heading", level=1, name=HEADINGS[title]).wait_for()
        page.wait_for_url(re.compile(r"[?&]windows=\d"))
        unharmed(page)
        assert {key: parse_qs(urlparse(page.url).query)[key] for key in planned} == planned, title
    first, _ = planned["windows"][0].split("-")
    assert page.get_by_label("First layer", exact=True).input_value() == first
