"""What visitors take home is sent from disk in pieces, by a route of its own beside Streamlit's.

Streamlit's download button holds a file in the server's memory, and its static files end at 200 MiB.
"""

from __future__ import annotations

from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

import come.runs
from app.addresses import base_path
from come.errors import ComeError
from come.runs import Run
from come.runs.store import TAKEAWAY

AT = "/takeaway"
KINDS = {".zip": "application/zip", ".gguf": "application/octet-stream"}  # what is packed, and its media type
served = False  # app/serve.py sets it: whether this server has the route


def send(request: Request) -> FileResponse:
    """A packed file of a run; anything else is not found. Starlette sends it in pieces, ranges included."""
    name = request.path_params["name"]
    try:
        run = come.runs.find(request.path_params["run"])
    except ComeError:
        raise HTTPException(404) from None
    file = run.path / TAKEAWAY / name
    if file.name != name or file.suffix not in KINDS or not file.is_file():
        raise HTTPException(404)
    headers = {"Content-Encoding": "identity"}  # gzip would only cost time
    return FileResponse(file, media_type=KINDS[file.suffix], filename=name, headers=headers)


ROUTES = [Route(f"{AT}/{{run}}/{{name}}", send, methods=["GET"])]


def address(run: Run, name: str) -> str:
    """Where a packed file of a run is sent from."""
    return f"{base_path()}{AT}/{quote(run.id)}/{quote(name)}"
