"""Working on as many items side by side as memory allows: where it runs out, half of them at a time.

What has failed once is remembered, so that the next batch of the same work begins at a size that fits.
"""

from __future__ import annotations

import gc
import logging
from collections import deque
from typing import TYPE_CHECKING, TypeVar

import torch

from jukebox_core.errors import DeviceError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger("jukebox")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whatever device; torch has no one type for it."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    told = str(error)
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in told or "out of memory" in told or "not enough memory" in told
    )


class Batches:
    """How many items of each kind of work fit side by side, as far as failures have told."""

    def __init__(self) -> None:
        self._most: dict[Hashable, int] = {}

    def work(self, kind: Hashable, items: Sequence[T], do: Callable[[Sequence[T]], R]) -> list[R]:
        """Returns what `do` gives for parts of `items`, in order: for all at once, or for as many as fit.

        A part that runs out of memory is begun again in halves, by which time all that it held is let go.

        Args:
            kind: names the work in messages; parts of later calls of the same kind are as small as they had to be.
            items: what is worked on.
            do: does the work; it may be called again for items whose work was cut off.

        Raises:
            DeviceError: a single item is too many.
        """
        left, done = deque(_parts(items, self._most.get(kind, len(items)))), []
        while left:
            part = left.popleft()
            try:
                done.append(do(part))
                continue
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                told = str(error).splitlines()[0] if str(error) else "no memory is left"
            # Only here, where the error and its frames are gone, is what the part held free.
            if len(part) == 1:
                raise DeviceError(
                    f"{kind}: memory runs out even with one sample at a time ({told}); set hardware.dtype=bfloat16, "
                    "free memory that other programs use, or choose a smaller model"
                )
            self._most[kind] = fewer = -(-len(part) // 2)
            log.warning("%s: memory ran out with %d samples side by side; going on with %d", kind, len(part), fewer)
            _let_go()
            left.extendleft(reversed(_parts(part, fewer)))
        return done


def _parts(items: Sequence[T], most: int) -> list[Sequence[T]]:
    return [items[start : start + most] for start in range(0, len(items), most)]


def _let_go() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
