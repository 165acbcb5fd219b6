"""Leases: exclusive ownership of a name in object storage, which has no locks. Imports no torch.

A lease is an object ``locks/<name>/<generation>.json`` that its owner renews every few seconds. To acquire the name, a
process creates the object of the next generation, which the server lets only one process do, and only when the newest
generation is free: not renewed for the lease's time (by the server's clock, or by one's own while waiting), or owned by
a process of this machine that has ended. The newest generation owns the name; an owner that finds a newer one, or no
longer its own, has lost the name and reports it at once.
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
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

from jukebox_core.base import processes
from jukebox_core.base.machine import machine_id
from jukebox_core.base.records import parse_record
from jukebox_core.base.structuring import build
from jukebox_core.errors import RecordError, RunError, StoreError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from jukebox_core.store.config import LeaseConfig
    from jukebox_core.store.place import Objects

_log = logging.getLogger("jukebox.store")
_RELEASE_SECONDS = 2.0  # for releasing a lease; it expires by itself


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """The process that owns a name."""

    extensible: ClassVar[bool] = True
    token: str  # random, of this acquisition
    host: str
    pid: int
    since: str  # UTC, ISO format
    machine: str | None  # boot and PID namespace in which `pid` denotes a process; None: unknown
    started: int | None  # when the process began, in the clock ticks of its machine
    seconds: float = 0.0  # the lease's time
    beat: int = 0  # renewals so far

    @classmethod
    def current(cls, seconds: float = 0.0) -> Owner:
        """Returns this process as an owner."""
        return cls(
            token=secrets.token_hex(16),
            host=socket.gethostname(),
            pid=os.getpid(),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=machine_id(),
            started=processes.start_of(os.getpid()),
            seconds=seconds,
        )

    @classmethod
    def from_json(cls, text: bytes) -> Owner | None:
        """Returns the owner that `to_json` has written; None if the text is something else."""
        try:
            return build(cls, parse_record(text, cls, "the owner of a lock"))
        except RecordError:
            return None

    @classmethod
    def unknown(cls, seconds: float = 0.0) -> Owner:
        """Returns an owner for a lock without a readable one: it is being written, or another program wrote it."""
        return replace(cls.current(seconds), host="an unknown host", pid=0, machine=None)

    def to_json(self) -> str:
        """Returns the owner as text."""
        return json.dumps(asdict(self))

    def has_ended(self) -> bool:
        """Whether this was a process of this machine that has ended; False for one of another machine."""
        return (
            self.machine is not None and self.machine == machine_id() and processes.start_of(self.pid) != self.started
        )

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


class Lease:
    """Owns a name below the root of a store, from `acquire` to `release`, or until it is lost.

    Args:
        objects: the place; requests should fail fast, since they are repeated here.
        name: the name.
        config: the times of the lease.
        on_lost: called once, from another thread, when the name is found to be lost.
    """

    def __init__(self, objects: Objects, name: str, config: LeaseConfig, on_lost: Callable[[], None]) -> None:
        self._objects, self._folder, self._config, self._on_lost = objects, f"locks/{name}", config, on_lost
        self._mine: Owner | None = None
        self._generation = 0
        self._renewed = 0.0  # when the server last accepted a renewal
        self._seen: tuple[bytes, float] | None = None  # another owner's lease, and when it was first seen in this form
        self._ended = threading.Event()
        self._renewing = threading.Lock()
        self.lost = False

    def owner(self) -> Owner | None:
        """Returns the owner of the name; None if it is free."""
        return self._owner(max(self._generations(), default=0))

    def acquire(self) -> Owner | None:
        """Acquires the name if it is free, and returns None; returns its owner if it is not."""
        newest = max(self._generations(), default=0)
        if (owner := self._owner(newest)) is not None:
            return owner
        mine, generation = Owner.current(self._config.seconds), newest + 1
        self._objects.create(self._name(generation), mine.to_json().encode())
        data = self._objects.read(self._name(generation))  # the owner; a lost response to `create` says nothing
        owner = None if data is None else Owner.from_json(data)
        if owner is None or owner.token != mine.token:
            return owner or Owner.unknown(self._config.seconds)
        self._mine, self._generation, self._renewed = mine, generation, time.monotonic()
        self._objects.remove(*(self._name(number) for number in self._generations() if number < generation))
        threading.Thread(target=self._renew_periodically, name=f"lease {self._folder}", daemon=True).start()
        return None

    def check(self) -> None:
        """Checks that the name is still owned; asks the server only if the lease was not renewed for its time.

        Raises:
            RunError: it was lost.
        """
        if not self.lost and time.monotonic() - self._renewed > self._config.seconds:
            self._renew()  # this process was paused: another one may have acquired the name
        if self.lost:
            raise RunError(
                f"another process took over {self._folder} in {self._objects.uri}, because this one did not renew "
                f"its lease for {self._config.seconds:g} s; let that one go on"
            )

    def release(self) -> None:
        """Releases the name, if it is owned; does not wait for a server that is slow to answer."""
        self._ended.set()
        releasing = threading.Thread(target=self._remove_own, name=f"release {self._folder}", daemon=True)
        releasing.start()
        releasing.join(_RELEASE_SECONDS)

    def _remove_own(self) -> None:
        with self._renewing:
            mine, self._mine = self._mine, None
            if mine is not None and not self.lost:
                try:
                    self._objects.remove(self._name(self._generation))
                except StoreError as error:
                    _log.info("%s was not released and expires by itself: %s", self._folder, error)

    def _owner(self, newest: int) -> Owner | None:
        """Returns the owner of the generation `newest`; None if it is free, or 0, which is none."""
        data = self._objects.read(self._name(newest)) if newest else None
        if data is None or self._is_free(newest, data):
            return None
        return Owner.from_json(data) or Owner.unknown(self._config.seconds)

    def _is_free(self, generation: int, data: bytes) -> bool:
        owner = Owner.from_json(data)
        if owner is not None and owner.has_ended():
            return True
        seconds = self._config.seconds if owner is None else owner.seconds
        now = time.monotonic()
        if self._seen is None or self._seen[0] != data:
            self._seen = data, now
            age = self._objects.age(self._name(generation))
            return age is None or age > seconds
        return now - self._seen[1] > seconds

    def _renew_periodically(self) -> None:
        while not self._ended.wait(self._config.refresh_seconds) and not self.lost:
            self._renew()

    def _renew(self) -> None:
        with self._renewing:
            if self._mine is None or self.lost:
                return
            try:
                generations = self._generations()
                if self._generation in generations and max(generations) == self._generation:
                    self._mine = replace(self._mine, beat=self._mine.beat + 1)
                    self._objects.replace(self._name(self._generation), self._mine.to_json().encode())
                    self._renewed = time.monotonic()
                    return
            except UnreachableError as error:
                _log.debug("%s", error)  # the store's writers report the outage
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
