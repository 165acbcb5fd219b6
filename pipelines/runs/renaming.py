"""Another name for a run: its folder, its pin and what other runs call it. Imports neither torch nor Prefect."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.paths import check_name
from jukebox_core.errors import RunError
from pipelines.runs.config_file import CONFIG_NAME, settings_in
from pipelines.runs.folder import RunFolder, runs_in

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def check_renamable(run: RunFolder, name: str) -> RunFolder:
    """Returns the folder that the run will be.

    Raises:
        ConfigError: no folder can have the name.
        RunError: it is taken.
        DamagedRunError: the run is damaged.
    """
    check_name(name, "NAME")
    target = RunFolder(run.path.parent / name)
    if os.path.lexists(target.path):
        raise RunError(f"{target.path} exists already; choose another name")
    run.manifest()
    return target


def rename(run: RunFolder, target: RunFolder, root: str) -> None:
    """Renames a run that no process works on; the runs below `root` that began with it name it by its new name.

    A kill in between leaves the run under one of the two names, with its windows kept.
    """
    from jukebox_core.store.pins import Pin, Pins  # needs fsspec

    manifest = run.manifest()
    pins = Pins(manifest["store"]) if "store" in manifest else None
    pin = pins.of(run.name, run.place) if pins is not None else None
    if pins is not None and pin is not None:
        pins.put(Pin(target.name, target.place, pin.keys))
    _write_name(run, target.name, manifest)
    run.path.rename(target.path)
    if pins is not None and pin is not None:
        pins.drop([pin])
    for other in runs_in(root):
        parent = other.known_manifest().get("parent") or {}
        if parent.get("run") == run.name:
            other.update(parent={**parent, "run": target.name})


def _write_name(run: RunFolder, name: str, manifest: Mapping[str, Any]) -> None:
    from pipelines.settings.compose import dump

    settings = settings_in(run.path)
    if settings is not None:
        named = replace(settings, run=replace(settings.run, name=name))
        with atomic_write(run.path / CONFIG_NAME) as file:
            file.write(dump(named).encode())
    stored = manifest.get("settings")
    changed = {} if stored is None else {"settings": {**stored, "run": {**stored.get("run", {}), "name": name}}}
    run.update(run=name, **changed)
