"""Precision and batch size by memory: chosen for a device from what a model is estimated to take.

On a GPU, half precision: steps read every weight, so half the bytes are half the time, and it is what the released
models were sampled in. On a CPU float32, whose tokens are exact, while it fits: where music is made twice it should
be the same music. In both cases the next smaller precision where that does not fit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jukebox_core.family import Family
    from jukebox_core.protocols import TranscribingFamily

Precision = Literal["float32", "bfloat16", "float16", "int8"]

GIB = 2**30
USABLE = {"cuda": 0.92, "mps": 0.7, "cpu": 0.8}  # of a device's memory: the rest is the driver's, or other programs'
_PREFERRED: dict[str, tuple[Precision, ...]] = {
    "cuda": ("bfloat16", "int8"),
    "old cuda": ("float16", "int8"),  # GPUs before 2020 have no bfloat16
    "mps": ("float32", "float16"),
    "cpu": ("float32", "bfloat16", "int8"),
}
_TRANSCRIBED: Precision = "float32"  # unless hardware.dtype is set
_LARGEST_BATCH = 64  # of the table: by then arithmetic is the limit, not memory


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingMemory:
    """What sampling takes of a device: which networks, how many of them at a time, in how many copies."""

    family: Family
    config: Any  # the family's `ModelConfig`
    levels: Sequence[int]  # those sampled
    together: bool = False  # the networks of all levels stay in memory, not one at a time
    copies: int = 1  # processes that share the device, each with networks of its own

    @property
    def dtypes(self) -> Sequence[str]:
        """The precisions that the family's networks sample in."""
        return self.family.dtypes

    def bytes(self, dtype: str, batch: int) -> int:
        """Returns about how many bytes sampling `batch` songs at a time takes in a precision."""
        return self.copies * self.family.estimate_bytes(self.config, self.levels, dtype, batch, together=self.together)


class MemoryEstimate(Protocol):
    """What some work takes of a device."""

    @property
    def dtypes(self) -> Sequence[str]:
        """The precisions that it can be done in."""
        ...

    def bytes(self, dtype: str, batch: int) -> int:
        """Returns about how many bytes a batch takes in a precision."""
        ...


def choose_dtype(memory: MemoryEstimate, kind: str, total: int) -> Precision:
    """Returns the precision for a device with `total` bytes of memory, of which `USABLE` is counted on.

    It depends on the whole memory, not on what is free at the moment, so that the same command makes the same music.

    Args:
        memory: what the work takes.
        kind: ``cpu``, ``mps``, ``cuda``, or ``old cuda`` for a GPU without bfloat16.
        total: bytes.
    """
    room = total * USABLE[kind.removeprefix("old ")]
    possible = [dtype for dtype in _PREFERRED[kind] if dtype in memory.dtypes] or ["float32"]
    fitting = (dtype for dtype in possible if memory.bytes(dtype, 1) <= room)
    return next(fitting, possible[-1])


def max_batch_size(free_bytes: float, limit: int, needed: Callable[[int], int]) -> int:
    """Returns the largest batch, at most `limit`, of which `needed` says that it fits; 0 if not even one song does."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if needed(middle) <= free_bytes else (low, middle - 1)
    return low


@dataclass(frozen=True, slots=True)
class Advice:
    """What ``hardware=auto`` chooses for a model on one device."""

    device: str
    dtype: str
    batch: int  # songs at a time; 0: the model does not fit
    bytes: int  # needed for these, or for one if none fits


def advise(family: Family, config: Any, gibibytes: int, kind: str) -> Advice:
    """Returns what ``hardware=auto`` would choose on an otherwise idle device with that much memory."""
    memory, total = SamplingMemory(family=family, config=config, levels=range(config.top + 1)), gibibytes * GIB
    dtype = choose_dtype(memory, kind, total)
    batch = max_batch_size(total * USABLE[kind], _LARGEST_BATCH, lambda count: memory.bytes(dtype, count))
    return Advice(f"{gibibytes} GB {kind}", dtype, batch, memory.bytes(dtype, max(1, batch)))


def advise_transcription(family: TranscribingFamily, config: Any, gibibytes: int, kind: str) -> Advice:
    """Returns what transcribing takes by default on such a device; the batch is smaller where that does not fit."""
    default, room = family.transcription_type(), gibibytes * GIB * USABLE[kind]

    def needed(batch: int) -> int:
        return family.transcription_bytes(config, replace(default, batch_size=batch), _TRANSCRIBED)

    batch = max_batch_size(room, default.batch_size, needed)
    return Advice(f"{gibibytes} GB {kind}", _TRANSCRIBED, batch, needed(max(1, batch)))
