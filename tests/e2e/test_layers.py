"""What merging each window costs, in a real browser: measured in the background, opened by a click, planned."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

import come.runs
from come.runs.window_costs import read
from tests.e2e.conftest import Server, click_figure, in_every_look

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def test_formulas_low_on_the_screen_open_in_full(server: Callable[..., Server], page: Page) -> None:
    page.goto(f"{server().url}/layers")
    button = page.get_by_role("button", name="What is measured?")
    button.wait_for()
    page.locator(".st-key-window-costs .js-plotly-plot").wait_for()  # nothing moves any more
    # Below it there is room for what stands in a formula's place while it loads, and not for the formula.
    button.evaluate("each => each.scrollIntoView({block: 'end'})")
    page.get_by_test_id("stMain").evaluate("each => each.scrollBy(0, 130)")
    button.click()
    body = page.get_by_test_id("stPopoverBody")
    body.locator(".katex").first.wait_for()
    page.wait_for_function(  # it is drawn where it was measured to have room, a frame or two later
        "() => { const it = document.querySelector('[data-testid=stPopoverBody]');"
        " return it.scrollHeight <= it.clientHeight + 1 && it.clientHeight > 200; }"
    )


def test_nothing_is_begun_by_the_number_before_one_that_is_refused(server: Callable[..., Server], page: Page) -> None:
    page.goto(f"{server().url}/layers")
    first, add = (
        page.get_by_label("First layer"),
        page.get_by_role("button", name="to plan").or_(page.get_by_role("button", name="Replace")),
    )
    add.first.wait_for()
    taking = "each => getComputedStyle(each).pointerEvents"
    assert add.first.evaluate(taking) == "auto"
    first.fill("99")
    first.press("Tab")
    page.get_by_text("Please enter a value between 0 and").wait_for()
    assert add.first.evaluate(taking) == "none"
    first.fill("20")
    first.press("Tab")
    page.wait_for_function("() => !document.querySelector('[aria-invalid=true]')")
    assert add.first.evaluate(taking) == "auto"


@in_every_look
def test_a_window_is_chosen_by_what_its_merge_costs(
    server: Callable[..., Server], page: Page, tiny_choice: dict[str, str]
) -> None:
    serving = server()
    page.goto(f"{serving.url}/layers?{urlencode(tiny_choice | {'method': 'come-joint', 'windows': ''})}")
    page.get_by_role("button", name="Prepare and analyse").click()

    # The table fills by itself.
    page.get_by_text("Of 5 measured").wait_for()
    (analysis,) = come.runs.list_runs(serving.runs)
    costs = {cost.window: cost for cost in read(analysis) if cost.last - cost.first == 1}
    ranked = sorted(costs.values(), key=lambda cost: cost.merged)
    page.get_by_text(f"merging layers {ranked[0].first}–{ranked[0].last} costs least").wait_for()

    # A click on a bar opens its window in the card above.
    other = ranked[1]
    click_figure(page, "window-costs", other.first + 0.5, other.merged / 2)
    page.wait_for_function("window => location.search.includes(window)", arg=f"first={other.first}")

    # A row goes into the plan, which was by hand and empty, and is predicted as it was measured: fitted.
    page.get_by_role("button", name=f"Add {other.first}–{other.last}").click()
    page.get_by_text("6 → 5 layers").wait_for()
    assert "method=come-joint" in page.url and f"windows={other.first}-{other.last}" in page.url
    page.get_by_role("link", name="Next: the plan").click()
    page.locator("p.come-finding", has_text="Predicted perplexity").wait_for()
