"""What a folder of codes was made from, so that another command does not replace it. Imports no torch.

A hidden record in the folder names the recordings and the codec. It is written before the first codes.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from jukebox_core.base.atomic import atomic_write
from jukebox_core.base.paths import output_folder
from jukebox_core.base.records import clear_place, dump_record, read_record
from jukebox_core.base.structuring import build
from jukebox_core.errors import ConfigError, RecordError, StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jukebox_core.datasets.songs import Song

RECORD_NAME = ".source.json"
_INDEX = "songs.json"  # as of `windows`


@dataclass(frozen=True, slots=True)
class CodesSource:
    """The recordings and the codec of a folder of codes."""

    audio: str  # absolute path of the folder of recordings
    codec: str | None = None  # digest of the codec's weights; None: the recordings were checked, not encoded


def source_of(songs: Sequence[Song], codec: str | None = None) -> CodesSource:
    """Returns the source of codes of `songs`, at least one, made by the codec whose weights have the digest `codec`."""
    depth = len(PurePosixPath(songs[0].name).parts)
    return CodesSource(str(songs[0].path.absolute().parents[depth - 1].resolve()), codec)


def source_of_codes(folder: str | Path) -> CodesSource:
    """Returns where the codes in a folder come from; that folder itself if it does not say."""
    path = Path(folder)
    found = _read(path)
    return CodesSource(str(path.resolve())) if found is None else CodesSource(found.audio)


def check_codes_folder(folder: str | Path, source: CodesSource, songs: Sequence[Song]) -> None:
    """Checks that a folder is free for codes from `source`, or has some of them already; nothing is written.

    Args:
        folder: of the codes; it need not exist.
        source: where they come from. Where a digest of a codec is not known, any will do.
        songs: the recordings of `source`: a folder of an earlier version names only these.

    Raises:
        ConfigError: it holds codes of other recordings, or of another codec; it is that of the recordings; or it cannot
            be written to.
    """
    path = output_folder(folder)
    if path.resolve() == Path(source.audio):
        raise ConfigError(f"folder is {path}, where the recordings are; give codes a folder of their own")
    found = _read(path)
    if found is None:
        _check_index(path, songs)
        return
    record = path / RECORD_NAME
    if found.audio != source.audio:
        raise ConfigError(
            f"{path} belongs to the recordings in {found.audio}, not to those in {source.audio}; nothing is "
            f"overwritten: choose another folder, or remove {record} if the recordings were only moved"
        )
    if found.codec is not None and source.codec not in (None, found.codec):
        raise ConfigError(
            f"{path} holds codes of other weights ({found.codec[:12]}) than these ({str(source.codec)[:12]}); nothing "
            "is overwritten: choose another folder"
        )


def claim(folder: Path, source: CodesSource) -> None:
    """Records where the codes in a folder come from; what was recorded of the codec stays if `source` has none.

    Raises:
        DiskError: the record cannot be written.
    """
    found = _read(folder)
    known = replace(source, codec=source.codec or (None if found is None else found.codec))
    if found != known:
        clear_place(folder / RECORD_NAME)
        with atomic_write(folder / RECORD_NAME) as file:
            file.write(dump_record(asdict(known)))


def _read(folder: Path) -> CodesSource | None:
    """Returns the record of a folder; None if it has none that can be read."""
    try:
        return build(CodesSource, read_record(folder / RECORD_NAME, CodesSource))
    except (FileNotFoundError, RecordError):
        return None


def _check_index(folder: Path, songs: Sequence[Song]) -> None:
    """Checks that the index of a folder without a record, if it has one, names no other recordings."""
    if not (folder / _INDEX).exists():
        return
    from jukebox_core.datasets.windows import read_index  # needs torch

    try:
        names = {song.name for song in read_index(folder).songs}
    except StoreError:
        return
    others = sorted(names - {song.name for song in songs})
    if others:
        raise ConfigError(
            f"{folder / _INDEX} names other recordings, such as {others[0]!r}; nothing is overwritten: choose "
            "another folder"
        )
