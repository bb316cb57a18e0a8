"""Protection in a real browser: the policy lets every page work and nothing else, and signing in comes before all."""

from __future__ import annotations

import base64
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse
from starlette.routing import Route

from scripts.serving import free_port
from tests.e2e.conftest import Server, fetched, serve

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
# What shows that a page is there, charts included where it has some without any work.
PAGES = {
    "home": ".js-plotly-plot",
    "model": "h1",
    "channels": "h1",
    "layers": "h1",
    "plan": ".st-key-strips .js-plotly-plot",
    "run": "h1",
    "compare": ".js-plotly-plot",
    "inspect": ".js-plotly-plot",
    "playground": "h1",
    "learn": ".js-plotly-plot",
}
INLINE = """() => new Promise((resolve) => {
  document.addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective), { once: true });
  const script = document.createElement("script");
  script.textContent = "window.stranger = true";
  document.head.append(script);
  setTimeout(() => resolve("nothing was refused"), 3000);
})"""


@pytest.mark.parametrize(
    "names",
    [pytest.param(("home", "inspect"), id="some"), pytest.param(tuple(PAGES), id="all", marks=pytest.mark.slow)],
)
def test_pages_work_under_the_policy(server: Callable[..., Server], page: Page, names: tuple[str, ...]) -> None:
    serving = server()
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(f"error: {error}"))
    for name in names:
        page.goto(f"{serving.url}/{name}")
        page.locator(PAGES[name]).first.wait_for()
        page.wait_for_function(
            "document.querySelector('[data-testid=stApp]')?.dataset.testScriptState === 'notRunning'"
        )
        page.locator("[data-testid=stSkeleton]").first.wait_for(state="hidden")
        refused = [text for text in told if "Content Security Policy" in text or text.startswith("error: ")]
        assert not refused, f"{name}: {refused}"
    page.goto(f"{serving.url}/compare")
    with page.expect_download() as coming:
        page.locator("a[href*=takeaway]").first.click()
    assert Path(coming.value.path()).stat().st_size > 0
    assert page.evaluate(INLINE) == "script-src-elem"
    assert page.evaluate("window.stranger === undefined")


def test_a_strangers_page_can_neither_show_nor_drive_it(server: Callable[..., Server], page: Page) -> None:
    serving = server()
    with listening([Route("/", lambda request: RedirectResponse("/x"))]) as stranger:
        page.goto(f"{stranger}/x")
        told: list[str] = []
        page.on("console", lambda message: told.append(message.text))
        page.evaluate(
            "(url) => { const f = document.createElement('iframe'); f.src = url; document.body.append(f); }",
            serving.url,
        )
        deadline = time.monotonic() + 30
        while not any("frame-ancestors" in text or "X-Frame-Options" in text for text in told):
            assert time.monotonic() < deadline, told
            page.wait_for_timeout(100)
        opened = """(url) => new Promise((resolve) => {
            const socket = new WebSocket(url.replace("http", "ws") + "/_stcore/stream");
            socket.onopen = () => resolve(true);
            socket.onerror = () => resolve(false);
        })"""
        assert page.evaluate(opened, serving.url) is False
        page.goto(f"{serving.url}/_stcore/health")
        assert page.evaluate(opened, serving.url) is True


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_no_address_outside_is_looked_up(tmp_path: Path, address: str) -> None:
    """The server's own sockets write down where they lead; a refused page is what Streamlit once asked outside for."""
    watch, led = tmp_path / "watch", tmp_path / "led.txt"
    watch.mkdir()
    (watch / "sitecustomize.py").write_text(WATCHED)
    path = os.pathsep.join([str(watch), *filter(None, [os.environ.get("PYTHONPATH")])])
    with serve(tmp_path, {"PYTHONPATH": path, "WATCHED": str(led)}, address=address) as serving:
        port = int(serving.url.rpartition(":")[2])
        for origin in ("http://evil.example", "http://localhost:1", "null"):
            lines = ["GET /_stcore/stream HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Origin: {origin}"]
            lines += ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"]
            lines += [f"Sec-WebSocket-Key: {base64.b64encode(b'a' * 16).decode()}"]
            with socket.create_connection(("127.0.0.1", port), timeout=20) as asked:
                asked.sendall("\r\n".join([*lines, "", ""]).encode())
                assert asked.recv(1000).startswith(b"HTTP/1.1 403")
        fetched(f"{serving.url}/_stcore/health?secret=typed")
        log = (serving.home / "logs" / "server.jsonl").read_text("utf-8")
    told = [json.loads(line) for line in log.splitlines()]
    assert told[0]["message"] == "The page is served." and told[0]["versions"]["streamlit"]
    assert sum(each["logger"] == "come.hosts" for each in told) == 3, "what was refused is written down"
    assert "typed" not in log and "/_stcore" not in log, "and not what is asked for"
    watched = led.read_text().splitlines()
    assert "watching" in watched
    assert not [line for line in watched if line.startswith("to ") and "'127." not in line]


