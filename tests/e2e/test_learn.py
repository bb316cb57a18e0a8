"""The lesson in a real browser: all eight steps by their Next button, narrow and wide; large type by its link."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import SECOND, Server, in_every_width

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

FIGURES = ("stack", "activations", "angle", "joined", "averaging", "loop", "recovery", "quiz")


@in_every_width
def test_eight_steps_fit_the_screen(example: Server, page: Page) -> None:
    from playwright.sync_api import expect

    assert page.viewport_size is not None
    width = page.viewport_size["width"]
    page.goto(f"{example.url}/learn")
    for step, name in enumerate(FIGURES, 1):
        page.get_by_role("heading", name=f"{step} of 8").wait_for()
        page.locator(f".st-key-lesson-{name} .js-plotly-plot").wait_for()
        page.wait_for_timeout(SECOND)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        box = page.locator(f".st-key-lesson-{name} .js-plotly-plot").bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width + 1
        if step < len(FIGURES):
            on = page.get_by_role("button", name="Next")
            expect(on).to_have_count(1)  # until it is replaced, that of the step before is there too
            on.click()
    page.wait_for_url("**/learn?*step=8*")


@pytest.mark.slow
def test_numbers_stand_above_back_and_next(example: Server, page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    for step in ("2", "3", "4", "5", "6", "6&merge-step=9", "6&merge-way=window", "7", "7&recovery-stage=3"):
        page.goto(f"{example.url}/learn?step={step}")
        page.get_by_role("heading", level=1, name=f"{step[0]} of 8").wait_for()
        page.locator(".js-plotly-plot .main-svg").first.wait_for()
        numbers = page.locator(".come-both" if "window" in step else ".come-facts").last
        numbers.wait_for()
        page.locator(".st-key-lesson-turns button").last.wait_for()
        page.wait_for_timeout(SECOND)
        bar = page.locator(":has(> .st-key-lesson-turns)").evaluate("bar => bar.getBoundingClientRect().top")
        assert numbers.evaluate("each => each.getBoundingClientRect().bottom") <= bar, step
        if step[0] in "67":  # what closes the step, too
            sure = page.locator("[class*='st-key-sure-of']").last
            assert sure.evaluate("each => each.getBoundingClientRect().bottom") <= bar, step


def test_large_type_and_the_step_survive_a_reload(example: Server, page: Page) -> None:
    page.goto(f"{example.url}/learn?step=6&present=1")
    page.get_by_role("button", name="Merge", exact=True).click()
    page.get_by_text("Merge 2 takes the original's layers").wait_for()
    page.reload()
    page.get_by_text("Merge 2 takes the original's layers").wait_for()
    large = page.evaluate("parseFloat(getComputedStyle(document.documentElement).fontSize)")
    page.keyboard.press("PageDown")
    page.get_by_role("heading", name="7 of 8").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Inspect").wait_for()  # the sidebar is back
    assert large > page.evaluate("parseFloat(getComputedStyle(document.documentElement).fontSize)")
