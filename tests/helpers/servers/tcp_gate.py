"""A gate in front of a server on loopback: it passes connections on, keeps silent, answers 503, or is gone."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Mode = Literal["pass", "silent", "busy", "gone"]
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class TcpGate:
    """One gate; `requests` are the first lines of what clients sent, in order."""

    def __init__(self, port: int) -> None:
        self.mode: Mode = "pass"
        self.requests: list[str] = []
        self._target = port
        self._open: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def change(self, mode: Mode) -> None:
        """Changes the mode; connections that are open are cut, except that a silent gate keeps them."""
        self.mode = mode
        if mode == "gone":
            with contextlib.suppress(OSError):
                self._listening.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            self._listening.close()
        if mode != "silent":
            for each in [*self._open]:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Closes what is open, once the gate is gone."""
        for thread in self._threads:
            thread.join(5)
        for each in self._open:
            each.close()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        self._open.append(client)
        if self.mode == "gone":
            client.close()
            return
        server = socket.create_connection(("127.0.0.1", self._target))
        self._open.append(server)
        self._start(self._pump, server, client, False)
        self._pump(client, server, True)

    def _pump(self, source: socket.socket, target: socket.socket, asked: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if asked:
                    self.requests += [line.decode("latin-1") for line in data.split(b"\r\n")[:1] if b" HTTP/1." in line]
                if self.mode == "pass":
                    target.sendall(data)
                elif self.mode == "busy":
                    if asked:
                        source.sendall(_BUSY)
                    source.close()
                    break
        for each in (source, target):
            with contextlib.suppress(OSError):
                if self.mode != "silent":
                    each.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def tcp_gate(port: int) -> Iterator[TcpGate]:
    """A gate in front of the loopback server at `port`, while the block runs."""
    gate = TcpGate(port)
    try:
        yield gate
    finally:
        gate.change("gone")
        gate.close()
