"""Who may come in, where that is asked: a shared password, or an account at an OpenID Connect provider.

Before that nothing is answered but the sign-in page: no page, no link, no download, no upload, no websocket. Accounts
are Streamlit's own login (the section [auth] of secrets.toml); its cookie is what tells who is signed in.
"""

from __future__ import annotations

import hmac
import json
import logging
import os
import re
import secrets
import time
import tomllib
from collections import deque
from dataclasses import dataclass, field
from hashlib import sha256
from html import escape
from pathlib import Path
from urllib.parse import parse_qsl, quote

import streamlit as st
from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.server.addresses import base_path
from come.errors import ComeError
from come.serving.password import PASSWORD, check_password

USERS = "COME_ALLOWED_USERS"  # mail addresses, or "@example.org" for all of one domain, with commas or blanks between
AT, OUT = "/sign-in", "/sign-out"
COOKIE = "come_sign_in"
_SIGNED_OUT = 1008  # of RFC 6455: against the policy
SHORTEST_SECRET = 32  # characters; it signs the cookies
SECONDS_SIGNED_IN = 24 * 3600
LONGEST_FORM = 4096  # bytes
TRIES, TRIES_OF_ALL, SECONDS_OF_TRIES = 10, 100, 60.0
PROVIDER = ("client_id", "client_secret", "server_metadata_url")
OPEN_TO_ALL = ("/_stcore/health",)  # whether it lives
OF_PROVIDERS = ("/auth/login", "/auth/logout", "/oauth2callback")  # Streamlit's
_HERE = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f]*")  # a path of this server
# The page's own colours (.streamlit/config.toml), as Streamlit is not there before one is in.
_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sign in · CoMe Lab</title><style>
:root {{ color-scheme: light; --page: #f4f6f8; --card: #fff; --ink: #1a2330; --line: #dde2e8; --accent: #1f66b0;
  --on-accent: #fff; }}
@media (prefers-color-scheme: dark) {{ :root {{ color-scheme: dark; --page: #11161d; --card: #1a212b; --ink: #e4e9ef;
  --line: #2d3642; --accent: #6cb2f5; --on-accent: #11161d; }} }}
body {{ font: 15px/1.5 "Source Sans", "Segoe UI", system-ui, sans-serif; background: var(--page); color: var(--ink);
  margin: 0; min-height: 100vh; display: grid; place-items: start center; }}
main {{ box-sizing: border-box; width: min(23rem, calc(100vw - 2rem)); margin-top: 18vh; padding: 1.75rem 2rem;
  background: var(--card); border: 1px solid var(--line); border-radius: 8px; }}
h1 {{ margin: 0 0 1rem; font-size: 1.4rem; font-weight: 650; }}
svg {{ display: block; width: 2.6rem; height: 1.7rem; margin-bottom: .75rem; }}
input, button, .button {{ font: inherit; box-sizing: border-box; width: 100%; padding: .5rem .75rem; border-radius: 6px;
  border: 1px solid var(--line); background: none; color: inherit; }}
input {{ margin: .25rem 0 1rem; background: var(--page); }}
:focus-visible {{ outline: 2px solid var(--accent); outline-offset: 1px; }}
button, .button {{ display: block; text-align: center; text-decoration: none; cursor: pointer; font-weight: 600; }}
button {{ background: var(--accent); border-color: var(--accent); color: var(--on-accent); }}
.button {{ margin: .5rem 0; }}
</style></head><body><main><svg viewBox="0 0 39 28" aria-hidden="true"><rect x="1" y="3" width="10" height="22" rx="2.5"
fill="#3d5fc4"/><path d="M14 5.5a2.5 2.5 0 0 1 2.5-2.5H19v22h-2.5a2.5 2.5 0 0 1-2.5-2.5z" fill="#56b0a5"/><path
d="M19 3h2.5a2.5 2.5 0 0 1 2.5 2.5v17a2.5 2.5 0 0 1-2.5 2.5H19z" fill="#e3b04b"/><rect x="27" y="3" width="10"
height="22" rx="2.5" fill="#b8506f"/></svg><h1>CoMe Lab</h1>{body}</main></body></html>"""


class SignIn:
    """ASGI middleware: lets in who is signed in; without a password and accounts, everybody."""

    def __init__(self, app: ASGIApp, door: Password | Accounts | None) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or ask to sign in."""
        if scope["type"] not in ("http", "websocket") or self._door is None:
            return await self._app(scope, receive, send)
        path = str(scope["path"]).removeprefix(base_path())
        if path in OPEN_TO_ALL or path in self._door.passes:
            return await self._app(scope, receive, send)
        if scope["type"] == "http" and path in (AT, OUT):
            answer = await self._door.answer(Request(scope, receive), path)
            return await answer(scope, receive, send)
        refusal = self._door.refusal(HTTPConnection(scope))
        if refusal is None:
            if scope["type"] == "websocket":
                receive = self._while_signed_in(scope, receive, send)
            return await self._app(scope, receive, send)
        if scope["type"] == "websocket" or "text/html" not in HTTPConnection(scope).headers.get("accept", ""):
            refusal = PlainTextResponse("Sign in first.", 401)
        await refusal(scope, receive, send)

    def _while_signed_in(self, scope: Scope, receive: Receive, send: Send) -> Receive:
        """What a tab says, until its sign-in has ended: then it is cut off, wherever that was ended."""
        door = self._door
        assert door is not None

        async def heard() -> Message:
            message = await receive()
            if message["type"] == "websocket.receive" and door.refusal(HTTPConnection(scope)) is not None:
                await send({"type": "websocket.close", "code": _SIGNED_OUT})
                return {"type": "websocket.disconnect", "code": _SIGNED_OUT}
            return message

        return heard


@dataclass
class Password:
    """One password for all. Its digest is kept, not itself; a restart signs everybody out.

    Attributes:
        digest: SHA-256 of the password.
        key: signs the cookies.
        failed: when somebody was wrong, by address; "" for all together.
        ended: sign-ins that somebody has ended, with the time when they would have.
    """

    digest: bytes
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    failed: dict[str, deque[float]] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    passes: tuple[str, ...] = ()

    async def answer(self, request: Request, path: str) -> Response:
        """Let in, or out."""
        if path == OUT or request.method != "POST":
            answer: Response = RedirectResponse(f"{base_path()}/", 303)
            if path == OUT:
                self._end(request)
                answer.delete_cookie(COOKIE, path=f"{base_path()}/")
            return answer
        form = await _form(request)
        if form is None:
            return _password_page("", "That is longer than any password.", 413)
        after = form.get("next", "")
        address, now = _address(request), time.monotonic()
        if self._too_many(address, now):
            return _password_page(after, "Too many tries. Wait a minute, then try again.", 429)
        if not hmac.compare_digest(sha256(form.get("password", "").encode()).digest(), self.digest):
            logging.getLogger("come.sign_in").warning("A wrong password, from %s.", address)
            for who in ("", address):
                self.failed.setdefault(who, deque()).append(now)
            return _password_page(after, "That is not the password.", 403)
        answer = RedirectResponse(after if _HERE.fullmatch(after) else f"{base_path()}/", 303)
        cookie = self._signed(str(int(time.time()) + SECONDS_SIGNED_IN), secrets.token_hex(8))
        secure = request.url.scheme == "https"
        answer.set_cookie(
            COOKIE, cookie, SECONDS_SIGNED_IN, path=f"{base_path()}/", secure=secure, httponly=True, samesite="lax"
        )
        return answer

    def refusal(self, asked: HTTPConnection) -> Response | None:
        """The sign-in page; None for who is signed in."""
        if self._sign_in_of(asked) is not None:
            return None
        return _password_page(_address_of_page(asked), "", 401)

    def _sign_in_of(self, asked: HTTPConnection) -> tuple[str, int] | None:
        """The name of a sign-in that holds, and when it ends (unix seconds)."""
        expires, _, rest = asked.cookies.get(COOKIE, "").partition(".")
        name = rest.partition(".")[0]
        known = hmac.compare_digest(self._signed(expires, name).encode(), f"{expires}.{rest}".encode())
        holds = known and expires.isdecimal() and int(expires) > time.time() and name not in self.ended
        return (name, int(expires)) if holds else None

    def _end(self, asked: HTTPConnection) -> None:
        """End a sign-in, also for who has copied its cookie. Forgets those that are over anyway."""
        self.ended = {name: expires for name, expires in self.ended.items() if expires > time.time()}
        if (found := self._sign_in_of(asked)) is not None:
            self.ended[found[0]] = found[1]

    def _signed(self, expires: str, name: str) -> str:
        return f"{expires}.{name}.{hmac.digest(self.key, f'{expires}.{name}'.encode(), 'sha256').hex()}"

    def _too_many(self, address: str, now: float) -> bool:
        """Whether this address, or all together, were wrong too often lately. Forgets what is older."""
        for who in list(self.failed):
            times = self.failed[who]
            while times and now - times[0] > SECONDS_OF_TRIES:
                times.popleft()
            if not times:
                del self.failed[who]
        return len(self.failed.get(address, ())) >= TRIES or len(self.failed.get("", ())) >= TRIES_OF_ALL


@dataclass
class Accounts:
    """Accounts at providers.

    Attributes:
        providers: their names in [auth]; "default" is [auth] itself.
        origin: this server's, as the provider knows it.
        users: who may come in: mail addresses and "@domain", lower case; empty: whoever has an account.
    """

    providers: tuple[str, ...]
    origin: str
    users: frozenset[str]
    passes: tuple[str, ...] = OF_PROVIDERS

    async def answer(self, request: Request, path: str) -> Response:
        """Send to a provider, or sign out."""
        from streamlit.auth_util import encode_provider_token

        if path == OUT:
            return RedirectResponse(f"{base_path()}/auth/logout", 303)
        provider = request.query_params.get("with", "")
        if provider not in self.providers:
            return RedirectResponse(f"{base_path()}/", 303)
        # Made at the press: it lasts two minutes, and a sign-in page may be open for longer.
        return RedirectResponse(f"{base_path()}/auth/login?provider={quote(encode_provider_token(provider))}", 303)

    def refusal(self, asked: HTTPConnection) -> Response | None:
        """The sign-in page, or that this account may not come in; None for who is signed in."""
        user = self._user(asked)
        if user is None:
            buttons = "".join(
                # A link: a browser does not follow a form to another site, which our policy forbids.
                f"<a class='button' role='button' href='{base_path()}{AT}?with={quote(name)}'>Sign in"
                f"{'' if name == 'default' else f' with {escape(name)}'}</a>"
                for name in self.providers
            )
            return HTMLResponse(_PAGE.format(body=f"<p>This page is for those who sign in.</p>{buttons}"), 401)
        mail = str(user.get("email") or "").lower()
        domain = f"@{mail.rpartition('@')[2]}"
        verified = user.get("email_verified") in (None, True, "true")
        if not self.users or (verified and mail and not self.users.isdisjoint((mail, domain))):
            return None
        body = (
            f"<p>{escape(mail) or 'This account'} may not come in.</p><p><a href='{base_path()}{OUT}'>Sign out</a></p>"
        )
        return HTMLResponse(_PAGE.format(body=body), 403)

    def _user(self, asked: HTTPConnection) -> dict[str, object] | None:
        """Who Streamlit's cookie says is signed in, by its signature."""
        from streamlit.web.server.starlette import starlette_websocket as cookies

        try:
            signed = cookies._get_signed_cookie_with_chunks(asked.cookies, cookies.USER_COOKIE_NAME)
            user = json.loads(signed) if signed else None
        except (ValueError, UnicodeError):
            return None
        if not isinstance(user, dict) or user.get("is_logged_in") is not True or user.get("origin") != self.origin:
            return None
        return user


def door() -> Password | Accounts | None:
    """How one comes in; None where everybody may. A password leaves the environment, which runs inherit.

    Raises:
        ComeError: what is configured would not keep anybody out.
    """
    check_password(os.environ)
    password, auth = os.environ.pop(PASSWORD, None), _auth_section()
    if password is not None and auth:
        raise ComeError(f"Both {PASSWORD} and [auth] in secrets.toml are set: leave one out.")
    if password is not None:
        return Password(sha256(password.encode()).digest())
    users = frozenset(os.environ.get(USERS, "").replace(",", " ").lower().split())
    if not auth:
        if users:
            raise ComeError(f"{USERS} is set, but no [auth] in secrets.toml: nobody could sign in.")
        return None
    return Accounts(_providers(auth), _origin(auth), users)


def is_wanted() -> bool:
    """Whether somebody has to sign in, as far as this process's settings say."""
    return PASSWORD in os.environ or bool(_auth_section())


def _auth_section() -> dict[str, object]:
    """[auth] of Streamlit's secrets; a later file's counts. A file that cannot be read opens no door."""
    section: dict[str, object] = {}
    for file in map(Path, st.get_option("secrets.files") or ()):
        if file.is_file():
            try:
                section = tomllib.loads(file.read_text("utf-8")).get("auth", section)
            except (OSError, ValueError) as error:
                raise ComeError(f"{file} cannot be read: {error}.") from None
    if not isinstance(section, dict):
        raise ComeError("auth in secrets.toml is no section: begin it with [auth].")
    return section


def _providers(auth: dict[str, object]) -> tuple[str, ...]:
    found = {name: part for name, part in auth.items() if isinstance(part, dict) and name != "client_kwargs"}
    if any(key in auth for key in PROVIDER):
        found["default"] = auth
    for name, part in found.items():
        if missing := [key for key in PROVIDER if not part.get(key)]:
            raise ComeError(f"[auth] in secrets.toml lacks {' and '.join(missing)} of the provider {name}.")
    if not found:
        raise ComeError(f"[auth] in secrets.toml names no provider: it needs {', '.join(PROVIDER)}.")
    return tuple(found)


def _origin(auth: dict[str, object]) -> str:
    from streamlit.auth_util import get_origin_from_redirect_uri, is_authlib_installed

    if not is_authlib_installed():
        raise ComeError("Signing in with an account needs Authlib: pip install Authlib httpx.")
    if len(str(auth.get("cookie_secret") or "")) < SHORTEST_SECRET:
        raise ComeError(f"cookie_secret in [auth] of secrets.toml is short: {SHORTEST_SECRET} random characters.")
    if not str(auth.get("redirect_uri") or "").endswith("/oauth2callback"):
        raise ComeError("redirect_uri in [auth] of secrets.toml is this page's address with /oauth2callback behind.")
    return str(get_origin_from_redirect_uri())


async def _form(request: Request) -> dict[str, str] | None:
    """A small form's fields; None where it is too long."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > LONGEST_FORM:
            return None
    return dict(parse_qsl(body.decode("utf-8", errors="replace")))


def _address(request: Request) -> str:
    """Whose tries count together: an IPv4 address, or the network of an IPv6 one."""
    host = request.client.host if request.client else ""
    return ":".join(host.split(":")[:4])


def _address_of_page(asked: HTTPConnection) -> str:
    return asked.url.path + (f"?{asked.url.query}" if asked.url.query else "")


def _password_page(after: str, said: str, status: int) -> HTMLResponse:
    body = (
        f"<form method='post' action='{base_path()}{AT}'><input type='hidden' name='next' value='{escape(after)}'>"
        "<label for='password'>Password</label>"
        "<input id='password' name='password' type='password' autocomplete='current-password' autofocus>"
        f"<button>Sign in</button></form><p role='alert'>{escape(said)}</p>"
    )
    return HTMLResponse(_PAGE.format(body=body), status)
