"""The document that a browser loads first: Streamlit's own, with our styles and scripts in it.

By itself it is drawn in Streamlit's measures and without the sidebar, its widgets grow as they come, and in a narrow
window the sidebar stays over the page that was chosen in it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import streamlit as st
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from app import theme

PAGES = Path(__file__).resolve().parents[2] / "pages"
SCRIPTS = tuple(
    Path(__file__).parents[1] / "static" / name
    for name in (
        "first_paint.js",
        "history.js",
        "close_sidebar.js",
        "copy_picture.js",
        "drag_zoom.js",
        "begin_download.js",
    )
)
INDEX = Path(st.__file__).parent / "static" / "index.html"
# The sidebar's place, as wide as Streamlit draws it in a window that is wide enough for it to stay open; and while
# first_paint.js says that the page is arriving, of its body at most the strip and the heading, which stay in place.
STYLES = """<style>
@media (min-width: 769px) { .stAppViewContainer:not(:has(.stSidebar)) { padding-left: 281.25px; } }
.stAppViewContainer { box-sizing: border-box; }
[data-arriving] :is([data-testid="stMainBlockContainer"] *, [data-testid="stSidebarUserContent"]) {
  visibility: hidden !important;
}
[data-arriving] :is([data-testid="stAppSkeleton"], [data-testid="stAppSkeleton"] *) { visibility: visible !important; }
[data-arriving="body"] :is(.come-strip, .come-strip *, h1, h1 *) { visibility: visible !important; }
</style>"""


def document(request: Request) -> HTMLResponse:
    """What a browser loads first, at any page's address."""
    return HTMLResponse(text(), headers={"Cache-Control": "no-cache"})


@cache
def text() -> str:
    """That document."""
    index = INDEX.read_text("utf-8").replace("<title>Streamlit</title>", "<title>CoMe Lab</title>")
    scripts = "".join(f"<script>\n{script.read_text('utf-8')}</script>" for script in SCRIPTS)
    return index.replace("</head>", f"{theme.css()}{STYLES}{scripts}</head>", 1)


ROUTES = [Route(path, document) for path in ("/", *(f"/{page.stem}" for page in sorted(PAGES.glob("*.py"))))]
