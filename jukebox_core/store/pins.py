"""Pins: which windows each run needs, stored beside the windows, because runs of several machines share a store.

One object a run, ``runs/<digits>.json`` below the store's root. It is written when the run is planned, before a window
is sampled, so that a concurrent garbage collection keeps the windows of the run. Imports no torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jukebox_core.base.hashing import digest
from jukebox_core.errors import StoreError
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
        self._objects.replace(pin.name, json.dumps(about, indent=0).encode("utf-8"))

    def drop(self, pins: Iterable[Pin]) -> None:
        """Removes pins: their runs need no windows any more. Pins that do not exist are ignored."""
        names = [pin.name for pin in pins]
        if names:
            self._objects.remove(*names)

    def all(self) -> list[Pin]:
        """Returns every pin, sorted by run and place.

        Raises:
            StoreError: one of them cannot be read: the needs of its run are unknown, so nothing may be removed.
        """
        found = ((name, self._objects.read(name)) for name in self._objects.sizes("runs"))
        pins = [_read(name, data) for name, data in found if data is not None]
        return sorted(pins, key=lambda pin: (pin.run, pin.place))


def _read(name: str, data: bytes) -> Pin:
    try:
        about = json.loads(data)
        if about["schema"] > SCHEMA:
            raise StoreError(f"{name} has a schema newer than the {SCHEMA} known here; update this program")
        return Pin(str(about["run"]), str(about["place"]), frozenset(map(str, about["windows"])))
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{name} does not say which windows a run needs ({error!r}); remove it, and resume the run it was of"
        ) from None
