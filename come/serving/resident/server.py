"""The resident process: accepts requests, one thread each, and ends by itself when nobody needs it any more."""

from __future__ import annotations

import hmac
import os
import secrets
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from come.errors import ComeError
from come.files import locked
from come.serving.limits import Limits
from come.serving.resident import address as addresses
from come.serving.resident import wire
from come.serving.resident.address import Address
from come.serving.resident.cancel import Cancel, Cancelled

if TYPE_CHECKING:
    from come.serving.resident.requests import RequestHandler

Tell = Callable[[dict[str, Any]], None]
Owner = tuple[int, float]
"""A process that asks: its id and start time."""

LOOK_AGAIN = 0.5  # seconds between two looks whether the process is still needed
PATIENCE = 10.0  # seconds that a caller has to say what it wants, and to read what it is told
SECONDS_BETWEEN_REPORTS = 0.1  # of progress


def serve(limits: Limits, owner: Owner | None = None) -> None:
    """Answer requests until nobody asked anything for a while, or every process that ever asked is gone.

    Args:
        limits: how much may be asked for, and how long to wait for the next request.
        owner: the process that started this one.
    """
    folder = addresses.folder()
    with locked(folder / "serving"):  # waits for a predecessor that is just ending
        listening, path, port = wire.listen(folder)
        address = Address(**addresses.identity(), path=path, port=port, secret=secrets.token_hex(16))
        addresses.write_address(address)
        try:
            Server(limits, address, listening, owner).run()
        finally:
            addresses.forget_address(address)
            listening.close()


class Server:
    """The process's state: who owns it, and what is at work.

    Args:
        limits: how much may be asked for.
        address: how it is reached.
        listening: the socket there.
        owner: the process that started this one; every other that asks becomes an owner too.
    """

    def __init__(self, limits: Limits, address: Address, listening: socket.socket, owner: Owner | None = None) -> None:
        self.limits = limits
        self._address = address
        self._listening = listening
        self._owners: set[Owner] = {owner} if owner else set()
        self._newest: dict[tuple[str, str], threading.Event] = {}
        self._at_work = 0
        self._last_used = time.monotonic()
        self._changing = threading.Lock()
        self._desk: RequestHandler | None = None
        self._making_desk = threading.Lock()

    def run(self) -> None:
        """Accept requests as long as somebody needs it."""
        self._listening.settimeout(LOOK_AGAIN)
        while self._is_needed():
            with suppress(TimeoutError):
                connection, _ = self._listening.accept()
                with self._changing:
                    self._at_work += 1
                threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _is_needed(self) -> bool:
        with self._changing:
            owners = set(self._owners)
            idle = 0.0 if self._at_work else time.monotonic() - self._last_used
        gone = {owner for owner in owners if not addresses.is_there(*owner)}
        with self._changing:
            self._owners -= gone
            abandoned = bool(gone) and not self._owners
        return not abandoned and idle <= self.limits.idle_seconds

    def _handle(self, connection: socket.socket) -> None:
        try:
            with connection:
                self._converse(connection)
        except (OSError, ValueError):
            pass  # they have gone, or never spoke our language
        finally:
            with self._changing:
                self._at_work -= 1
                self._last_used = time.monotonic()

    def _converse(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        asked = next(wire.messages(connection), None)
        if asked is None or not hmac.compare_digest(str(asked.get("secret")), self._address.secret):
            return
        with self._changing:
            owner = asked.get("owner") or {}
            self._owners.add((int(owner.get("pid", 0)), float(owner.get("started", 0.0))))
        wire.send(connection, {"accepted": True})
        do, key = str(asked.get("do")), str(asked.get("key") or "")
        if do == "stop":
            addresses.forget_address(self._address)
            os._exit(0)
        with self._newest_of(do, key) as superseded:

            def cancelled() -> bool:
                return superseded.is_set() or wire.has_gone(connection)

            wire.send(connection, self._answer(asked, _teller(connection), cancelled))

    @contextmanager
    def _newest_of(self, do: str, key: str) -> Iterator[threading.Event]:
        """A visitor's newer request of a kind ends the older one; without a key there is no visitor.

        Yields what is set when this request is no longer the newest.
        """
        mine = threading.Event()
        with self._changing:
            older = self._newest.get((do, key)) if key else None
            self._newest[do, key] = mine
        if older is not None:
            older.set()
        try:
            yield mine
        finally:
            with self._changing:
                if self._newest.get((do, key)) is mine:
                    del self._newest[do, key]

    def _answer(
        self, asked: dict[str, Any], tell: Callable[[dict[str, Any]], None], cancelled: Cancel
    ) -> dict[str, Any]:
        """The last message of a conversation."""
        if asked.get("do") == "status" and self._desk is None:
            return {"result": {"models": [], "budget": None}}  # no reason to load anything
        try:
            desk = self._made_desk()
            from come.serving.resident.requests import Call

            return {"result": desk.answer(Call(asked, tell, cancelled))}
        except Cancelled:
            return {"cancelled": True}
        except ComeError as error:
            return {"error": {"what": error.what, "hint": error.hint}}
        except Exception as error:
            if _is_shortage(error):
                return {
                    "error": {
                        "what": "There is not enough memory for this.",
                        "hint": "Choose a smaller model, or a smaller dtype.",
                    }
                }
            traceback.print_exc(file=sys.stderr)  # the process's log
            return {"fault": f"{type(error).__name__}: {error}"}

    def _made_desk(self) -> RequestHandler:
        """Made with the first request, by one thread: the model code takes seconds to import."""
        with self._making_desk:
            if self._desk is None:
                from come.serving.resident.requests import RequestHandler

                self._desk = RequestHandler(self.limits)
            return self._desk


def _teller(connection: socket.socket) -> Tell:
    """Sends messages, of progress only some; whoever has gone is not told."""
    reported = 0.0

    def tell(message: dict[str, Any]) -> None:
        nonlocal reported
        if "progress" in message:
            if time.monotonic() - reported < SECONDS_BETWEEN_REPORTS:
                return
            reported = time.monotonic()
        try:
            wire.send(connection, message)
        except OSError:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)  # from here on, they count as gone

    return tell


def _is_shortage(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "not enough memory" in str(error)
