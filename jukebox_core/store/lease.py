"""Leases: holding a name in object storage, where nothing ends with the process that made it. Imports no torch.

A lease is an object ``locks/<name>/<generation>.json`` that its holder writes again every few seconds. Who wants the
name makes the object of the next generation, which the server lets exist only once, and only when the newest one is
free: its holder was not heard of for the lease's time (by the server's clock, or by one's own while waiting), or was a
process of this machine that is gone. The newest generation holds the name; a holder that finds a newer one, or misses
its own, has lost it, and says so at once.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import socket
import threading
import time
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jukebox_core.base import processes
from jukebox_core.errors import RunError, StoreError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from jukebox_core.store.config import LeaseConfig
    from jukebox_core.store.place import Objects

_log = logging.getLogger("jukebox.store")
_PATIENCE_SECONDS = 2.0  # for giving a lease back; it expires by itself


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """Who holds a name."""

    token: str  # of this holding, unlike all others
    host: str
    pid: int
    since: str  # UTC, ISO format
    machine: str | None  # where `pid` means a process: this boot and this set of processes; None: cannot be told
    started: int | None  # when the process began, in the clock ticks of its machine
    seconds: float = 0.0  # the lease's time
    beat: int = 0  # signs of life so far

    @classmethod
    def this(cls, seconds: float = 0.0) -> Owner:
        """Returns this process as an owner."""
        return cls(
            token=secrets.token_hex(16),
            host=socket.gethostname(),
            pid=os.getpid(),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=processes.machine_id(),
            started=processes.start_of(os.getpid()),
            seconds=seconds,
        )

    @classmethod
    def parse(cls, text: bytes) -> Owner | None:
        """Returns the owner that a file or an object tells of; None if it tells of none."""
        try:
            data: dict[str, Any] = json.loads(text)
            return cls(**{field.name: data[field.name] for field in fields(cls)})
        except (ValueError, TypeError, KeyError):
            return None

    @classmethod
    def unknown(cls, seconds: float = 0.0) -> Owner:
        """Returns the owner of which nothing can be read: it has just begun, or another program wrote it."""
        return replace(cls.this(seconds), host="an unknown host", pid=0, machine=None)

    def text(self) -> str:
        """Returns what `parse` reads."""
        return json.dumps(asdict(self))

    def gone(self) -> bool:
        """Whether this was a process of this machine that is no more."""
        return (
            self.machine is not None
            and self.machine == processes.machine_id()
            and processes.start_of(self.pid) != self.started
        )

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


class Lease:
    """Holds a name below the root of a store, from `acquire` to `release`, or until it is lost.

    Args:
        objects: where; requests should fail fast, since they are repeated here.
        name: the name.
        config: its times.
        on_lost: called once, from another thread, when the name turns out to be lost.
    """

    def __init__(self, objects: Objects, name: str, config: LeaseConfig, on_lost: Callable[[], None]) -> None:
        self._objects, self._folder, self._config, self._on_lost = objects, f"locks/{name}", config, on_lost
        self._mine: Owner | None = None
        self._generation = 0
        self._heard = 0.0  # when the server last took a sign of life
        self._seen: tuple[bytes, float] | None = None  # another's lease, and when it was first seen in this form
        self._ended = threading.Event()
        self._beating = threading.Lock()
        self.lost = False

    def holder(self) -> Owner | None:
        """Returns whose the name is; None if it is free."""
        return self._holder(max(self._generations(), default=0))

    def acquire(self) -> Owner | None:
        """Takes the name if it is free, and returns None; returns its owner if it is not."""
        newest = max(self._generations(), default=0)
        if (owner := self._holder(newest)) is not None:
            return owner
        mine, generation = Owner.this(self._config.seconds), newest + 1
        self._objects.create(self._name(generation), mine.text().encode())
        data = self._objects.read(self._name(generation))  # whose it is; an answer that was lost says nothing
        owner = None if data is None else Owner.parse(data)
        if owner is None or owner.token != mine.token:
            return owner or Owner.unknown(self._config.seconds)
        self._mine, self._generation, self._heard = mine, generation, time.monotonic()
        self._objects.remove(*(self._name(number) for number in self._generations() if number < generation))
        threading.Thread(target=self._beat_on, name=f"lease {self._folder}", daemon=True).start()
        return None

    def check(self) -> None:
        """Makes sure that the name is still held; asks the server only if it was not heard of for the lease's time.

        Raises:
            RunError: it was lost.
        """
        if not self.lost and time.monotonic() - self._heard > self._config.seconds:
            self._beat()  # this process was paused: another one may have begun
        if self.lost:
            raise RunError(
                f"another process took over {self._folder} in {self._objects.uri}, because this one was not heard of "
                f"for {self._config.seconds:g} s; let that one go on"
            )

    def release(self) -> None:
        """Gives the name up, if it is held; does not wait for a server that is slow to answer."""
        self._ended.set()
        giving = threading.Thread(target=self._give_back, name=f"end of {self._folder}", daemon=True)
        giving.start()
        giving.join(_PATIENCE_SECONDS)

    def _give_back(self) -> None:
        with self._beating:
            mine, self._mine = self._mine, None
            if mine is not None and not self.lost:
                try:
                    self._objects.remove(self._name(self._generation))
                except StoreError as error:
                    _log.info("%s was not given back and expires by itself: %s", self._folder, error)

    def _holder(self, newest: int) -> Owner | None:
        """Returns whose the newest generation is; None if it is free, or there is none (0)."""
        data = self._objects.read(self._name(newest)) if newest else None
        if data is None or self._free(newest, data):
            return None
        return Owner.parse(data) or Owner.unknown(self._config.seconds)

    def _free(self, generation: int, data: bytes) -> bool:
        owner = Owner.parse(data)
        if owner is not None and owner.gone():
            return True
        seconds = self._config.seconds if owner is None else owner.seconds
        now = time.monotonic()
        if self._seen is None or self._seen[0] != data:
            self._seen = data, now
            age = self._objects.age(self._name(generation))
            return age is None or age > seconds
        return now - self._seen[1] > seconds

    def _beat_on(self) -> None:
        while not self._ended.wait(self._config.refresh_seconds) and not self.lost:
            self._beat()

    def _beat(self) -> None:
        with self._beating:
            if self._mine is None or self.lost:
                return
            try:
                there = self._generations()
                if self._generation in there and max(there) == self._generation:
                    self._mine = replace(self._mine, beat=self._mine.beat + 1)
                    self._objects.replace(self._name(self._generation), self._mine.text().encode())
                    self._heard = time.monotonic()
                    return
            except UnreachableError as error:
                _log.debug("%s", error)  # whoever writes tokens says it
                return
            except StoreError as error:
                _log.warning("the lease %s cannot be renewed: %s", self._folder, error)
                return
            self.lost = True
        self._on_lost()

    def _generations(self) -> list[int]:
        names = self._objects.sizes(self._folder)
        return [int(match[1]) for name in names if (match := re.fullmatch(r".*/(\d{8})\.json", name))]

    def _name(self, generation: int) -> str:
        return f"{self._folder}/{generation:08}.json"
