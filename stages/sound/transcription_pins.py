"""Pins of transcriptions that are not finished, so that `jukebox runs gc` keeps their blocks. Imports no torch.

A pin is put before the first block is computed and dropped when the notes are in their JSON file, from which every
other file can be made: from then on no block is needed. The pin of a transcription whose folder was removed, or that a
kill kept from being dropped, is abandoned, and counts for nothing.
"""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.errors import StoreError
from jukebox_core.store.pins import Pin, Pins

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger("jukebox")

_RUN = "transcription/"  # how the names of such pins begin; no run can be called like that


def pin_blocks(store: str, host: str, target: Path, keys: Iterable[str]) -> None:
    """Pins the blocks of the transcription that becomes the file `target`, of a command that runs on `host`.

    Raises:
        StoreError: the store cannot be written.
    """
    Pins(store).put(_pin(host, target, keys))


def drop_blocks(store: str, host: str, target: Path) -> None:
    """Drops that pin; a store that cannot be reached is a warning, since the pin is abandoned in any case."""
    try:
        Pins(store).drop([_pin(host, target, ())])
    except StoreError as error:
        log.warning("the blocks of %s stay pinned: %s", target, error)


def is_abandoned(pin: Pin) -> bool:
    """Whether a pin is of a transcription on this machine that is finished, or whose folder is gone."""
    host, _, place = pin.place.partition(":")
    if not pin.run.startswith(_RUN) or host != socket.gethostname():
        return False
    target = Path(place)
    return target.is_file() or not target.parent.is_dir()


def _pin(host: str, target: Path, keys: Iterable[str]) -> Pin:
    place = target.absolute().parent.resolve() / target.name
    return Pin(f"{_RUN}{target.name}", f"{host}:{place}", frozenset(keys))
