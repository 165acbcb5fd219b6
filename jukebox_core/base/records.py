"""Files that this program writes for itself: manifests, pins, lock owners, descriptions of snapshots. Imports no torch.

What lies on a disk may be damaged, or be something else: a folder, a pipe, a device. So nothing is read that is not a
regular file of a plausible size, and nothing is used that has not the expected digest and shape.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from typing import TYPE_CHECKING, Any

from jukebox_core.base.hashing import digest_bytes
from jukebox_core.base.structuring import build
from jukebox_core.errors import ConfigError, NewerRecordError, RecordError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_BYTES = 1 << 28  # a manifest of a thousand songs of ten minutes has a tenth of this
DIGEST = "digest"
"""The key of a record's digest: the sha256 of the other entries."""


def read_regular(path: Path, max_bytes: int = MAX_BYTES, *, links: bool = False) -> bytes:
    """Returns the content of a regular file; never waits, as reading a pipe or a device would.

    Args:
        path: the file.
        max_bytes: its largest plausible size.
        links: follow a symbolic link.

    Raises:
        OSError: nothing has that path (FileNotFoundError), or it cannot be read.
        RecordError: it is no regular file, or larger than `max_bytes`.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise RecordError(f"{path} is a symbolic link or a socket; it must be a regular file") from None
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise RecordError(f"{path} is {_kind(status.st_mode)}; it must be a regular file")
        if status.st_size > max_bytes:
            raise RecordError(f"{path} has {status.st_size:,} bytes, too many for what it should hold")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def read_json(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """Returns what a file holds as JSON, which may be of any shape; symbolic links are followed. Never waits.

    Raises:
        FileNotFoundError: nothing has that path.
        RecordError: it is no regular file, larger than `max_bytes`, cannot be read, or is not JSON in UTF-8.
    """
    try:
        data = read_regular(path, max_bytes, links=True)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RecordError(f"{path} cannot be read ({error.strerror})") from None
    return _parsed(data, str(path))


def parse_record(data: bytes, kind: type[Any], where: str, newest: int | None = None) -> dict[str, Any]:
    """Returns the JSON object in `data`, unchanged but for its digest, after a check of digest and shape.

    Args:
        data: the content of a file.
        kind: a dataclass with the expected fields, as `build` takes them. Records of earlier versions have no digest.
        where: the file's name, for messages.
        newest: the newest schema that is known; None: the record has no number.

    Raises:
        RecordError: it is not JSON, or not an object, its digest differs, or a value has another type.
        NewerRecordError: its schema is above `newest`.
    """
    content = _parsed(data, where)
    if not isinstance(content, dict):
        raise RecordError(f"{where} cannot be read: it holds {type(content).__name__}, not names and values")
    schema = content.get("schema")
    if newest is not None and isinstance(schema, int) and schema > newest:
        raise NewerRecordError(f"{where} has schema {schema}, newer than the {newest} known here; update this program")
    expected = content.pop(DIGEST, None)
    try:
        if expected is not None and expected != record_digest(content):
            raise RecordError(f"{where} was changed since it was written: its digest does not match its content")
        build(kind, content)
    except ConfigError as error:
        raise RecordError(f"{where} is damaged: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise RecordError(f"{where} is damaged: it is nested too deeply") from None
    return content


def read_record(path: Path, kind: type[Any], newest: int | None = None) -> dict[str, Any]:
    """Returns the JSON object in a file, as `parse_record` checks it.

    Raises:
        FileNotFoundError: nothing has that path.
        RecordError: the file is damaged, or of a newer version.
    """
    try:
        data = read_regular(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RecordError(f"{path} cannot be read ({error.strerror})") from None
    return parse_record(data, kind, str(path), newest)


def dump_record(content: Mapping[str, Any], indent: int | None = 1) -> bytes:
    """Returns a record as JSON with its digest, as `parse_record` reads it."""
    whole = {**content, DIGEST: record_digest(content)}
    try:
        return (json.dumps(whole, indent=indent, ensure_ascii=False) + "\n").encode("utf-8")
    except UnicodeEncodeError:  # a name that is not UTF-8
        return (json.dumps(whole, indent=indent) + "\n").encode("ascii")


def record_digest(content: Mapping[str, Any]) -> str:
    """Returns the sha256 of a record's entries, without that of the digest itself."""
    rest = {name: value for name, value in content.items() if name != DIGEST}
    return digest_bytes(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode("ascii"))


def _parsed(data: bytes, where: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{where} cannot be read as JSON ({error})") from None


def is_regular(path: Path) -> bool:
    """Whether `path` is a regular file, and no symbolic link to one."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def set_aside(path: Path) -> Path:
    """Renames what has that path to the first free one of ``<name>.damaged``, ``<name>.damaged-2`` ...; returns it."""
    aside, count = path.with_name(f"{path.name}.damaged"), 1
    while os.path.lexists(aside):
        count += 1
        aside = path.with_name(f"{path.name}.damaged-{count}")
    path.rename(aside)
    return aside


def clear_place(path: Path, *, links: bool = False) -> None:
    """Renames what has that path and is no regular file, as `set_aside` does: a folder, a pipe, a link.

    Args:
        path: of a file that will be written or read.
        links: keep a symbolic link to a regular file.

    Raises:
        OSError: it cannot be renamed.
    """
    with contextlib.suppress(FileNotFoundError):  # another process has cleared it, or removed its own file
        if stat.S_ISREG(path.lstat().st_mode) or (links and path.is_file()):
            return
        aside = set_aside(path)
        if is_regular(aside):  # another process has cleared it and made a file meanwhile, which is put back
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
                aside.unlink()


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a pipe" if stat.S_ISFIFO(mode) else "a device or a socket"
