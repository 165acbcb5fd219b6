"""Removal of run folders: what a run made, and nothing else. Imports neither torch nor Prefect."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.base.paths import user_path
from jukebox_core.errors import LabelError, RunError
from pipelines.runs.config_file import CONFIG_NAME, settings_in
from pipelines.runs.folder import MAKING, MANIFEST_NAME, REMOVED, lock_name
from pipelines.runs.summary import Summary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from pipelines.runs.folder import RunFolder

_STALE_SECONDS = 3600  # a run is created in milliseconds; a killed process has left a folder as old as this
# The paths of all that a run writes into its folder, relative to it.
_OWN = re.compile(
    r"""(
      \.?(config\.yaml | manifest\.json | run\.log | report\.html) | \.report\.\d+\.html
    | audio/((level_\d+|original)/\.?sample_\d+\.\w+ | preview/\.?sample_\d+\w*\.\w+)
    | align/\.?sample_\d+\.\w+ | codes/\.?sample_\d+\.npz
    | pictures/\.?(level_\d+|original|grid)_sample_\d+_\w+\.png
    )(\.[\w-]+)*""",  # the last: of temporary files, and of those that were set aside
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Contained:
    """What a run's folder has in it, as paths."""

    own: tuple[Path, ...]  # files that the run made
    others: tuple[Path, ...]  # what it did not make: it stays

    @property
    def bytes(self) -> int:
        """The size of the run's own files."""
        return sum(path.lstat().st_size for path in self.own)

    @classmethod
    def of(cls, folder: Path) -> Contained:
        """Returns what is in the folder of a run; links are not followed."""
        own: list[Path] = []
        others: list[Path] = []
        for path in sorted(_files(folder)):
            mine = _OWN.fullmatch(path.relative_to(folder).as_posix())
            (own if mine else others).append(path)
        return cls(tuple(own), tuple(others))


def check_removable(run: RunFolder) -> None:
    """Checks that a folder is one that a run made.

    Raises:
        RunError: it is a link, holds this process or other runs, or no run made it.
    """
    path = run.path
    if path.is_symlink():
        raise RunError(f"{path} is a symbolic link; nothing is removed: give the folder that it leads to")
    if path.name in ("", ".", ".."):
        raise RunError(f"{path} is not the name of a run; nothing is removed: give the run's name or folder")
    if not run.known_manifest() and settings_in(path) is None and not _is_pinned(run):
        raise RunError(
            f"{path} is not a run: it has neither a manifest nor the settings of one that can be read; nothing is "
            "removed: if it was a run, remove it by hand"
        )


def remove_folder(run: RunFolder, contained: Contained) -> None:
    """Removes the folder of a run; with files in it that the run did not make, only the others."""
    if not contained.others:
        # A folder that is removed in part must not look like a run.
        doomed = run.path.with_name(f"{REMOVED}{secrets.token_hex(8)}")
        run.path.rename(doomed)
        shutil.rmtree(doomed)
        return
    last = {MANIFEST_NAME: 2, CONFIG_NAME: 1}  # until they are gone, it is a run that can be repaired or removed
    for path in sorted(contained.own, key=lambda path: last.get(path.relative_to(run.path).as_posix(), 0)):
        path.unlink()
    for folder, _, _ in sorted(os.walk(run.path), reverse=True):
        with contextlib.suppress(OSError):  # not empty
            Path(folder).rmdir()


def idle(run: RunFolder) -> AbstractContextManager[object]:
    """Returns the run's lock, so that no process starts to work on it meanwhile.

    Raises:
        RunError: a process works on it now.
    """
    from jukebox_core.store.run_lock import RunLock

    manifest = run.known_manifest()
    if "lock" in manifest and "store" in manifest:
        return RunLock(manifest["store"], manifest["lock"])
    settings = settings_in(run.path)
    if settings is not None:  # the run is damaged, and a process may work on it nevertheless
        with contextlib.suppress(LabelError):  # an earlier version made it, from a file that is gone
            return RunLock(settings.storage.tokens, lock_name(settings))
    if Summary.of(run).status == "running":
        raise RunError(f"run {run.name} is running; stop its process first ({manifest.get('process')})")
    return contextlib.nullcontext()


def drop_pin(run: RunFolder) -> None:
    """Removes the run's pin from its token store: it needs no window any more."""
    from jukebox_core.store.pins import Pin, Pins

    default = run.path.absolute().parent / ".store"
    store = run.known_manifest().get("store") or (str(default) if default.is_dir() else None)
    if store is not None:
        Pins(store).drop([Pin(run.name, run.place, frozenset())])


def leftovers(root: str) -> list[Path]:
    """Returns the folders that killed processes have left below `root` while they created or removed a run."""
    found, now = [], time.time()
    with contextlib.suppress(OSError):
        for path in sorted(user_path(root).iterdir()):
            making = path.name.startswith(MAKING) and now - path.lstat().st_mtime > _STALE_SECONDS
            if (making or path.name.startswith(REMOVED)) and path.is_dir() and not path.is_symlink():
                found.append(path)
    return found


def remove_leftovers(root: str) -> int:
    """Removes the folders that `leftovers` returns; returns their number."""
    found = leftovers(root)
    for path in found:
        shutil.rmtree(path, ignore_errors=True)
    return len(found)


def _is_pinned(run: RunFolder) -> bool:
    """Whether a run of that name was planned in that folder: the default store of the folder has its pin."""
    from jukebox_core.store.pins import Pins

    store = run.path.absolute().parent / ".store"
    return store.is_dir() and Pins(str(store)).of(run.name, run.place) is not None


def _files(folder: Path) -> Iterator[Path]:
    """Yields all that is below a folder and is no folder, links among it."""
    for at, folders, names in os.walk(folder):
        yield from (Path(at) / name for name in names)
        yield from (path for path in (Path(at) / name for name in folders) if path.is_symlink())
