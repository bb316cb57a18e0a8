"""How much a page jumps while a new browser loads it, and how soon it is there: against Streamlit's own document.

By its address, and chosen in the sidebar of a browser that has seen the home page alone.
"""

from __future__ import annotations

import statistics
import tempfile

from playwright.sync_api import Browser

from benchmarks.timing import markdown
from scripts.browser import browser
from scripts.serving import served

ROUNDS = 3
PAGES = ("home", "model", "channels", "layers", "plan", "run", "compare", "inspect", "playground", "learn")
WIDTHS = (1280, 400)
STILL = 2000  # milliseconds after all is drawn; what moves later is watched too
# Layout shift is what browsers call the jumps: each time, the share of the window that moved by how far it moved.
WATCH = """window.shift = 0;
new PerformanceObserver(list => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
}).observe({type: 'layout-shift', buffered: true});
const look = () => {
    const heading = document.querySelector('h1'), root = document.documentElement, time = performance.now();
    if (heading && getComputedStyle(heading).visibility === 'visible') window.heading ??= time;
    if (window.heading && !root.dataset.arriving) window.body ??= time;
    const figures = [...document.querySelectorAll('[data-testid=stPlotlyChart]')];
    const drawn = window.body && !document.querySelector('[data-testid=stSkeleton]')
        && document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'
        && figures.every(figure => figure.querySelector('.main-svg'));
    if (drawn) window.drawn ??= time;
    requestAnimationFrame(look);
};
requestAnimationFrame(look);"""
SHIFTS = "shift in Streamlit's document", "shift in ours"
Where = tuple[str, int]  # a page and pixels wide


def table() -> str:
    """Layout shift by page and width; of addresses also seconds to the heading, the body in sight, and all of it."""
    theirs, ours = (_measured(script) for script in ("app/main.py", "app/serve.py"))
    rows = [(*where, theirs[0][where][0], *ours[0][where], theirs[0][where][-1]) for where in ours[0]]
    heads = ("page", "pixels wide", *SHIFTS, "heading after, s")
    loads = markdown((*heads, "body in sight, s", "all drawn, s", "all drawn in Streamlit's, s"), rows)
    rows = [(*where, theirs[1][where], ours[1][where]) for where in ours[1]]
    return f"{loads}\n\n{markdown(('page chosen', 'pixels wide', *SHIFTS), rows)}"


def _measured(script: str) -> tuple[dict[Where, tuple[float, ...]], dict[Where, float]]:
    """Every page loaded by its address, and every one but the first chosen in the sidebar."""
    with tempfile.TemporaryDirectory() as name, served(name, script) as (address, _), browser() as opened:
        _load(opened, f"{address}/inspect", WIDTHS[0])  # the server's first visit reads the model's example
        places = [(page, width) for page in PAGES for width in WIDTHS]
        loads = {
            (page, width): _medians([_load(opened, f"{address}/{page}", width) for _ in range(ROUNDS)])
            for page, width in places
        }
        first, *_ = PAGES
        return loads, {
            (page, width): _choose(opened, f"{address}/{first}", page, width) for page, width in places if page != first
        }


def _medians(loads: list[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(statistics.median(each) for each in zip(*loads, strict=True))


def _load(opened: Browser, address: str, width: int) -> tuple[float, ...]:
    page = opened.new_page(viewport={"width": width, "height": 900})
    page.add_init_script(WATCH)
    page.goto(address)
    page.wait_for_function("window.drawn", timeout=60_000)
    page.wait_for_timeout(STILL)
    shift, heading, body, drawn = page.evaluate("[window.shift, window.heading, window.body, window.drawn]")
    page.close()
    return shift, heading / 1000, body / 1000, drawn / 1000


def _choose(opened: Browser, start: str, name: str, width: int) -> float:
    page = opened.new_page(viewport={"width": width, "height": 900})
    page.add_init_script(WATCH)
    page.goto(start)
    page.wait_for_function("window.drawn", timeout=60_000)
    opener = page.get_by_test_id("stExpandSidebarButton")
    if opener.is_visible():
        opener.click()
    page.wait_for_timeout(STILL)
    page.evaluate("window.shift = 0")
    page.get_by_test_id("stSidebarNav").get_by_role("link", name=name.capitalize(), exact=True).click()
    page.wait_for_timeout(2 * STILL)
    shift = float(page.evaluate("window.shift"))
    page.close()
    return shift
