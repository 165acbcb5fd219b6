"""Makes a safetensors copy of a checkpoint in a pickle, once, next to it. Imports torch only to do so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jukebox_core.base.hashing import digest_file
from jukebox_core.base.locks import locked
from jukebox_core.errors import CheckpointError
from jukebox_core.models.digests import Record, now, read_records, record_name, write_record
from jukebox_core.models.download.fetch import set_aside

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SUFFIX = ".safetensors"
_PICKLES = (".pth.tar", ".pth", ".pt", ".bin", ".ckpt")


def is_pickle(path: str) -> bool:
    """Whether a file of that name is a checkpoint of torch."""
    return path.endswith(_PICKLES)


def copy_path(path: Path) -> Path:
    """Where the safetensors copy of a checkpoint belongs."""
    ending = next(ending for ending in _PICKLES if path.name.endswith(ending))
    return path.with_name(path.name.removesuffix(ending) + _SUFFIX)


def copy_is_current(copy: Path, folder: Path, origin: str | None) -> bool:
    """Whether ``copy`` is there, as it was written, and made from the file with the sha256 ``origin`` (None: any)."""
    record = read_records(folder).get(record_name(folder, copy))
    if record is None or record.origin is None or origin not in (None, record.origin) or not copy.is_file():
        return False
    return copy.stat().st_size == record.bytes


def converted(original: Path, sha256: str, folder: Path) -> Path:
    """The safetensors copy of a verified checkpoint, written if it is not there yet.

    Raises:
        CheckpointError: the file is no checkpoint, damaged, or names code; it was set aside.
    """
    copy = copy_path(original)

    def write() -> None:
        from jukebox_core.models.checkpoints.checkpoint import open_checkpoint, save_safetensors

        checkpoint = open_checkpoint(original)
        metadata = dict(checkpoint.metadata)
        if checkpoint.step is not None:
            metadata["step"] = checkpoint.step
        save_safetensors(checkpoint.tensors, copy, metadata, own_names=checkpoint.own_names)

    written_once(copy, folder, sha256, f"converted from {original.name}", write, original)
    return copy


def written_once(
    copy: Path, folder: Path, origin: str, source: str, write: Callable[[], None], *originals: Path
) -> None:
    """Has ``write`` make ``copy`` of ``originals`` unless it is current, and records it; one process at a time.

    Raises:
        CheckpointError: as ``write`` does; the one of the originals that it names is set aside.
    """
    with locked(copy.with_name(f".{copy.name}.lock")):
        if copy_is_current(copy, folder, origin):
            return
        try:
            write()
        except CheckpointError as error:
            at_fault = next((path for path in originals if str(path) in str(error)), None)
            if at_fault is None or not at_fault.exists():
                raise
            raise CheckpointError(f"{error}. It was set aside as {set_aside(at_fault).name}") from error
        stat = copy.stat()
        record = Record(stat.st_size, digest_file(copy), source, stat.st_mtime_ns, now(), origin)
        write_record(folder, record_name(folder, copy), record)
