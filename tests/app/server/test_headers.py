"""What every answer tells the browser."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket

from app.server import document
from app.server.headers import FRAME_ANCESTORS, METRICS, Headers, headers
from come.errors import ComeError


def _fine(request: Request) -> PlainTextResponse:
    return PlainTextResponse("fine", headers={"X-Frame-Options": "ALLOWALL"})


def _fails(request: Request) -> PlainTextResponse:
    raise ZeroDivisionError


async def _socket(websocket: WebSocket) -> None:
    await websocket.accept(headers=[(b"x-own", b"1")])
    await websocket.close()


async def _refuses(websocket: WebSocket) -> None:
    await websocket.close(1013, "Too many visitors.")


def client() -> TestClient:
    routes = [
        *document.ROUTES,
        Route("/fine", _fine),
        Route("/fails", _fails),
        Route("/_stcore/metrics", _fine, methods=["GET", "POST"]),
        WebSocketRoute("/socket", _socket),
        WebSocketRoute("/refuses", _refuses),
    ]
    return TestClient(
        Starlette(routes=routes, middleware=[Middleware(Headers, headers())]), raise_server_exceptions=False
    )


@pytest.mark.parametrize(
    ("path", "status"), [("/", 200), ("/home", 200), ("/fine", 200), ("/nowhere", 404), ("/fails", 500)]
)
def test_every_answer_has_them(path: str, status: int) -> None:
    answer = client().get(path)
    assert answer.status_code == status
    assert {name: answer.headers.get_list(name) for name in headers()} == {k: [v] for k, v in headers().items()}
    assert "Traceback" not in answer.text and "ZeroDivision" not in answer.text


def test_a_websockets_answer_has_them() -> None:
    with client().websocket_connect("/socket") as socket:
        told = {key.decode().lower(): value.decode() for key, value in socket.extra_headers or ()}
    assert told["x-own"] == "1" and {key: told[key.lower()] for key in headers()} == headers()


def test_a_refused_websockets_answer_has_them() -> None:
    with pytest.raises(WebSocketDenialResponse) as refused, client().websocket_connect("/refuses"):
        pass
    assert refused.value.status_code == 403 and refused.value.text == "Too many visitors."
    assert {name: refused.value.headers[name] for name in headers()} == headers()


def test_the_policy_lets_run_what_the_document_holds_and_nothing_else() -> None:
    policy = dict(part.split(" ", 1) for part in headers()["Content-Security-Policy"].split("; "))
    assert not {"'unsafe-inline'", "*", "https:", "data:", "blob:"} & set(policy["script-src"].split())
    scripts = re.findall(r"<script>(.*?)</script>", document.text(), re.DOTALL)
    assert len(scripts) == 1 + len(document.SCRIPTS)  # Streamlit has one
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy["script-src"]
    assert policy["object-src"] == "'none'" and policy["default-src"] == policy["connect-src"] == "'self'"


@pytest.mark.parametrize(
    ("wanted", "ancestors", "frame_options"),
    [
        ("", "'self'", "SAMEORIGIN"),
        ("self", "'self'", "SAMEORIGIN"),
        ("'none'", "'none'", "DENY"),
        ("*", "*", None),
        ("https://huggingface.co, *.example.org", "'self' https://huggingface.co *.example.org", None),
    ],
)
def test_who_may_show_the_page_in_a_frame(
    monkeypatch: pytest.MonkeyPatch, wanted: str, ancestors: str, frame_options: str | None
) -> None:
    monkeypatch.setenv(FRAME_ANCESTORS, wanted)
    assert headers()["Content-Security-Policy"].endswith(f"; frame-ancestors {ancestors}")
    assert headers().get("X-Frame-Options") == frame_options


@pytest.mark.parametrize(
    "wanted", ["https://a.org; script-src *", "none https://a.org/x", "a\nb: c", "'unsafe-inline' <b>"]
)
def test_what_is_no_address_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    monkeypatch.setenv(FRAME_ANCESTORS, wanted)
    with pytest.raises(ComeError, match=FRAME_ANCESTORS):
        headers()


def test_metrics_are_there_only_where_they_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("/_stcore/metrics", "/_stcore/metrics/", "/below/_stcore/metrics"):
        assert client().get(path).status_code == client().post(path).status_code == 404
    monkeypatch.setenv(METRICS, "1")
    assert client().get("/_stcore/metrics").text == "fine"
