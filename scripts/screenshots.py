"""Takes the README's pictures anew, or one of every page in every look (needs Chromium).

``python -m scripts.screenshots`` takes the README's; ``python -m scripts.screenshots FOLDER`` takes all pages, light,
dark, on a phone and as presented, whole pages, into that folder.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page

from scripts.browser import browser
from scripts.serving import served

SHOTS = (("plan", "light", 1190), ("channels", "dark", 960), ("compare", "light", 1120))  # page, scheme, height
PAGES = ("home", "model", "channels", "layers", "plan", "run", "compare", "inspect", "playground", "learn")
LOOKS: dict[str, tuple[str, int, str]] = {  # scheme, width, what the address says
    "light": ("light", 1280, ""),
    "dark": ("dark", 1280, ""),
    "phone": ("dark", 400, ""),
    "presented": ("light", 1280, "?present=1"),
}


def main(folder: str | None = None) -> None:
    """Serve the page with nothing but the shipped example, and look at it."""
    with tempfile.TemporaryDirectory() as nothing, served(nothing) as (address, _), browser() as opened:
        if folder is None:
            for page, scheme, height in SHOTS:
                look = opened.new_page(viewport={"width": 1360, "height": height}, color_scheme=scheme)
                look.goto(f"{address}/{page}")
                look.locator(".js-plotly-plot").last.wait_for(timeout=60_000)
                look.wait_for_timeout(3000)  # figures settle into their width
                look.screenshot(path=f"docs/images/{page}-{scheme}.png")
            return
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, (scheme, width, query) in LOOKS.items():
            _every_page(opened, address, Path(folder), name, scheme, width, query)


def _every_page(opened: Browser, address: str, folder: Path, name: str, scheme: str, width: int, query: str) -> None:
    """One picture of each page in one look, as long as the page is."""
    look = opened.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    for page in PAGES:
        look.goto(f"{address}/{page}{query}")
        look.locator(".stMain h1").first.wait_for(timeout=120_000)
        _settle(look)
        height = look.evaluate("document.querySelector('.stMain').scrollHeight")
        look.set_viewport_size({"width": width, "height": max(800, min(int(height), 12_000))})
        _settle(look)
        look.screenshot(path=folder / f"{page}-{name}.png")
        look.set_viewport_size({"width": width, "height": 800})
    look.close()


def _settle(look: Page) -> None:
    """Wait until nothing runs and charts have their width."""
    look.locator("[data-testid='stApp'][data-test-script-state='notRunning']").wait_for(timeout=120_000)
    look.wait_for_timeout(1500)


if __name__ == "__main__":
    main(*sys.argv[1:2])
