"""Atomic, resumable downloads: a file from the first source that delivers it, verified. Imports no torch.

Bytes gather in ``<name>.part`` and survive any break; the name itself appears when size and digest were verified.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.base.atomic import atomic_replace, write_error
from jukebox_core.base.locks import locked
from jukebox_core.errors import DownloadError
from jukebox_core.models.download.replies import SourceError
from jukebox_core.models.download.sources import source_for
from jukebox_core.models.download.transfer import Transfer
from jukebox_core.models.records import Records, set_aside

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jukebox_core.models.config import FileSpec
    from jukebox_core.models.download.replies import Source
    from jukebox_core.models.download.transfer import Progress

PAUSES = (1.0, 4.0, 15.0)  # seconds before each retry of all sources; a byte gained starts the list again


def fetch_file(
    spec: FileSpec,
    sources: Sequence[str],
    folder: str | Path,
    *,
    offline: bool = False,
    connections: int = 4,
    progress: Progress | None = None,
    on_wait: Callable[[], None] | None = None,
) -> Path:
    """Returns the verified file in `folder`, fetched from the first of `sources` that delivers it; idempotent.

    A broken transfer is resumed, now or by a later call. Two processes that want the same file share one transfer. A
    file in place with a wrong size or digest is renamed to ``<name>.damaged`` and fetched again.

    Args:
        spec: path, and size and digest where they are known.
        sources: addresses as `source_for` takes them, in the order they are tried.
        folder: receives the file under ``spec.path``.
        offline: ask only sources on this machine.
        connections: how many ranges of a large file are fetched in parallel, where its source supports ranges.
        progress: called with the bytes that have arrived and the bytes in all.
        on_wait: called if another process is fetching this file.

    Raises:
        DownloadError: no source delivered it (the message has each one's answer), or the disk is too small.
        ConfigError: an address is of no known kind.
    """
    records = Records(Path(folder))
    target = records.folder / spec.path
    candidates = [source for source in map(source_for, sources) if not (offline and source.remote)]
    try:
        with locked(target.with_name(f".{target.name}.lock"), on_wait=on_wait):
            if target.is_file():
                if records.holds(spec) and records.is_sound(target, spec.sha256):
                    return target
                set_aside(target)
            if not candidates:
                raise DownloadError(
                    f"{spec.path} is not in {folder}, and offline=true leaves no source to ask; "
                    "put the file there or set weights.offline=false"
                )
            transfer = Transfer(spec, records, connections, progress)
            source = _first_that_delivers(transfer, candidates)
            atomic_replace(transfer.part.path, target)
            records.add(target, transfer.part.sha256, source.name)
            transfer.part.forget()
    except OSError as error:
        raise DownloadError(f"{write_error(target, error)}; weights.folder names the place") from error
    return target


def _first_that_delivers(transfer: Transfer, sources: Sequence[Source]) -> Source:
    """Returns the source that completed the transfer; those that fail for good are dropped, the others retried.

    If no host's name is known, there is no network: this is said at once, without retries.
    """
    answers: dict[str, str] = {}
    willing = list(sources)
    pauses, first = iter(PAUSES), transfer.most
    while willing:
        most, without_network = transfer.most, True
        for source in list(willing):
            while True:
                before = transfer.most
                try:
                    transfer.run(source)
                except SourceError as error:
                    answers[source.name] = str(error)
                    without_network &= error.unknown
                    if error.final:
                        willing.remove(source)
                    elif transfer.most > before:
                        continue  # it broke after some progress: resume at once
                    break
                return source
        if transfer.most > most:
            pauses = iter(PAUSES)
        pause = next(pauses, None)
        if pause is None or (without_network and transfer.most == first):
            break
        if willing:
            time.sleep(pause)
    raise DownloadError(_failure(transfer, answers))


def _failure(transfer: Transfer, answers: dict[str, str]) -> str:
    size = transfer.part.size
    if not size:
        transfer.part.discard()
    listed = "; ".join(f"{name}: {answer}" for name, answer in answers.items())
    kept = f" What arrived is kept ({size:,} bytes) and resumed by the next try." if size else ""
    if all(name.startswith("package:") for name in answers):
        return (
            f"{transfer.spec.path} is not part of this version of the program ({listed}): the weights that come with "
            "it have changed since. What was made with the earlier ones stays and can be played; to go on from it, put "
            f"the earlier file at {transfer.target}; for new music name the model, as in model=mini"
        )
    return (
        f"no source delivered {transfer.spec.path}: {listed}.{kept} Check the connection, add a mirror to "
        f"weights.mirrors, or put the file at {transfer.target}"
    )
