"""Where memory comes from, and how the C library keeps what torch frees."""

from __future__ import annotations

import ctypes
import mmap
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MMAP_THRESHOLD = -3  # glibc's M_MMAP_THRESHOLD: what is larger has pages of its own
_TRIM_THRESHOLD = -1  # M_TRIM_THRESHOLD: how much may be free at the end of the heap
_AT_ONCE, _KEPT = 1 << 17, 1 << 25  # glibc begins with the former, and goes up to the latter as large blocks are freed


def untouched(size: int) -> mmap.mmap:
    """Returns zeros, `size` bytes and at least one, whose memory is taken as it is written to, in small pages.

    Raises:
        MemoryError: the system gives no more.
    """
    try:
        if sys.platform == "win32":
            return mmap.mmap(-1, max(size, 1))
        return mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise MemoryError(f"the system gives no {size:,} bytes of memory ({error})") from error


@contextmanager
def returned_at_once() -> Iterator[None]:
    """Has glibc give large tensors back to the system when they are freed, while weights are converted.

    Left alone, it keeps freed blocks in its heap, and what is converted matrix by matrix to a smaller type stays larger
    than it is: 8 layers of an upsampler in int8 took 0.62 GB instead of 0.51. Afterwards freed memory is kept again,
    which is faster. Without glibc this does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        yield
        return
    mallopt(_MMAP_THRESHOLD, _AT_ONCE)
    try:
        yield
    finally:
        mallopt(_MMAP_THRESHOLD, _KEPT)
        mallopt(_TRIM_THRESHOLD, 2 * _KEPT)  # as glibc has it then, unless it is told one of the two
