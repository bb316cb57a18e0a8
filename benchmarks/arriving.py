"""How much a page jumps while a new browser loads it, and how soon it is there: against Streamlit's own document."""

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


def table() -> str:
    """Layout shift and seconds from the address to the heading, the body in sight, and all of it, by page and width."""
    theirs, ours = (_loads(script) for script in ("app/main.py", "app/serve.py"))
    rows = [(*where, theirs[where][0], *ours[where], theirs[where][-1]) for where in ours]
    heads = ("page", "pixels wide", "shift in Streamlit's document", "shift in ours", "heading after, s")
    return markdown((*heads, "body in sight, s", "all drawn, s", "all drawn in Streamlit's, s"), rows)


def _loads(script: str) -> dict[tuple[str, int], tuple[float, ...]]:
    with tempfile.TemporaryDirectory() as name, served(name, script) as (address, _), browser() as opened:
        _load(opened, f"{address}/inspect", WIDTHS[0])  # the server's first visit reads the model's example
        return {
            (page, width): _medians([_load(opened, f"{address}/{page}", width) for _ in range(ROUNDS)])
            for page in PAGES
            for width in WIDTHS
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
