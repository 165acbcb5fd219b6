"""Batches that fit in memory: where a batch runs out of memory, it is retried in halves.

The size that failed is remembered per kind of work, so that the next batch of that kind starts at a size that fits.
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

_MESSAGES = (
    "can't allocate memory", "out of memory", "not enough memory",
    "can't start new thread",  # there is no memory for its stack
)  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means out of memory, on any device; torch has no single exception type for it."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    message = str(error)
    return isinstance(error, RuntimeError) and any(text in message for text in _MESSAGES)


class BatchSizes:
    """The largest batch size of each kind of work, as far as failures have shown it."""

    def __init__(self) -> None:
        self._limits: dict[Hashable, int] = {}

    def run_with_oom_retry(self, kind: Hashable, items: Sequence[T], run: Callable[[Sequence[T]], R]) -> list[R]:
        """Returns the results of `run` on batches of `items`, in order: one batch of all, or as many as fit at once.

        A batch that runs out of memory is retried in halves, once the memory that it held has been freed.

        Args:
            kind: Name of the work, for messages; batches of later calls of the same kind start at the size that fits.
            items: The items to work on.
            run: Processes a batch. It must be safe to call again for items whose batch failed.

        Raises:
            DeviceError: A batch of a single item does not fit.
        """
        queue, results = deque(_split(items, self._limits.get(kind, len(items)))), []
        while queue:
            batch = queue.popleft()
            try:
                results.append(run(batch))
                continue
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                message = str(error).splitlines()[0] if str(error) else "no memory is left"
            # The error and its frames hold the batch's tensors: they are free only after the except block.
            if len(batch) == 1:
                raise DeviceError(
                    f"{kind}: out of memory even with a batch of one sample ({message}); set hardware.dtype=bfloat16, "
                    "free memory that other programs use, or choose a smaller model"
                )
            self._limits[kind] = size = -(-len(batch) // 2)
            log.warning("%s: out of memory with a batch of %d; retrying with a batch of %d", kind, len(batch), size)
            _free_memory()
            queue.extendleft(reversed(_split(batch, size)))
        return results


def _split(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
