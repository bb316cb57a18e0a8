"""Where the resident process of a user and a ``COME_HOME`` is found. No model code is needed for it."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import socket
import stat
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from come import settings
from come.errors import ComeError
from come.files import disk_faults, replace

FILE, SOCKET = "address.json", "socket"
LONGEST = 4096  # bytes of the file


@dataclass(frozen=True, config={"extra": "forbid", "strict": True})
class Address:
    """How to reach the process.

    Attributes:
        pid, start_id: which process it is (``come.processes``).
        path: of its Unix socket, which only the user may open; "" where it listens on the loopback interface.
        port: there, where every user of the machine could ask, so a caller must know
        secret: as a bearer token. The file that holds it is the user's alone.
    """

    pid: int = Field(ge=2, lt=1 << 31)
    start_id: str = Field(min_length=1, max_length=100)
    path: str = Field(max_length=1024)
    port: int = Field(default=0, ge=0, lt=1 << 16)
    secret: str = Field(default="", max_length=100)


def folder() -> Path:
    """The folder of this user's process on this host, made for the user alone.

    Raises:
        ComeError: it cannot be made, or is somebody else's.
    """
    place = _place()
    with disk_faults(place.parent):
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        is_ours = stat.S_ISDIR(place.lstat().st_mode) and place.lstat().st_uid == os.getuid()
        if not is_ours:  # whoever made it could read what is asked, and answer it
            raise ComeError(f"{place} belongs to somebody else.", "Choose another folder with COME_HOME.")
        place.chmod(0o700)
    return place


def _place() -> Path:
    who = hashlib.sha256(f"{socket.gethostname()} {getpass.getuser()}".encode()).hexdigest()[:12]
    return settings.home() / "resident" / who


def write_address(address: Address) -> None:
    """Tell callers of this user how to reach the process."""
    replace(folder() / FILE, json.dumps(asdict(address)), mode=0o600)


def read_address() -> Address | None:
    """How to reach the process; None where there is none, as far as the folder says, or what it says makes no sense."""
    place = _place()
    try:
        # Neither a link elsewhere nor a pipe, which nobody may ever write to.
        descriptor = os.open(place / FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            about = os.fstat(descriptor)
            if not stat.S_ISREG(about.st_mode) or about.st_uid != os.getuid() or about.st_size > LONGEST:
                return None
            address: Address = TypeAdapter(Address).validate_json(file.read(LONGEST + 1))
    except (OSError, ValueError):
        return None
    elsewhere = address.path and os.path.abspath(address.path) != os.path.abspath(place / SOCKET)
    return None if elsewhere or (not address.path and not (address.port and address.secret)) else address


def forget_address(address: Address) -> None:
    """Take the address back, if it is still this one that others would find."""
    if read_address() != address:
        return
    for path in (folder() / FILE, Path(address.path)) if address.path else (folder() / FILE,):
        with suppress(OSError):
            path.unlink()
