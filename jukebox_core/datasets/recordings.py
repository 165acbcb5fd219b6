"""Recordings that a training may read, checked once: the record of what each of them holds. Imports no torch.

The record is a JSON file. It is written while songs are checked, so that an interrupted check goes on where it ended,
and a song is measured again only if its file changes. Songs that could not be read are tried again each time.
"""

from __future__ import annotations

import json
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.records import read_json
from jukebox_core.base.structuring import build, to_plain
from jukebox_core.datasets.checks import Measured, measure
from jukebox_core.errors import AudioError, ConfigError, RecordError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from jukebox_core.datasets.checks import Checks
    from jukebox_core.datasets.songs import Song

log = logging.getLogger("jukebox")

_THREADS = 4  # decoders and resamplers run outside Python's lock; each holds one song in memory
_SAVE_SECONDS = 30.0  # between two writes of the record


def check_recordings(checks: Checks, songs: Sequence[Song], record: Path, stop: Callable[[], None]) -> None:
    """Checks songs and writes the record; songs that it has, and whose files did not change, are not decoded again.

    Args:
        checks: receives the songs, in order; its findings say which are left out, and why.
        songs: the recordings.
        record: the file to read, if it exists, and to write.
        stop: called after every song; may raise, and the record is written first.

    Raises:
        OSError: the record cannot be written.
    """
    known = _known(record, checks.rate)
    measured: dict[str, Any] = {}
    usable: dict[str, float] = {}
    saved = time.monotonic()

    def save(*, complete: bool) -> None:
        found = {"rate": checks.rate, "measured": known | measured, "usable": usable if complete else None}
        with atomic_write(record) as file:
            file.write(json.dumps(found).encode())

    def look(song: Song) -> tuple[str, Measured | AudioError]:
        try:
            state = _state(song.path)
            entry = known.get(song.name)
            if entry is not None and entry["file"] == state:
                return state, build(Measured, entry["sound"])
            return state, measure(song.path, checks.rate)[0]
        except AudioError as error:
            return "", error

    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        try:
            for number, (song, (state, found)) in enumerate(zip(songs, pool.map(look, songs), strict=True), 1):
                if isinstance(found, AudioError):
                    checks.exclude_unreadable(song, found)
                else:
                    measured[song.name] = {"file": state, "sound": to_plain(found)}
                    if checks.judge(song, found) is not None:
                        usable[song.name] = found.seconds
                if time.monotonic() - saved > _SAVE_SECONDS:
                    log.info("%d of %d recordings checked", number, len(songs))
                    save(complete=False)
                    saved = time.monotonic()
                stop()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            save(complete=False)
            raise
    known.clear()  # names that are gone
    save(complete=True)


def usable_recordings(record: Path) -> dict[str, float]:
    """Returns the durations in seconds of the songs that can be used, by name.

    Raises:
        StoreError: the check has not been completed, or the record is damaged.
    """
    try:
        usable = read_json(record)["usable"]
        return {str(name): float(seconds) for name, seconds in usable.items()}
    except (OSError, RecordError, ValueError, KeyError, TypeError, AttributeError):
        raise StoreError(
            f"{record} is no complete record of checked recordings; remove it, and run the same command again"
        ) from None


def _known(record: Path, rate: int) -> dict[str, Any]:
    """Returns the entries of an earlier record; a damaged one, or one of another rate, has none."""
    try:
        found = read_json(record)
        if found["rate"] != rate:
            return {}
        entries: dict[str, Any] = found["measured"]
        for entry in entries.values():
            build(Measured, entry["sound"])
            entry["file"] += ""
    except (OSError, RecordError, ValueError, KeyError, TypeError, AttributeError, ConfigError):
        return {}
    return entries


def _state(path: Path) -> str:
    """Returns what changes when a file does: its size and its time."""
    try:
        found = path.stat()
    except OSError as error:
        raise AudioError(f"{path} cannot be read ({error.strerror}); check that it is still there") from None
    return f"{found.st_size} bytes, {found.st_mtime_ns} ns"
