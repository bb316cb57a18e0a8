"""Where this server's own addresses begin."""

from __future__ import annotations

import streamlit as st


def base_path() -> str:
    """What stands before each path where the page is served below another: "" or "/lab"."""
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{base}" if base else ""
