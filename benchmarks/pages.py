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

# What the figures show: their words, and from where to where.
SHOWN = """[...document.querySelectorAll('.js-plotly-plot')].map(
    chart => chart.textContent + chart._fullLayout?.xaxis?.range).join('|')"""
# Resolves once all is drawn: (the heading that is left or "", what the figures said before or "") -> milliseconds.
DRAWN = """([left, before]) => new Promise((resolve, reject) => {
    const words = () => SHOWN;
    const look = () => {
        const charts = [...document.querySelectorAll('[data-testid=stPlotlyChart]')];
        const done = document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'
            && (!left || (document.querySelector('h1')?.textContent ?? left) !== left)
            && !document.querySelector('[data-testid=stSkeleton], [data-stale=true]')
            && charts.every(chart => chart.querySelector('.main-svg'))
            && (!before || words() !== before);
        if (done) resolve(performance.now() - window.began);
        else if (performance.now() - window.began > 60000) reject(new Error('not drawn within a minute'));
        else requestAnimationFrame(look);
    };
    look();
})""".replace("SHOWN", SHOWN)
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
        self.page.evaluate("window.began = performance.now()")
        self.page.evaluate(DRAWN, ["", ""])

    def switch(self, title: str) -> tuple[float, int]:
        """Go to a page by the sidebar; seconds until all of it is drawn, and bytes."""
        link = self.page.get_by_test_id("stSidebarNavLink").filter(has_text=title)
        return self._timed(lambda: link.evaluate(CLICKED), self.page.locator("h1").inner_text(), "")

    def ask(self, button: str) -> tuple[float, int]:
        """Click a button of the page; seconds until the figures that it changes are drawn, and bytes."""
        before = self.page.evaluate(SHOWN)
        found = self.page.locator(".stMain").get_by_role("radio", name=button, exact=True).first
        return self._timed(lambda: found.evaluate(CLICKED), "", before)

    def zoom(self) -> tuple[float, int]:
        """Take the upper end of the range of channels down; seconds until that is drawn, and bytes."""
        before = self.page.evaluate(SHOWN)
        handle = self.page.get_by_test_id("stSlider").last.get_by_role("slider").last

        def act() -> None:
            handle.focus()
            self.page.evaluate("window.began = performance.now()")
            self.page.keyboard.press("PageDown")

        return self._timed(act, "", before)

    def _timed(self, act: Callable[[], object], left: str, before: str) -> tuple[float, int]:
        sent = self.received
        act()
        milliseconds = self.page.evaluate(DRAWN, [left, before])
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
            found = visitor.switch(page.capitalize())
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
