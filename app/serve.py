"""The page as ``come app`` serves it: ``streamlit run app/serve.py``.

``app/main.py`` alone is the same without large downloads and without protection, and jumps while it loads.
"""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # streamlit puts app/ on the path, not the project
    sys.path.insert(0, str(ROOT))

from app import document, downloads, headers, hosts, sign_in  # noqa: E402
from app.held_back import HeldBack  # noqa: E402

downloads.served = True
# What cannot be, such as a password that is none, is said here, before anything is served.
MIDDLEWARE = [  # the first is the outermost
    Middleware(headers.Headers, headers.headers()),
    Middleware(hosts.OwnHosts),
    Middleware(sign_in.SignIn, sign_in.door()),
    Middleware(HeldBack),
]
app = st.App(ROOT / "app" / "main.py", routes=[*downloads.ROUTES, *document.ROUTES], middleware=MIDDLEWARE)
