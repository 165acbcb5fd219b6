"""A file for libraries that write through callbacks and lose the exceptions of those. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")


class Sink:
    """Passes on what libsndfile asks of a file, and keeps the first OSError in `error` instead of raising it.

    libsndfile calls back from C, where an exception cannot pass: it would be printed, and the short write reported as
    a failed assertion. Here nothing is done after an error, and the caller raises `error` afterwards.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Writes bytes; returns how many were written, none after an error."""
        return self._attempt(lambda: self._file.write(data), 0)

    def read(self, count: int) -> bytes:
        """Returns at most `count` bytes from the position on, none after an error."""
        return self._attempt(lambda: self._file.read(count), b"")

    def seek(self, offset: int, whence: int = 0) -> int:
        """Moves the position, which can write what is buffered; returns it, or 0 after an error."""
        return self._attempt(lambda: self._file.seek(offset, whence), 0)

    def tell(self) -> int:
        """Returns the position, or 0 after an error."""
        return self._attempt(self._file.tell, 0)

    def _attempt(self, call: Callable[[], _T], otherwise: _T) -> _T:
        if self.error is None:
            try:
                return call()
            except OSError as error:
                self.error = error
        return otherwise
