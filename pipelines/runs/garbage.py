"""Garbage collection of a token store: windows that no run names, unfinished and damaged ones, and snapshots.

Safe while runs are in progress: a run pins the windows that it needs before it samples or reuses any (`store.pins`),
and recent objects are kept. Imports neither torch nor Prefect.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.base.paths import user_path
from jukebox_core.store.objects import open_objects
from jukebox_core.store.pins import Pins
from jukebox_core.store.store import TokenStore
from pipelines.runs.folder import runs_in

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_ROUND = 500  # windows that are removed between two reads of the pins
_DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Garbage:
    """The garbage of one store and of a folder of snapshots: sizes in bytes, by key, name or path."""

    store: str
    windows: Mapping[str, int] = field(default_factory=dict)  # sealed ones
    partials: Mapping[str, int] = field(default_factory=dict)  # of windows that are not sealed
    damaged: Mapping[str, int] = field(default_factory=dict)
    snapshots: Mapping[Path, int] = field(default_factory=dict)
    named: int = 0  # windows that runs name
    fresh: int = 0  # windows that no run names, but too new to be removed

    @property
    def bytes(self) -> int:
        """The size of all garbage."""
        return sum(sum(part.values()) for part in (self.windows, self.partials, self.damaged, self.snapshots))


def stores_of(root: str) -> list[str]:
    """Returns the token stores that the runs below `root` use, and the default one if it exists."""
    found = {str(run.manifest()["store"]) for run in runs_in(root) if "store" in run.manifest()}
    default = user_path(root).absolute() / ".store"
    return sorted(found | ({str(default)} if default.is_dir() else set()))


def named_windows(root: str, store: str) -> set[str]:
    """Returns the keys of all windows that runs name: those below `root`, and others by their pins.

    Raises:
        RunError: a run's manifest cannot be read, so that its windows are unknown.
        StoreError: the pin of a run elsewhere, or the store, cannot be read.
    """
    named: set[str] = set()
    for pin in Pins(store).all():
        named |= pin.keys
    for run in runs_in(root):
        if run.manifest().get("takes"):
            named |= {span.key for take in run.takes() for track in take for span in track}
    return named


def find_garbage(root: str, store: str, hours: float, scratch: Path | None = None) -> Garbage:
    """Returns the objects that no run names and that are older than `hours`; `scratch` is a folder of snapshots.

    Raises:
        RunError: as `named_windows`.
        StoreError: as `named_windows`.
    """
    sealed, partial = TokenStore(store).sizes()  # before the pins are read: a run that starts meanwhile is not missed
    objects, snapshots = open_objects(store), _snapshots(scratch, hours)
    aside = objects.sizes(_DAMAGED)
    named = named_windows(root, store)
    unnamed = [key for key in sealed if key not in named]
    unfinished = [key for key in partial if key not in named and key not in sealed]
    folders = [_DAMAGED, "windows"] if unnamed or unfinished else [_DAMAGED]
    ages = {Path(name).name: age for folder in folders for name, age in objects.ages(folder).items()}

    def old(name: str) -> bool:
        return ages.get(name, 0.0) > hours * 3600

    return Garbage(
        store=store,
        windows={key: sealed[key] for key in unnamed if old(f"{key}.safetensors")},
        partials={key: partial[key] for key in unfinished if old(f"{key}.part.safetensors")},
        damaged={name: size for name, size in aside.items() if old(Path(name).name)},
        snapshots={path: size for path, (size, keys) in snapshots.items() if not named.intersection(keys)},
        named=sum(key in named for key in sealed),
        fresh=sum(not old(f"{key}.safetensors") for key in unnamed),
    )


def remove(garbage: Garbage, root: str) -> tuple[int, int]:
    """Removes garbage, except windows that a run has named meanwhile; returns the number of windows and bytes removed.

    Raises:
        RunError: as `named_windows`; the remaining garbage is kept.
        StoreError: as `named_windows`, or the store refuses; the remaining garbage is kept.
    """
    store, objects = TokenStore(garbage.store), open_objects(garbage.store)
    sizes = {**garbage.windows, **garbage.partials}
    keys, count, size = list(sizes), 0, 0
    for at in range(0, len(keys), _ROUND):
        named = named_windows(root, garbage.store)
        gone = [key for key in keys[at : at + _ROUND] if key not in named]
        store.remove(*gone)
        count, size = count + len(gone), size + sum(sizes[key] for key in gone)
    if garbage.damaged:
        objects.remove(*garbage.damaged)
    for path in garbage.snapshots:
        path.unlink(missing_ok=True)
    return count, size + sum(garbage.damaged.values()) + sum(garbage.snapshots.values())


def _snapshots(folder: Path | None, hours: float) -> dict[Path, tuple[int, Collection[str]]]:
    """Returns the files of snapshots that are older than `hours`: their bytes, and the keys of their windows."""
    found: dict[Path, tuple[int, Collection[str]]] = {}
    for path in folder.glob("*") if folder is not None and folder.is_dir() else ():
        keys: list[str] = []
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            keys = list(json.loads(path.with_suffix(".json").read_bytes())["windows"])
        with contextlib.suppress(FileNotFoundError):
            stat = path.stat()
            if path.is_file() and time.time() - stat.st_mtime > hours * 3600:
                found[path] = (stat.st_size, keys)
    return found
