"""How a page arrives: its frame first, then the body as one, and never nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.e2e.conftest import Server

PAGES = ("home", "plan", "playground", "start")  # the last is not a page
# What of the body could be seen while it was arriving, frame by frame.
WATCHED = """window.seen = []; window.arrived = false; window.arrivals = 0;
let arriving = false;
const look = () => {
    const root = document.documentElement;
    const shown = [...document.querySelectorAll('.stMainBlockContainer .stElementContainer *')].filter(
        each => getComputedStyle(each).visibility === 'visible' && !each.closest('FRAME'));
    if (root?.hasAttribute('data-arriving')) window.seen.push(...shown.map(each => each.outerHTML.slice(0, 80)));
    else if (shown.length) window.arrived = true;
    if (!arriving && root?.hasAttribute('data-arriving')) window.arrivals += 1;
    arriving = root?.hasAttribute('data-arriving');
    requestAnimationFrame(look);
};
requestAnimationFrame(look);""".replace("FRAME", "h1, .come-strip, [data-testid=stAppSkeleton]")


@pytest.mark.parametrize("width", [pytest.param(1280, marks=pytest.mark.slow), 400])
def test_the_body_is_shown_as_one(example: Server, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.add_init_script(WATCHED)
    address = example.url
    for name in PAGES:
        page.goto(f"{address}/{name}")
        page.wait_for_function("window.arrived")
        assert page.evaluate("window.seen") == [], name


@pytest.mark.slow
def test_a_page_that_is_chosen_for_the_first_time_is_shown_as_one_too(example: Server, page: Page) -> None:
    page.add_init_script(WATCHED)
    page.goto(f"{example.url}/home")
    page.wait_for_function("window.arrived")
    before = page.evaluate("window.arrivals")
    pages = (("Playground", "Playground", 1), ("Learn", "1 of 8", 2), ("Playground", "Playground", 2))
    for title, heading, arrivals in pages:  # the last was seen before
        page.get_by_test_id("stSidebarNav").get_by_role("link", name=title, exact=True).click()
        page.get_by_role("heading", level=1, name=heading).wait_for()
        page.wait_for_function("!document.documentElement.hasAttribute('data-arriving')")
        assert page.evaluate("window.arrivals") - before == arrivals, title
        assert page.evaluate("window.seen") == [], title
    assert page.get_by_role("button", name="Let them answer").is_visible()


def test_a_widget_that_never_comes_holds_up_nothing_else(example: Server, page: Page) -> None:
    page.add_init_script(WATCHED)
    page.route("**/Button.*.js", lambda route: None)  # neither answered nor refused
    page.goto(f"{example.url}/home")
    page.wait_for_function("window.arrived")
    page.locator(".stMain").get_by_test_id("stSkeleton").first.wait_for()
    assert page.get_by_role("heading", level=1).is_visible() and page.locator(".come-strip").is_visible()


def test_the_strip_is_one_line_however_much_it_has_to_say(example: Server, page: Page) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(f"{example.url}/home")
    strip = page.locator(".come-strip")
    strip.wait_for()
    before = strip.bounding_box()
    strip.locator(".quiet").evaluate(
        "said => { said.textContent = 'its run: at work · 12 other runs wait · '.repeat(9) }"
    )
    after = strip.bounding_box()
    assert before is not None and before == after
    assert strip.evaluate("strip => strip.scrollWidth <= strip.clientWidth")
    name = strip.locator("> :first-child")
    assert name.evaluate("name => name.scrollWidth <= name.clientWidth"), "what a run says is cut before the name"
