"""Reaching the resident process: it is started when nobody answers, and asked again when it ended meanwhile."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import httpx2

from come import processes
from come.errors import ComeError
from come.files import disk_faults, locked
from come.serving.cancellation import Cancelled
from come.serving.resident import address as addresses
from come.serving.resident.address import Address

SECONDS_TO_START = 60.0
SECONDS_TO_ACCEPT = 30.0  # importing model code can hold up all its threads for a while
LOOK_AGAIN = 0.02


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
    owner = {"pid": os.getpid(), "start_id": processes.start_id(os.getpid())}
    address = _known()  # most often it is there, and need not be looked for
    for attempt in (1, 2, 3):
        try:
            asking = {**asked, "key": key, "owner": owner}
            yield from _answered(address or _reach(idle_seconds), do, asking, timeout)
            return
        except _Ended as error:  # it is gone, or was just ending of itself: another will be started
            if attempt == 3:
                raise _not_there() from error
            address = None


def _answered(address: Address, do: str, request: dict[str, Any], timeout: float) -> Iterator[dict[str, Any]]:
    accepted = False
    seconds = _timeouts()
    try:
        with _client(address).stream("POST", f"/{do}", json=request, extensions={"timeout": seconds}) as response:
            accepted = True
            seconds["read"] = timeout  # looked up anew for the body
            if response.status_code == httpx2.codes.CONTENT_TOO_LARGE:
                raise ComeError("That is longer than the model process reads.", "Ask for less.")
            for line in response.raise_for_status().iter_lines():
                message = _checked(json.loads(line))
                yield message
                if "result" in message:
                    return
    except httpx2.TimeoutException as error:
        raise _does_not_answer() from error
    except httpx2.HTTPStatusError as error:
        raise LiveFault(str(error)) from error
    except (httpx2.TransportError, ValueError) as error:
        raise (_died() if accepted else _Ended()) from error
    raise _died()


def _timeouts() -> dict[str, float | None]:
    return {"connect": SECONDS_TO_ACCEPT, "read": SECONDS_TO_ACCEPT, "write": SECONDS_TO_ACCEPT, "pool": None}


def _checked(message: dict[str, Any]) -> dict[str, Any]:
    if "error" in message:
        raise ComeError(message["error"]["what"], message["error"]["hint"])
    if "cancelled" in message:
        raise Cancelled
    if "fault" in message:
        raise LiveFault(message["fault"])
    return message


def running() -> Address | None:
    """The process, if one answers now.

    Raises:
        ComeError: there is one, but it does not answer.
    """
    if (address := _known()) is None:
        return None
    try:
        greeting = _client(address).get("/", extensions={"timeout": _timeouts()})
    except httpx2.TimeoutException as error:
        raise _does_not_answer() from error
    except httpx2.TransportError:
        return None
    return address if greeting.status_code == httpx2.codes.NO_CONTENT else None


def _known() -> Address | None:
    """The process that the folder tells of; not one that has ended and left its port to strangers."""
    address = addresses.read_address()
    if address is None or address.path or processes.is_alive(address.pid, address.start_id):
        return address
    return None


@lru_cache(maxsize=4)
def _client(address: Address) -> httpx2.Client:
    """What asks a process, from any number of threads; making one takes longer than many an answer.

    Connections are not kept: one that the process closes as it is used again would count as an end of the process.
    """
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    transport = httpx2.HTTPTransport(uds=address.path or None, limits=limits, verify=False, trust_env=False)
    headers = {"Authorization": f"Bearer {address.secret}"} if address.secret else {}
    return httpx2.Client(
        base_url=f"http://127.0.0.1:{address.port or 80}", headers=headers, transport=transport, trust_env=False
    )


def _reach(idle_seconds: float | None) -> Address:
    """The process, which is started now if there is none."""
    if (found := running()) is not None:
        return found
    folder = addresses.folder()
    with locked(folder / "starting"):  # of several callers, one starts it
        if (found := running()) is not None:
            return found
        with disk_faults(folder):
            (folder / "log.txt").unlink(missing_ok=True)
        # It lives as long as this process, or another that asks it, unless it is idle for long.
        me = (str(os.getpid()), processes.start_id(os.getpid()))
        idle = () if idle_seconds is None else (str(idle_seconds),)
        child = processes.start_detached("come.serving.resident", *me, *idle, log=folder / "log.txt")
        deadline = time.monotonic() + SECONDS_TO_START
        while time.monotonic() < deadline and child.poll() is None:
            if (found := running()) is not None:
                return found
            time.sleep(LOOK_AGAIN)
    raise _not_there()


def _not_there() -> ComeError:
    return ComeError("The model process could not be started.", "Free some memory, and try again.")


def _does_not_answer() -> ComeError:
    return ComeError("The model process does not answer.", "Ask for less, or try again in a while.")


def _died() -> ComeError:
    return ComeError("The model process has ended, perhaps for want of memory.", "Ask again: it is started anew.")
