"""A report in a real browser, from the disk and without a network: its charts are drawn, zoom, and print whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from app import example_runs
from come.report.html import write

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PAPER = 680  # pixels of A4 between the margins
# The ends of a chart's horizontal axis, and where the chart is.
SHOWN = "plot => plot._fullLayout.xaxis.range.map(Number)"
DRAWN = """[...document.querySelectorAll(".chart")].filter(
    chart => chart.querySelector(".scatterlayer .trace .points path")).length"""
CUT = """width => [...document.querySelectorAll(".chart .main-svg")].filter(
    drawing => drawing.getBoundingClientRect().right > width + 1).length"""
GROUND = "getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of all shipped runs, in a folder of its own."""
    runs = [run for run in example_runs.runs() if run.config.kind == "compress"]
    return write(runs, tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture
def opened(browser: Browser, report: Path) -> Callable[..., Page]:
    """Opens it where there is no network; what the browser complains of, or asks for, fails the test."""

    def open_report(width: int = 1280, scheme: str = "light") -> Page:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
        page, told = context.new_page(), []
        page.on("console", lambda message: told.append(message.text))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda request: told.append(request.url))
        page.goto(report.as_uri())
        page.locator("html[data-drawn]").wait_for()
        assert told == [report.as_uri()]
        return page

    return open_report


def test_the_charts_are_drawn_and_zoom(opened: Callable[..., Page]) -> None:
    page = opened()
    charts = page.locator(".chart")
    assert page.evaluate(DRAWN) == charts.count() > 12
    chart = charts.nth(1)
    chart.scroll_into_view_if_needed()
    before = chart.evaluate(SHOWN)
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.4)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.4, steps=5)
    page.mouse.up()
    while (after := chart.evaluate(SHOWN)) == before:  # waiting for a function needs eval, which the page refuses
        page.wait_for_timeout(50)
    assert abs(after[1] - after[0]) < 0.6 * abs(before[1] - before[0])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_on_a_phone(opened: Callable[..., Page], scheme: str) -> None:
    page = opened(400, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    assert page.evaluate(CUT, 400) == 0
    assert page.evaluate(GROUND) == {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 22, 28)"}[scheme]


def test_on_paper_it_is_black_on_white_and_no_chart_is_cut(opened: Callable[..., Page]) -> None:
    page = opened(1280, "dark")
    page.set_viewport_size({"width": PAPER, "height": 960})
    page.emulate_media(media="print")
    assert page.evaluate(CUT, PAPER) == 0, "a browser that does not tell before it prints"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(CUT, PAPER) == 0
    assert page.evaluate(GROUND) == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('.chart .xtick text')).fill") == "rgb(0, 0, 0)"
    assert not page.locator("nav, .modebar").first.is_visible()
