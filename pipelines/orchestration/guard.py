"""Who may speak to a server of ours: requests that use its own names, from its own pages or from no page at all.

A browser sends the requests of every page that is open in it, to loopback too. Such a request gives itself away by its
`Origin`, or, if the page has bound a name of its own to our address (DNS rebinding), by its `Host`. Imports no Prefect.
"""

from __future__ import annotations

import json
import re
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
WILDCARDS = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - compared with, not bound
_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\s:\[\]/@]+))(?::\d{1,5})?")


def own_names(host: str, origins: Iterable[str] = ()) -> frozenset[str]:
    """Returns the names, in lower case, under which a server that listens at `host` may be addressed.

    Args:
        host: the address that it is bound to; one of `WILDCARDS` stands for all addresses of this machine.
        origins: further origins, such as ``https://songs.example``, of a proxy in front of the server.
    """
    names = set(LOOPBACK) | {name for origin in origins if (name := urlsplit(origin).hostname)}
    if host in WILDCARDS:
        names |= {socket.gethostname(), socket.getfqdn()}
        names |= {address.address for each in psutil.net_if_addrs().values() for address in each}
    else:
        names.add(host)
    return frozenset(name.lower() for name in names)


class Guard:
    """An ASGI application that refuses requests of strangers, and passes the others on."""

    def __init__(self, app: ASGIApp, host: str, origins: Iterable[str] = ()) -> None:
        """Guards `app`; `host` and `origins` as in `own_names`. An origin ``*`` allows nobody."""
        self._app = app
        self._origins = frozenset(origin.strip().lower().rstrip("/") for origin in origins) - {"*", ""}
        self._names = own_names(host, self._origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request or WebSocket: those that are refused get status 421 (host) or 403 (origin)."""
        refusal = self.refusal(scope) if scope["type"] in ("http", "websocket") else None
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refusal[1]})
        else:
            body = json.dumps({"detail": refusal[1]}).encode()
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": refusal[0], "headers": headers})
            await send({"type": "http.response.body", "body": body})

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Returns status and reason with which a request is refused; None if it is not."""
        hosts = [value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"host"]
        fits = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
        if fits is None or (fits[1] or fits[2]).rstrip(".") not in self._names:
            return 421, "this server does not answer to that host"
        for origin in (value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"origin"):
            scheme, _, rest = origin.partition("://")
            own = scheme in ("http", "https") and rest == hosts[0]
            if not own and origin not in self._origins:
                return 403, "this server does not answer to pages of other origins"
        return None
