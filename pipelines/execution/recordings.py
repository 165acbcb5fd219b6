"""Recordings that a command names: files, folders of files, and runs, whose songs they are."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jukebox_core.base.paths import files_below, user_path
from jukebox_core.datasets.songs import AUDIO_SUFFIXES
from jukebox_core.errors import AudioError, ConfigError
from pipelines.runs.folder import RunFolder, runs_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

log = logging.getLogger("jukebox")


def run_of(name: str, root: str) -> RunFolder | None:
    """Returns the run of that name below `root`, or in that folder; None if there is none."""
    given = user_path(name)
    if (given / "manifest.json").is_file():
        return RunFolder(given)
    return None if given.exists() else next((run for run in runs_in(root) if run.name == name), None)


def files_of(name: str, root: str) -> list[tuple[Path, Path, bool]]:
    """Returns each audio file of an entry of ``audio``, its place below the folder, and whether the user named it.

    Raises:
        ConfigError: a folder holds no audio, or a run no songs.
        DamagedRunError: a run is damaged.
    """
    run, given = run_of(name, root), user_path(name)
    if run is not None:
        return [(path, Path(run.name) / path.name, True) for path in songs_of(run)]
    if given.is_dir():
        return [(path, path.relative_to(given), False) for path in _audio_below(given)]
    return [(given, Path(given.name), True)]


def usable(recordings: Iterable[tuple[str, bool]], seconds: Callable[[str], float]) -> dict[str, float]:
    """Returns the seconds of each recording, by path, in order; those that cannot be used are left out, with a warning.

    Args:
        recordings: paths, and whether the user named it.
        seconds: returns the length of one; AudioError: it cannot be used.

    Raises:
        AudioError: one that the user named cannot be used, or none can.
    """
    found: dict[str, float] = {}
    errors: list[str] = []
    for path, named in recordings:
        if path in found:
            continue
        try:
            found[path] = seconds(path)
        except AudioError as error:
            if named:
                raise
            errors.append(str(error))
            log.warning("%s is left out: %s", path, error)
    if not found:
        raise AudioError(f"none of {len(errors)} recordings can be used; the first: {errors[0]}")
    return found


def songs_of(run: RunFolder) -> list[Path]:
    """Returns the audio of a run's songs, each at the finest level that it has.

    Raises:
        ConfigError: it has none.
        DamagedRunError: its manifest is damaged.
    """
    finest: dict[int, dict[str, Any]] = {}
    for record in run.manifest().get("audio", []):
        if record.get("level") is None or record.get("sample") is None:
            continue
        known = finest.setdefault(record["sample"], record)
        if record["level"] < known["level"]:
            finest[record["sample"]] = record
    if not finest:
        raise ConfigError(f"run {run.name} has no audio yet; run it to its end first: jukebox runs resume {run.name}")
    return [run.path / finest[sample]["path"] for sample in sorted(finest)]


def _audio_below(root: Path) -> list[Path]:
    files = [
        path
        for path in files_below(root, AUDIO_SUFFIXES)
        if not any(part.startswith(".") or part == "preview" for part in path.relative_to(root).parts)
    ]
    if not files:
        raise ConfigError(f"{root} holds no {', '.join(AUDIO_SUFFIXES)} file; name files, or a folder that has some")
    return files
