"""Who may speak to the server, and what its pages may do. Around `Guard`, which checks hosts and origins.

- A change must come from our own pages, or from a program: browsers say so in `Sec-Fetch-Site` and `Origin`.
- Where a token is asked for, every request has it: in a cookie that scripts cannot read and that no other site's
  request carries, or as ``Authorization: Bearer TOKEN``.
- Every answer has a content security policy: pages load only what this server has.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from jukebox_core.errors import ConfigError
from pipelines.orchestration.password import own_password

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "jukebox"
ENTER = "/enter"
OPEN = frozenset({ENTER, "/static/style.css", "/static/icon.svg"})  # what is answered without a token
MOST_BODY = 1 << 20  # bytes of a request, but for uploads
UPLOADS = "/api/prompts"
_SAFE = frozenset({"GET", "HEAD"})
_YEAR = 365 * 24 * 3600
_DAY = 24 * 3600

VARIABLE = "JUKEBOX_WEB_TOKEN"
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,200}")  # what a cookie and a header hold as it is

Headers = dict[bytes, bytes]


def own_token(folder: Path) -> str:
    """Returns the token of the server of a folder: the user's variable, or that in the folder's file ``password``.

    Raises:
        ConfigError: the variable holds what is no token; the message does not show it.
        OSError: the file cannot be read or written.
    """
    given = os.environ.get(VARIABLE)
    if given and not _TOKEN.fullmatch(given):
        raise ConfigError(
            f"{VARIABLE} has {len(given)} characters, or others than letters, digits and ._~+/=-; give 16 to 200 of "
            "these, or unset it: then a token is made"
        )
    return given or own_password(folder, VARIABLE).rpartition(":")[2]


def policy(nonce: str) -> str:
    """Returns the content security policy of a page; `nonce` allows the styles of the wave, which it makes itself."""
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data: blob:; "
        "media-src 'self' blob:; connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    )


class Access:
    """An ASGI application that refuses who lacks the token, foreign changes and large bodies, and passes on others."""

    def __init__(self, app: ASGIApp, token: str | None, most_upload: int) -> None:
        """Protects `app`.

        Args:
            app: the application.
            token: that every request needs; None: none.
            most_upload: bytes of an upload.
        """
        self._app, self._token, self._most_upload = app, token, most_upload

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no WebSockets
            await send({"type": "websocket.close", "code": 1008, "reason": "no WebSockets here"})
            return
        headers: Headers = dict(scope["headers"])
        scope["state"] = {**scope.get("state", {}), "nonce": (nonce := secrets.token_urlsafe(16))}
        sending = _secured(send, nonce)
        if scope["path"] == ENTER and self._token is not None:
            await self._enter(scope, receive, sending)
            return
        refusal = self._refusal(scope, headers)
        if refusal is None:
            await self._app(scope, receive, sending)
        elif refusal[0] == 401 and b"text/html" in headers.get(b"accept", b""):
            await _answer(sending, 303, b"", [(b"location", ENTER.encode())])
        else:
            body = json.dumps({"error": "AccessError", "message": refusal[1], "problems": []}).encode()
            await _answer(sending, refusal[0], body, [(b"content-type", b"application/json")])

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        """Returns status and reason with which a request is refused; None if it is not."""
        site, method = headers.get(b"sec-fetch-site", b"none"), scope["method"]
        if site not in (b"same-origin", b"none") and not (method in _SAFE and scope["path"] == "/"):
            return 403, "this server does not answer to pages of other sites"
        if self._token is not None and scope["path"] not in OPEN and not self._has_token(headers):
            return 401, "this server asks for its token: open the address that `jukebox web` printed"
        if method in _SAFE:
            return None
        most = self._most_upload if scope["path"] == UPLOADS else MOST_BODY
        if b"transfer-encoding" in headers:
            return 411, "send the length of the body with it (Content-Length)"
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > most:
            return 413, f"the body has {length.decode('latin-1')[:20]} bytes; at most {most:,} are taken"
        return None

    def _has_token(self, headers: Headers) -> bool:
        given = headers.get(b"authorization", b"").decode("latin-1")
        scheme, _, bearer = given.partition(" ")
        if scheme.lower() == "bearer" and self._is_token(bearer.strip()):
            return True
        try:
            cookies = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1"))
        except CookieError:
            return False
        return COOKIE in cookies and self._is_token(cookies[COOKIE].value)

    def _is_token(self, given: str) -> bool:
        assert self._token is not None
        return secrets.compare_digest(given.encode("utf-8", "replace"), self._token.encode())

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers the page that asks for the token, and the form on it; the printed address fills it in."""
        given = None
        if scope["method"] in _SAFE:
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [None])[0]
        elif scope["method"] == "POST":
            given = parse_qs((await _body(receive, 4096)).decode("latin-1")).get("token", [""])[0]
        if given is not None and self._is_token(given.strip()):
            cookie = f"{COOKIE}={self._token}; HttpOnly; SameSite=Strict; Path=/; Max-Age={30 * _DAY}"
            await _answer(send, 303, b"", [(b"location", b"/"), (b"set-cookie", cookie.encode())])
            return
        from pipelines.web.pages import enter_page

        body = enter_page(wrong=given is not None).encode()
        status = 200 if given is None else 401
        await _answer(send, status, body, [(b"content-type", b"text/html; charset=utf-8")])


def _secured(send: Send, nonce: str) -> Send:
    """Returns `send` with the headers that every answer has."""
    always = [
        (b"content-security-policy", policy(nonce).encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"permissions-policy", b"camera=(), geolocation=(), microphone=(self)"),
    ]

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message["headers"]}
            caching = [] if b"cache-control" in given else [(b"cache-control", b"no-store")]
            message = {**message, "headers": [*message["headers"], *always, *caching]}
        await send(message)

    return sending


async def _answer(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


async def _body(receive: Receive, most: int) -> bytes:
    """Returns the first `most` bytes of a request's body."""
    body, more = b"", True
    while more and len(body) < most:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body[:most]
