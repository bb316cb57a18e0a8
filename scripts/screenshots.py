"""Takes the README's screenshots anew: .venv/bin/python -m scripts.screenshots (needs Chromium)."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from urllib.request import urlopen

from scripts.browser import browser

PORT = 8697
SHOTS = (("plan", "light", 1190), ("channels", "dark", 960), ("compare", "light", 1120))  # page, scheme, height


def main() -> None:
    """Serve the page with nothing but the shipped example, and look at it."""
    with tempfile.TemporaryDirectory() as nothing:
        command = [sys.executable, "-m", "streamlit", "run", "app/main.py", "--server.port", str(PORT)]
        server = subprocess.Popen(command, env={**os.environ, "COME_RUNS": nothing}, stdout=subprocess.DEVNULL)
        try:
            _wait()
            with browser() as opened:
                for page, scheme, height in SHOTS:
                    look = opened.new_page(viewport={"width": 1360, "height": height}, color_scheme=scheme)
                    look.goto(f"http://localhost:{PORT}/{page}")
                    look.locator(".js-plotly-plot").last.wait_for(timeout=60_000)
                    look.wait_for_timeout(3000)  # figures settle into their width
                    look.screenshot(path=f"docs/images/{page}-{scheme}.png")
        finally:
            server.terminate()


def _wait() -> None:
    for _ in range(120):
        with suppress(OSError), urlopen(f"http://localhost:{PORT}/_stcore/health", timeout=1):
            return
        time.sleep(0.5)


if __name__ == "__main__":
    main()
