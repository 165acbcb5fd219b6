"""A file for libraries that write through callbacks and lose the exceptions of those. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable


class Sink:
    """A file with the methods of `file`, which keeps the first OSError in `error` instead of raising it.

    libsndfile calls back from C, where an exception cannot pass: it would be printed, and the short write reported as
    a failed assertion. Here nothing is done after an error, as if 0 bytes had been read or written, and the caller
    raises `error` afterwards.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Returns a method of the file that raises no OSError."""
        method = getattr(self._file, name)

        def attempt(*arguments: Any) -> Any:
            if self.error is None:
                try:
                    return method(*arguments)
                except OSError as error:
                    self.error = error
            return b"" if name == "read" else 0

        return attempt
