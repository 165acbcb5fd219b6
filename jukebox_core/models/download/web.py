"""One HTTP request for one file, or a range of it. Imports no torch."""

from __future__ import annotations

import base64
import binascii
import http.client
import io
import re
import socket
import urllib.error
import urllib.parse
import urllib.request
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jukebox_core.models.download.replies import Read, Reply, SourceError, guarded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from email.message import Message

READ_TIMEOUT = 30.0  # seconds without a byte; a whole download may take hours

_FINAL_STATUSES = frozenset({400, 401, 403, 404, 405, 410, 451})  # asking again gives the same answer
_NOTHING_LEFT = http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
_AGENT = {"User-Agent": "jukebox-pipelines", "Accept-Encoding": "identity"}
_SHA256 = re.compile(r'(?:W/)?"?([0-9a-f]{64})"?')


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, and keeps the digest that the hub states in the answer that redirects."""

    linked: str | None = None

    def redirect_request(self, request: Any, file: Any, code: Any, message: Any, headers: Any, url: Any) -> Any:
        self.linked = headers.get("X-Linked-Etag") or self.linked
        return super().redirect_request(request, file, code, message, headers, url)


def request(url: str, headers: Mapping[str, str], data: bytes | None = None) -> urllib.request.Request:
    """Returns a request; `headers`, and user and password in `url`, go to its host only, not after a redirect."""
    parts = urllib.parse.urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    made = urllib.request.Request(parts._replace(netloc=host).geturl(), data, _AGENT)  # noqa: S310 (http and https)
    if at:
        made.add_unredirected_header(
            "Authorization", f"Basic {base64.b64encode(urllib.parse.unquote(user).encode()).decode()}"
        )
    for name, value in headers.items():
        # Redirects lead to a store with signed addresses, which must not see, and refuses, other credentials.
        (made.add_header if name == "Range" else made.add_unredirected_header)(name, value)
    return made


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer of a server: status 200, 206 or 416, and a body to read."""

    status: int
    headers: Message
    read: Read
    linked: str | None  # the ETag in the hub's redirect


@contextmanager
def connected(made: urllib.request.Request) -> Iterator[Answer]:
    """Yields the answer to a request; raises `SourceError`."""
    redirects = _Redirects()
    try:
        response = urllib.request.build_opener(redirects).open(made, timeout=READ_TIMEOUT)
    except urllib.error.HTTPError as error:
        with closing(error):
            if error.code != _NOTHING_LEFT:
                raise SourceError(f"HTTP {error.code} {error.reason}", final=error.code in _FINAL_STATUSES) from error
            yield Answer(error.code, error.headers, io.BytesIO().read, redirects.linked)
            return
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise SourceError(f"no answer ({reason})", unknown=isinstance(reason, socket.gaierror)) from error
    with closing(response):
        # Only what has arrived is read at a time, so that a break loses none of it.
        yield Answer(response.status, response.headers, guarded(response.read1), redirects.linked)


@contextmanager
def open_web(
    url: str, start: int, stop: int | None = None, *, headers: Mapping[str, str] | None = None
) -> Iterator[Reply]:
    """Yields the file at `url` from byte `start` on, up to `stop`; from byte 0 if the server ignores Range."""
    sent = dict(headers or {})
    if start or stop is not None:
        sent["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
    with connected(request(url, sent)) as answer:
        yield _nothing_left(answer, start) if answer.status == _NOTHING_LEFT else _reply(answer)


def without_secrets(url: str) -> str:
    """Returns the address without user, password, query and fragment, which can be secrets."""
    try:
        parts = urllib.parse.urlsplit(url)
        _ = parts.port
    except ValueError:  # no address, or a password with a slash; what is wrong with it is said where it is opened
        before, at, after = url.rpartition("@")
        scheme, slashes, _ = before.partition("://")
        return f"{scheme}{slashes if at else ''}{after}".partition("?")[0]
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def below(base: str, path: str) -> str:
    """Returns the address of the file `path` below `base`, whose query stays."""
    parts = urllib.parse.urlsplit(base)
    return parts._replace(path=f"{parts.path.rstrip('/')}/{urllib.parse.quote(path)}").geturl()


def _reply(answer: Answer) -> Reply:
    headers, length = answer.headers, answer.headers.get("Content-Length")
    if answer.status == http.HTTPStatus.PARTIAL_CONTENT:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
        if span is None:
            raise SourceError("answered with a part but did not say which", final=True)
        total = None if span[2] == "*" else int(span[2])
        digest = _digest(answer.linked, None)
        return Reply(answer.read, int(span[1]), total, _version(answer), ranges=True, digest=digest)
    total = int(length) if length and length.isdigit() else None
    ranges, digest = headers.get("Accept-Ranges") == "bytes", _digest(answer.linked, headers.get("Content-MD5"))
    return Reply(answer.read, 0, total, _version(answer), ranges=ranges, digest=digest)


def _version(answer: Answer) -> str | None:
    return answer.linked or answer.headers.get("ETag") or answer.headers.get("Last-Modified")


def _digest(linked: str | None, md5: str | None) -> tuple[str, str] | None:
    """Returns algorithm and digest that a server states: the hub's sha256, or a store's MD5."""
    if linked and (found := _SHA256.fullmatch(linked)):
        return "sha256", found[1]
    try:
        return ("md5", base64.b64decode(md5, validate=True).hex()) if md5 else None
    except binascii.Error:
        return None


def _nothing_left(answer: Answer, start: int) -> Reply:
    """Returns the reply to a request beyond the end: no bytes, but the size, which shows a part that is too long."""
    span = re.fullmatch(r"bytes \*/(\d+)", answer.headers.get("Content-Range", ""))
    return Reply(answer.read, start, int(span[1]) if span else None, _version(answer), ranges=True)
