"""What every answer of this server tells the browser: what may run in our pages, and who may show them in a frame."""

from __future__ import annotations

import base64
import hashlib
import logging
import os
import re

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.server import document
from come.errors import ComeError

FRAME_ANCESTORS = "COME_FRAME_ANCESTORS"  # "self" by default, "none", "*", or addresses with blanks between
METRICS = "COME_METRICS"  # 1: Streamlit's numbers about this server are there for whoever asks
_ADDRESS = re.compile(r"(https?://)?(\*\.)?[\w.-]+(:(\d+|\*))?", re.ASCII)
_ANSWERS = "websocket.http.response"  # the extension of ASGI by which a websocket is refused with headers
_STARTS = {"http.response.start", "websocket.accept", "websocket.http.response.start"}


class Headers:
    """ASGI middleware: adds the headers to each answer, a websocket's and an error's included."""

    def __init__(self, app: ASGIApp, headers: dict[str, str]) -> None:
        self._app = app
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, with the headers."""
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal begun
            if message["type"] == "websocket.close" and not begun and _ANSWERS in scope.get("extensions", {}):
                # A refusal by a bare 403 of the server's own would have none.
                begun = True
                reason = message.get("reason") or "Refused."
                return await PlainTextResponse(reason, 403)(scope, receive, send_with_headers)
            if message["type"] in _STARTS:
                begun = True
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        if scope["path"].rstrip("/").endswith("/_stcore/metrics") and os.environ.get(METRICS) != "1":
            return await PlainTextResponse("Not Found", 404)(scope, receive, send_with_headers)
        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            # Else it would be answered outside of this middleware, without the headers.
            logging.getLogger("come.app").exception("A request failed.")
            if begun or scope["type"] != "http":
                raise
            await PlainTextResponse("This is a fault of ours.", 500)(scope, receive, send_with_headers)


def headers() -> dict[str, str]:
    """The headers by name, as this process's environment wants them.

    Raises:
        ComeError: COME_FRAME_ANCESTORS is none of what it may be.
    """
    ancestors = _frame_ancestors(os.environ.get(FRAME_ANCESTORS, ""))
    policy = {
        "default-src": "'self'",
        # eval is left to scripts that are let in: Streamlit's Vega charts compile expressions, and so does what drives
        # a browser (Playwright's wait_for_function). A script that something wrote into the page does not get as far.
        "script-src": " ".join(["'self'", "'unsafe-eval'", *_hashes_of_inline_scripts()]),
        "style-src": "'self' 'unsafe-inline'",  # Streamlit writes its styles into the page
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "media-src": "'self' data: blob:",
        "connect-src": "'self'",
        "worker-src": "'self' blob:",
        "frame-src": "'self'",
        "object-src": "'none'",
        "base-uri": "'self'",
        "form-action": "'self'",
        "frame-ancestors": ancestors,
    }
    frame_options = {"'self'": {"X-Frame-Options": "SAMEORIGIN"}, "'none'": {"X-Frame-Options": "DENY"}}
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        **frame_options.get(ancestors, {}),  # it knows no addresses
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",  # a link's plan is no other site's to know
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
    }


def _hashes_of_inline_scripts() -> list[str]:
    """The scripts that stand in the documents themselves, Streamlit's and ours, as a policy names them."""
    documents = (document.text(), document.INDEX.read_text("utf-8"))
    scripts = {script for text in documents for script in re.findall(r"<script>(.*?)</script>", text, re.DOTALL)}
    digests = (hashlib.sha256(script.encode()).digest() for script in sorted(scripts))
    return [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]


def _frame_ancestors(wanted: str) -> str:
    """Who may show our pages in a frame, as a policy says it."""
    words = wanted.replace(",", " ").replace("'", "").split() or ["self"]
    if words in (["self"], ["none"]):
        return f"'{words[0]}'"
    if words != ["*"] and not all(_ADDRESS.fullmatch(word) for word in words):
        raise ComeError(
            f"{FRAME_ANCESTORS} is {wanted!r}: set it to self, none, *, or addresses like https://example.org."
        )
    return " ".join(words if words == ["*"] else ["'self'", *words])
