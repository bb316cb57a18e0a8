"""The page as ``come app`` serves it: ``streamlit run app/serve.py``.

``app/main.py`` alone is the same without large downloads and without protection, and jumps while it loads.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # streamlit puts app/ on the path, not the project
    sys.path.insert(0, str(ROOT))

from app.server import document, downloads, headers, hosts, sign_in  # noqa: E402
from app.server.held_back import HeldBack  # noqa: E402
from come import logs  # noqa: E402
from come.errors import ComeError  # noqa: E402
from come.serving.limits import is_demo  # noqa: E402

SECONDS_BETWEEN_COLLECTIONS = 30


@asynccontextmanager
async def served(app: st.App) -> AsyncIterator[None]:
    """All that goes on while the page is served."""
    collecting = asyncio.create_task(collect())
    async with logged(app):
        yield
    collecting.cancel()
    with suppress(asyncio.CancelledError):
        await collecting


async def collect() -> None:
    """Let go, now and then, of what refers to itself: charts do. Everybody waits meanwhile, a fraction of a second.

    What stays for ever, as modules do, is set apart when more of it was loaded, and not looked through again.
    """
    modules = 0
    while True:
        await asyncio.sleep(SECONDS_BETWEEN_COLLECTIONS)
        gc.collect()
        if len(sys.modules) > modules:
            modules = len(sys.modules)
            gc.freeze()


@asynccontextmanager
async def logged(_: st.App) -> AsyncIterator[None]:
    """The server's log, from when it is ready until it ends."""
    logs.write_to("server", ["come"])
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in ("streamlit", "uvicorn")]
    # Not what they tell of each request: a link holds what its visitor chose and typed.
    apart = [name for name in names if name != "uvicorn.access" and not logging.getLogger(name).propagate]
    logs.write_to("server", apart, logging.WARNING)
    # uvicorn says this of each websocket that is refused with an answer, as it should be.
    refused = "ASGI callable returned without completing handshake."
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.msg != refused)
    address, port = st.get_option("server.address"), st.get_option("server.port")
    facts = {"address": address, "port": port, "demo": is_demo(), "versions": logs.versions()}
    logs.note("come.server", "The page is served.", **facts)
    yield
    logs.note("come.server", "The page has ended.")


downloads.served = True
try:  # what cannot be, such as a password that is none, is said here, before anything is served
    MIDDLEWARE = [  # the first is the outermost
        Middleware(headers.Headers, headers.headers()),
        Middleware(hosts.OwnHosts),
        Middleware(sign_in.SignIn, sign_in.door()),
        Middleware(HeldBack),
    ]
except ComeError as error:
    sys.stderr.write(f"{error}\n")
    raise SystemExit(2) from None
ROUTES = [*downloads.ROUTES, *document.ROUTES]
app = st.App(ROOT / "app" / "main.py", routes=ROUTES, middleware=MIDDLEWARE, lifespan=served)
