"""To which names this server answers, and to pages of which addresses: others must not drive it.

A page of another site may let its own name lead to this machine (DNS rebinding); the browser then takes this server
for a part of that site. So only names are answered that are this server's, which such a page cannot have.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

import streamlit as st
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

ALLOWED = "COME_ALLOWED_HOSTS"  # names with commas or blanks between; "*.example.org" for all below; "*" for any
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]{1,253})(?::(\d{1,5}))?", re.ASCII | re.IGNORECASE)
_PORTS = {"http": "80", "https": "443"}


@dataclass(frozen=True)
class Names:
    """What a server answers to.

    Attributes:
        allowed: names that its host has listed, lower case.
        own: the machine's.
        any_address: whether to all IP addresses: it listens to more than this machine, and no page's name is one.
    """

    allowed: frozenset[str]
    own: frozenset[str]
    any_address: bool

    def include(self, name: str) -> bool:
        """Whether a name, or an IP address without brackets, is one of them."""
        if "*" in self.allowed or name == "localhost" or name in self.own or self.lists(name):
            return True
        try:
            address = ip_address(name)
        except ValueError:
            return False
        return self.any_address or address.is_loopback

    def lists(self, name: str) -> bool:
        """Whether the host has listed it, by itself or by those above it."""
        above = {f"*.{name[at + 1 :]}" for at, letter in enumerate(name) if letter == "."}
        return name in self.allowed or not self.allowed.isdisjoint(above)


class OwnHosts:
    """ASGI middleware: refuses requests, a websocket's too, to other names and from other addresses' pages."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._names = names(str(st.get_option("server.address") or ""), os.environ.get(ALLOWED, ""))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or refuse with one sentence."""
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        given = Headers(scope=scope)
        hosts, origins = given.getlist("host"), given.getlist("origin")
        name = name_of(hosts[0]) if len(hosts) == 1 else None
        if name is None:
            return await PlainTextResponse("A request names one host.", 400)(scope, receive, send)
        if not self._names.include(name):
            return await _refused(
                f"This server does not answer to the name {name}. If that is its name, start it with "
                f"`come app --host-name {name}`, or set {ALLOWED}={name}."
            )(scope, receive, send)
        if origins:
            if len(origins) > 1 or not is_own(origins[0], hosts[0], scope["scheme"], self._names):
                return await _refused(
                    "This server is not asked by pages of other addresses. If a proxy in front of it has another "
                    f"name, list that in {ALLOWED}."
                )(scope, receive, send)
            # Streamlit compares the two once more, and where they differ, asks an outside address for its own.
            scope = {**scope, "headers": _with_host(scope, urlsplit(origins[0]).netloc)}
        await self._app(scope, receive, send)


def names(bound: str, allowed: str) -> Names:
    """What a server answers to that listens to an address, "" for all of the machine's, and lists these names."""
    listed = frozenset(word.lower().rstrip(".") for word in allowed.replace(",", " ").split())
    host = socket.gethostname().lower()
    own = {host, host.partition(".")[0], f"{host.partition('.')[0]}.local", bound.lower()} - {""}
    try:
        only_here = ip_address(bound).is_loopback
    except ValueError:
        only_here = bound == "localhost"
    return Names(listed, frozenset(own), not only_here)


def name_of(host: str) -> str | None:
    """The name in a Host header, lower case, without port and brackets; None where it is none."""
    found = _HOST.fullmatch(host)
    return found[1].lower().strip("[]").rstrip(".") or None if found else None


def is_own(origin: str, host: str, scheme: str, allowed: Names) -> bool:
    """Whether a page of that origin may ask: one of ours, or of a listed name, which a proxy has."""
    try:
        page = urlsplit(origin)
        port = page.port
    except ValueError:
        return False
    if page.scheme not in _PORTS or page.hostname is None or _HOST.fullmatch(page.netloc) is None:
        return False
    asked = _HOST.fullmatch(host)
    if asked is None:
        return False
    secure = scheme in ("https", "wss")
    there = asked[1].lower().strip("[]"), asked[2] or _PORTS["https" if secure else "http"]
    # A proxy that ends TLS leaves the name, but neither scheme nor port.
    same_port = str(port or _PORTS[page.scheme]) == there[1] or (asked[2] is None and port is None)
    return (page.hostname == there[0] and same_port) or allowed.lists(page.hostname)


def _with_host(scope: Scope, host: str) -> list[tuple[bytes, bytes]]:
    return [(key, host.encode("latin-1") if key == b"host" else value) for key, value in scope["headers"]]


def _refused(sentence: str) -> PlainTextResponse:
    logging.getLogger("come.hosts").warning(sentence)
    return PlainTextResponse(sentence, 403)
