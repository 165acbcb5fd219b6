"""Events for browsers: numbered, the last ones kept, so that a client that was away hears what it missed.

Events are published by any thread. A client that falls behind what is kept gets `reset`: it reads everything again.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEPT = 1000
PING_SECONDS = 15.0  # of silence, after which a comment keeps the connection
MOST_CLIENTS = 200


class Hub:
    """The events of one server."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._events: deque[tuple[int, str, str]] = deque(maxlen=KEPT)
        self._last = 0
        self._waiting: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._closed = False

    @property
    def clients(self) -> int:
        """The number of clients that listen."""
        with self._lock:
            return len(self._waiting)

    @property
    def last(self) -> int:
        """The number of the newest event."""
        with self._lock:
            return self._last

    def publish(self, kind: str, data: dict[str, Any]) -> None:
        """Sends an event to every client, now and when it comes back."""
        text = json.dumps(data, ensure_ascii=False)
        with self._lock:
            self._last += 1
            self._events.append((self._last, kind, text))
            self._wake()

    def close(self) -> None:
        """Ends the streams of all clients."""
        with self._lock:
            self._closed = True
            self._wake()

    async def stream(self, after: int | None) -> AsyncIterator[str]:
        """Yields events in the form of server-sent events; `after` is the number of the last one the client has."""
        news, loop = asyncio.Event(), asyncio.get_running_loop()
        with self._lock:
            self._waiting[news] = loop
            position = self._last if after is None or after > self._last else after
        try:
            yield f"retry: 1000\nid: {position}\nevent: hello\ndata: {{}}\n\n"
            while True:
                news.clear()
                position, texts = self._since(position)
                for text in texts:
                    yield text
                if self._closed:
                    return
                if not texts:
                    try:
                        await asyncio.wait_for(news.wait(), PING_SECONDS)
                    except TimeoutError:
                        yield ": still here\n\n"
        finally:
            with self._lock:
                self._waiting.pop(news, None)

    def _since(self, position: int) -> tuple[int, list[str]]:
        with self._lock:
            if self._events and position < self._events[0][0] - 1:
                return self._last, [f"id: {self._last}\nevent: reset\ndata: {{}}\n\n"]
            texts = [
                f"id: {number}\nevent: {kind}\ndata: {text}\n\n"
                for number, kind, text in self._events
                if number > position
            ]
            return self._last, texts

    def _wake(self) -> None:
        for news, loop in self._waiting.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(news.set)
