"""Garbage collection of a token store: windows that no run names, unfinished and damaged ones, and snapshots.

Safe while runs are in progress: a run pins the windows that it needs before it samples or reuses any (`store.pins`),
and recent objects are kept. Imports neither torch nor Prefect.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jukebox_core.base.atomic import sweep
from jukebox_core.base.paths import user_path
from jukebox_core.base.records import read_record
from jukebox_core.errors import RecordError, RunError
from jukebox_core.sampling.config import SnapshotRecord
from jukebox_core.store.objects import open_objects
from jukebox_core.store.pins import Pin, Pins
from jukebox_core.store.place import SCRATCH
from jukebox_core.store.store import TokenStore
from pipelines.runs.folder import runs_in
from stages.sound.transcription_pins import is_abandoned

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from jukebox_core.tokens.graph import Take
    from pipelines.runs.folder import RunFolder

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
    unknown: tuple[str, ...] = ()  # runs whose needs cannot be read: because of them every window is kept
    fresh: int = 0  # windows that no run names, but too new to be removed

    @property
    def bytes(self) -> int:
        """The size of all garbage."""
        return sum(sum(part.values()) for part in (self.windows, self.partials, self.damaged, self.snapshots))


def stores_of(root: str) -> list[str]:
    """Returns the token stores that the runs below `root` use, and the default one if it exists."""
    manifests = [_readable(run) for run in runs_in(root)]
    found = {str(manifest["store"]) for manifest in manifests if manifest and "store" in manifest}
    default = user_path(root).absolute() / ".store"
    return sorted(found | ({str(default)} if default.is_dir() else set()))


@dataclass(frozen=True, slots=True)
class Needs:
    """The windows of a store that runs need."""

    named: frozenset[str]
    unknown: tuple[str, ...] = ()  # for each run whose needs cannot be read: which one, and the remedy


def needs(root: str, store: str) -> Needs:
    """Returns the windows that runs name, those below `root`, and others by their pins; and blocks of transcriptions.

    A damaged run is known by its pin, and a damaged pin of a run below `root` by the run.

    Raises:
        StoreError: the store cannot be read.
    """
    pins, damaged = Pins(store).readable()
    named: set[str] = set()
    for pin in pins:
        if not is_abandoned(pin):
            named |= pin.keys
    pinned, unknown = {pin.name for pin in pins}, dict(damaged)
    for run in runs_in(root):
        manifest, name = _readable(run), Pin(run.name, run.place, frozenset()).name
        if manifest is None and name not in pinned:
            unknown[name] = (
                f"run {run.name} is damaged, and what it needs is unknown: run its command again, or remove it with "
                f"`jukebox runs rm {run.name}`"
            )
        elif manifest:
            named |= {span.key for take in _takes(run, manifest) for track in take for span in track}
            if manifest.get("takes"):
                unknown.pop(name, None)
    return Needs(frozenset(named), tuple(unknown.values()))


def _readable(run: RunFolder) -> dict[str, Any] | None:
    """Returns a run's manifest, empty if it has none; None if it is damaged, or of a newer version."""
    try:
        manifest = run.known_manifest()
        _takes(run, manifest)
    except RunError:
        return None
    return manifest if manifest or not os.path.lexists(run.manifest_path) else None


def _takes(run: RunFolder, manifest: Mapping[str, Any]) -> list[Take]:
    return run.takes() if manifest.get("takes") else []


def find_garbage(root: str, store: str, hours: float, scratch: Path | None = None) -> Garbage:
    """Returns the objects that no run names and that are older than `hours`; `scratch` is a folder of snapshots.

    While a run's needs are unknown, every window stays.

    Raises:
        StoreError: the store cannot be read.
    """
    sealed, partial = TokenStore(store).sizes()  # before the pins are read: a run that starts meanwhile is not missed
    objects, snapshots = open_objects(store), _snapshots(scratch, hours)
    aside = objects.sizes(_DAMAGED)
    needed = needs(root, store)
    named = needed.named
    unnamed = [] if needed.unknown else [key for key in sealed if key not in named]
    unfinished = [] if needed.unknown else [key for key in partial if key not in named and key not in sealed]
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
        unknown=needed.unknown,
    )


def remove(garbage: Garbage, root: str) -> tuple[int, int]:
    """Removes garbage, except windows that a run has named meanwhile; returns the number of windows and bytes removed.

    Raises:
        StoreError: the store cannot be read, or refuses; the remaining garbage is kept.
    """
    store, objects = TokenStore(garbage.store), open_objects(garbage.store)
    Pins(garbage.store).drop([pin for pin in Pins(garbage.store).readable()[0] if is_abandoned(pin)])
    sizes = {**garbage.windows, **garbage.partials}
    keys, count, size = list(sizes), 0, 0
    for at in range(0, len(keys), _ROUND):
        needed = needs(root, garbage.store)
        if needed.unknown:
            break
        gone = [key for key in keys[at : at + _ROUND] if key not in needed.named]
        store.remove(*gone)
        count, size = count + len(gone), size + sum(sizes[key] for key in gone)
    if garbage.damaged:
        objects.remove(*garbage.damaged)
    for path in garbage.snapshots:
        path.unlink(missing_ok=True)
    return count, size + sum(garbage.damaged.values()) + sum(garbage.snapshots.values())


def sweep_leavings(root: str, *, remove: bool) -> tuple[int, int]:
    """Removes the temporary files that killed processes left in runs, stores and caches; returns how many, and bytes.

    Args:
        root: the folder of the runs.
        remove: False: only count them.
    """
    above = user_path(root)
    folders = [run.path for run in runs_in(root) if run.known_manifest()] + [above / ".scratch", above / ".prefect"]
    folders += [Path(store) / SCRATCH for store in stores_of(root) if "://" not in store]
    swept = [sweep(folder, remove=remove) for folder in folders]
    return sum(count for count, _ in swept), sum(size for _, size in swept)


def _snapshots(folder: Path | None, hours: float) -> dict[Path, tuple[int, Collection[str]]]:
    """Returns the files of snapshots that are older than `hours`: their bytes, and the keys of their windows."""
    found: dict[Path, tuple[int, Collection[str]]] = {}
    for path in folder.glob("*") if folder is not None and folder.is_dir() else ():
        keys: list[str] = []
        with contextlib.suppress(OSError, RecordError):
            keys = read_record(path.with_suffix(".json"), SnapshotRecord)["windows"]
        with contextlib.suppress(FileNotFoundError):
            stat = path.stat()
            if path.is_file() and time.time() - stat.st_mtime > hours * 3600:
                found[path] = (stat.st_size, keys)
    return found
