"""The library of model files on this machine: finds files, fetches the missing ones, verifies them. Imports no torch.

A file is looked for at the path the user gave for it, in the weights folder, and in the folders of other programs,
which are read and never written to. The weights folder has the layout of the released sources, and beside it:

    fetched.json        digests of the files (`records`)
    own/<mark>/         files of the user's own models, by a hash of their sources
    substitutes/<mark>/ files of a substitute
    whole/<mark>/       copies that hold a whole model, and the networks split from them
    prepared/           weights laid out for sampling (`checkpoints.prepared`)
"""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING

from jukebox_core.base.paths import user_path
from jukebox_core.base.text import format_bytes
from jukebox_core.errors import DownloadError
from jukebox_core.models.checkpoints.convert import copy_path, is_pickle
from jukebox_core.models.download.fetch import fetch_file
from jukebox_core.models.download.part import Part
from jukebox_core.models.download.progress import Meter
from jukebox_core.models.download.sources import FolderSource, PackageSource, source_for
from jukebox_core.models.licence import require
from jukebox_core.models.records import Record, Records

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from jukebox_core.models.config import FileSpec, ModelFiles, WeightsConfig


@dataclass(frozen=True, slots=True)
class WantedFile:
    """A file that a model needs."""

    spec: FileSpec
    sources: tuple[str, ...]
    folder: Path  # where it belongs, under `spec.path`
    given: Path | None = None  # a file of the user's own that replaces it
    apart: bool = False  # elsewhere the same path may be another file, so none from there is used
    convert: bool = True  # a pickle may be replaced by its safetensors copy

    @property
    def path(self) -> Path:
        """Where it belongs."""
        return self.folder / self.spec.path

    @property
    def local_paths(self) -> list[Path]:
        """Where it may be in folders that come before any other source; it is used there, and not copied."""
        sources = takewhile(lambda each: isinstance(each, FolderSource), map(source_for, self.sources))
        return [source.folder / self.spec.path for source in sources if isinstance(source, FolderSource)]


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A file on this machine."""

    path: Path
    own: bool  # whether it lies in the weights folder, so that it may be removed
    sha256: str = ""  # of this file; empty if it was never hashed
    identity: str = ""  # of the file as it was published, which a converted copy shares with its original
    verified: str = ""  # when it was hashed; empty if never

    @classmethod
    def of(cls, path: Path, record: Record | None, *, own: bool) -> LocalFile:
        """Returns the file with its record, if it has one."""
        return cls(path, own, record.sha256, record.identity, record.verified) if record else cls(path, own)


class Library:
    """The files on this machine, as `weights` says where they are and how missing ones are fetched."""

    def __init__(self, weights: WeightsConfig) -> None:
        self.weights, self.home = weights, weights.home
        self._records: dict[Path, Records] = {}

    def records(self, folder: Path) -> Records:
        """Returns the records of a folder of the library."""
        return self._records.setdefault(folder, Records(folder))

    def find(self, wanted: WantedFile) -> LocalFile | None:
        """Returns the file, or its safetensors copy, if it is here with the right size; nothing is hashed."""
        path, own = next(self._places(wanted), (None, False))
        return None if path is None else LocalFile.of(path, self.records(wanted.folder).get(path), own=own)

    def path(self, wanted: WantedFile, remedy: str = "fetch its model first") -> Path:
        """Returns where the file is.

        Raises:
            DownloadError: it is not here; the message ends with `remedy`.
        """
        found = self.find(wanted)
        if found is None:
            raise DownloadError(f"{wanted.spec.path} is not here; {remedy}")
        return found.path

    def verify(self, wanted: WantedFile, found: LocalFile, *, again: bool = False) -> LocalFile:
        """Returns the file with its digests; it is hashed once while size and time stay the same, or `again`.

        Raises:
            DownloadError: its digest is not the published or recorded one.
        """
        in_place = wanted.given is not None or found.path in wanted.local_paths  # the user may replace it
        copied = is_pickle(wanted.spec.path) and not is_pickle(found.path.name)  # by this program, never published
        record = self.records(wanted.folder).verify(
            found.path,
            published=None if copied or wanted.given is not None else wanted.spec.sha256,
            known_as=None if copied or in_place else wanted.path,
            pinned=not in_place,
            again=again,
        )
        return LocalFile.of(found.path, record, own=found.own)

    def fetch(
        self,
        wanted: Mapping[str, WantedFile],
        files: ModelFiles,
        *,
        show_progress: bool = True,
        later: Iterable[WantedFile] = (),
    ) -> dict[str, LocalFile]:
        """Returns the verified files by role; those that are missing are fetched, after a check of the whole set.

        Args:
            wanted: the files by role.
            files: the model's, for its licence and terms.
            show_progress: report downloads on stderr.
            later: files that will be asked for next: where nothing can be fetched, one error lists them too, so that
                the user can bring all at once.

        Raises:
            DownloadError: a file is not here and may not, or cannot, be fetched; or the disk is too small for all.
            ConfigError: the licence of files that must be fetched was not acknowledged.
        """
        here = self.check(wanted, files, later)
        for role, each in wanted.items():
            if here[role] is not None:
                continue
            with Meter(each.spec.path) if show_progress else nullcontext() as meter:
                path = fetch_file(
                    each.spec,
                    each.sources,
                    each.folder,
                    offline=not self.weights.downloads,
                    connections=self.weights.connections,
                    progress=meter,
                    on_wait=meter.waiting if meter is not None else None,
                )
            here[role] = LocalFile(path, own=True)
        return {role: self.verify(wanted[role], found) for role, found in here.items() if found is not None}

    def check(
        self, wanted: Mapping[str, WantedFile], files: ModelFiles, later: Iterable[WantedFile] = ()
    ) -> dict[str, LocalFile | None]:
        """Returns the files that are here by role, after a check that the others can be fetched; arguments as `fetch`.

        Raises:
            DownloadError: a file is not here and may not, or cannot, be fetched; or the disk is too small for all.
            ConfigError: the licence of files that must be fetched was not acknowledged.
        """
        here = {role: self._unless_outdated(each) for role, each in wanted.items()}
        missing = {role: wanted[role] for role, found in here.items() if found is None}
        if missing:
            self._check_fetchable(missing, files, later)
        return here

    def converts(self, wanted: WantedFile) -> bool:
        """Whether the file is a pickle that is to be read from its safetensors copy."""
        return self.weights.pickles != "keep" and wanted.convert and is_pickle(wanted.spec.path)

    def _places(self, wanted: WantedFile) -> Iterator[tuple[Path, bool]]:
        """Yields where the file is, the preferred place first, and whether that is in the weights folder."""
        spec, records = wanted.spec, self.records(wanted.folder)
        if wanted.given is not None:
            if wanted.given.is_file():
                yield wanted.given, False
            return
        yield from ((path, False) for path in wanted.local_paths if spec.fits(path))
        if self.converts(wanted):
            record, copy = records.get(wanted.path), copy_path(wanted.path)
            if records.is_current(copy, spec.sha256 or (record.sha256 if record else None)):
                yield copy, True
        if records.holds(spec):
            yield wanted.path, True
        if not wanted.apart:
            others = (user_path(folder) / spec.path for folder in self.weights.elsewhere)
            yield from ((path, path.is_relative_to(self.home)) for path in others if spec.fits(path))

    def _unless_outdated(self, wanted: WantedFile) -> LocalFile | None:
        """As `find`, but None for a copy of a file that an earlier version of this program shipped."""
        found = self.find(wanted)
        if found is None or not found.own or not any(isinstance(source_for(a), PackageSource) for a in wanted.sources):
            return found
        try:
            return self.verify(wanted, found)
        except DownloadError:
            return None

    def _check_fetchable(
        self, missing: Mapping[str, WantedFile], files: ModelFiles, later: Iterable[WantedFile]
    ) -> None:
        for role, each in missing.items():
            if each.given is not None:
                what = "" if not each.given.exists() else ": it is a folder, a pipe or a device"
                raise DownloadError(
                    f"weights.paths.{role} is {each.given}, but there is no such file{what}; correct the path"
                )
            if not each.sources:
                raise DownloadError(
                    f"{each.spec.path} ({each.spec.purpose}) is published nowhere in a form that can be read here; "
                    f"convert it, and set +weights.paths={{{role}: FILE}}"
                )
        remote = [source_for(address).remote for each in missing.values() for address in each.sources]
        if not self.weights.downloads and all(remote):
            absent = [*missing.values(), *(each for each in later if self.find(each) is None)]
            raise DownloadError(_missing(absent, offline=self.weights.is_offline))
        if self.weights.downloads and any(remote):
            require(files, self.weights)
        self._require_room({each.path: each for each in missing.values()})

    def _require_room(self, missing: Mapping[Path, WantedFile]) -> None:
        """Checks that all missing files fit, with the safetensors copies that will be made of them."""
        needed = 0
        for path, each in missing.items():
            size = each.spec.max_bytes or 0
            needed += max(size - Part(path.with_name(f"{path.name}.part")).size, 0) + size * self.converts(each)
        for folder in {each.folder for each in missing.values()}:
            existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
            free = shutil.disk_usage(existing).free
            if needed > free:
                raise DownloadError(
                    f"{len(missing)} {'file needs' if len(missing) == 1 else 'files need'} {format_bytes(needed)} but "
                    f"{folder} has {format_bytes(free)} free; nothing was fetched: make room, set weights.folder to "
                    "another disk, or weights.pickles=keep to make no copies"
                )


def _missing(missing: Iterable[WantedFile], *, offline: bool) -> str:
    lines = [f"  {each.path} ({_size(each.spec)})" for each in missing]
    one = len(lines) == 1
    it, here = ("it", "at this path") if one else ("them", "at these paths")
    by_hand = "" if offline else f"fetch {it} with `jukebox models fetch`, "
    setting = "weights.offline=false" if offline else "weights.auto_download=true"
    return "\n".join(
        [
            f"{'offline' if offline else 'weights.auto_download is false'}, and "
            f"{'1 file is' if one else f'{len(lines)} files are'} not on this machine; {by_hand}put {it} {here}, or "
            f"bring {it} with `jukebox models export` and `import`, or set {setting}:",
            *lines,
        ]
    )


def _size(spec: FileSpec) -> str:
    if spec.bytes is not None:
        return f"{spec.bytes:,} bytes"
    return "size unknown" if spec.about_bytes is None else f"about {format_bytes(spec.about_bytes)}"
