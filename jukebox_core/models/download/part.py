"""The partial file of a download: ``<name>.part``, and a note beside it of its origin and spans. Imports no torch.

Bytes may arrive in several ranges in parallel, so the note lists the spans that have arrived. After a kill it is right
to within a fraction of the file; after a power loss only the spans that were synced to the disk count: these are listed
too.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jukebox_core.base.machine import boot_id
from jukebox_core.base.records import read_json
from jukebox_core.errors import RecordError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Span = tuple[int, int]  # first byte, and one past the last

SYNC_SECONDS = 10.0  # of a download that a power loss may cost

_CHUNK = 1 << 20  # read again and hashed at a time
_WRITE_OUT = 16 << 20  # bytes that are sent to the disk at a time


def merged(spans: Iterable[Span]) -> list[Span]:
    """Returns the same bytes as the fewest spans, in order."""
    joined: list[Span] = []
    for start, stop in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        elif stop > start:
            joined.append((start, stop))
    return joined


def gaps(spans: Iterable[Span], total: int) -> list[Span]:
    """Returns the spans of [0, total) that `spans` lack, in order."""
    edges = [0, *(edge for span in merged(spans) for edge in span), total]
    return [(start, stop) for start, stop in zip(edges[::2], edges[1::2], strict=True) if stop > start]


@dataclass(slots=True)
class Part:
    """The part of one file that has arrived, and the hash of its beginning."""

    path: Path
    spans: list[Span] = field(init=False)  # that have arrived
    origin: str | None = field(init=False, default=None)  # source and version that the bytes are of
    hashed: int = field(init=False, default=0)  # how many of the first bytes went into the hash
    _hash: Any = field(init=False)
    _advised: int = field(init=False, default=0)  # how many of the first bytes are being written to the disk
    _synced: list[Span] = field(init=False)
    _synced_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._hash = hashlib.sha256()
        self._synced_at = time.monotonic()
        self.spans = self._synced = []
        if not self.path.exists():
            return
        size = self.path.stat().st_size
        self.spans = [(0, size)]
        try:
            note = read_json(self.note_path)
            self.origin, kept = note["origin"], note["spans"] if note["boot"] == _boot() else note["synced"]
            if kept is not None:
                self.spans = merged((start, min(stop, size)) for start, stop in kept)
        except FileNotFoundError:
            pass
        except (RecordError, ValueError, KeyError, TypeError):  # without a readable note no byte is trusted
            self.spans = []
        self._synced = self.spans

    @property
    def note_path(self) -> Path:
        """Where the note is."""
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def size(self) -> int:
        """How many bytes have arrived."""
        return sum(stop - start for start, stop in self.spans)

    @property
    def prefix(self) -> int:
        """How many bytes have arrived from the start without a gap."""
        return self.spans[0][1] if self.spans and self.spans[0][0] == 0 else 0

    @property
    def sha256(self) -> str:
        """Digest of the bytes hashed so far."""
        digest: str = self._hash.hexdigest()
        return digest

    def sync(self, descriptor: int) -> None:
        """Syncs the spans to the disk; other threads may add to them and write notes meanwhile."""
        spans = list(self.spans)
        os.fdatasync(descriptor)
        self._synced, self._synced_at = spans, time.monotonic()

    def note(self, *, growing: bool = False) -> None:
        """Writes the note; `growing`: one span to the file's end, so that the note need not follow it."""
        spans = None if growing else self.spans
        note = {"origin": self.origin, "boot": _boot(), "spans": spans, "synced": self._synced}
        fresh = self.note_path.with_suffix(".new")
        fresh.write_text(json.dumps(note))
        fresh.replace(self.note_path)

    @property
    def due(self) -> bool:
        """Whether a sync is due."""
        return time.monotonic() - self._synced_at > SYNC_SECONDS

    def cut(self, descriptor: int) -> None:
        """Drops the bytes beyond the first gap."""
        os.ftruncate(descriptor, self.prefix)
        self.spans = self._synced = [(0, self.prefix)] if self.prefix else []

    def append(self, descriptor: int, chunk: bytes) -> None:
        """Adds bytes at the end of a part without gaps."""
        view = memoryview(chunk)
        while view:
            view = view[os.write(descriptor, view) :]
        self._hash.update(chunk)
        self.hashed += len(chunk)
        self.spans = [(0, self.hashed)]
        self._write_out(descriptor)

    def catch_up(self, descriptor: int, *, most: int | None = None) -> None:
        """Hashes bytes before the first gap that were not hashed yet, at most `most` of them."""
        stop = self.prefix if most is None else min(self.prefix, self.hashed + most)
        room = memoryview(bytearray(min(_CHUNK, stop - self.hashed)))
        while self.hashed < stop:
            read = os.preadv(descriptor, [room[: stop - self.hashed]], self.hashed)
            if not read:
                raise OSError(f"{self.path} was cut off while it was read")
            self._hash.update(room[:read])
            self.hashed += read
            self._write_out(descriptor)

    def _write_out(self, descriptor: int) -> None:
        """Starts writing hashed bytes to the disk, so that the sync at the end has little to do.

        On Linux the advice that pages are not needed does that without blocking.
        """
        if self.hashed - self._advised >= _WRITE_OUT and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, self._advised, self.hashed - self._advised, os.POSIX_FADV_DONTNEED)
            self._advised = self.hashed

    def head(self) -> bytes:
        """The first bytes."""
        with self.path.open("rb") as file:
            return file.read(512)

    def discard(self) -> None:
        """Removes the part and its note."""
        self.path.unlink(missing_ok=True)
        self.forget()

    def set_aside(self, target: Path) -> None:
        """Renames the part to `target` and starts again."""
        self.path.replace(target)
        self.forget()

    def forget(self) -> None:
        """Starts again; the file itself was renamed."""
        self.note_path.unlink(missing_ok=True)
        self.note_path.with_suffix(".new").unlink(missing_ok=True)
        self.spans, self._synced, self.origin, self.hashed, self._advised = [], [], None, 0, 0
        self._hash = hashlib.sha256()


def _boot() -> str:
    """Returns the id of this boot: within one, every written byte can be read, synced or not."""
    return boot_id() or "unknown"
