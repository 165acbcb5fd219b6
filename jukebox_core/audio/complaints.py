"""Keeps what libmpg123 writes to stderr from the user's terminal. Imports no torch.

libsndfile gives no way to silence it, and it writes a line for every frame that it cannot make sense of.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_STDERR = 2
_LIBMPG123 = re.compile(rb"^(\[[^]]*libmpg123|Note: |Warning: |ERROR: |\s*$)")
_ERROR = re.compile(rb"error: ", re.IGNORECASE)
_redirected = threading.Lock()  # stderr belongs to the whole process


def _unlock_in_child() -> None:
    """Replaces the lock after a fork: the thread that may have held it does not exist in the child."""
    global _redirected
    _redirected = threading.Lock()


os.register_at_fork(after_in_child=_unlock_in_child)


@contextmanager
def complaints(*, expected: bool = True) -> Iterator[list[str]]:
    """Gives a list that holds, after the block, the errors that libmpg123 wrote to stderr meanwhile.

    Its notes and warnings are dropped; lines of others, such as another thread's, reach stderr when the block ends.

    Args:
        expected: whether libmpg123 is used at all; False leaves stderr alone.
    """
    found: list[str] = []
    if not expected:
        yield found
        return
    with _redirected:
        try:
            terminal = os.dup(_STDERR)
        except OSError:  # a process without stderr
            yield found
            return
        with tempfile.TemporaryFile() as written:
            os.dup2(written.fileno(), _STDERR)
            try:
                yield found
            finally:
                os.dup2(terminal, _STDERR)
                os.close(terminal)
                written.seek(0)
                for line in written:
                    if not _LIBMPG123.match(line):
                        os.write(_STDERR, line)
                    elif error := _ERROR.search(line):
                        found.append(line[error.end() :].decode(errors="replace").strip())
