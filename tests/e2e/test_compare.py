"""Going from the compare page to a run while others are at work, by a visitor who is far away."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import come.runs
from come.request import RunConfig
from come.runs.state import identity
from tests.app import synthetic
from tests.e2e.conftest import PATIENCE, SECOND, Server, click_figure

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

# Longer than a page waits between two looks at its runs: had it a timer, that would fire while a click is answered.
AWAY = 4_000  # milliseconds from the server to the browser
FAR_AWAY = """
const listen = WebSocket.prototype.addEventListener;
WebSocket.prototype.addEventListener = function (kind, heard, ...rest) {
  const late = event => setTimeout(() => heard.call(this, event), window.away || 0);
  return listen.call(this, kind, kind === "message" ? late : heard, ...rest);
};
"""


@pytest.mark.slow
def test_a_click_while_runs_are_at_work_ends_at_the_run(
    server: Callable[..., Server], page: Page, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    synthetic.sweep(runs, ("come", "shortgpt"), (27, 24), measure=("ppl",))
    at_work = come.runs.create(RunConfig(target_layers=24, keep_model=False), runs)
    at_work.update(status="running", stage="compress", **identity(os.getpid()))
    page.add_init_script(FAR_AWAY)
    page.goto(f"{server().url}/compare")
    page.get_by_text("1 run is at work or waiting").wait_for()
    page.locator(".js-plotly-plot .main-svg").last.wait_for()
    choose_a_run(page)
    page.get_by_role("heading", name="Run", exact=True).wait_for()
    page.get_by_role("heading", name="All runs").wait_for()
    page.wait_for_timeout(2 * AWAY)  # whatever else was asked before has been answered by then
    assert page.get_by_role("heading", name="Run", exact=True).is_visible()
    assert page.get_by_role("heading", name="All runs").is_visible()


def test_where_one_touches_no_toolbar_lies_on_the_list_above_a_table(example: Server, browser: Browser) -> None:
    context = browser.new_context(viewport={"width": 400, "height": 800}, has_touch=True, is_mobile=True)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(f"{example.url}/compare")
    page.get_by_test_id("stDataFrame").first.scroll_into_view_if_needed()
    toolbars = page.get_by_test_id("stElementToolbar")
    toolbars.first.wait_for(state="attached")
    assert not [bar for bar in toolbars.all() if bar.is_visible()]
    context.close()


def choose_a_run(page: Page) -> None:
    """Take the first run of the list, and be far away from then on.

    A list that is open closes when the page below it moves, as it does while figures are drawn: then it is opened anew.
    """
    runs, first = page.get_by_role("combobox", name="Open a run"), page.get_by_role("option").first
    until = time.monotonic() + PATIENCE / SECOND
    while time.monotonic() < until and not runs.input_value():
        if first.is_visible():
            page.evaluate(f"window.away = {AWAY}")
            runs.press("Enter")
        else:
            runs.press("ArrowDown")  # opens the list
        page.wait_for_timeout(1_000)


@pytest.mark.slow
@pytest.mark.parametrize("page", [("light", 1280), ("dark", 400)], indirect=True, ids=["desk", "phone"])
def test_paired_differences_can_be_read_and_clicked(server: Callable[..., Server], page: Page, tmp_path: Path) -> None:
    synthetic.sweep(tmp_path / "runs", ("come", "shortgpt", "sleb"), (27, 24), measure=("ppl",))
    width = (page.viewport_size or {"width": 0})["width"]
    page.goto(f"{server().url}/compare")
    page.get_by_text(re.compile("^At 27 layers")).first.wait_for()
    figure = page.locator(".st-key-paired .js-plotly-plot")
    figure.locator(".main-svg").first.wait_for()
    labels = [each.bounding_box() for each in figure.locator(".annotation-text").all()]
    assert len(labels) == 6 and all(box and box["x"] >= 0 and box["x"] + box["width"] <= width for box in labels)
    for left, right in zip(labels[::2], labels[1::2], strict=True):
        assert left and right and left["x"] + left["width"] < right["x"]  # a name and its number do not meet
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator(".st-key-judged-at").get_by_text("24 layers").click()
    page.get_by_text(re.compile("^At 24 layers")).first.wait_for()
    click_figure(page, "paired", 0.0, 0)
    page.get_by_role("heading", name="Run", exact=True).wait_for()


@pytest.mark.slow
def test_a_sweep_is_cancelled_as_one(server: Callable[..., Server], page: Page, tmp_path: Path) -> None:
    made = synthetic.sweep(tmp_path / "runs", ("come", "shortgpt"), (27, 24), measure=("ppl",))
    for run in made[2:]:
        run.update(status="queued", finished=None, created=time.time(), **identity(os.getpid()))
    page.goto(f"{server().url}/run")
    page.get_by_text("2 of 4 done").wait_for()
    page.get_by_role("button", name="Cancel all").click()
    page.get_by_role("button", name="Resume 2").wait_for()
    assert [run.state().status for run in made] == ["done", "done", "cancelled", "cancelled"]
