"""Where the resident process of a user and a ``COME_HOME`` is found. No model code is needed for it."""

from __future__ import annotations

import getpass
import hashlib
import json
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from come import settings
from come.files import disk_faults, replace

FILE = "address.json"


@dataclass(frozen=True)
class Address:
    """How to reach the process.

    Attributes:
        pid, start_id: which process it is (``come.processes``).
        path: of its Unix socket, which only the user may open; "" where it listens on the loopback interface.
        port: there, where every user of the machine could ask, so a caller must know
        secret: as a bearer token. The file that holds it is the user's alone.
    """

    pid: int
    start_id: str
    path: str
    port: int = 0
    secret: str = ""


def folder() -> Path:
    """The folder of this user's process on this host, made for the user alone.

    Raises:
        ComeError: it cannot be made.
    """
    who = hashlib.sha256(f"{socket.gethostname()} {getpass.getuser()}".encode()).hexdigest()[:12]
    place = settings.home() / "resident" / who
    with disk_faults(place.parent):
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        place.chmod(0o700)
    return place


def write_address(address: Address) -> None:
    """Tell callers of this user how to reach the process."""
    replace(folder() / FILE, json.dumps(asdict(address)), mode=0o600)


def read_address() -> Address | None:
    """How to reach the process; None where there is none, as far as the folder says."""
    try:
        return Address(**json.loads((folder() / FILE).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def forget_address(address: Address) -> None:
    """Take the address back, if it is still this one that others would find."""
    if read_address() != address:
        return
    for path in (folder() / FILE, Path(address.path)) if address.path else (folder() / FILE,):
        with suppress(OSError):
            path.unlink()
