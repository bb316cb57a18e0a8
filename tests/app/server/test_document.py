"""The document that a browser loads first: Streamlit's own, with our styles and scripts in it."""

from __future__ import annotations

import re
from pathlib import Path

from starlette.applications import Starlette
from starlette.testclient import TestClient

from app import theme
from app.server import document

PAGES = [path.stem for path in (Path(__file__).parents[3] / "pages").glob("*.py")]


def test_every_page_begins_with_our_styles_and_scripts_and_runs_streamlit() -> None:
    client = TestClient(Starlette(routes=document.ROUTES))
    scripts = re.findall(r'src="[^"]+\.js"', document.INDEX.read_text("utf-8"))
    assert len(PAGES) == 10 and scripts
    for path in ("/", *(f"/{name}" for name in PAGES)):
        answer = client.get(path)
        assert answer.headers["content-type"].startswith("text/html") and answer.headers["cache-control"] == "no-cache"
        head = answer.text.partition("</head>")[0]
        assert theme.css() in head and document.STYLES in head
        assert all(script.read_text("utf-8") in head for script in document.SCRIPTS)
        assert "<title>CoMe Lab</title>" in answer.text and all(script in answer.text for script in scripts)
    assert client.get("/channels/x").status_code == client.get("/x").status_code == 404  # Streamlit's to answer
