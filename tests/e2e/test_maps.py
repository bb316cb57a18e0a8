"""The maps of the layers and channels pages, in a real browser: first glance, keyboard, click, drag, search."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from tests.e2e.conftest import PATIENCE, Server, click_figure, in_every_look

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]

STOPS = 10  # of the keyboard, the skip link and its target included
FOCUSED = "document.activeElement.innerText || document.activeElement.ariaLabel || ''"


def test_the_matrix_is_in_reach_and_so_is_the_button(example: Server, page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(f"{example.url}/layers")
    figure = page.locator(".st-key-similarity-map .js-plotly-plot")
    figure.locator(".main-svg").first.wait_for()
    page.wait_for_timeout(1000)
    box = figure.bounding_box()
    assert box is not None and box["y"] > 0 and box["y"] + box["height"] <= 800
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # past the sidebar: the first stop
    for _ in range(STOPS - 1):
        page.keyboard.press("Tab")
        if "Add to plan" in page.evaluate(FOCUSED):
            break
    else:
        pytest.fail(f"not within {STOPS} stops")
    # The plan that is shown is automatic: its window stays beside the new one.
    page.keyboard.press("Enter")
    page.get_by_text("plan by hand").wait_for()
    page.get_by_role("button", name="Remove", exact=True).wait_for()
    assert "windows=10-18" in page.url and "25-26" in page.url


@in_every_look
def test_a_channel_is_clicked_zoomed_to_and_found(
    server: Callable[..., Server], page: Page, tiny_choice: dict[str, str]
) -> None:
    from playwright.sync_api import expect

    page.goto(f"{server().url}/channels?{urlencode(tiny_choice | {'view': 'raw'})}")
    page.get_by_role("button", name="Prepare and analyse").click()
    page.locator(".st-key-channel-map .main-svg").first.wait_for()
    page.wait_for_timeout(1000)

    # A click opens a channel, whose model says what it promotes and what excites it.
    click_figure(page, "channel-map", 20, 3)
    page.get_by_role("heading", name="Channel 20 of layer 3").wait_for()
    page.locator(".come-words").first.wait_for()
    page.locator(".come-contexts mark").first.wait_for()

    # A drag zooms, here over channels 10 to 30.
    figure = page.locator(".st-key-channel-map:not([data-stale=true]) .js-plotly-plot")
    expect(figure).to_have_count(1, timeout=PATIENCE)
    figure.scroll_into_view_if_needed()
    left, right = figure.evaluate(
        """plot => {
            const {xaxis} = plot._fullLayout, {left} = plot.getBoundingClientRect();
            return [10, 30].map(x => left + xaxis._offset + xaxis.l2p(x));
        }"""
    )
    box = figure.bounding_box()
    assert box is not None
    page.mouse.move(left, box["y"] + 120)
    page.mouse.down()
    page.mouse.move(right, box["y"] + 125, steps=5)
    page.mouse.up()
    page.get_by_role("button", name="Whole map").wait_for()
    page.wait_for_function("location.search.includes('zoom=10-30')")

    # A search opens another one; the map is whole again when that is wanted.
    page.get_by_role("button", name="Whole map").click()
    page.get_by_role("button", name="Whole map").wait_for(state="detached")
    field = page.get_by_label("Find a channel")
    field.fill("layer 1 channel 7")
    field.press("Enter")
    page.get_by_role("heading", name="Channel 7 of layer 1").wait_for()
    page.get_by_text("The suggested plan").or_(page.get_by_text("It would be")).first.wait_for()
