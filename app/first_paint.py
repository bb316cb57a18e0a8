"""The page's document with our styles in it, so that little moves when the script's first words arrive.

Streamlit's own document is drawn in Streamlit's measures and without the sidebar; ours come half a second later.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import streamlit as st
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from app import theme

PAGES = Path(__file__).resolve().parent.parent / "pages"
INDEX = Path(st.__file__).parent / "static" / "index.html"
# The sidebar's place, as wide as Streamlit draws it in a window that is wide enough for it to stay open.
SIDEBAR = """<style>
@media (min-width: 769px) { .stAppViewContainer:not(:has(.stSidebar)) { padding-left: 281.25px; } }
.stAppViewContainer { box-sizing: border-box; }
</style>"""


def document(request: Request) -> HTMLResponse:
    """What a browser loads first, at any page's address."""
    return HTMLResponse(_document(), headers={"Cache-Control": "no-cache"})


@cache
def _document() -> str:
    index = INDEX.read_text("utf-8").replace("<title>Streamlit</title>", "<title>CoMe Lab</title>")
    return index.replace("</head>", f"{theme.css()}{SIDEBAR}</head>", 1)


ROUTES = [Route(path, document) for path in ("/", *(f"/{page.stem}" for page in sorted(PAGES.glob("*.py"))))]
