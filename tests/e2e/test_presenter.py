"""Showing the page to a room, in a real browser: keys turn pages, charts are copied, a frame has no sidebar."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import PATIENCE, Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PICTURE = """async () => {
  const [item] = await navigator.clipboard.read();
  const picture = await createImageBitmap(await item.getType("image/png"));
  return [picture.width, picture.height];
}"""


def test_a_lesson_is_shown_to_a_room(example: Server, browser: Browser) -> None:
    url = example.url
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PATIENCE)
    context.grant_permissions(["clipboard-read", "clipboard-write"], origin=url)
    page = context.new_page()
    page.goto(f"{url}/layers?present=1")
    plot = page.locator(".js-plotly-plot").first
    plot.wait_for()
    assert not page.locator("[data-testid=stSidebar]").is_visible()
    box, heading = plot.bounding_box(), page.locator("h1").bounding_box()
    assert box is not None and heading is not None and box["y"] < 260 and box["y"] > heading["y"]
    assert page.evaluate("parseFloat(getComputedStyle(document.documentElement).fontSize)") == 19

    page.locator(".come-copy").first.click()
    page.get_by_role("button", name="Copy this chart").filter(has_text="Copied").wait_for()
    width, height = page.evaluate(PICTURE)
    assert width > 2 * box["width"] and height > 2 * box["height"]

    page.keyboard.press("PageDown")
    page.get_by_role("heading", name="Plan", exact=True).wait_for()
    assert "present=1" in page.url
    page.keyboard.press("PageUp")
    page.get_by_role("heading", name="Layers", exact=True).wait_for()
    page.goto(f"{url}/learn?present=1&step=8")
    page.get_by_role("button", name="To the layers").wait_for()
    page.keyboard.press("PageDown")
    page.get_by_role("heading", name="Layers", exact=True).wait_for()
    page.keyboard.press("Escape")
    page.locator("[data-testid=stSidebar]").wait_for()
    assert "present" not in page.url

    page.goto(f"{url}/?present=1")  # which leads on to the first page
    page.wait_for_url("**/home**present=1**")
    page.locator(".st-key-presenter").wait_for()
    page.keyboard.press("Escape")
    page.locator("[data-testid=stSidebar]").wait_for()

    page.goto(f"{url}/layers?embed=true")
    page.locator(".js-plotly-plot").first.wait_for()
    main = page.locator("[data-testid=stMainBlockContainer]").bounding_box()
    assert main is not None and main["x"] < 30 and page.locator(".come-strip").count() == 0
    context.close()


def test_charts_and_their_numbers_stand_above_the_bar(example: Server, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(PATIENCE)

    def bottom(of: str) -> float:
        page.locator(of).last.wait_for()
        return float(page.locator(of).last.evaluate("each => each.getBoundingClientRect().bottom"))

    for step in range(2, 7):
        page.goto(f"{example.url}/learn?step={step}&present=1")
        page.get_by_role("heading", level=1, name=f"{step} of 8").wait_for()
        page.locator(".js-plotly-plot .main-svg").first.wait_for()
        bar = page.locator(".st-key-presenter").evaluate("bar => bar.getBoundingClientRect().top")
        chart = page.locator(".js-plotly-plot").evaluate("chart => chart.getBoundingClientRect().top")
        assert chart < 200 and bottom(".come-facts") <= bar, step
        assert bottom(".stMain") <= bar, "what is longer scrolls above it"
        assert 0 < bottom(".st-key-lesson-next button") <= 800, step
    page.keyboard.press("PageDown")
    page.get_by_role("heading", level=1, name="7 of 8").wait_for()
    page.goto(f"{example.url}/inspect?present=1")
    page.locator(".st-key-puzzle-map .main-svg").first.wait_for()
    bar = page.locator(".st-key-presenter").evaluate("bar => bar.getBoundingClientRect().top")
    assert bottom(".st-key-puzzle-map .js-plotly-plot") <= bar and 0 < bottom(".st-key-run") < bar / 3
    page.goto(f"{example.url}/layers?present=1")
    page.locator(".st-key-similarity-map .main-svg").first.wait_for()
    grid = page.locator(".st-key-similarity-map .heatmaplayer image").evaluate(
        "cells => cells.getBoundingClientRect().width"
    )
    assert grid > 560 and 0 < bottom(".st-key-similarity-map .js-plotly-plot") <= bar, (
        "half of the screen is the matrix"
    )
    page.goto(f"{example.url}/compare?present=1")
    page.locator(".st-key-paired .main-svg").first.wait_for()
    assert bottom(".st-key-paired .js-plotly-plot") <= bar, "the paired chart comes before the curve"
    small = page.evaluate(
        "[...document.querySelectorAll('.xtick text, .ytick text')].map(each => "
        "parseFloat(getComputedStyle(each).fontSize)).filter(size => size < 16).length"
    )
    assert not small
    page.close()


def test_the_lessons_next_is_in_reach_without_presenting(example: Server, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(PATIENCE)
    page.goto(f"{example.url}/learn?step=4")
    page.locator(".js-plotly-plot .main-svg").first.wait_for()
    box = page.locator(".st-key-lesson-next button").bounding_box()
    assert box is not None and box["y"] + box["height"] <= 800
    page.close()
