"""JSON lines over a socket that only the same user can reach."""

from __future__ import annotations

import json
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from come.serving.resident.address import SOCKET_PATH_BYTES, Address

LONGEST_LINE = 64 << 20  # bytes; a plan names every unit that is kept
BACKLOG = 64


def listen(folder: Path) -> tuple[socket.socket, str, int]:
    """A listening socket, the path that it is at, and the port; "" and a port where there are no Unix sockets."""
    path = str(folder / "socket")
    if hasattr(socket, "AF_UNIX") and len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        Path(path).unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(path)  # in a folder that is the user's alone
        Path(path).chmod(0o600)
        listening.listen(BACKLOG)
        return listening, path, 0
    listening = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    return listening, "", int(listening.getsockname()[1])


def connect(address: Address, timeout: float = 5.0) -> socket.socket:
    """A connection to a process.

    Raises:
        OSError: nobody listens there.
    """
    if not address.path:
        return socket.create_connection(("127.0.0.1", address.port), timeout)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect(address.path)
    except OSError:
        connection.close()
        raise
    return connection


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """Send one message.

    Raises:
        OSError: the other side has gone.
    """
    connection.sendall(json.dumps(message).encode() + b"\n")


def messages(connection: socket.socket) -> Iterator[dict[str, Any]]:
    """The messages that arrive, until the other side closes.

    Raises:
        OSError: the connection broke, or nothing came for as long as its timeout.
        ValueError: what came is no message.
    """
    waiting = bytearray()
    while True:
        end = waiting.find(b"\n")
        if end >= 0:
            message = json.loads(waiting[:end])
            del waiting[: end + 1]
            if not isinstance(message, dict):
                raise ValueError("not a message")
            yield message
            continue
        if len(waiting) > LONGEST_LINE:
            raise ValueError("the message is too long")
        read = connection.recv(1 << 16)
        if not read:
            return
        waiting += read


def has_gone(connection: socket.socket) -> bool:
    """Whether the other side has closed the connection."""
    try:
        readable, _, _ = select.select([connection], [], [], 0)
        return bool(readable) and not connection.recv(1, socket.MSG_PEEK)
    except (OSError, ValueError):
        return True
