"""Finds files on this machine and fetches those that are missing: a whole set, checked before its first byte.

A file is looked for at the path the user gave for it, in the weights folder, and in the folders of other programs,
which are read and never written to. Imports no torch.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from jukebox_core.base.text import format_bytes
from jukebox_core.errors import DownloadError
from jukebox_core.models.checkpoints.convert import copy_is_current, copy_path, is_pickle
from jukebox_core.models.digests import largest, read_records, record_name, size_fault, verified_digest
from jukebox_core.models.download.fetch import fetch_file, present
from jukebox_core.models.download.part import Part
from jukebox_core.models.download.sources import FolderSource, PackageSource, source_for
from jukebox_core.models.licence import require

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jukebox_core.models.config import FileSpec, ModelFiles, WeightsConfig

OFFLINE_VARIABLE = "HF_HUB_OFFLINE"


class FileMeter(Protocol):
    """Shows how far the download of one file is."""

    def __call__(self, done: int, total: int | None) -> None:
        """Notes the bytes there and the bytes in all."""

    def waiting(self) -> None:
        """Says that another process is at this file."""

    def close(self) -> None:
        """Says what was fetched."""


Meters = Callable[["FileSpec"], FileMeter]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file that a model needs."""

    spec: FileSpec
    sources: tuple[str, ...]
    folder: Path  # where it belongs, under `spec.path`
    given: Path | None = None  # a file of the user's own that takes its place
    pickles: str = "keep"  # as in WeightsConfig
    apart: bool = False  # the path may mean another file elsewhere, so that none from there is taken for this one

    @property
    def path(self) -> Path:
        """Where it belongs."""
        return self.folder / self.spec.path

    @property
    def local_folders(self) -> list[Path]:
        """Folders among the sources that are asked before any other kind: what they hold is used in place.

        Copies of them would meet under one name: two models of a person's own may both have a ``level_2.safetensors``.
        """
        sources = takewhile(lambda each: isinstance(each, FolderSource), map(source_for, self.sources))
        return [source.folder for source in sources if isinstance(source, FolderSource)]


@dataclass(frozen=True, slots=True)
class Found:
    """A file that is on this machine."""

    path: Path
    verified: str  # when it was hashed; empty if never
    own: bool  # whether it lies in the weights folder, so that it may be removed


def is_offline(weights: WeightsConfig) -> bool:
    """Whether no connection may be opened: by setting, or by the environment variable of the Hugging Face hub."""
    return weights.offline or os.environ.get(OFFLINE_VARIABLE, "").lower() in ("1", "true", "yes", "on")


def home(weights: WeightsConfig) -> Path:
    """The weights folder."""
    return Path(weights.folder).expanduser()


def prepared_home(weights: WeightsConfig) -> Path | None:
    """The weights folder, made absolute, if weights are to be kept there as they sample."""
    return home(weights).absolute() if weights.prepared else None


def find(wanted: Wanted, weights: WeightsConfig) -> Found | None:
    """The file or its safetensors copy, if it is on this machine with the right size; nothing is hashed."""
    if wanted.given is not None:
        return _found(wanted.given, wanted, own=False) if wanted.given.is_file() else None
    for local in wanted.local_folders:
        path = local / wanted.spec.path
        if path.is_file() and size_fault(wanted.spec, path.stat().st_size) is None:
            return _found(path, wanted, own=False)
    if wanted.pickles != "keep" and is_pickle(wanted.spec.path):
        copy = copy_path(wanted.path)
        record = read_records(wanted.folder).get(wanted.spec.path)
        origin = wanted.spec.sha256 or (record.sha256 if record else None)
        if copy_is_current(copy, wanted.folder, origin):
            return _found(copy, wanted, own=True)
    if present(wanted.spec, wanted.folder):
        return _found(wanted.path, wanted, own=True)
    if not wanted.apart:
        for folder in weights.elsewhere:
            path = Path(folder).expanduser() / wanted.spec.path
            if path.is_file() and size_fault(wanted.spec, path.stat().st_size) is None:
                return _found(path, wanted, own=path.is_relative_to(home(weights)))
    return None


def _found(path: Path, wanted: Wanted, *, own: bool) -> Found:
    record = read_records(wanted.folder).get(record_name(wanted.folder, path))
    return Found(path, record.verified if record else "", own)


