"""What-if in a real browser and with a real resident process: change, compare, undo, take, save, restart."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from tests.e2e.conftest import Server, in_every_look

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@in_every_look
def test_a_plan_is_felt(server: Callable[..., Server], page: Page, tiny_choice: dict[str, str]) -> None:
    serving = server()

    # The first answer: the model is loaded, measured and run by the process itself.
    page.goto(f"{serving.url}/plan?{urlencode(tiny_choice | {'windows': '1-2'})}")
    finding = page.locator("p.come-finding", has_text="Predicted perplexity")
    finding.wait_for()
    assert page.get_by_text("Against ").count() == 0
    first = finding.inner_text()

    # A change is answered against it; undo, by the keyboard, goes back to the same answer.
    page.get_by_label("Last layer", exact=True).fill("3")
    page.get_by_label("Last layer", exact=True).press("Enter")
    page.get_by_text("Against CoMe, 5 layers").wait_for()
    assert finding.inner_text() != first
    page.get_by_role("heading", name="Plan", exact=True).click()
    page.keyboard.press("Alt+z")
    page.get_by_text("Against CoMe, 4 layers").wait_for()
    assert finding.inner_text() == first

    # The next window by SBI, taken.
    page.get_by_role("button", name="Suggest the next window").click()
    page.get_by_role("button", name="Take it").click()
    page.get_by_text("6 → 4 layers").wait_for()
    page.get_by_role("button", name="Suggest the next window").wait_for()

    # A layer is dropped by its tile.
    page.locator(".st-key-layer-tiles [data-variant=pills]").first.click()
    page.get_by_role("button", name="Drop 0").click()
    page.get_by_text("6 → 3 layers").wait_for()
    page.get_by_text("Against CoMe, 4 layers").wait_for()
    page.locator(".st-key-layer-tiles del", has_text="0").wait_for()
    assert "drop=0" in page.url
    taken = finding.inner_text()

    # A saved plan outlives the server.
    page.get_by_role("button", name="Saved").click()
    page.get_by_label("Name of this plan").fill("Two pairs")
    page.get_by_label("Name of this plan").press("Enter")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("button", name="Two pairs", exact=True).wait_for()
    serving.process.kill()
    serving.process.wait()
    again = server()
    page.goto(f"{again.url}/plan?{urlencode(tiny_choice | {'target': '5'})}")
    page.get_by_role("button", name="Saved").click()
    page.get_by_role("button", name="Two pairs", exact=True).click()
    page.get_by_text("6 → 3 layers").wait_for()
    finding.wait_for()
    assert finding.inner_text() == taken
    assert page.get_by_test_id("stException").count() == 0
    assert page.get_by_text("met a fault of ours").count() == 0


@pytest.mark.slow
def test_a_model_is_timed_at_a_press_and_what_was_chosen_is_in_sight(
    server: Callable[..., Server], page: Page, tiny_choice: dict[str, str]
) -> None:
    page.set_viewport_size({"width": 400, "height": 800})
    page.goto(f"{server().url}/plan?{urlencode(tiny_choice | {'windows': '1-2'})}")
    finding = page.locator("p.come-finding", has_text="Predicted perplexity")
    finding.wait_for()
    box = finding.bounding_box()
    assert box is not None and 0 < box["y"] < 800 - box["height"], "a phone shows it beside the controls"

    opened = page.get_by_test_id("stPopoverBody")
    page.get_by_role("button", name="Fit into").click()
    opened.get_by_role("button", name="Leave").click()
    opened.wait_for(state="hidden")
    page.wait_for_url("**target=**")

    page.get_by_role("button", name="Fit into").click()
    opened.get_by_text("Speed-up", exact=True).click()
    opened.get_by_role("button", name="Time it").click()  # a fragment of the page: all of it has to be drawn anew
    opened.get_by_text("was not timed").wait_for(state="hidden")
    opened.get_by_role("button", name="Time it").wait_for(state="hidden")
    opened.get_by_text("Timing the model").wait_for(state="hidden")

    page.keyboard.press("Escape")
    page.get_by_role("button", name="Go to run").click()  # far down
    page.get_by_role("heading", name="Run", exact=True).wait_for()
    page.get_by_role("button", name="Start").first.wait_for()
    assert page.locator(".stMain").evaluate("main => main.scrollTop") == 0, "the page begins at its top"
    assert page.get_by_test_id("stException").count() == 0
