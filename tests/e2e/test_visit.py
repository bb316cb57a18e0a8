"""The whole visit in a real browser: load, look, plan, run, reload, compare; and every page opened first."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlparse

import pytest

from come import runs
from come.runs import Run
from tests.e2e.conftest import PATIENCE, SECOND, Server, click_figure, in_every_look

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

PAGES = ("home", "model", "channels", "layers", "plan", "run", "compare", "inspect", "playground", "learn")
# Where the page's words begin, in every frame.
WATCH_THE_MARGIN = """
window.margins = [];
const look = () => {
  const main = document.querySelector(".stMain");
  if (main) window.margins.push(main.getBoundingClientRect().x);
  requestAnimationFrame(look);
};
look();
"""


@pytest.fixture
def serving(server: Callable[..., Server]) -> Iterator[Server]:
    """A server, whose log is shown if the test fails."""
    started = server()
    yield started
    print(started.log.read_text(errors="replace")[-4000:])


@in_every_look
def test_a_visit(serving: Server, page: Page, tiny_choice: dict[str, str]) -> None:
    visit(serving, page, tiny_choice, layers=6, target=4, evaluation_tokens=512, patience=PATIENCE)


@pytest.mark.slow
def test_a_visit_on_the_bundled_model(serving: Server, page: Page) -> None:
    choice = {"model": "smollm2-135m", "text": "python-docs", "tokens": "1024"}
    visit(serving, page, choice, layers=30, target=27, evaluation_tokens=1024, patience=780 * SECOND)


def visit(
    serving: Server,
    page: Page,
    choice: dict[str, str],
    *,
    layers: int,
    target: int,
    evaluation_tokens: int,
    patience: float,
) -> None:
    """Everything that a first visitor does; the numbers on the page are held against the files of the runs."""
    from playwright.sync_api import expect

    # Load and measure. The progress is there from the start.
    go(page, serving, "model", choice | {"windows": ""})  # by hand, none yet
    page.get_by_role("button", name="Prepare and analyse").click()
    page.get_by_role("progressbar").first.wait_for()
    page.get_by_text("Analysed over").wait_for(timeout=patience)

    # Look: both heatmaps; a click on a cell opens it.
    follow(page, "Channels")
    plotted(page, "channel-map")
    page.get_by_role("radio", name="Attention").click()
    plotted(page, "head-map")
    follow(page, "Layers")
    plotted(page, "similarity-map")
    field = page.get_by_label("First layer", exact=True)
    pair = (0, 1) if field.input_value() != "0" else (2, 3)
    click_figure(page, "similarity-map", x=pair[1], y=pair[0])
    expect(field).to_have_value(str(pair[0]))
    expect(page.get_by_label("Last layer", exact=True)).to_have_value(str(pair[1]))
    page.get_by_role("button", name="Add to plan").click()
    page.get_by_text(f"{layers} → {layers - 1} layers").wait_for()

    # Plan: what was clicked is there, then a target instead.
    follow(page, "Plan")
    plotted(page, "strips")
    page.get_by_text("2 layers become 1").wait_for()
    go(page, serving, "plan", choice | {"target": str(target)})
    page.get_by_text(f"{layers} → {target} layers").wait_for()
    page.get_by_role("button", name="Go to run").click()

    # Run three methods; reload while they are at work: the same run is still shown.
    page.get_by_text("More settings").click()
    page.get_by_label("Evaluation tokens", exact=True).fill(str(evaluation_tokens))
    page.get_by_label("Evaluation tokens", exact=True).press("Enter")
    page.get_by_role("button", name="Start 3 runs").click()
    page.wait_for_url(re.compile(r"[?&]run="))
    opened = parse_qs(urlparse(page.url).query)["run"][0]
    page.get_by_role("progressbar").first.wait_for()
    page.reload()
    page.get_by_role("heading", name=re.compile(f"^CoMe on .*, to {target} layers")).wait_for()
    assert parse_qs(urlparse(page.url).query)["run"] == [opened]
    page.get_by_text(f"{layers} layers became {target}").wait_for(timeout=patience)
    made = [run for run in runs.list_runs(serving.runs) if run.config.kind == "compress"]
    assert {run.config.method for run in made} == {"come", "shortgpt", "come-joint"}
    ended(page, made, patience)
    page.get_by_text("3 of 3 done").wait_for()
    unharmed(page)

    # Compare: the verdict holds the numbers of the runs, and they are plotted.
    assert {run.state().status for run in made} == {"done"}
    follow(page, "Compare")
    plotted(page, "paired")
    verdict = page.get_by_text(re.compile(f"^At {target} layers")).first.inner_text()
    best = min(run.results()["pruned"]["perplexity"] for run in made)
    assert f"perplexity {shortly(best)}" in verdict
    original = page.get_by_text(re.compile("^The original has perplexity")).inner_text()
    assert shortly(made[0].results()["original"]["perplexity"]) in original
    assert page.locator(".st-key-perplexity .js-plotly-plot").count() == 0, "of one size one chart says all"
    told = page.locator(".st-key-paired .annotation-text").all_text_contents()
    assert all(any(name in each for each in told) for name in ("CoMe", "ShortGPT", "CoMe-Joint")), told


@pytest.mark.slow
def test_every_page_opened_first_and_in_any_order(serving: Server, page: Page, tiny_choice: dict[str, str]) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for name in PAGES:
        go(page, serving, name, {})
        go(page, serving, name, tiny_choice)
    for first, second in itertools.permutations(("Model", "Layers", "Plan", "Compare"), 2):
        follow(page, first)
        follow(page, second)
    page.goto(serving.url)
    page.get_by_role("heading", level=1).first.wait_for()
    unharmed(page)
    assert [url for url in asked if not url.startswith((serving.url, "data:", "blob:"))] == []  # no network is needed


def test_bad_links_are_one_sentence(serving: Server, page: Page, tiny_choice: dict[str, str]) -> None:
    go(page, serving, "plan", tiny_choice | {"windows": "1-2,2-3"})
    page.get_by_test_id("stAlert").get_by_text("overlap").wait_for()
    go(page, serving, "model", {"model": "/no/such/folder"})
    page.get_by_test_id("stAlert").first.wait_for()


# --- small steps -------------------------------------------------------------------------------------


def go(page: Page, serving: Server, name: str, params: dict[str, str]) -> None:
    """Open a page by its address, as the first of a visit."""
    page.goto(f"{serving.url}/{name}?{urlencode(params)}")
    page.get_by_role("heading", level=1).first.wait_for()
    unharmed(page)


def follow(page: Page, title: str) -> None:
    """Click a page's name in the navigation, which a narrow window hides until asked, and again after the choice."""
    opener = page.get_by_test_id("stExpandSidebarButton")
    hidden = opener.is_visible()
    if hidden:
        opener.click()
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=title, exact=True).click()
    page.wait_for_url(re.compile(rf"/{title.lower()}(\?|$)"))
    page.get_by_role("heading", level=1).first.wait_for()
    if hidden:
        opener.wait_for()
    unharmed(page)