WATCHED = """
import os, socket
def note(what):
    with open(os.environ["WATCHED"], "a") as file:
        file.write(what + "\\n")
note("watching")
connect, resolve = socket.socket.connect, socket.getaddrinfo
def connecting(self, where):
    if self.family != socket.AF_UNIX:
        note(f"to {where!r}")
    return connect(self, where)
def resolving(host, *more, **named):
    if host not in (None, "localhost", "127.0.0.1", "0.0.0.0"):
        note(f"to name {host!r}")
    return resolve(host, *more, **named)
socket.socket.connect, socket.getaddrinfo = connecting, resolving
"""


@pytest.mark.slow
def test_a_password_comes_before_every_page(server: Callable[..., Server], page: Page) -> None:
    serving = server(COME_PASSWORD="correct horse")
    page.goto(f"{serving.url}/learn")
    assert page.locator("[data-testid=stApp]").count() == 0
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_text("That is not the password.").wait_for()
    page.get_by_label("Password").fill("correct horse")
    page.get_by_role("button", name="Sign in").click()
    page.locator(".js-plotly-plot").first.wait_for()
    assert page.url.startswith(f"{serving.url}/learn")
    page.goto(f"{serving.url}/sign-out")
    page.get_by_label("Password").wait_for()
    assert "correct horse" not in serving.log.read_text(errors="replace")


@pytest.mark.slow
@pytest.mark.parametrize("mail", ["jane@lab.example", "mallory@evil.example"])
def test_an_account_comes_before_every_page(
    server: Callable[..., Server], page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mail: str
) -> None:
    pytest.importorskip("authlib", reason="signing in with an account needs Authlib")
    port = free_port()
    monkeypatch.setattr("tests.e2e.conftest.free_port", lambda: port)
    with provider(mail) as issuer:
        (tmp_path / "secrets.toml").write_text(
            f'[auth]\nredirect_uri = "http://127.0.0.1:{port}/oauth2callback"\ncookie_secret = "{"0123456789" * 4}"\n'
            f'client_id = "lab"\nclient_secret = "s3cret"\n'
            f'server_metadata_url = "{issuer}/.well-known/openid-configuration"\n'
        )
        serving = server(STREAMLIT_SECRETS_FILES=str(tmp_path / "secrets.toml"), COME_ALLOWED_USERS="@lab.example")
        for path in ("", "/run", "/learn"):
            page.goto(f"{serving.url}{path}")
            assert page.locator("[data-testid=stApp]").count() == 0
            assert page.get_by_role("button").count() == 1
        page.get_by_role("button", name="Sign in").click()
        if mail.startswith("mallory"):
            page.get_by_text("mallory@evil.example may not come in.").wait_for()
            assert page.locator("[data-testid=stApp]").count() == 0
            return
        page.get_by_role("button", name="Run the demo").wait_for()
        page.goto(f"{serving.url}/learn")
        page.locator(".js-plotly-plot").first.wait_for()
        page.goto(f"{serving.url}/sign-out")
        page.get_by_role("button", name="Sign in").wait_for()


@contextmanager
def provider(mail: str) -> Iterator[str]:
    """An OpenID Connect provider that takes everybody for one person; gives its address."""
    from joserfc import jwk, jwt

    key = jwk.RSAKey.generate_key(2048, {"kid": "one"})
    codes: dict[str, dict[str, str]] = {}

    def issuer(request: Request) -> str:
        return str(request.base_url).rstrip("/")

    def metadata(request: Request) -> JSONResponse:
        at = issuer(request)
        ends = {"authorization": "authorize", "token": "token", "userinfo": "userinfo"}
        return JSONResponse(
            {
                "issuer": at,
                **{f"{name}_endpoint": f"{at}/{path}" for name, path in ends.items()},
                "jwks_uri": f"{at}/keys",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "code_challenge_methods_supported": ["S256"],
            }
        )

    def authorize(request: Request) -> RedirectResponse:
        asked = dict(request.query_params)
        codes[code := f"code-{len(codes)}"] = asked
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}")

    async def token(request: Request) -> JSONResponse:
        from urllib.parse import parse_qs

        asked = codes.pop(parse_qs((await request.body()).decode())["code"][0])
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": issuer(request), "sub": "1", "aud": asked["client_id"], "iat": now, "exp": now + 300,
            "nonce": asked.get("nonce"), "email": mail, "email_verified": True,
        }  # fmt: skip
        signed = jwt.encode({"alg": "RS256", "kid": "one"}, claims, key)
        return JSONResponse({"access_token": "a", "token_type": "Bearer", "expires_in": 300, "id_token": signed})

    def keys(request: Request) -> JSONResponse:
        return JSONResponse({"keys": [json.loads(json.dumps(key.as_dict(private=False)))]})

    routes = [
        Route("/.well-known/openid-configuration", metadata),
        Route("/authorize", authorize),
        Route("/token", token, methods=["POST"]),
        Route("/keys", keys),
    ]
    with listening(routes) as url:
        yield url


@contextmanager
def listening(routes: list[Route]) -> Iterator[str]:
    """A small server in a thread; gives its address."""
    port = free_port()
    running = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), port=port, log_level="warning"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started and thread.is_alive():
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    running.should_exit = True
    thread.join(20)
