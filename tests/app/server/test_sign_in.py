"""Signing in: before it nothing is answered, and guessing is slow."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from app import serve
from app.server import document, downloads, sign_in
from app.server.sign_in import COOKIE, PASSWORD, TRIES, USERS, Password, SignIn, door
from come.errors import ComeError

SECRET = "correct horse battery"
AUTH = """[auth]
redirect_uri = "http://localhost:8501/oauth2callback"
cookie_secret = "0123456789012345678901234567890123456789"
client_id = "lab"
client_secret = "s"
server_metadata_url = "http://localhost:1/.well-known/openid-configuration"
"""


def _fine(request: Request) -> PlainTextResponse:
    return PlainTextResponse("within")


async def _socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("within")
    await websocket.close()


async def _echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> TestClient:
    monkeypatch.setenv(PASSWORD, SECRET)
    routes = [
        *document.ROUTES,
        *downloads.ROUTES,
        WebSocketRoute("/_stcore/stream", _socket),
        WebSocketRoute("/echo", _echo),
        Route("/{rest:path}", _fine, methods=["GET", "PUT", "POST", "DELETE"]),
    ]
    app = Starlette(routes=routes, middleware=[Middleware(SignIn, door())])
    return TestClient(app, base_url="http://localhost", follow_redirects=False)


def enter(client: TestClient, password: str = SECRET, after: str = "/plan?model=x"):
    return client.post("/sign-in", data={"password": password, "next": after})


def test_before_it_nothing_is_answered(client: TestClient) -> None:
    paths = (
        "/",
        "/home",
        "/run?run=x",
        "/takeaway/x/y.zip",
        "/media/x",
        "/static/js/x.js",
        "/_stcore/host-config",
        "/x",
    )
    for path in paths:
        asked = client.get(path, headers={"accept": "text/html"})
        assert asked.status_code == 401 and "within" not in asked.text and "<script" not in asked.text
        assert 'type="password"' in asked.text.replace("'", '"')
        assert client.get(path).text == "Sign in first."
    for method in ("PUT", "POST", "DELETE"):
        assert client.request(method, "/_stcore/upload_file/a/b").status_code == 401
    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("ws://localhost/_stcore/stream"):
        pass
    assert refused.value.status_code == 401
    assert client.get("/_stcore/health").text == "within", "a container's health is no secret"


def test_with_the_password_everything_is(client: TestClient) -> None:
    let_in = enter(client)
    assert let_in.status_code == 303 and let_in.headers["location"] == "/plan?model=x"
    cookie = let_in.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and SECRET not in cookie
    assert client.get("/x").text == "within" and client.get("/home").status_code == 200
    with client.websocket_connect("ws://localhost/_stcore/stream") as open_:
        assert open_.receive_text() == "within"
    copied = client.cookies[COOKIE]
    client.get("/sign-out")
    assert client.get("/x").status_code == 401
    client.cookies.clear()
    assert client.get("/x", headers={"cookie": f"{COOKIE}={copied}"}).status_code == 401, "a copy has ended, too"


@pytest.mark.parametrize(
    "after", ["//evil.org", "https://evil.org", "/\\evil.org", "javascript:alert(1)", "/a\r\nX: y", ""]
)
def test_one_is_not_sent_elsewhere(client: TestClient, after: str) -> None:
    assert enter(client, after=after).headers["location"] == "/"


def test_what_a_link_says_stays_text(client: TestClient) -> None:
    shown = client.get("/?a='><script>alert(1)</script>", headers={"accept": "text/html"}).text
    assert "<script" not in shown and "<script" not in enter(client, "wrong", "'><script>").text


def test_a_cookie_cannot_be_made(client: TestClient) -> None:
    enter(client)
    true = client.cookies[COOKIE]
    expires, name, signature = true.split(".")
    others = [f"{int(expires) + 9}.{name}.{signature}", f"{expires}.x.{signature}", f"0.{name}.{signature}"]
    others += ["", "x", "1.a.b", f"{expires}.{name}.", f"{true}0", f"{expires}.{name}.é"]
    others += [Password(b"")._signed(expires, name)]
    client.cookies.clear()
    for other in others:
        assert client.get("/x", headers={"cookie": f"{COOKIE}={other}".encode()}).status_code == 401, other
    assert client.get("/x", headers={"cookie": f"{COOKIE}={true}"}).status_code == 200


def test_it_ends(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(client)
    now = sign_in.time.time()
    monkeypatch.setattr(sign_in.time, "time", lambda: now + sign_in.SECONDS_SIGNED_IN + 1)
    assert client.get("/x").status_code == 401


def test_a_tab_that_is_open_is_cut_off(client: TestClient) -> None:
    enter(client)
    with client.websocket_connect("ws://localhost/echo") as tab:
        tab.send_text("signed in")
        assert tab.receive_text() == "signed in"
        client.get("/sign-out")
        tab.send_text("start a run")
        with pytest.raises(WebSocketDisconnect):
            tab.receive_text()


def test_guessing_is_slow(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [enter(client, f"guess {i}").status_code for i in range(TRIES + 5)] == [403] * TRIES + [429] * 5
    assert enter(client).status_code == 429, "the right one neither"
    now = sign_in.time.monotonic()
    monkeypatch.setattr(sign_in.time, "monotonic", lambda: now + sign_in.SECONDS_OF_TRIES + 1)
    assert enter(client).status_code == 303


def test_guessing_from_many_addresses_is_slow_too_and_held_in_bounds() -> None:
    guarded = Password(b"")
    for at in range(5000):
        if not guarded._too_many(f"10.0.{at // 250}.{at % 250}", 0.0):
            for who in ("", f"10.0.{at // 250}.{at % 250}"):
                guarded.failed.setdefault(who, sign_in.deque()).append(0.0)
    assert sum(map(len, guarded.failed.values())) == 2 * sign_in.TRIES_OF_ALL
    assert not guarded._too_many("10.0.0.1", sign_in.SECONDS_OF_TRIES + 1) and not guarded.failed


def test_a_long_form_is_not_read(client: TestClient) -> None:
    answer = client.post("/sign-in", content=b"password=" + b"a" * (1 << 20))
    assert answer.status_code == 413 and "longer than any password" in answer.text and "<form" in answer.text
    assert client.post("/sign-in", content=b"\xff\x00=&&&=").status_code == 403


@pytest.fixture
def secrets_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    file = tmp_path / "secrets.toml"
    monkeypatch.setattr(sign_in.st, "get_option", {"secrets.files": [str(file)]}.get)
    return lambda text: file.write_text(text) and None


@pytest.mark.parametrize(
    ("secrets", "environment", "said"),
    [
        ("", {PASSWORD: "short"}, "is short"),
        ("", {PASSWORD: ""}, "is short"),
        ("", {PASSWORD: " " * 20}, "is short"),
        ("not toml", {}, "cannot be read"),
        ("auth = 1", {}, "no section"),
        (AUTH, {PASSWORD: SECRET}, "leave one out"),
        ("[auth]\ncookie_secret = 'x'", {}, "names no provider"),
        (re.sub("client_id.*", "", AUTH), {}, "lacks client_id"),
        ("", {USERS: "@example.org"}, "nobody could sign in"),
    ],
)
def test_what_would_keep_nobody_out_is_no_start(
    secrets_file: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, secrets: str, environment: dict, said: str
) -> None:
    secrets_file(secrets)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ComeError, match=said):
        door()


def test_without_any_of_it_all_may_come_in(secrets_file: Callable[[str], None]) -> None:
    secrets_file("[other]\nkey = 1\n")
    assert door() is None
    assert [each.cls.__name__ for each in serve.MIDDLEWARE] == ["Headers", "OwnHosts", "SignIn", "HeldBack"]
