"""Fetches files whole or not at all, from the first source that delivers. Imports no torch.

Bytes gather in ``<name>.part`` and survive any break; the name itself appears when size and digest were verified.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.base.atomic import atomic_replace
from jukebox_core.base.locks import locked
from jukebox_core.errors import DownloadError
from jukebox_core.models.digests import Record, now, read_records, size_fault, verified_digest, write_record
from jukebox_core.models.download.replies import SourceError
from jukebox_core.models.download.sources import source_for
from jukebox_core.models.download.transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jukebox_core.models.config import FileSpec
    from jukebox_core.models.download.replies import Source
    from jukebox_core.models.download.transfer import Progress

PAUSES = (1.0, 4.0, 15.0)  # seconds before every source is asked once more; a byte gained starts the list anew


def present(spec: FileSpec, folder: str | Path) -> bool:
    """Whether the file is in ``folder`` with a size that agrees with ``spec`` and its record; nothing is hashed."""
    path = Path(folder) / spec.path
    if not path.is_file():
        return False
    record = read_records(Path(folder)).get(spec.path)
    size = path.stat().st_size
    return size_fault(spec, size) is None and (record is None or record.bytes == size)


def digest(spec: FileSpec, folder: str | Path) -> str:
    """The sha256 of a fetched file: from its record while size and time are unchanged, else computed and recorded.

    Raises:
        DownloadError: the file is absent, or its digest is not the published or recorded one.
    """
    return verified_digest(Path(folder), Path(folder) / spec.path, published=spec.sha256)


def set_aside(path: Path) -> Path:
    """Gives a file that is not what it should be another name, so that a person can look at it; returns that."""
    aside = path.with_name(f"{path.name}.damaged")
    path.replace(aside)
    return aside


def fetch_file(
    spec: FileSpec,
    sources: Sequence[str],
    folder: str | Path,
    *,
    offline: bool = False,
    connections: int = 4,
    progress: Progress | None = None,
    waiting: Callable[[], None] | None = None,
) -> Path:
    """The verified file in ``folder``, fetched from the first of ``sources`` that delivers it, if it is not there yet.

    A broken transfer goes on where it broke, now or in a later call. Two processes that want the same file share one
    transfer. A file in place with a wrong size or digest is set aside as ``<name>.damaged`` and fetched again.

    Args:
        spec: path, and what is known of size and digest.
        sources: addresses as `source_for` takes them, in the order they are tried.
        folder: receives the file under ``spec.path``.
        offline: ask only sources on this machine.
        connections: how many ranges of a large file are fetched side by side, where its source can do that.
        progress: told the bytes there and the bytes in all.
        waiting: called if another process is fetching this file.

    Raises:
        DownloadError: no source delivered it (each one's answer is told), or the disk is too small.
        ConfigError: an address is of no known kind.
    """
    folder = Path(folder)
    target = folder / spec.path
    candidates = [source for source in map(source_for, sources) if not (offline and source.remote)]
    try:
        with locked(target.with_name(f".{target.name}.lock"), on_wait=waiting):
            if target.is_file():
                if _sound(spec, folder):
                    return target
                set_aside(target)
            if not candidates:
                raise DownloadError(
                    f"{spec.path} is not in {folder}, and offline=true leaves no source to ask; "
                    "put the file there or set weights.offline=false"
                )
            transfer = Transfer(spec, folder, connections, progress)
            source = _first_that_delivers(transfer, candidates)
            atomic_replace(transfer.part.path, target)
            stat, sha256 = target.stat(), transfer.part.sha256
            write_record(folder, spec.path, Record(stat.st_size, sha256, source.name, stat.st_mtime_ns, now()))
            transfer.part.forget()
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


def _first_that_delivers(transfer: Transfer, sources: Sequence[Source]) -> Source:
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
    raise DownloadError(_failure(transfer, answers))


def _failure(transfer: Transfer, answers: dict[str, str]) -> str:
    size = transfer.part.size
    if not size:
        transfer.part.discard()
    told = "; ".join(f"{name}: {answer}" for name, answer in answers.items())
    kept = f" What arrived is kept ({size:,} bytes) and continued by the next try." if size else ""
    return (
        f"no source delivered {transfer.spec.path}: {told}.{kept} Check the connection, add a mirror to "
        f"weights.mirrors, or put the file at {transfer.folder / transfer.spec.path}"
    )
