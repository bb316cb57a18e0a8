"""The inspect page in a real browser: the example at once, a click on a layer, a click on a tile, wide and narrow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from app import example_runs
from tests.e2e.conftest import SECOND, Server, click_figure, in_every_look, in_every_width

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@in_every_look
def test_a_click_opens_a_layer_and_a_click_follows_a_channel(example: Server, page: Page) -> None:
    from playwright.sync_api import expect

    (run,) = example_runs.FOLDER.glob("*-come-21-*")
    page.goto(f"{example.url}/inspect?run={run.name}")
    page.get_by_text("of 21 new layers are made of two layers").wait_for()
    page.get_by_role("heading", name="New layer 14").wait_for()
    page.locator(".st-key-puzzle-map .js-plotly-plot").wait_for()
    click_figure(page, "puzzle-map", 0.93, 3.5 * 30 / 21)
    page.get_by_role("heading", name="New layer 3", exact=True).wait_for()
    page.wait_for_url("**/inspect?*new-layer=3*")
    click_figure(page, "tiles", 40, 0)
    field = page.get_by_label("Layer and channel of the original")
    expect(field).not_to_have_value("")
    page.get_by_text("FFN channel").filter(has_text="of layer 3").first.wait_for()
    page.reload()
    page.get_by_role("heading", name="New layer 3", exact=True).wait_for()
    expect(field).not_to_have_value("")


@in_every_width
def test_nothing_runs_over_the_side(example: Server, page: Page) -> None:
    assert page.viewport_size is not None
    width = page.viewport_size["width"]
    page.goto(f"{example.url}/inspect")
    views = {"tiles": "Kept", "source-curves": "Cut", "merge-tree": "Steps"}
    for key, view in {**views, "agreement": "Two runs", "pieces": "", "puzzle-map": ""}.items():
        if view:
            tab = page.get_by_role("tab", name=view)
            place = tab.bounding_box()
            assert place is not None and place["x"] + place["width"] <= width  # none is cut
            tab.click()
        page.locator(f".st-key-{key} .js-plotly-plot").wait_for()
        page.wait_for_timeout(SECOND)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        box = page.locator(f".st-key-{key} .js-plotly-plot").bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width + 1
