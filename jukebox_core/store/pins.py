"""Pins: which windows each run needs, stored beside the windows, because runs of several machines share a store.

One object a run, ``runs/<digits>.json`` below the store's root. It is written when the run is planned, before a window
is sampled, so that a concurrent garbage collection keeps the windows of the run. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from jukebox_core.base.hashing import digest
from jukebox_core.base.records import dump_record, parse_record
from jukebox_core.errors import NewerRecordError, RecordError, StoreError
from jukebox_core.store.objects import open_objects

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Pin:
    """The windows that one run needs."""

    run: str  # the run's name
    place: str  # machine and folder, as in ``host:/home/me/outputs/run``
    keys: frozenset[str]

    @property
    def name(self) -> str:
        """The name of the object that holds it."""
        return f"runs/{digest([self.run, self.place])[:32]}.json"


class Pins:
    """The pins in a token store.

    Args:
        uri: the store's local path or address.
        options: settings of the fsspec file system.

    Raises:
        StoreError: the address has an unknown scheme. Every method raises it where the place itself fails.
    """

    def __init__(self, uri: str, *, options: Mapping[str, Any] | None = None) -> None:
        self._objects = open_objects(uri, options)

    def put(self, pin: Pin) -> None:
        """Stores a pin, in the place of the earlier one of the same run."""
        about = {"schema": SCHEMA, "run": pin.run, "place": pin.place, "windows": sorted(pin.keys)}
        self._objects.replace(pin.name, dump_record(about, indent=0))

    def drop(self, pins: Iterable[Pin]) -> None:
        """Removes pins: their runs need no windows any more. Pins that do not exist are ignored."""
        names = [pin.name for pin in pins]
        if names:
            self._objects.remove(*names)

    def of(self, run: str, place: str) -> Pin | None:
        """Returns the pin of the run with that name at that place; None if it has none, or a damaged one."""
        name = Pin(run, place, frozenset()).name
        try:
            data = self._objects.read(name)
            return None if data is None else _read(name, data)
        except RecordError:
            return None

    def all(self) -> list[Pin]:
        """Returns every pin, sorted by run and place.

        Raises:
            StoreError: one of them cannot be read: the needs of its run are unknown, so nothing may be removed.
        """
        pins, damaged = self.readable()
        if damaged:
            raise StoreError("; ".join(damaged.values()))
        return pins

    def readable(self) -> tuple[list[Pin], dict[str, str]]:
        """Returns the pins that can be read, sorted by run and place, and a message by name for the others."""
        pins, damaged = [], {}
        names = {"/".join(name.split("/")[:2]) for name in self._objects.sizes("runs")}  # a folder in place of one, too
        for name in sorted(names):
            try:
                data = self._objects.read(name)
                if data is not None:
                    pins.append(_read(name, data))
            except NewerRecordError as error:
                damaged[name] = str(error)
            except RecordError as error:
                damaged[name] = (
                    f"{name} does not say which windows a run needs ({error}); resume the run it was of, or remove it"
                )
        return sorted(pins, key=lambda pin: (pin.run, pin.place)), damaged


@dataclass(frozen=True, kw_only=True, slots=True)
class _Content:
    """What the object of a pin holds."""

    extensible: ClassVar[bool] = True
    schema: int
    run: str
    place: str
    windows: tuple[str, ...]


def _read(name: str, data: bytes) -> Pin:
    about = parse_record(data, _Content, name, SCHEMA)
    return Pin(about["run"], about["place"], frozenset(about["windows"]))
