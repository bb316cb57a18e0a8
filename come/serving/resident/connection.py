"""Reaching the resident process: it is started when nobody answers, and asked again when it ended meanwhile."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from come.errors import ComeError
from come.files import disk_faults, locked
from come.serving.resident import address as addresses
from come.serving.resident import wire
from come.serving.resident.address import Address
from come.serving.resident.cancel import Cancelled

SECONDS_TO_START = 60.0
SECONDS_TO_ACCEPT = 30.0
LOOK_AGAIN = 0.02

OnMessage = Callable[[dict[str, Any]], None]


class LiveFault(Exception):
    """A fault of ours in the resident process; the traceback is in its log."""


class _Ended(Exception):
    """The process closed the connection before it had taken the request up."""


def converse(
    do: str, asked: dict[str, Any], *, key: str = "", timeout: float = 600.0, idle_seconds: float | None = None
) -> Iterator[dict[str, Any]]:
    """Ask the resident process for something: gives its messages, "progress" and "event", and last the "result".

    Closing the iterator gives the request up.

    Args:
        do: what to do.
        asked: with what, JSON-ready.
        key: the visitor; a newer request of the same visitor and kind ends the older one.
        timeout: seconds between two messages after which to give up.
        idle_seconds: where the process must be started: after how long without requests it ends.

    Raises:
        ComeError: what was asked for is impossible, or the process cannot be started or does not answer.
        Cancelled: the same visitor has asked something newer.
        LiveFault: a fault of ours.
    """
    request = {**asked, "do": do, "key": key, "owner": addresses.identity()}
    for attempt in (1, 2):
        try:
            yield from _once(request, timeout, idle_seconds)
            return
        except _Ended as error:  # it was just ending of itself; another will be started
            if attempt == 2:
                raise _not_there() from error


def _once(request: dict[str, Any], timeout: float, idle_seconds: float | None) -> Iterator[dict[str, Any]]:
    connection, address = _reach(idle_seconds)
    with closing(connection):
        accepted = False
        try:
            connection.settimeout(SECONDS_TO_ACCEPT)
            wire.send(connection, {**request, "secret": address.secret})
            for message in wire.messages(connection):
                if not accepted:
                    accepted = True
                    connection.settimeout(timeout)
                    continue
                yield _checked(message)
                if "result" in message:
                    return
        except TimeoutError as error:
            raise ComeError("The model process does not answer.", "Ask for less, or try again in a while.") from error
        except (OSError, ValueError) as error:
            if not accepted:
                raise _Ended from error
            raise _died() from error
        raise _died() if accepted else _Ended


def _checked(message: dict[str, Any]) -> dict[str, Any]:
    if "error" in message:
        raise ComeError(message["error"]["what"], message["error"]["hint"])
    if "cancelled" in message:
        raise Cancelled
    if "fault" in message:
        raise LiveFault(message["fault"])
    return message


def running() -> Address | None:
    """The process, if one can be reached now."""
    address = addresses.read_address()
    if address is None:
        return None
    try:
        wire.connect(address).close()
    except OSError:
        return None
    return address


def _reach(idle_seconds: float | None) -> tuple[socket.socket, Address]:
    """A connection, to a process that is started now if there is none."""
    found = _connected()
    if found is not None:
        return found
    folder = addresses.folder()
    with locked(folder / "starting"):  # of several callers, one starts it
        found = _connected()
        if found is not None:
            return found
        child = _start(folder, idle_seconds)
        deadline = time.monotonic() + SECONDS_TO_START
        while time.monotonic() < deadline and child.poll() is None:
            found = _connected()
            if found is not None:
                return found
            time.sleep(LOOK_AGAIN)
    raise _not_there()


def _connected() -> tuple[socket.socket, Address] | None:
    address = addresses.read_address()
    if address is None:
        return None
    try:
        return wire.connect(address), address
    except OSError:
        return None


def _start(folder: Path, idle_seconds: float | None) -> subprocess.Popen[bytes]:
    """Start the process; it lives as long as this one, or another that asks it, unless it is idle for long."""
    me = addresses.identity()
    command = [sys.executable, "-m", "come.serving.resident", str(me["pid"]), repr(me["started"])]
    if idle_seconds is not None:
        command.append(str(idle_seconds))
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    with disk_faults(folder), (folder / "log.txt").open("wb") as log:
        child = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    # Collects the ended child, which would stay behind as a zombie.
    threading.Thread(target=child.wait, name="wait-live", daemon=True).start()
    return child


def _not_there() -> ComeError:
    return ComeError("The model process could not be started.", "Free some memory, and try again.")


def _died() -> ComeError:
    return ComeError("The model process has ended, perhaps for want of memory.", "Ask again: it is started anew.")
