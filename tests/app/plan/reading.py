"""What tests read off the plan page."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest


def shown(at: AppTest) -> str:
    """All text of the page's own HTML."""
    return " ".join(element.proto.body for element in at.get("html"))


def chosen(at: AppTest, name: str) -> str:
    """A parameter of the URL."""
    values = [at.query_params[name]] if name in at.query_params else [""]
    return values[0] if isinstance(values[0], str) else values[0][0]
