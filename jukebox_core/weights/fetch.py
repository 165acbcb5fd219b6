"""Fetches files whole or not at all, from the first source that delivers. Imports no torch.

Bytes gather in ``<name>.part`` and survive any break; the name itself appears when size and digest were verified.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.atomic import move_into_place
from jukebox_core.errors import DownloadError
from jukebox_core.weights.digests import RECORDS_NAME, Record, locked, read_records, sha256_of, write_record
from jukebox_core.weights.sources import Reply, Source, SourceError, is_web_page, source_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jukebox_core.weights.config import FileSpec

Progress = Callable[[int, int | None], None]
"""Told while a file is fetched: bytes there, bytes of the whole where known."""

PAUSES = (1.0, 4.0, 15.0)  # seconds before every source is asked once more; a byte gained starts the list anew
ABOUT = 0.005  # how far an approximate size may be off, as a share of it

_CHUNK = 1 << 20


def present(spec: FileSpec, folder: str | Path) -> bool:
    """Whether the file is in ``folder`` with a size that agrees with ``spec`` and its record; nothing is hashed."""
    path = Path(folder) / spec.path
    if not path.is_file():
        return False
    record = read_records(Path(folder)).get(spec.path)
    size = path.stat().st_size
    return _size_fault(spec, size) is None and (record is None or record.bytes == size)


def digest(spec: FileSpec, folder: str | Path) -> str:
    """The sha256 of a fetched file: from its record while size and time are unchanged, else computed and recorded.

    Raises:
        DownloadError: the file is absent, or its digest is not the published or recorded one.
    """
    folder = Path(folder)
    path = folder / spec.path
    if not path.is_file():
        raise DownloadError(f"{path} is not there; fetch the model first")
    stat = path.stat()
    record = read_records(folder).get(spec.path)
    if record is not None and (record.bytes, record.modified_ns) == (stat.st_size, stat.st_mtime_ns):
        found = record.sha256
    else:
        found = sha256_of(path)
    wanted = spec.sha256 or (record.sha256 if record else found)
    if found != wanted:
        raise DownloadError(f"{path} has sha256 {found}, but it must be {wanted}; delete the file to fetch it again")
    current = Record(stat.st_size, found, record.source if record else "found in place", stat.st_mtime_ns)
    if current != record:
        write_record(folder, spec.path, current)
    return found


def fetch_file(
    spec: FileSpec,
    sources: Sequence[str],
    folder: str | Path,
    *,
    offline: bool = False,
    progress: Progress | None = None,
) -> Path:
    """The verified file in ``folder``, fetched from the first of ``sources`` that delivers it, if it is not there yet.

    A broken transfer goes on where it broke, now or in a later call. Two processes that want the same file share one
    transfer. A file in place with a wrong size or digest is set aside as ``<name>.damaged`` and fetched again.

    Args:
        spec: path, and what is known of size and digest.
        sources: addresses as `source_for` takes them, in the order they are tried.
        folder: receives the file under ``spec.path``.
        offline: ask only sources on this machine.
        progress: told the bytes there and the bytes in all.

    Raises:
        DownloadError: no source delivered it (each one's answer is told), or the disk is too small.
        ConfigError: an address is of no known kind.
    """
    folder = Path(folder)
    target = folder / spec.path
    candidates = [source for source in map(source_for, sources) if not (offline and source.remote)]
    try:
        with locked(target.with_name(f".{target.name}.lock")):
            if target.is_file():
                if _sound(spec, folder):
                    return target
                target.replace(target.with_name(f"{target.name}.damaged"))
            if not candidates:
                raise DownloadError(
                    f"{spec.path} is not in {folder}, and offline=true leaves no source to ask; "
                    "put the file there or set weights.offline=false"
                )
            transfer = _Transfer(spec, folder, progress)
            source = _first_that_delivers(transfer, candidates)
            move_into_place(transfer.part, target)
            transfer.version_file.unlink(missing_ok=True)
            stat = target.stat()
            write_record(folder, spec.path, Record(stat.st_size, transfer.sha256, source.name, stat.st_mtime_ns))
    except OSError as error:
        raise DownloadError(
            f"cannot write {target}: {error.strerror}; make room there or set weights.folder to another disk"
        ) from error
    return target


def _sound(spec: FileSpec, folder: Path) -> bool:
    if not present(spec, folder):
        return False
    try:
        digest(spec, folder)
    except DownloadError:
        return False
    return True


def _first_that_delivers(transfer: _Transfer, sources: Sequence[Source]) -> Source:
    """The source that completed the transfer; those that fail for good are asked no more, the others again later."""
    answers: dict[str, str] = {}
    willing = list(sources)
    pauses = iter(PAUSES)
    while willing:
        most = transfer.most
        for source in list(willing):
            while True:
                before = transfer.most
                try:
                    transfer.run(source)
                except SourceError as error:
                    answers[source.name] = str(error)
                    if error.final:
                        willing.remove(source)
                    elif transfer.most > before:
                        continue  # it broke but brought something: go on where it broke
                    break
                return source
        if transfer.most > most:
            pauses = iter(PAUSES)
        pause = next(pauses, None)
        if pause is None:
            break
        if willing:
            time.sleep(pause)
    if not transfer.size:
        transfer.discard()
    told = "; ".join(f"{name}: {answer}" for name, answer in answers.items())
    kept = f" What arrived is kept ({transfer.size:,} bytes) and continued by the next try." if transfer.size else ""
    raise DownloadError(
        f"no source delivered {transfer.spec.path}: {told}.{kept} Check the connection, add a mirror to "
        f"weights.mirrors, or put the file at {transfer.folder / transfer.spec.path}"
    )


@dataclass(slots=True)
class _Transfer:
    """One file on its way: the part that is there, hashed so far, and what the whole must be."""

    spec: FileSpec
    folder: Path
    progress: Progress | None
    part: Path = field(init=False)
    version_file: Path = field(init=False)  # which version of which source the part is of
    size: int = field(init=False, default=0)  # bytes in the part
    most: int = field(init=False, default=0)  # the largest that size has been
    _hash: hashlib._Hash = field(init=False)
    _recorded: Record | None = field(init=False)

    def __post_init__(self) -> None:
        target = self.folder / self.spec.path
        self.part = target.with_name(f"{target.name}.part")
        self.version_file = target.with_name(f"{target.name}.part.version")
        self._recorded = read_records(self.folder).get(self.spec.path)
        self._hash = hashlib.sha256()
        if self.part.exists():
            with self.part.open("rb") as file:
                self._hash = hashlib.file_digest(file, "sha256")
            self.size = self.most = self.part.stat().st_size

    @property
    def sha256(self) -> str:
        """Of the part so far."""
        return self._hash.hexdigest()

    def run(self, source: Source) -> None:
        """Completes and verifies the part with what ``source`` has; raises `SourceError` if it cannot."""
        with source.open(self.spec.path, self.size) as reply:
            if self._continues(source, reply):
                self._receive(source, reply)
                return
        self.discard()
        with source.open(self.spec.path, 0) as reply:
            self._receive(source, reply)

    def _continues(self, source: Source, reply: Reply) -> bool:
        """Whether the reply begins where the part ends and belongs to the same content."""
        if reply.start != self.size or (reply.total is not None and reply.total < self.size):
            return False
        same = reply.version is not None and self._version() == f"{source.name} {reply.version}"
        # Parts of different versions must not be joined; a digest would catch that, if one is known.
        return self.size == 0 or same or self._wanted_sha256() is not None

    def _receive(self, source: Source, reply: Reply) -> None:
        if reply.total is not None and (fault := _size_fault(self.spec, reply.total)):
            raise SourceError(f"offers {fault}", final=True)
        total = self.spec.bytes or reply.total
        self._require_room(total)
        self.version_file.write_text(f"{source.name} {reply.version}")
        limit = _largest(self.spec)
        with self.part.open("ab") as file:
            while chunk := reply.read(_CHUNK):
                if self.size == 0 and is_web_page(chunk):
                    raise SourceError("answered with a web page instead of the file", final=True)
                file.write(chunk)
                self._hash.update(chunk)
                self.size += len(chunk)
                self.most = max(self.most, self.size)
                if self.progress is not None:
                    self.progress(self.size, total)
                if limit is not None and self.size > limit:
                    break
        if total is not None and self.size < total:
            raise SourceError(f"broke off after {self.size:,} of {total:,} bytes")
        self._verify(from_start=reply.start == 0)

    def _verify(self, *, from_start: bool) -> None:
        """Raises `SourceError`, final if the fault can only be the source's and not an earlier part's."""
        fault, wanted, found = _size_fault(self.spec, self.size), self._wanted_sha256(), self.sha256
        if fault:
            self.discard()
            raise SourceError(f"sent {fault}", final=from_start)
        if wanted is not None and found != wanted:
            self.discard()
            basis = "was published" if self.spec.sha256 else f"is recorded in {self.folder / RECORDS_NAME}"
            raise SourceError(f"sent a file with sha256 {found}, but {wanted} {basis}", final=from_start)

    def _wanted_sha256(self) -> str | None:
        return self.spec.sha256 or (self._recorded.sha256 if self._recorded else None)

    def _version(self) -> str | None:
        return self.version_file.read_text() if self.version_file.exists() else None

    def _require_room(self, total: int | None) -> None:
        needed = (total or self.spec.about_bytes or 0) - self.size
        free = shutil.disk_usage(self.part.parent).free
        if needed > free:
            raise DownloadError(
                f"{self.spec.path} needs {needed / 1e9:,.2f} GB more but {self.part.parent} has {free / 1e9:,.2f} GB "
                "free; make room there or set weights.folder to another disk"
            )

    def discard(self) -> None:
        """Forgets what arrived."""
        self.part.unlink(missing_ok=True)
        self.version_file.unlink(missing_ok=True)
        self.size = 0
        self._hash = hashlib.sha256()


def _size_fault(spec: FileSpec, size: int) -> str | None:
    """What is wrong with a size, in words; None if nothing is."""
    if spec.bytes is not None and size != spec.bytes:
        return f"{size:,} bytes, but the file has {spec.bytes:,}"
    if spec.bytes is None and spec.about_bytes is not None and abs(size - spec.about_bytes) > ABOUT * spec.about_bytes:
        return f"{size:,} bytes, but the file has about {spec.about_bytes:,} (within {ABOUT:.1%})"
    return None


def _largest(spec: FileSpec) -> int | None:
    if spec.bytes is not None:
        return spec.bytes
    return None if spec.about_bytes is None else int(spec.about_bytes * (1 + ABOUT))
