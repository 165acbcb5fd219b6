"""Settings derived from those of an earlier run: to start a new run from its tokens, or to resume it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jukebox_core.base.paths import user_path
from jukebox_core.base.structuring import build, to_plain
from jukebox_core.errors import DamagedRunError
from pipelines.runs.config_file import CONFIG_NAME, checked, read_config
from pipelines.runs.folder import find_run
from pipelines.settings.common import StorageSettings
from pipelines.settings.compose import override_value, stored_root
from pipelines.settings.generate import ChooseSettings, PromptSettings, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pipelines.runs.folder import RunFolder
    from pipelines.settings.compose import Root

log = logging.getLogger("jukebox")


def run_root(command: str, run: str, overrides: Sequence[str]) -> Root[Settings]:
    """Returns the configuration root of ``continue RUN`` or ``upsample RUN``: the settings of that run.

    Entries of `songs` follow their samples when `overrides` choose among the run's samples.

    Raises:
        RunError: no run has that name, or its settings cannot be read.
    """
    found = find_run(run, _root(overrides))
    folder, stored = found.path, stored_settings(found)
    fresh: dict[str, Any] = {
        "run": {**stored.get("run", {}), "name": None},
        "prompt": to_plain(PromptSettings()),  # the run's tokens start with its prompt already
        "songs": _chosen_songs(stored, overrides),
        "source": {
            "run": str(folder.resolve()),
            "command": command,
            "samples": [],
            "keep_seconds": None,
            "splice": [],
        },
    }
    if command == "upsample":
        fresh["sampling"] = {**stored.get("sampling", {}), "stop_level": 0}
        fresh["choose"] = to_plain(ChooseSettings())
    return stored_root(command, {**stored, **fresh}, overrides)


def resume_root(run: str, root: str, overrides: Sequence[str]) -> Root[Settings]:
    """Returns the configuration root of ``runs resume RUN``: the run's own settings, in its own folder.

    Raises:
        RunError: no run has that name, or its settings cannot be read.
    """
    found = find_run(run, root)
    folder, stored = found.path.absolute(), stored_settings(found)
    own: dict[str, Any] = {
        "run": {**stored.get("run", {}), "name": folder.name},
        "storage": {**stored.get("storage", {}), "root": str(folder.parent)},
    }
    return stored_root("resume", {**stored, **own}, overrides)


def stored_settings(run: RunFolder) -> dict[str, Any]:
    """Returns the settings of a run as plain data: those in config.yaml, or, if it is damaged, in the manifest.

    Settings that did not exist when the run was made have their defaults, so that they can be overridden. Relative
    paths start at the folder that the run was made in, wherever this process works.

    Raises:
        RunError: neither can be read.
    """
    try:
        stored = read_config(run.path)
    except (FileNotFoundError, DamagedRunError) as error:
        kept = run.known_manifest().get("settings")
        if kept is None:
            reason = str(error) if isinstance(error, DamagedRunError) else f"{run.path} has no {CONFIG_NAME}"
            raise DamagedRunError(reason) from None
        log.warning("%s; the settings in manifest.json are used", error)
        stored = checked(kept, run.manifest_path)
    return from_anywhere(to_plain(build(Settings, stored)), run.path)


def from_anywhere(stored: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Returns stored settings of the run in `folder` whose relative paths are right in the working directory.

    The folder that they start at follows from that of the run, so that all of it may have been moved.
    """
    root = user_path(stored.get("storage", {}).get("root", StorageSettings().root))
    parts, parent = root.parts, folder.absolute().parent
    if root.is_absolute() or ".." in parts or parent.parts[len(parent.parts) - len(parts) :] != parts:
        return dict(stored)
    base = Path(*parent.parts[: len(parent.parts) - len(parts)])
    if base.resolve() == Path.cwd().resolve():
        return dict(stored)

    def placed(value: Any) -> Any:
        if isinstance(value, list):
            return [placed(each) for each in value]
        if not isinstance(value, str) or not value or ":" in value:  # an address
            return value
        return str(base / user_path(value))

    def section(name: str, *keys: str) -> dict[str, Any]:
        old = stored.get(name, {})
        return {**old, **{key: placed(old[key]) for key in keys if key in old}}

    storage, weights = section("storage", "root", "tokens", "scratch"), section("weights", "folder", "elsewhere")
    if isinstance(spool := storage.get("spool"), dict):
        storage["spool"] = {**spool, "folder": placed(spool.get("folder"))}
    weights["paths"] = {role: placed(path) for role, path in weights.get("paths", {}).items()}
    moved = {
        "storage": storage,
        "weights": weights,
        "prompt": section("prompt", "files"),
        "song": section("song", "lyrics_file"),
        "songs": [
            {key: placed(value) if key == "lyrics_file" else value for key, value in song.items()}
            for song in stored.get("songs", [])
        ],
    }
    return {**stored, **{name: value for name, value in moved.items() if stored.get(name)}}


def _root(overrides: Sequence[str]) -> str:
    given = override_value(overrides, "storage.root")
    return given if isinstance(given, str) else StorageSettings().root


def _chosen_songs(stored: Mapping[str, Any], overrides: Sequence[str]) -> list[Any]:
    """Returns the stored entries of `songs`, or those of the samples that `overrides` choose."""
    songs, chosen = list(stored.get("songs", ())), override_value(overrides, "source.samples")
    chosen = [chosen] if isinstance(chosen, int) else chosen
    if not songs or not isinstance(chosen, list) or not all(c in range(len(songs)) for c in chosen):
        return songs
    count = override_value(overrides, "sampling.n_samples") or stored.get("sampling", {}).get("n_samples")
    samples = chosen * count if len(chosen) == 1 and isinstance(count, int) else chosen
    return [songs[sample] for sample in samples]
