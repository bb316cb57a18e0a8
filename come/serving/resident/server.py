"""The resident process: an HTTP server for one user, which ends by itself when nobody needs it any more.

``POST /what`` with a JSON object is answered by JSON lines: any number of "progress" and "event", and last one of
"result", "error", "cancelled" and "fault". Closing the connection gives the request up. ``GET /`` tells that it lives.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import secrets
import socket
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from come import logs, processes
from come.errors import ComeError
from come.files import locked
from come.serving.cancellation import Cancel, Cancelled
from come.serving.limits import Limits
from come.serving.resident import address as addresses
from come.serving.resident.address import Address

if TYPE_CHECKING:
    from come.serving.resident.requests import RequestHandler

Message = dict[str, Any]
Tell = Callable[[Message], None]
Owner = tuple[int, str]
"""A process that asks: its id and ``come.processes.start_id``."""

LONGEST_BODY = 64 << 20  # bytes; a plan names every unit that is kept
LONGEST_HEADERS = 16 << 10  # bytes; all that is read of who has not said the secret
SECONDS_TO_ASK = 10.0  # from a connection to the end of its headers
SECONDS_TO_SEND = 60.0  # the body of a request
MOST_OWNERS = 1000
LONGEST_SOCKET_PATH = 100  # bytes; what all systems allow
LOOK_AGAIN = 0.5  # seconds between two looks whether the process is still needed
SECONDS_BETWEEN_REPORTS = 0.1  # of progress
SECONDS_TO_FINISH = 1  # for answers that are on their way when the process ends


def serve(limits: Limits, owner: Owner | None = None) -> None:
    """Answer requests until nobody asked anything for a while, or every process that ever asked is gone.

    Args:
        limits: how much may be asked for, and how long to wait for the next request.
        owner: the process that started this one; every other that asks becomes an owner too.
    """
    folder = addresses.folder()
    with locked(folder / "serving"):  # waits for a predecessor that is just ending
        listening, address = _listen(folder)
        addresses.write_address(address)
        try:
            Server(limits, address, owner).run(listening)
        finally:
            addresses.forget_address(address)
            listening.close()


def _listen(folder: Path) -> tuple[socket.socket, Address]:
    """A bound socket and its address: a Unix socket in the user's folder, else a port of the loopback interface."""
    pid, path = os.getpid(), folder / addresses.SOCKET
    me = processes.start_id(pid)
    if hasattr(socket, "AF_UNIX") and len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        path.unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(str(path))  # in a folder that is the user's alone
        path.chmod(0o600)
        address = Address(pid, me, str(path))
    else:
        listening = socket.create_server(("127.0.0.1", 0))
        address = Address(pid, me, "", int(listening.getsockname()[1]), secrets.token_hex(16))
    listening.listen()  # callers may connect from when they find the address
    return listening, address


