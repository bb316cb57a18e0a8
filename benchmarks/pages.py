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
    ("channels", "raw values", "In order"),
    ("channels", "percentiles", "Percentile"),
    ("channels", "attention", "Attention"),
    ("layers", "angular distance", "Angle"),
    ("inspect", "keys and values", "Keys and values (KV)"),
)
SMALL = ("home", "model", "channels", "layers", "plan", "compare", "inspect")

# What the figures show: their words, and from where to where.
SHOWN = """[...document.querySelectorAll('.js-plotly-plot')].map(
    chart => chart.textContent + chart._fullLayout?.xaxis?.range).join('|')"""
# Resolves once all is drawn: (the heading that is left or "", what the figures said before or "") -> milliseconds until
# the last figure changed, and until all of the page was there.
DRAWN = """([left, before]) => new Promise((resolve, reject) => {
    let said = before, figures = 0;
    const words = () => SHOWN;
    const look = () => {
        const time = performance.now() - window.began, now = words();
        if (now !== said) [said, figures] = [now, time];
        const charts = [...document.querySelectorAll('[data-testid=stPlotlyChart]')];
        const done = document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'
            && (!left || (document.querySelector('h1')?.textContent ?? left) !== left)
            && !document.querySelector('[data-testid=stSkeleton], [data-stale=true]')
            && charts.every(chart => chart.querySelector('.main-svg'))
            && !document.documentElement.dataset.arriving
            && (!before || now !== before);
        if (done) resolve([figures, time]);
        else if (time > 60000) reject(new Error('not drawn within a minute'));
        else requestAnimationFrame(look);
    };
    look();
})""".replace("SHOWN", SHOWN)
CLICKED = "element => { window.began = performance.now(); element.click(); }"

COLUMNS = ("charts drawn after, s", "slowest, s", "all of the page, s", "sent, MiB")
Taken = tuple[float, float, int]  # seconds until the charts are drawn, and all of the page; bytes sent


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

    def switch(self, title: str) -> Taken:
        """Go to a page by the sidebar."""
        link = self.page.get_by_test_id("stSidebarNavLink").filter(has_text=title)
        return self._timed(lambda: link.evaluate(CLICKED), self.page.locator("h1").inner_text(), "")

    def ask(self, button: str) -> Taken:
        """Click a button of the page that changes its figures."""
        before = self.page.evaluate(SHOWN)
        found = self.page.locator(".stMain").get_by_role("radio", name=button, exact=True).first
        return self._timed(lambda: found.evaluate(CLICKED), "", before)

    def zoom(self) -> Taken:
        """Take the upper end of the range of channels down."""
        before = self.page.evaluate(SHOWN)
        handle = self.page.get_by_test_id("stSlider").last.get_by_role("slider").last

        def act() -> None:
            handle.focus()
            self.page.evaluate("window.began = performance.now()")
            self.page.keyboard.press("PageDown")

        return self._timed(act, "", before)

    def _timed(self, act: Callable[[], object], left: str, before: str) -> Taken:
        sent = self.received
        act()
        figures, drawn = self.page.evaluate(DRAWN, [left, before])
        return figures / 1000, drawn / 1000, self.received - sent


def table() -> str:
    """LLaMA-2-7B's size, figure by figure; then page switches on the bundled model's shipped example."""
    with tempfile.TemporaryDirectory() as name:
        model, pruned = made_up.lab(Path(name))
        with served(Path(name) / "runs") as (address, _), browser() as opened:
            large = _large(opened, address, str(model), pruned.id)
    with tempfile.TemporaryDirectory() as name, served(name) as (address, _), browser() as opened:
        small = _switches(_visitor(opened), address)
    return f"{large}\n\n{small}"


def _large(opened: Browser, address: str, model: str, run: str) -> str:
    of = f"?model={model}&run={run}"
    visitor = _visitor(opened)

    def several(where: str, ask: Callable[[Visitor], Taken], *, anew: bool = False) -> tuple[float, ...]:
        found = []
        for _ in range(ROUNDS):
            who = _visitor(opened) if anew else visitor
            who.open(f"{address}/{where}{of}")
            found.append(ask(who))
            if anew:
                who.page.context.close()
        return _medians(found)

    rows = []
    for title in ("Channels", "Layers", "Inspect"):
        for words, anew in (("the page, a browser's first visit", True), ("the page", False)):
            rows.append((title.lower(), words, *several("home", lambda who: who.switch(title), anew=anew)))  # noqa: B023
    for page, words, button in ASKED:
        rows.append((page, words, *several(page, lambda who: who.ask(button))))  # noqa: B023 - called at once
    rows.append(("channels", "a narrower range: bins anew", *several("channels", Visitor.zoom)))
    return markdown(("page", "asked for", *COLUMNS), rows)


def _switches(visitor: Visitor, address: str) -> str:
    visitor.open(f"{address}/home")
    times: dict[str, list[Taken]] = {page: [] for page in SMALL}
    for number in range(ROUNDS + 1):
        for page in (*SMALL[1:], SMALL[0]):
            found = visitor.switch(page.capitalize())
            if number:  # the first round fetches the browser's own scripts
                times[page].append(found)
    rows = [(page, *_medians(found)) for page, found in times.items()]
    return markdown(("switch to", *COLUMNS), rows)


def _medians(found: list[Taken]) -> tuple[float, ...]:
    figures, drawn, sent = zip(*found, strict=True)
    return statistics.median(figures), max(figures), statistics.median(drawn), statistics.median(sent) / MIB


def _visitor(opened: Browser) -> Visitor:
    visitor = Visitor(opened.new_page(viewport={"width": 1280, "height": 900}))

    def count(payload: str | bytes) -> None:
        visitor.received += len(payload)

    visitor.page.on("websocket", lambda socket: socket.on("framereceived", count))
    visitor.page.set_default_timeout(60_000)
    return visitor
