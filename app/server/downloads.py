"""What visitors take home is sent by routes of its own beside Streamlit's: from disk, as it was written, or made then.

Streamlit's download button holds a file in the server's memory and forgets it when a page is drawn anew, so that a
click while something runs finds nothing; its static files end at 200 MiB.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import streamlit as st
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

import come.runs
from app.server.addresses import base_path
from come import settings
from come.errors import ComeError
from come.runs import Run
from come.runs.documents import PLAN
from come.runs.push import without_path
from come.runs.run import TAKEAWAY
from come.serving.limits import is_demo

AT = "/takeaway"
WRITTEN = "/takeaway-text"
PROMISED = "/takeaway-made"
KINDS = {".zip": "application/zip", ".gguf": "application/octet-stream"}  # what is packed, and its media type
KEPT = 32 << 20  # bytes of what pages have written, the newest
PROMISES = 2_000  # of the newest pages, what they would have made at a click
served = False  # app/serve.py sets it: whether this server has the routes

_written: OrderedDict[str, tuple[bytes, str, str]] = OrderedDict()  # what, its file's name, its media type
_writing = threading.Lock()
_promised: OrderedDict[str, tuple[Callable[[], str], str, str]] = OrderedDict()  # what makes it; the same two
_SECRET = secrets.token_bytes(32)  # nobody can guess an address that a page did not show them


def send(request: Request) -> Response:
    """A packed file of a run, or its plan; else not found. Starlette sends it in pieces, ranges included."""
    name = request.path_params["name"]
    try:
        run = come.runs.find(request.path_params["run"])
        run.check()  # what is another run's, or was written by other hands, is not sent
        if name == PLAN and _is_own(run.path / PLAN) and (plan := run.plan()) is not None:
            told = without_path(plan).model_dump_json() if is_demo() else (run.path / PLAN).read_text("utf-8")
            return _attached(told.encode(), name, "application/json")
    except (ComeError, OSError):
        raise HTTPException(404) from None
    file = run.path / TAKEAWAY / name
    if file.name != name or file.suffix not in KINDS or not _is_own(file):
        raise HTTPException(404)
    headers = {"Content-Encoding": "identity"}  # gzip would only cost time
    return FileResponse(file, media_type=KINDS[file.suffix], filename=name, headers=headers)


def _is_own(file: Path) -> bool:
    """Whether a file is one, and not a link to another: what that leads to is not for visitors."""
    try:
        return stat.S_ISREG(os.lstat(file).st_mode)
    except (OSError, ValueError):
        return False


def send_written(request: Request) -> Response:
    """What a page has written for its visitor, as long as it is kept."""
    with _writing:
        found = _written.get(request.path_params["key"])
    if found is None:
        raise HTTPException(404)
    return _attached(*found)


def send_promised(request: Request) -> Response:
    """What a page has promised its visitor, made now; not found where it can no longer be made."""
    with _writing:
        found = _promised.get(request.path_params["key"])
    if found is None:
        raise HTTPException(404)
    make, name, kind = found
    try:
        return _attached(make().encode(), name, kind)
    except ComeError as error:
        raise HTTPException(404, str(error)) from None


def _attached(data: bytes, name: str, kind: str) -> Response:
    disposition = f"attachment; filename*=utf-8''{quote(name)}"
    return Response(data, media_type=kind, headers={"Content-Disposition": disposition})


ROUTES = [
    Route(f"{AT}/{{run}}/{{name}}", send, methods=["GET"]),
    Route(f"{WRITTEN}/{{key}}", send_written, methods=["GET"]),
    Route(f"{PROMISED}/{{key}}", send_promised, methods=["GET"]),
]


def address(run: Run, name: str) -> str:
    """Where a packed file of a run, or its plan, is sent from."""
    return f"{base_path()}{AT}/{quote(run.id)}/{quote(name)}"


def written(text: str, name: str, kind: str) -> str:
    """Keep what a page has written; gives where it is sent from. The oldest goes where all is too much."""
    data = text.encode()
    key = hashlib.sha256(b"\0".join((name.encode(), kind.encode(), data))).hexdigest()
    with _writing:
        _written[key] = (data, name, kind)
        _written.move_to_end(key)
        while len(_written) > 1 and sum(len(kept) for kept, *_ in _written.values()) > KEPT:
            _written.popitem(last=False)
    return f"{base_path()}{WRITTEN}/{key}"


def promised(make: Callable[[], str], of: str, name: str, kind: str) -> str:
    """Keep what makes a text when it is asked for; gives where it is sent from. `of` tells it from others."""
    key = hashlib.sha256(b"\0".join((_SECRET, os.fsencode(of), name.encode(), kind.encode()))).hexdigest()
    with _writing:
        _promised[key] = (make, name, kind)
        _promised.move_to_end(key)
        while len(_promised) > PROMISES:
            _promised.popitem(last=False)
    return f"{base_path()}{PROMISED}/{key}"


def button(label: str, text: str | Callable[[], str], name: str, kind: str, key: str, help: str | None = None) -> None:
    """A button that downloads what a page has written, whatever runs meanwhile."""
    icon = ":material/download:"
    if served:
        where = written(text() if callable(text) else text, name, kind)
        st.link_button(label, where, icon=icon, help=help)
    else:
        st.download_button(label, text, name, kind, key=key, icon=icon, help=help, on_click="ignore")


def made_button(label: str, make: Callable[[], str], of: str, name: str, kind: str, key: str, help: str) -> None:
    """A button that downloads what is made only when it is clicked; `of` tells it from others."""
    icon = ":material/download:"
    if served:
        st.link_button(label, promised(make, of, name, kind), icon=icon, help=help)
    else:
        st.download_button(label, make, name, kind, key=key, icon=icon, help=help, on_click="ignore")


def plan_button(run: Run, label: str, key: str) -> None:
    """A button that downloads a run's plan, as it is when it is clicked."""
    path, icon = run.path / PLAN, ":material/download:"
    if served and run.path.parent == settings.runs_dir().resolve():  # a shipped one is not sent by its id
        st.link_button(label, address(run, PLAN), icon=icon)
    else:
        button(label, lambda: path.read_text("utf-8"), PLAN, "application/json", key)