class Server:
    """The process's state: who owns it, and what is at work. Only the event loop's thread touches it.

    Args:
        limits: how much may be asked for.
        address: how it is reached.
        owner: the process that started this one; every other that asks becomes an owner too.
    """

    def __init__(self, limits: Limits, address: Address, owner: Owner | None = None) -> None:
        self.limits = limits
        self._address = address
        self._owners: set[Owner] = {owner} if owner else set()
        self._newest: dict[tuple[str, str], threading.Event] = {}
        self._at_work = 0
        self._last_used = time.monotonic()
        self._handler: RequestHandler | None = None
        self._making_handler = threading.Lock()
        routes = [Route("/", self._greet), Route("/{do}", self._answer, methods=["POST"])]
        app = Starlette(routes=routes, lifespan=self._lifespan, max_body_size=LONGEST_BODY)
        self._http = uvicorn.Server(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=_InTime,
                h11_max_incomplete_event_size=LONGEST_HEADERS,
                headers=[("connection", "close")],  # one request each, so that none can go on sending
                ws="none",
                log_config=None,  # warnings and errors go to stderr, the process's log
                access_log=False,
                proxy_headers=False,
                timeout_graceful_shutdown=SECONDS_TO_FINISH,
            )
        )

    def run(self, listening: socket.socket) -> None:
        """Answer what comes to a socket as long as somebody needs it."""
        self._http.run([listening])

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        async def watch() -> None:
            while self._is_needed():
                await asyncio.sleep(LOOK_AGAIN)
            self._http.should_exit = True

        watching = asyncio.create_task(watch())
        yield
        watching.cancel()

    def _is_needed(self) -> bool:
        gone = {owner for owner in self._owners if not processes.is_alive(*owner)}
        self._owners -= gone
        abandoned = bool(gone) and not self._owners
        idle = 0.0 if self._at_work else time.monotonic() - self._last_used
        return not abandoned and idle <= self.limits.idle_seconds

    async def _greet(self, request: Request) -> Response:
        return Response(status_code=204 if self._may_ask(request) else 401)

    async def _answer(self, request: Request) -> Response:
        if not self._may_ask(request):
            return Response(status_code=401)
        asked, do = await _json_object(request), str(request.path_params["do"])
        if asked is None:
            return Response(status_code=400)
        if (owner := _living_owner(asked.get("owner"))) is not None and len(self._owners) < MOST_OWNERS:
            self._owners.add(owner)
        if do == "stop":
            addresses.forget_address(self._address)
            self._http.should_exit = self._http.force_exit = True
            return Response('{"result": null}\n')
        return self._started(do, str(asked.get("key") or ""), asked)

    def _may_ask(self, request: Request) -> bool:
        given, secret = request.headers.get("authorization", ""), self._address.secret
        return not secret or hmac.compare_digest(given.encode(), f"Bearer {secret}".encode())

    def _started(self, do: str, key: str, asked: Message) -> Response:
        """Begin to answer in a thread. A visitor's newer request of a kind ends the older one."""
        loop, messages, over = asyncio.get_running_loop(), asyncio.Queue[Message | None](), threading.Event()
        if key:  # without one there is no visitor
            if (older := self._newest.get((do, key))) is not None:
                older.set()
            self._newest[do, key] = over
        self._at_work += 1

        def ended() -> None:
            messages.put_nowait(None)
            self._at_work -= 1
            self._last_used = time.monotonic()
            if self._newest.get((do, key)) is over:
                del self._newest[do, key]

        def work() -> None:
            tell = _sparing(lambda message: loop.call_soon_threadsafe(messages.put_nowait, message))
            with suppress(RuntimeError):  # the event loop has ended, and the process with it
                tell(self._outcome({**asked, "do": do}, tell, over.is_set))
                loop.call_soon_threadsafe(ended)

        threading.Thread(target=work, name=do, daemon=True).start()
        return _JsonLines(messages, over)

    def _outcome(self, asked: Message, tell: Tell, cancelled: Cancel) -> Message:
        """The last message of an answer; what kind it is stands in the log, not what was asked."""
        begun = time.monotonic()
        outcome = self._answered(asked, tell, cancelled)
        seconds = round(time.monotonic() - begun, 3)
        logs.note("come.resident", "Asked.", do=str(asked["do"])[:20], outcome=next(iter(outcome)), seconds=seconds)
        return outcome

    def _answered(self, asked: Message, tell: Tell, cancelled: Cancel) -> Message:
        if asked["do"] == "status" and self._handler is None:
            return {"result": {"models": [], "budget": None}}  # no reason to load anything
        try:
            handler = self._made_handler()
            from come.serving.resident.requests import Call

            return {"result": handler.answer(Call(asked, tell, cancelled))}
        except Cancelled:
            return {"cancelled": True}
        except ComeError as error:
            return {"error": {"what": error.what, "hint": error.hint}}
        except Exception as error:
            if _is_shortage(error):
                what, hint = "There is not enough memory for this.", "Choose a smaller model, or a smaller dtype."
                return {"error": {"what": what, "hint": hint}}
            traceback.print_exc(file=sys.stderr)  # the process's log.txt
            logging.getLogger("come.resident").exception("A request failed.")
            return {"fault": f"{type(error).__name__}: {error}"}

    def _made_handler(self) -> RequestHandler:
        """Made with the first request, by one thread: the model code takes seconds to import."""
        with self._making_handler:
            if self._handler is None:
                from come.serving.resident.requests import RequestHandler

                self._handler = RequestHandler(self.limits)
            return self._handler


class _InTime(H11Protocol):
    """Ends a connection that has not asked in time: who knows no secret cannot keep it open either."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to count."""
        super().connection_made(transport)
        self._late = self.loop.call_later(SECONDS_TO_ASK, self._end_if_silent)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count no more."""
        self._late.cancel()
        super().connection_lost(exc)

    def _end_if_silent(self) -> None:
        if self.cycle is None:
            self.transport.abort()


async def _json_object(request: Request) -> Message | None:
    """What a request asks; None where it is no JSON object, or does not come in time."""
    try:
        async with asyncio.timeout(SECONDS_TO_SEND):
            asked = json.loads(await request.body())
    except (ValueError, RecursionError, TimeoutError):
        return None
    return asked if isinstance(asked, dict) else None


def _living_owner(given: Any) -> Owner | None:
    """The process that asks, if it says so and lives: one that does not is nobody whose end to wait for."""
    pid, start_id = (given.get("pid"), given.get("start_id")) if isinstance(given, dict) else (None, None)
    if not (type(pid) is int and 1 < pid < 1 << 31 and isinstance(start_id, str)):
        return None
    with suppress(ValueError):  # a start that is no time
        return (pid, start_id) if processes.is_alive(pid, start_id) else None
    return None


class _JsonLines(StreamingResponse):
    """Messages, a line each, until None comes; when it ends, or whoever asked has gone, it is over."""

    def __init__(self, messages: asyncio.Queue[Message | None], over: threading.Event) -> None:
        super().__init__(_lines(messages), media_type="application/x-ndjson")
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._over.set()


async def _lines(messages: asyncio.Queue[Message | None]) -> AsyncIterator[bytes]:
    while (message := await messages.get()) is not None:
        yield json.dumps(message).encode() + b"\n"


def _sparing(tell: Callable[[Message], object]) -> Tell:
    """Tells everything but progress that follows too soon on progress of the same stage."""
    reported: dict[str, float] = {}

    def tell_some(message: Message) -> None:
        if progress := message.get("progress"):
            now = time.monotonic()
            if now - reported.get(progress["stage"], -SECONDS_BETWEEN_REPORTS) < SECONDS_BETWEEN_REPORTS:
                return
            reported[progress["stage"]] = now
        tell(message)

    return tell_some


def _is_shortage(error: Exception) -> bool:
    return isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "not enough memory" in str(error)
