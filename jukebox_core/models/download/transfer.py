"""One download: resumes what has arrived, and verifies the complete file. Imports no torch."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jukebox_core.base.text import format_bytes
from jukebox_core.errors import DownloadError
from jukebox_core.models.download.part import Part
from jukebox_core.models.download.ranges import Ranges
from jukebox_core.models.download.replies import ChangedError, NoRangesError, Reply, Source, SourceError, unfit_head
from jukebox_core.models.records import RECORDS_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from jukebox_core.models.config import FileSpec
    from jukebox_core.models.records import Records

Progress = Callable[[int, int | None], None]
"""Called while a file is fetched, with the bytes that have arrived and those of the whole file where known."""

RANGES_FROM = 32 << 20  # missing bytes from which on several connections pay

_CHUNK = 256 << 10
_RECORDED = "is recorded in {}; delete its entry there if the file was replaced on purpose"


@dataclass(slots=True)
class Transfer:
    """One download: the part that has arrived, hashed so far, and what the complete file must be."""

    spec: FileSpec
    records: Records  # of the folder that receives the file
    connections: int
    progress: Progress | None
    part: Part = field(init=False)
    most: int = field(init=False)  # the largest that the part has been
    _expected_sha256: str | None = field(init=False)  # published or recorded

    def __post_init__(self) -> None:
        recorded = self.records.get(self.target)
        self._expected_sha256 = self.spec.sha256 or (recorded.sha256 if recorded else None)
        self.part = Part(self.target.with_name(f"{self.target.name}.part"))
        self.most = self.part.size

    @property
    def target(self) -> Path:
        """Where the file belongs."""
        return self.records.folder / self.spec.path

    def run(self, source: Source) -> None:
        """Completes and verifies the part from `source`.

        Raises:
            SourceError: it failed, for now or for good.
        """
        with source.open(self.spec, self.part.prefix) as reply:
            if self._continues(source, reply):
                self._receive(source, reply)
                return
        self.part.discard()
        with source.open(self.spec, 0) as reply:
            self._receive(source, reply)

    def _continues(self, source: Source, reply: Reply) -> bool:
        """Whether the reply begins where the part ends and belongs to the same content."""
        if reply.start != self.part.prefix or (reply.total is not None and reply.total < self.part.prefix):
            return False
        same = reply.version is not None and self.part.origin == _origin(source, reply)
        # Parts of different versions must not be joined; a digest would catch that, if one is known.
        return self.part.size == 0 or same or self._expected_sha256 is not None

    def _receive(self, source: Source, reply: Reply) -> None:
        if reply.total is not None and (fault := self.spec.size_fault(reply.total)):
            raise SourceError(f"offers {fault}", final=True)
        total = self.spec.bytes or reply.total
        self._require_room(total)
        started = self.part.size
        self.part.origin = _origin(source, reply)
        with self._opened() as descriptor:
            if self._in_ranges(reply):
                self._receive_ranges(source, reply, descriptor)
            else:
                self._receive_stream(reply, descriptor, total)
        self._verify(reply, from_start=started == 0)

    @contextmanager
    def _opened(self) -> Iterator[int]:
        descriptor = os.open(self.part.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            yield descriptor
        finally:
            self.most = max(self.most, self.part.size)
            os.close(descriptor)

    def _in_ranges(self, reply: Reply) -> bool:
        """Whether to fetch over several connections: the source supports it, and a change of the file is noticed."""
        known = reply.version is not None or self._expected_sha256 is not None
        if reply.total is None or not reply.ranges or not known or self.connections == 1:
            return False
        return len(self.part.spans) > 1 or reply.total - self.part.size >= RANGES_FROM

    def _receive_ranges(self, source: Source, reply: Reply, descriptor: int) -> None:
        def report() -> None:
            if self.progress is not None:
                self.progress(self.part.size, reply.total)

        ranges = Ranges(self.part, descriptor, lambda start, stop: source.open(self.spec, start, stop))
        try:
            ranges.fetch(reply, self.connections, report)
        except ChangedError:
            self.part.discard()
            raise
        except NoRangesError:
            self.connections = 1
            raise

    def _receive_stream(self, reply: Reply, descriptor: int, total: int | None) -> None:
        part, limit = self.part, self.spec.max_bytes
        part.cut(descriptor)
        part.catch_up(descriptor)
        part.note(growing=True)
        os.lseek(descriptor, part.size, os.SEEK_SET)
        while chunk := reply.read(_CHUNK):
            if part.size == 0 and (found := unfit_head(chunk)):
                raise SourceError(f"answered with {found} instead of the file", final=True)
            part.append(descriptor, chunk)
            self.most = max(self.most, part.size)
            if self.progress is not None:
                self.progress(part.size, total)
            if limit is not None and part.size > limit:
                break
            if part.due:
                part.sync(descriptor)
                part.note(growing=True)
        if total is not None and part.size < total:
            raise SourceError(f"broke off after {part.size:,} of {total:,} bytes")

    def _verify(self, reply: Reply, *, from_start: bool) -> None:
        """Raises `SourceError`, final if the fault can only be the source's and not an earlier part's."""
        fault, expected, found = self.spec.size_fault(self.part.size), self._expected_sha256, self.part.sha256
        if fault:
            self.part.discard()
            raise SourceError(f"sent {fault}", final=from_start)
        if expected is not None and found != expected:
            self._set_aside()
            basis = "was published" if self.spec.sha256 else _RECORDED.format(self.records.folder / RECORDS_NAME)
            raise SourceError(f"sent a file with sha256 {found}, but {expected} {basis}", final=from_start)
        if expected is None and (kind := unfit_head(self.part.head())):
            self.part.discard()
            raise SourceError(f"answered with {kind} instead of the file", final=True)
        if expected is None and reply.digest is not None:
            self._verify_stated(*reply.digest)

    def _verify_stated(self, algorithm: str, stated: str) -> None:
        """Compares with the digest that the source itself states, where no other is known."""
        with self.part.path.open("rb") as file:
            found = self.part.sha256 if algorithm == "sha256" else hashlib.file_digest(file, algorithm).hexdigest()
        if found != stated:
            self._set_aside()
            raise SourceError(f"sent a file with {algorithm} {found}, but stated {stated}")

    def _set_aside(self) -> None:
        self.part.set_aside(self.target.with_name(f"{self.target.name}.damaged"))

    def _require_room(self, total: int | None) -> None:
        needed = (total or self.spec.about_bytes or 0) - self.part.size
        free = shutil.disk_usage(self.part.path.parent).free
        if needed > free:
            raise DownloadError(
                f"{self.spec.path} needs {format_bytes(needed)} more but {self.part.path.parent} has "
                f"{format_bytes(free)} free; make room there or set weights.folder to another disk"
            )


def _origin(source: Source, reply: Reply) -> str:
    return f"{source.name} {reply.version}"
