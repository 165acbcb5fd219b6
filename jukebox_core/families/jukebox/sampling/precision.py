"""Which precision, and how many songs side by side, suit a device: chosen by what `memory` estimates.

On a GPU, half precision: steps read every weight, so half the bytes are half the time, and it is what the released
models were sampled in. On a CPU float32, whose tokens are exact, while it fits: where music is made twice it should
be the same music. In both cases the next smaller precision where that does not fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jukebox_core.families.jukebox.sampling.memory import estimate_bytes, estimate_bytes_together

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jukebox_core.families.jukebox.config import JukeboxConfig

Precision = Literal["float32", "bfloat16", "float16", "int8"]

GIB = 2**30
USABLE = {"cuda": 0.92, "mps": 0.7, "cpu": 0.8}  # of a device's memory: the rest is the driver's, or other programs'
_PREFERRED: dict[str, tuple[Precision, ...]] = {
    "cuda": ("bfloat16", "int8"),
    "old cuda": ("float16", "int8"),  # GPUs before 2020 have no bfloat16
    "mps": ("float32", "float16"),
    "cpu": ("float32", "bfloat16", "int8"),
}
_MOST = 64  # side by side, in the table: by then arithmetic is the limit, not memory


def needed_bytes(
    config: JukeboxConfig, levels: Sequence[int], dtype: str, batch: int, *, together: bool = False, copies: int = 1
) -> int:
    """Returns the bytes that sampling `levels` takes, about.

    Args:
        config: the model.
        levels: those sampled, as a range or tuple.
        dtype: what the priors' weights are stored in.
        batch: songs side by side.
        together: all levels' priors stay in memory, not one at a time.
        copies: processes that share the device, each with models of its own.
    """
    if together:
        return copies * estimate_bytes_together(config, levels, dtype, batch)
    return copies * max((estimate_bytes(config, level, dtype, batch) for level in levels), default=0)


def choose_dtype(
    config: JukeboxConfig, levels: Sequence[int], kind: str, total: int, *, together: bool = False
) -> Precision:
    """Returns the precision for a device with `total` bytes of memory, of which `USABLE` is counted on.

    It depends on the whole memory, not on what is free at the moment, so that the same command makes the same music.

    Args:
        config: the model.
        levels: those sampled.
        kind: ``cpu``, ``mps``, ``cuda``, or ``old cuda`` for a GPU without bfloat16.
        total: bytes.
        together: all levels' priors stay in memory.
    """
    room = total * USABLE[kind.removeprefix("old ")]
    fitting = (d for d in _PREFERRED[kind] if needed_bytes(config, levels, d, 1, together=together) <= room)
    return next(fitting, _PREFERRED[kind][-1])


def most_side_by_side(
    config: JukeboxConfig,
    levels: Sequence[int],
    dtype: str,
    free: float,
    most: int,
    *,
    together: bool = False,
    copies: int = 1,
) -> int:
    """Returns how many songs, `most` at most, fit `free` bytes side by side; 0 if not even one does."""

    def need(batch: int) -> int:
        return needed_bytes(config, levels, dtype, batch, together=together, copies=copies)

    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if need(middle) <= free else (low, middle - 1)
    return low


@dataclass(frozen=True, slots=True)
class Advice:
    """What a device with some memory is told to sample a model with."""

    device: str
    dtype: str
    batch: int  # songs side by side; 0: the model does not fit
    bytes: int  # needed for these, or for one if none fits


def advise(config: JukeboxConfig, gibibytes: int, kind: str) -> Advice:
    """Returns what ``hardware=auto`` would choose on an otherwise idle device with that much memory."""
    levels, total = range(config.top + 1), gibibytes * GIB
    dtype = choose_dtype(config, levels, kind, total)
    batch = most_side_by_side(config, levels, dtype, total * USABLE[kind], _MOST)
    return Advice(f"{gibibytes} GB {kind}", dtype, batch, needed_bytes(config, levels, dtype, max(1, batch)))
