"""Text files that users write: regular files of a bounded size, in UTF-8. Imports no torch."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from jukebox_core.base.text import format_bytes

if TYPE_CHECKING:
    from pathlib import Path

TEXT_BYTES = 1_000_000  # far above any song's words or any file of settings
TABLE_BYTES = 100_000_000  # far above the metadata of any collection


class UnreadableError(ValueError):
    """A text file that is missing, no regular file, too large, or not UTF-8; its text says which, and the remedy."""


def read_text(path: Path, most: int = TEXT_BYTES) -> str:
    """Returns the text of a regular file of at most `most` bytes, in UTF-8, with or without a byte order mark.

    Devices and pipes, which may never end, and files that grow beyond the limit are not read to their end. Line ends
    become those of Python.

    Raises:
        UnreadableError: the file is none of that sort.
    """
    try:
        # A pipe without a writer would wait for one.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UnreadableError("it is no regular file; give a file, not a folder, pipe or device")
            data = file.read(most + 1)
    except IsADirectoryError:
        raise UnreadableError("it is a folder; name a file in it") from None
    except (OSError, ValueError) as error:
        if isinstance(error, UnreadableError):
            raise
        raise UnreadableError(getattr(error, "strerror", None) or str(error)) from None
    if len(data) > most:
        raise UnreadableError(f"it is larger than {format_bytes(most)}; give the text alone, in a smaller file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError(f"{error}; save it as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