def ended(page: Page, made: list[Run], patience: float) -> None:
    """Wait until no run is at work, by their files: the page's list of them may be between two drawings."""
    until = time.monotonic() + patience / SECOND
    while any(run.state().active for run in made) and time.monotonic() < until:
        page.wait_for_timeout(500)


def unharmed(page: Page) -> None:
    """Nothing failed: neither Streamlit's box of an exception nor our sentence for a fault."""
    page.wait_for_function("document.querySelector('[data-testid=stApp]').dataset.testScriptState !== 'initial'")
    page.wait_for_timeout(300)
    assert page.get_by_test_id("stException").count() == 0
    assert page.get_by_text("met a fault of ours").count() == 0


def plotted(page: Page, key: str) -> None:
    """Wait until the figure of that key is drawn."""
    page.locator(f".st-key-{key} .js-plotly-plot .main-svg").first.wait_for()


def shortly(perplexity: float) -> str:
    """A perplexity as the verdict writes it."""
    return f"{perplexity:.1f}" if perplexity < 100 else f"{perplexity:,.0f}"


def test_the_page_does_not_move_when_the_sidebar_comes(serving: Server, page: Page) -> None:
    page.add_init_script(WATCH_THE_MARGIN)
    page.goto(f"{serving.url}/model")
    page.get_by_test_id("stSidebarNavLink").first.wait_for()
    page.wait_for_timeout(SECOND)
    margins = page.evaluate("window.margins")
    assert len(set(margins)) == 1 and margins[0] > 200
