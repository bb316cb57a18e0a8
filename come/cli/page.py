"""`come app`: the page, served to a browser from any folder."""

from __future__ import annotations

import errno
import os
import re
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from come.errors import ComeError
from come.serving.limits import is_demo
from come.serving.password import check_password

ALLOWED_HOSTS = "COME_ALLOWED_HOSTS"
_NAME = re.compile(r"\*|(?:\*\.)?[a-z0-9_.-]{1,253}|\[?[0-9a-f:.]+\]?", re.ASCII | re.IGNORECASE)
PACKAGE = Path(__file__).resolve().parents[1]

# In megabytes: what a browser may send, a file or a message with all that its widgets hold.
DEMO_OPTIONS = ["--server.maxUploadSize", "1", "--server.maxMessageSize", "10"]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("app")(serve)


def serve(
    port: Annotated[
        int | None, typer.Option("--port", min=1, max=65535, help="Where it answers (else 8501, or the next free).")
    ] = None,
    address: Annotated[
        str, typer.Option("--address", help="Who can reach it: localhost, only this machine; 0.0.0.0, others too.")
    ] = "localhost",
    host_names: Annotated[
        list[str] | None,
        typer.Option(
            "--host-name",
            help="A name that it is reached by, beside this machine's own; may be given several times.",
        ),
    ] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="As a public demonstration: smaller limits, only one's own runs.")
    ] = False,
) -> None:
    """Open all of it in the browser: serves the page until Ctrl-C.

    Runs go to the folder runs of where it is started, or to COME_RUNS.

    [bold]Examples[/bold]

    On this machine:  come app

    In public (docs/demo.md):  come app --address 0.0.0.0 --port 8600 --host-name lab.example.org --demo

    For those who know it:  COME_PASSWORD=... come app --address 0.0.0.0
    """
    check_password(os.environ)
    check_address(address, port)
    names = [*(host_names or ()), *filter(None, [os.environ.get(ALLOWED_HOSTS)])]
    check_names(names)
    command = [sys.executable, "-m", "streamlit", "run", str(script()), "--server.address", address]
    if address not in ("0.0.0.0", "::"):
        command += ["--browser.serverAddress", address]  # what the start prints
    if demo or is_demo():
        command += DEMO_OPTIONS
    if port is not None:
        command += ["--server.port", str(port)]
    # One place for what threads allocate, in place of many that grow apart: each rerun of a page is a thread.
    environment = {"MALLOC_ARENA_MAX": "2", **os.environ, ALLOWED_HOSTS: " ".join(names)}
    environment |= {"COME_DEMO": "1"} if demo else {}
    sys.stdout.flush()
    os.execve(command[0], command, environment)  # the server takes this process's place, and its signals


def check_address(address: str, port: int | None) -> None:
    """Refuse an address that is not this machine's, or a port that another program has.

    Raises:
        ComeError: it is one.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(address, port or 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(place)
    except (OSError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise ComeError(f"The port {port} is not free for it here.", "Choose another by --port.") from error
        raise ComeError(
            f"{address} is no address of this machine.", "localhost is, and 0.0.0.0 is all it has."
        ) from error


def check_names(names: list[str]) -> None:
    """Refuse names that no browser can ask for; each may hold several, with commas or blanks between.

    Raises:
        ComeError: one is none.
    """
    for word in " ".join(names).replace(",", " ").split():
        if _NAME.fullmatch(word) is None:
            raise ComeError(
                f"{word!r} is no name of a host.", "One is like lab.example.org, or *.example.org for all below it."
            )


def script() -> Path:
    """What Streamlit is to run: of a checkout its own app/, else what the wheel holds below come/page.

    Raises:
        ComeError: neither is there.
    """
    for folder in (PACKAGE.parent, PACKAGE / "page"):
        if (folder / "pages" / "home.py").is_file() and (folder / "app" / "serve.py").is_file():
            return folder / "app" / "serve.py"
    raise ComeError("The page is not installed with this come.", "Install it with `pip install .` in a checkout.")
