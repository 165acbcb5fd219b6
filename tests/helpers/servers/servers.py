"""Servers on this machine that can misbehave: a web server for downloads, S3, and a gate in front of any of them."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass
class Site:
    """The files of the server and its faults; may be changed at any time."""

    files: dict[str, bytes]
    statuses: list[int] = field(default_factory=list)  # one a request, 0 for a proper answer; then proper answers
    cut_after: int | None = None  # close the connection after so many bytes of a body
    cuts: int = 10**9  # how often to do so
    stall_after: int | None = None  # fall silent after so many bytes of a body, once
    ignore_range: bool = False
    content_length: bool = True
    etag: str | None = "v1"
    delay: float = 0.0  # seconds before each answer
    accept_ranges: bool = False  # announce that ranges are supported
    rate: float | None = None  # bytes a second of each connection
    flip_bit: int | None = None  # of the whole file, always
    headers: dict[str, str] = field(default_factory=dict)  # sent with every answer
    redirects: dict[str, tuple[str, dict[str, str]]] = field(default_factory=dict)  # path: where to, and headers
    post: Callable[[str, bytes], bytes] | None = None  # answers POST
    seen: list[dict[str, str]] = field(default_factory=list)  # headers of each request
    sent: int = 0  # bytes of bodies
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
        site.seen.append(dict(self.headers))
        time.sleep(site.delay)
        if self.path in site.redirects:
            target, headers = site.redirects[self.path]
            self.send_response(302)
            for name, value in {"Location": target, "Content-Length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            return
        status = site.statuses.pop(0) if site.statuses else 0
        content = site.files.get(self.path.partition("?")[0].lstrip("/"))
        if status or content is None:
            self.send_error(status or 404)
            return
        if site.flip_bit is not None:
            changed = bytearray(content)
            changed[site.flip_bit // 8] ^= 1 << site.flip_bit % 8
            content = bytes(changed)
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted or "") if not site.ignore_range else None
        start = int(span[1]) if span else 0
        stop = min(int(span[2]) + 1, len(content)) if span and span[2] else len(content)
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self._finish_headers(0)
            return
        self.send_response(206 if span else 200)
        if span:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self._finish_headers(stop - start)
        self._send(site, content[start:stop])

    def do_POST(self) -> None:
        site = self.server.site
        site.requests.append((self.path, None))
        site.seen.append(dict(self.headers))
        assert site.post is not None
        answer = site.post(self.path, self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _finish_headers(self, length: int) -> None:
        if self.server.site.content_length:
            self.send_header("Content-Length", str(length))
        if self.server.site.etag:
            self.send_header("ETag", self.server.site.etag)
        if self.server.site.accept_ranges:
            self.send_header("Accept-Ranges", "bytes")
        for name, value in self.server.site.headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, site: Site, body: bytes) -> None:
        if site.stall_after is not None and len(body) > site.stall_after:
            body, silent = body[: site.stall_after], True
            site.stall_after = None
        else:
            silent = False
            if site.cut_after is not None and site.cuts > 0 and len(body) > site.cut_after:
                site.cuts -= 1
                body = body[: site.cut_after]
        step = len(body) if site.rate is None else max(int(site.rate / 50), 1)
        for at in range(0, len(body), max(step, 1)):
            self.wfile.write(body[at : at + step])
            site.sent += len(body[at : at + step])
            if site.rate is not None:
                time.sleep(step / site.rate)
        if silent:
            self.wfile.flush()
            self.server.closing.wait(30)

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


class S3Server:
    """An S3 server on loopback, in a process of its own; its content is in memory.

    `url` is its address; `environment` is what a client needs in its environment.
    """

    def __init__(self, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", self.url.rpartition(":")[2]]
        with log.open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        for _ in range(600):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/moto-api/", timeout=2):
                return
            assert self._process.poll() is None, "the S3 server did not start"
            time.sleep(0.1)
        raise AssertionError("the S3 server does not answer")

    def make_bucket(self, name: str) -> None:
        """Makes an empty bucket."""
        self.ask("PUT", f"/{name}")

    def ask(self, method: str, path: str, body: bytes = b"") -> None:
        """Makes a request that needs no signature."""
        request = urllib.request.Request(self.url + path, body, method=method)
        request.add_header("Content-Type", "text/plain")
        request.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=testing/20260101/us-east-1/s3/aws4_request")
        with urllib.request.urlopen(request, timeout=20):
            pass

    def stop(self) -> None:
        """Kills the server."""
        self._process.kill()
        self._process.wait()


@dataclass
class Gate:
    """A gate in front of a server; `mode` says how it behaves, and may be changed at any time.

    ``pass``; ``refuse`` (no answer, the connection is closed); ``500`` and other statuses; ``stall`` (silence);
    ``slow`` (answers after `delay` seconds); ``lose`` (the server gets the request, and its answer is lost);
    ``cut`` (half of the answer's body).
    """

    behind: str  # the server's address
    mode: str = "pass"
    times: int = 10**9  # requests that `mode` is for; then "pass"
    delay: float = 1.0
    requests: list[str] = field(default_factory=list)  # method and path of each
    url: str = ""


class _GateServer(ThreadingHTTPServer):
    daemon_threads = True
    gate: Gate
    closing: threading.Event

    def handle_error(self, *args: object) -> None:
        """Keeps tests quiet where a client hangs up, as it may."""


class _GateHandler(BaseHTTPRequestHandler):
    server: _GateServer
    protocol_version = "HTTP/1.1"

    def _handle(self) -> None:
        gate = self.server.gate
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        gate.requests.append(f"{self.command} {self.path}")
        mode = gate.mode if gate.times > 0 else "pass"
        gate.times -= mode != "pass"
        if mode == "refuse":
            self.close_connection = True
        elif mode == "stall":
            self.close_connection = True
            while not self.server.closing.wait(0.05) and gate.mode == "stall":
                pass
        elif mode.isdigit():
            name = {"500": "InternalError", "503": "SlowDown", "403": "AccessDenied"}.get(mode, "Other")
            answer = b"" if self.command == "HEAD" else f"<Error><Code>{name}</Code></Error>".encode()
            self._answer(int(mode), {"Content-Type": "application/xml"}, answer)
        else:
            self._forward(gate, mode, body)

    def _forward(self, gate: Gate, mode: str, body: bytes) -> None:
        if mode == "slow" and self.server.closing.wait(gate.delay):
            return
        host = gate.behind.rpartition("//")[2]
        connection = http.client.HTTPConnection(host, timeout=30)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            connection.request(self.command, self.path, body, headers)
            response = connection.getresponse()
            content = response.read()
            if mode == "lose":
                self.close_connection = True
                return
            self._answer(response.status, dict(response.getheaders()), content, cut=mode == "cut")
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes, *, cut: bool = False) -> None:
        self.send_response(status)
        length = None
        for name, value in headers.items():
            if name.lower() == "content-length":
                length = value  # in the answer to HEAD: the length of the body that GET would send
            elif name.lower() not in ("connection", "transfer-encoding", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)) if body or length is None else length)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = self.close_connection or cut

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _handle

    def log_message(self, *args: object) -> None:
        """Keeps tests quiet."""


@contextmanager
def gate_before(server: str) -> Iterator[Gate]:
    """A gate on a free port of the loopback interface, while the block runs."""
    gate_server = _GateServer(("127.0.0.1", 0), _GateHandler)
    gate_server.gate = Gate(server, url=f"http://127.0.0.1:{gate_server.server_address[1]}")
    gate_server.closing = threading.Event()
    thread = threading.Thread(target=gate_server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield gate_server.gate
    finally:
        gate_server.closing.set()
        gate_server.shutdown()
        gate_server.server_close()
        thread.join()
