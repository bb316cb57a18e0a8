"""What one visitor could fill the server's memory with, by requests alone: files and connections, each bounded here.

Streamlit keeps every file that is put to it until its visitor's tab is closed, whether or not a page asked for one.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from contextlib import suppress
from ipaddress import ip_address

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit.runtime import exists, get_instance
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.uploaded_file_manager import UploadedFile

from come.serving import limits

FILES_HELD = 2  # of one visitor: the newest, and the one before it while a page still reads that
UPLOADS_AT_ONCE = 4
_FRAME = 1 << 14  # bytes that a form adds to the file in it
_UPLOAD = re.compile(r"/_stcore/upload_file/([^/]+)/[^/]+$")


class HeldBack:
    """Passes on what is within bounds (ASGI middleware)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._uploads = 0
        self._visitors: Counter[str] = Counter()  # by address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] == "websocket":
            await self._connected(scope, receive, send)
        elif scope["type"] == "http" and scope["method"] == "PUT" and (found := _UPLOAD.search(scope["path"])):
            await self._uploaded(found[1], scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _connected(self, scope: Scope, receive: Receive, send: Send) -> None:
        most, most_each = limits.current().visitors, limits.current().visitors_each
        address = address_of(scope)
        total, of_it = self._visitors.total(), self._visitors[address]
        if (most is not None and total >= most) or (most_each is not None and of_it >= most_each):
            await receive()
            await send({"type": "websocket.close", "code": 1013, "reason": "Too many visitors."})
            return
        self._visitors[address] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._visitors[address] -= 1
            self._visitors += Counter()  # forgets addresses that nobody is left of

    async def _uploaded(self, session: str, scope: Scope, receive: Receive, send: Send) -> None:
        told = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
        most = limits.current().upload_bytes
        if told.isdigit() and int(told[:20]) > most + _FRAME:
            await PlainTextResponse("The file is too large.", 413)(scope, receive, send)
        elif self._uploads >= UPLOADS_AT_ONCE:
            await PlainTextResponse("Others are sending files.", 503, {"Retry-After": "2"})(scope, receive, send)
        else:
            self._uploads += 1
            try:
                drop_files(session, FILES_HELD - 1)
                await self._app(scope, receive, send)
            finally:
                self._uploads -= 1
                drop_files(session, FILES_HELD)


def address_of(scope: Scope) -> str:
    """Where a request comes from: what a proxy beside this server says, else its own address."""
    address = str((scope.get("client") or ("",))[0])
    told = next((value for name, value in reversed(scope["headers"]) if name == b"x-forwarded-for"), b"")
    return told_by_proxy(address, told.decode("latin-1"))


def told_by_proxy(address: str, forwarded: str) -> str:
    """The address that a known proxy has seen (of X-Forwarded-For, the last), else the one given.

    Known are one on this machine, and those of FORWARDED_ALLOW_IPS, as uvicorn has them; others may say what they like.
    """
    known = os.environ.get("FORWARDED_ALLOW_IPS", "").replace(",", " ").split()
    with suppress(ValueError):
        if forwarded and (not address or address in known or "*" in known or ip_address(address).is_loopback):
            return forwarded.rpartition(",")[2].strip()[:64]
    return address


def drop_files(session: str, keep: int) -> None:
    """Let go of all files of a visitor's but the newest."""
    if not exists():
        return
    manager = get_instance().uploaded_file_mgr
    if isinstance(manager, MemoryUploadedFileManager):
        held = list(manager.file_storage.get(session) or ())
        for file in held[: max(len(held) - keep, 0)]:
            manager.remove_file(session, file)


def forget(file: UploadedFile) -> None:
    """Let go of a file that a page has read."""
    context = get_script_run_ctx()
    if context is not None and exists():
        get_instance().uploaded_file_mgr.remove_file(context.session_id, file.file_id)
