"""Takes the README's screenshots anew: .venv/bin/python -m scripts.screenshots (needs Chromium)."""

from __future__ import annotations

import tempfile

from scripts.browser import browser
from scripts.serving import served

SHOTS = (("plan", "light", 1190), ("channels", "dark", 960), ("compare", "light", 1120))  # page, scheme, height


def main() -> None:
    """Serve the page with nothing but the shipped example, and look at it."""
    with tempfile.TemporaryDirectory() as nothing, served(nothing) as (address, _), browser() as opened:
        for page, scheme, height in SHOTS:
            look = opened.new_page(viewport={"width": 1360, "height": height}, color_scheme=scheme)
            look.goto(f"{address}/{page}")
            look.locator(".js-plotly-plot").last.wait_for(timeout=60_000)
            look.wait_for_timeout(3000)  # figures settle into their width
            look.screenshot(path=f"docs/images/{page}-{scheme}.png")


if __name__ == "__main__":
    main()
