"""To which names the server answers, and to pages of which addresses."""

from __future__ import annotations

import socket

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket

from app.server import hosts
from app.server.hosts import ALLOWED, OwnHosts, is_own, name_of, names

AT = "ws://localhost:8501/socket"  # the test client has another name otherwise
HERE = socket.gethostname().lower()
FOREIGN = (
    "evil.example",
    "localhost.evil.example",
    "evil.example:8501",
    "127.0.0.1.nip.io",
    "127.1",
    "2130706433",
    "0x7f.1",
)


def _told(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.headers["host"])


async def _socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("in")
    await websocket.close()


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setattr(hosts.st, "get_option", {"server.address": "127.0.0.1"}.get)
    monkeypatch.setenv(ALLOWED, "lab.example.org")
    routes = [Route("/", _told, methods=["GET", "PUT"]), WebSocketRoute("/socket", _socket)]
    return TestClient(Starlette(routes=routes, middleware=[Middleware(OwnHosts)]), base_url="http://localhost:8501")


@pytest.mark.parametrize("bound", ["localhost", "127.0.0.1", "::1"])
def test_bound_to_this_machine_only_its_names_are_answered(bound: str) -> None:
    known = names(bound, "")
    for name in ("localhost", "127.0.0.1", "127.8.8.8", "[::1]", "localhost:8501", "LocalHost.", HERE):
        assert known.include(name_of(name) or ""), name
    for name in (*FOREIGN, "10.0.0.4", "[fe80::1]", "0.0.0.0"):
        assert not known.include(name_of(name) or ""), name


@pytest.mark.parametrize("bound", ["0.0.0.0", "::", "", "192.168.7.7"])
def test_bound_to_all_addresses_no_other_names_are_answered(bound: str) -> None:
    known = names(bound, "")
    for name in ("localhost", "192.168.7.7:8501", "[fe80::1]:8501", HERE, f"{HERE.partition('.')[0]}.local"):
        assert known.include(name_of(name) or ""), name
    assert not any(known.include(name_of(name) or "") for name in FOREIGN)


def test_names_can_be_listed() -> None:
    known = names("0.0.0.0", "lab.example.org, *.hf.space")
    assert all(known.include(name) for name in ("lab.example.org", "a.hf.space", "a.b.hf.space"))
    assert not any(
        known.include(name) for name in ("hf.space", "xhf.space", "other.example.org", "lab.example.org.evil.com")
    )
    assert names("localhost", "*").include("anything.example")


@pytest.mark.parametrize(
    "host", ["", "a b", "a/b", "user@localhost", "localhost:x", "[::1", "a" * 300, "ex\x00.org", "löcal"]
)
def test_what_is_no_host_is_none(host: str) -> None:
    assert name_of(host) is None


def test_a_foreign_name_is_refused_with_what_to_do(client: TestClient) -> None:
    assert client.get("/").text == "localhost:8501"
    for name in FOREIGN:
        answer = client.get("/", headers={"host": name})
        assert answer.status_code == 403 and "come app --host-name" in answer.text
        with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect(AT, headers={"host": name}):
            pass
        assert refused.value.status_code == 403
    for bad in ("user@localhost", "<b>x</b>"):
        assert client.get("/", headers={"host": bad}).status_code == 400


def test_pages_of_other_addresses_are_refused(client: TestClient) -> None:
    foreign = [
        "http://evil.example",
        "null",
        "http://localhost:3000",
        "http://localhost",
        "file://",
        "http://127.0.0.1:8501",
        "",
    ]
    for origin in foreign:
        assert client.get("/", headers={"origin": origin}).status_code == 403, origin
        assert client.put("/", headers={"origin": origin}).status_code == 403
        with pytest.raises(WebSocketDenialResponse), client.websocket_connect(AT, headers={"origin": origin}):
            pass
    for origin in ("http://localhost:8501", "https://lab.example.org"):
        assert client.put("/", headers={"origin": origin}).status_code == 200
        with client.websocket_connect(AT, headers={"origin": origin}) as open_:
            assert open_.receive_text() == "in"
    assert client.get("/", headers={"origin": "https://lab.example.org"}).text == "lab.example.org", (
        "as its proxy has it"
    )


@pytest.mark.parametrize(
    ("origin", "host", "scheme", "own"),
    [
        ("https://lab.org", "lab.org", "http", True),  # a proxy ends TLS
        ("https://lab.org", "lab.org:443", "https", True),
        ("http://lab.org", "lab.org:80", "ws", True),
        ("http://lab.org:81", "lab.org:80", "http", False),
        ("http://lab.org:81", "lab.org", "http", False),
        ("http://[::1]:8501", "[::1]:8501", "ws", True),
        ("http://LAB.org", "lab.org", "http", True),
        ("http://lab.org:99999", "lab.org", "http", False),
        ("http://lab.org@evil.org", "lab.org", "http", False),
        ("chrome-extension://lab.org", "lab.org", "http", False),
    ],
)
def test_whose_pages_are_ours(origin: str, host: str, scheme: str, own: bool) -> None:
    assert is_own(origin, host, scheme, names("localhost", "")) is own
