"""How soon the page shows what was asked for, and how much it sends: seconds in Chromium, bytes of the WebSocket."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page

from benchmarks import made_up
from benchmarks.timing import markdown
from scripts.browser import browser
from scripts.serving import served

ROUNDS = 5
MIB = 2**20
# Page, and what is asked for there: words for the table, the name of a button.
ASKED = (
    ("channels", "raw values", "Raw"),
    ("channels", "every channel of a layer sorted", "Sorted"),
    ("channels", "attention", "Attention"),
    ("layers", "angular distance", "Angular"),
    ("layers", "BI and SBI on a log scale", "log"),
    ("inspect", "the KV groups", "KV groups"),
)
SMALL = ("home", "model", "channels", "layers", "plan", "compare", "inspect")

# Resolves once all is drawn: (page's heading or "", what the figures said before or "") -> milliseconds since `began`.
DRAWN = """([heading, before]) => new Promise(resolve => {
    const words = () => [...document.querySelectorAll('.js-plotly-plot')].map(chart => chart.textContent).join('|');
    const look = () => {
        const charts = [...document.querySelectorAll('[data-testid=stPlotlyChart]')];
        const done = document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'
            && (!heading || document.querySelector('h1')?.textContent === heading)
            && !document.querySelector('[data-testid=stSkeleton], [data-stale=true]')
            && charts.every(chart => chart.querySelector('.main-svg'))
            && (!before || words() !== before);
        done ? resolve(performance.now() - window.began) : requestAnimationFrame(look);
    };
    look();
})"""
WORDS = "[...document.querySelectorAll('.js-plotly-plot')].map(chart => chart.textContent).join('|')"
CLICKED = "element => { window.began = performance.now(); element.click(); }"


@dataclass
class Visitor:
    """A browser's tab, and how many bytes the server has sent it."""

    page: Page
    received: int = 0

    def open(self, address: str) -> None:
        """Go to a page by its address and wait until it is drawn."""
        self.page.goto(address)
        self.page.locator("h1").wait_for()
        self.page.evaluate("window.began = 0")
        self.page.evaluate(DRAWN, ["", ""])

    def switch(self, title: str) -> tuple[float, int]:
        """Go to a page by the sidebar; seconds until all of it is drawn, and bytes."""
        link = self.page.get_by_test_id("stSidebarNavLink").filter(has_text=title)
        return self._timed(lambda: link.evaluate(CLICKED), title, "")

    def ask(self, button: str) -> tuple[float, int]:
        """Click a button of the page; seconds until the figures that it changes are drawn, and bytes."""
        before = self.page.evaluate(WORDS)
        found = self.page.locator(".stMain").get_by_role("radio", name=button, exact=True).first
        return self._timed(lambda: found.evaluate(CLICKED), "", before)

    def zoom(self) -> tuple[float, int]:
        """Take the upper end of the range of channels far down; seconds until that is drawn, and bytes."""
        before = self.page.evaluate(WORDS)
        handle = self.page.locator("[data-testid=stSlider] [role=slider]").last

        def act() -> None:
            handle.focus()
            self.page.evaluate("window.began = performance.now()")
            self.page.keyboard.press("Home")

        return self._timed(act, "", before)

    def _timed(self, act: Callable[[], object], heading: str, before: str) -> tuple[float, int]:
        sent = self.received
        act()
        milliseconds = self.page.evaluate(DRAWN, [heading, before])
        return milliseconds / 1000, self.received - sent


def table() -> str:
    """LLaMA-2-7B's size, figure by figure; then page switches on the bundled model's shipped example."""
    with tempfile.TemporaryDirectory() as name:
        model, pruned = made_up.lab(Path(name))
        with served(Path(name) / "runs") as (address, _), browser() as opened:
            large = _large(_visitor(opened), address, str(model), pruned.id)
    with tempfile.TemporaryDirectory() as name, served(name) as (address, _), browser() as opened:
        small = _switches(_visitor(opened), address)
    return f"{large}\n\n{small}"


def _large(visitor: Visitor, address: str, model: str, run: str) -> str:
    def several(where: str, ask: Callable[[], tuple[float, int]]) -> tuple[float, float, float]:
        found = []
        for _ in range(ROUNDS):
            visitor.open(f"{address}/{where}")
            found.append(ask())
        return _medians(found)

    of = f"?model={model}&run={run}"
    rows = [
        (title.lower(), "the page", *several(f"home{of}", lambda: visitor.switch(title)))  # noqa: B023 - called at once
        for title in ("Channels", "Layers", "Inspect")
    ]
    for page, words, button in ASKED:
        rows.append((page, words, *several(f"{page}{of}", lambda: visitor.ask(button))))  # noqa: B023
    rows.append(("channels", "a narrower range: bins anew", *several(f"channels{of}", visitor.zoom)))
    return markdown(("page", "asked for", "drawn after, s", "slowest, s", "sent, MiB"), rows)


def _switches(visitor: Visitor, address: str) -> str:
    visitor.open(f"{address}/home")
    times: dict[str, list[tuple[float, int]]] = {page: [] for page in SMALL}
    for number in range(ROUNDS + 1):
        for page in (*SMALL[1:], SMALL[0]):
            found = visitor.switch(page.capitalize() if page != "home" else "Home")
            if number:  # the first round fetches the browser's own scripts
                times[page].append(found)
    rows = [(page, *_medians(found)) for page, found in times.items()]
    return markdown(("switch to", "drawn after, s", "slowest, s", "sent, MiB"), rows)


def _medians(found: list[tuple[float, int]]) -> tuple[float, float, float]:
    seconds = [each for each, _ in found]
    return statistics.median(seconds), max(seconds), statistics.median(sent for _, sent in found) / MIB


def _visitor(opened: Browser) -> Visitor:
    visitor = Visitor(opened.new_page(viewport={"width": 1280, "height": 900}))

    def count(payload: str | bytes) -> None:
        visitor.received += len(payload)

    visitor.page.on("websocket", lambda socket: socket.on("framereceived", count))
    visitor.page.set_default_timeout(60_000)
    return visitor
