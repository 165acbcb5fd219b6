"""Atomic writes: a file appears with its whole content or not at all. Imports no torch."""

from __future__ import annotations

import os
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_START = 200  # bytes of a file's name that its temporary one begins with, which must not be too long either


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Gives a temporary binary file to write and read; it replaces `path` when the block ends without an exception.

    The folder is created if it does not exist. The content is synchronised to disk before the rename, so a power loss
    leaves the old file or the new one. If the block raises, the temporary file is removed.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    start = path.name.encode(errors="ignore")[:_START].decode(errors="ignore")
    temporary = path.with_name(f".{start}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("x+b") as file:
            yield file
        atomic_replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def atomic_replace(source: Path, target: Path) -> None:
    """Renames a complete file within its file system; content and name are on disk when the call returns.

    Raises:
        OSError: the file cannot be synchronised or renamed.
    """
    with source.open("rb") as file:
        os.fsync(file.fileno())
    source.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name is an entry of the folder
    finally:
        os.close(folder)
