"""The page as ``come app`` serves it: ``streamlit run app/serve.py``.

``app/main.py`` alone is the same without large downloads, and jumps while it loads.
"""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # streamlit puts app/ on the path, not the project
    sys.path.insert(0, str(ROOT))

from starlette.middleware import Middleware  # noqa: E402

from app import document, downloads  # noqa: E402
from app.held_back import HeldBack  # noqa: E402

downloads.served = True
app = st.App(ROOT / "app" / "main.py", routes=[*downloads.ROUTES, *document.ROUTES], middleware=[Middleware(HeldBack)])
