"""Notes as lines of JSON, written while they are found: a growing file that other programs can follow. No torch.

Lines were chosen over a growing MIDI file because a MIDI track begins with its length: each new note would mean a new
file, which a program that follows it has to read from the beginning. The first line says what was transcribed; each
other line is one note, in the order in which the notes end.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, BinaryIO

from jukebox_core.base.atomic import write_error
from jukebox_core.base.records import is_regular
from jukebox_core.notes.note import COLUMNS, Note

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

_MOST = 4096  # bytes of the first line


class NoteLines:
    """The file, open within a ``with`` block; what was written is in the file after every call.

    Args:
        path: of the file; one that exists is replaced.
        about: the first line, with the entry ``key`` by which `is_of` recognises it.

    Raises:
        DiskError: the file cannot be written; every method raises it.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self._path, self._about = path, about
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        try:
            self._file = self._path.open("wb", buffering=0)
        except OSError as error:
            raise write_error(self._path, error) from None
        self._write(self._about)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, notes: Iterable[Note]) -> None:
        """Appends notes."""
        for note in notes:
            self._write(dict(zip(COLUMNS, note, strict=True)))

    def _write(self, entry: Mapping[str, Any]) -> None:
        assert self._file is not None, "used within its block"
        try:
            left = memoryview(f"{json.dumps(entry)}\n".encode())
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise write_error(self._path, error) from None


def is_of(path: Path, key: str) -> bool:
    """Whether a file holds lines of the transcription with that key, all of them or the first ones."""
    try:
        if not is_regular(path):
            return False
        with path.open("rb") as file:
            found = json.loads(file.readline(_MOST))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("key") == key
