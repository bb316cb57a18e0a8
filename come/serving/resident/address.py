"""Where the resident process of a user and a ``COME_HOME`` is found. No model code is needed for it."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from come import settings
from come.files import disk_faults

SOCKET_PATH_BYTES = 100  # what all systems allow for the path of a Unix socket


@dataclass(frozen=True)
class Address:
    """How to reach the process.

    Attributes:
        pid, started: which process it is.
        path: of its Unix socket; "" where it listens on the loopback interface, at ``port``.
        secret: what a caller must know. The file that holds it is the user's alone.
    """

    pid: int
    started: float
    path: str
    port: int
    secret: str


def folder() -> Path:
    """The folder of this user's process on this host, made for the user alone.

    Raises:
        ComeError: it cannot be made.
    """
    who = hashlib.sha256(f"{socket.gethostname()} {getpass.getuser()}".encode()).hexdigest()[:12]
    place = settings.home() / "live" / who
    with disk_faults(place.parent):
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        place.chmod(0o700)
    return place


def write_address(address: Address) -> None:
    """Tell callers of this user how to reach the process."""
    place = folder()
    temporary = place / f".address-{address.pid}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(address), file)
    temporary.replace(place / "address.json")


def read_address() -> Address | None:
    """How to reach the process; None where there is none, as far as the folder says."""
    try:
        return Address(**json.loads((folder() / "address.json").read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def forget_address(address: Address) -> None:
    """Take the address back, if it is still this one that others would find."""
    if read_address() == address:
        with suppress(OSError):
            (folder() / "address.json").unlink()
    if address.path:
        with suppress(OSError):
            Path(address.path).unlink()


def identity() -> dict[str, Any]:
    """This process, so that another can tell whether it is still there."""
    process = psutil.Process()
    return {"pid": process.pid, "started": process.create_time()}


def is_there(pid: int, started: float) -> bool:
    """Whether that process still lives, and is not another one that got its number."""
    try:
        process = psutil.Process(pid)
        # The system's clock may be set in between, which moves start times a little.
        same: bool = abs(process.create_time() - started) < 2
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