def verify(wanted: Wanted, found: Found, *, again: bool = False) -> str:
    """The sha256 of a file that was found; computed once while size and time stay the same, or ``again``.

    Raises:
        DownloadError: it is not the published or recorded one.
    """
    if wanted.given is not None:
        return verified_digest(wanted.folder, found.path, pinned=False, again=again)
    if any(found.path.is_relative_to(folder) for folder in wanted.local_folders):
        published = wanted.spec.sha256
        return verified_digest(wanted.folder, found.path, published=published, pinned=False, again=again)
    if is_pickle(wanted.spec.path) and not is_pickle(found.path.name):  # a copy, which nobody published
        return verified_digest(wanted.folder, found.path, again=again)
    spec = wanted.spec
    return verified_digest(wanted.folder, found.path, published=spec.sha256, known_as=spec.path, again=again)


def obtain(
    wanted: Mapping[str, Wanted],
    files: ModelFiles,
    weights: WeightsConfig,
    meters: Meters | None,
    *,
    later: Iterable[Wanted] = (),
) -> dict[str, Found]:
    """The files by role, those that are not here yet fetched; each has been verified.

    ``later``: files that will be asked for next; where they are missing too and nothing can be fetched, all are listed
    at once, as a person who carries files here wants to go but once.

    Raises:
        DownloadError: a file is not here and may not, or cannot, be fetched; or the disk is too small for all of them.
        ConfigError: the licence of files that must be fetched was not acknowledged.
    """
    here = {role: _unless_outdated(each, find(each, weights)) for role, each in wanted.items()}
    missing = {role: wanted[role] for role, found in here.items() if found is None}
    _require_given(missing)
    offline = is_offline(weights)
    if missing:
        sources = [source_for(address) for each in missing.values() for address in each.sources]
        if offline and all(source.remote for source in sources):
            raise DownloadError(_missing_offline([*missing.values(), *(e for e in later if find(e, weights) is None)]))
        if not offline and any(source.remote for source in sources):
            require(files, weights, home(weights))
        _require_room(missing.values())
    for role, each in missing.items():
        here[role] = _fetched(each, weights, offline, meters)
    done = {role: found for role, found in here.items() if found is not None}
    for role, found in done.items():
        verify(wanted[role], found)
    return done


def _unless_outdated(wanted: Wanted, found: Found | None) -> Found | None:
    """The same, but None for a copy of what an earlier version of this program shipped: it is fetched anew."""
    if found is None or not found.own or not any(isinstance(source_for(a), PackageSource) for a in wanted.sources):
        return found
    try:
        verify(wanted, found)
    except DownloadError:
        return None
    return found


def _fetched(wanted: Wanted, weights: WeightsConfig, offline: bool, meters: Meters | None) -> Found:
    meter = meters(wanted.spec) if meters is not None else None
    try:
        path = fetch_file(
            wanted.spec,
            wanted.sources,
            wanted.folder,
            offline=offline,
            connections=weights.connections,
            progress=meter,
            waiting=meter.waiting if meter is not None else None,
        )
    finally:
        if meter is not None:
            meter.close()
    return _found(path, wanted, own=True)


def _require_given(missing: Mapping[str, Wanted]) -> None:
    for role, each in missing.items():
        if each.given is not None:
            raise DownloadError(f"weights.paths.{role} is {each.given}, but there is no such file; correct the path")


def _missing_offline(missing: Iterable[Wanted]) -> str:
    lines = [f"  {each.path} ({_size(each.spec)})" for each in missing]
    one = len(lines) == 1
    return "\n".join(
        [
            f"offline, and {'1 file is' if one else f'{len(lines)} files are'} not on this machine; put "
            f"{'it at this path' if one else 'them at these paths'}, or bring {'it' if one else 'them'} with `jukebox "
            "models export` and `import`, or set weights.offline=false:",
            *lines,
        ]
    )


def _size(spec: FileSpec) -> str:
    if spec.bytes is not None:
        return f"{spec.bytes:,} bytes"
    return "size unknown" if spec.about_bytes is None else f"about {format_bytes(spec.about_bytes)}"


def _require_room(missing: Iterable[Wanted]) -> None:
    """Checks that all that is missing fits, with the safetensors copies that will be made of it."""
    unique = {each.path: each for each in missing}.values()
    needed = sum(_bytes_needed(each) for each in unique)
    for folder in {each.folder for each in unique}:
        standing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(standing).free
        if needed > free:
            raise DownloadError(
                f"{len(unique)} {'file needs' if len(unique) == 1 else 'files need'} {format_bytes(needed)} but "
                f"{folder} has {format_bytes(free)} free; nothing was fetched: make room, set weights.folder to "
                "another disk, or weights.pickles=keep to make no copies"
            )


def _bytes_needed(wanted: Wanted) -> int:
    size = largest(wanted.spec) or 0
    copies = size if wanted.pickles != "keep" and is_pickle(wanted.spec.path) else 0
    return max(size - Part(wanted.path.with_name(f"{wanted.path.name}.part")).size, 0) + copies
