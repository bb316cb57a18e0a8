"""The playground in a real browser: the recording at once, words that come one by one, stop, a hover, any width."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import SECOND, Server, in_every_look, in_every_width

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

# Where the answers begin in the page, in every frame.
WATCH_THE_ANSWERS = """
window.places = new Set();
const look = () => {
  const top = each => document.querySelector(each).getBoundingClientRect().y;
  window.places.add(Math.round(top(".come-answers") - top("h1")));
  requestAnimationFrame(look);
};
look();
"""


@pytest.mark.slow
@in_every_look
def test_models_speak_and_are_stopped(server: Callable[..., Server], page: Page) -> None:
    url = server().url
    page.goto(f"{url}/playground?new-tokens=256")
    page.get_by_text("recorded with the example").first.wait_for()
    page.get_by_role("button", name="Some code").click()
    page.wait_for_url("**/playground?*prompt=*")
    page.get_by_role("button", name="Let them answer").click()
    stop = page.get_by_role("button", name="Stop")
    stop.wait_for()
    page.locator(".come-answer .caret").first.wait_for()  # a word has come, and more will
    page.evaluate(WATCH_THE_ANSWERS)
    stop.click()
    page.get_by_role("button", name="Let them answer").wait_for()
    token = page.locator(".come-answer .t[data-tip]").first
    token.hover()
    pointed = token.element_handle()
    page.wait_for_function("each => getComputedStyle(each, '::after').content.includes('%')", arg=pointed)
    stop.wait_for(state="detached")
    assert len(page.evaluate("[...window.places]")) == 1  # one button took the other's place, and nothing moved

    # A blind vote: no names, no marks; then both names and the tally.
    page.goto(f"{url}/playground?mode=blind&new-tokens=8&prompt=Name+a+colour.")
    page.get_by_role("button", name="Ask both, unnamed").click()
    page.get_by_role("button", name="Cannot tell").wait_for()
    cards = page.locator(".come-answers")
    assert [each.get_attribute("aria-label") for each in cards.locator("section").all()] == ["Answer A", "Answer B"]
    assert "Original" not in cards.inner_html() and "CoMe" not in cards.inner_html()
    assert cards.locator(".t, mark").count() == 0
    page.get_by_role("button", name="Cannot tell").click()
    page.get_by_text("You could not tell").wait_for()
    assert "Original" in cards.inner_text() and "CoMe" in cards.inner_text()
    page.get_by_text("1 vote: ").wait_for()


@in_every_width
def test_nothing_runs_over_the_side(example: Server, page: Page) -> None:
    assert page.viewport_size is not None
    width = page.viewport_size["width"]
    page.goto(f"{example.url}/playground")
    for section in ("Next token", "Follow the sentence"):
        page.get_by_text(section, exact=True).click()
    page.locator(".st-key-next-3 .js-plotly-plot").wait_for()
    page.locator(".st-key-sentence-strips .js-plotly-plot").wait_for()
    page.wait_for_timeout(SECOND)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for place in [f".come-answer:nth-child({place})" for place in range(1, 5)] + [
        f".st-key-{key} .js-plotly-plot" for key in ("kl-strip", "next-0", "next-3", "sentence-strips")
    ]:
        box = page.locator(place).bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width + 1 and box["width"] > 150
