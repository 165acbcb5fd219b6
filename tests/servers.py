"""A web server on this machine that can misbehave, for tests of downloads."""

from __future__ import annotations

import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Site:
    """What the server holds and how it misbehaves; change it at any time."""

    files: dict[str, bytes]
    statuses: list[int] = field(default_factory=list)  # one a request, 0 for a proper answer; then proper answers
    cut_after: int | None = None  # close the connection after so many bytes of a body
    cuts: int = 10**9  # how often to do so
    stall_after: int | None = None  # fall silent after so many bytes of a body, once
    ignore_range: bool = False
    content_length: bool = True
    etag: str | None = "v1"
    delay: float = 0.0  # seconds before each answer
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # path and Range of each
    url: str = ""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    site: Site
    closing: threading.Event

    def handle_error(self, *args: object) -> None:
        """Keeps tests quiet where a client hangs up, as it may."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        site = self.server.site
        wanted = self.headers.get("Range")
        site.requests.append((self.path, wanted))
        time.sleep(site.delay)
        status = site.statuses.pop(0) if site.statuses else 0
        content = site.files.get(self.path.partition("?")[0].lstrip("/"))
        if status or content is None:
            self.send_error(status or 404)
            return
        span = re.fullmatch(r"bytes=(\d+)-", wanted or "")
        start = int(span[1]) if span and not site.ignore_range else 0
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self._finish_headers(0)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self._finish_headers(len(content) - start)
        self._send(site, content[start:])

    def _finish_headers(self, length: int) -> None:
        if self.server.site.content_length:
            self.send_header("Content-Length", str(length))
        if self.server.site.etag:
            self.send_header("ETag", self.server.site.etag)
        self.end_headers()

    def _send(self, site: Site, body: bytes) -> None:
        if site.stall_after is not None:
            self.wfile.write(body[: site.stall_after])
            self.wfile.flush()
            site.stall_after = None
            self.server.closing.wait(30)
        elif site.cut_after is not None and site.cuts > 0 and len(body) > site.cut_after:
            site.cuts -= 1
            self.wfile.write(body[: site.cut_after])
        else:
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Keeps tests quiet."""


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[Site]:
    """A site on a free port of the loopback interface, while the block runs."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.site = Site(files, url=f"http://127.0.0.1:{server.server_address[1]}")
    server.closing = threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.site
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
