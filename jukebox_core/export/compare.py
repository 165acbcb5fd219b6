"""Compares a graph with its module on the same tensors, and says whether it computes the same.

| measure | float32 | float16 | int8 |
|---|---|---|---|
| tokens | at most one of 1,000 differs, so that of fewer none does | 99 % equal, of all inputs together | - |
| logits | error at most 1e-4, likeliest number as tokens | likeliest number as tokens | 95 % likewise |
| sound | ratio of signal to noise at least 100 dB | 40 dB | - |
| values | error at most 1e-4 of the largest value, or of 1 | ratio as of sound | 15 dB |
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from jukebox_core.errors import NumericsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from jukebox_core.export.graph import Graph, Port, Sizes
    from jukebox_core.export.session import Session

_SEED = 20_261_130
_PER_MILLE = 1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Tolerance:
    """What a graph may differ by; None is not looked at."""

    different: float  # share of tokens, or of places with another likeliest number
    together: bool = False  # the share is of all inputs, not of each
    error: float | None  # of logits, and of values relative to the largest
    snr_db: float | None  # least, of sound; and of values that have no limit of their error


TOLERANCES = {
    "float32": Tolerance(different=1 / _PER_MILLE, error=1e-4, snr_db=100.0),
    "float16": Tolerance(different=0.01, together=True, error=None, snr_db=40.0),
    "int8": Tolerance(different=0.05, together=True, error=None, snr_db=15.0),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """One output on one input."""

    output: str
    sizes: dict[str, int]
    places: int  # where tokens or likeliest numbers are compared; else numbers
    different: int = 0  # of these
    equal: float | None = None  # share of equal tokens, or of equal likeliest numbers
    error: float | None = None  # largest absolute one
    snr_db: float | None = None  # None: no noise, or not looked at
    good: bool = True


def compare(graph: Graph, session: Session, tolerance: Tolerance) -> list[Compared]:
    """Returns how the graph in `session` compares with its module, on every case and output.

    Shares of equal numbers that are of all cases together are counted in more of them.

    Raises:
        NumericsError: the module itself computes numbers that are not finite.
    """
    results = []
    for number, sizes in enumerate((*graph.cases, *(graph.counted if tolerance.together else ()))):
        inputs = graph.draw(sizes, torch.Generator().manual_seed(_SEED + number))
        with torch.inference_mode():
            ours = graph.module(*(each.clone() for each in inputs))
        ours = ours if isinstance(ours, tuple) else (ours,)
        theirs = session.run({port.name: each.numpy() for port, each in zip(graph.inputs, inputs, strict=True)})
        for port, mine, other in zip(graph.outputs, ours, theirs, strict=True):
            results.append(_compared(port, sizes, mine.numpy(), other, tolerance))
    return [_judged(each, results if tolerance.together else [each], tolerance) for each in results]


def reasons_against(results: Sequence[Compared], tolerance: Tolerance) -> list[str]:
    """Returns what is wrong with each output that is not good, in words."""
    return [
        f"{each.output} at {each.sizes}: equal {each.equal}, error {each.error}, SNR {each.snr_db} dB; allowed are "
        f"{asdict(tolerance)}"
        for each in results
        if not each.good
    ]


def _compared(port: Port, sizes: Sizes, mine: NDArray[Any], other: NDArray[Any], tolerance: Tolerance) -> Compared:
    if mine.shape != other.shape:
        return Compared(output=port.name, sizes=dict(sizes), places=mine.size, different=mine.size, good=False)
    if not np.isfinite(mine).all():
        raise NumericsError(f"{port.name} has numbers that are not finite at {dict(sizes)}; choose other weights")
    equal = error = snr_db = None
    places, different = mine.size, 0
    good = bool(np.isfinite(other).all())
    if port.measure in ("tokens", "logits"):
        ids = [each.argmax(-1) if port.measure == "logits" else each for each in (mine, other)]
        same = ids[0] == ids[1]
        equal, places, different = float(same.mean()), same.size, int((~same).sum())
    if port.measure in ("logits", "values"):
        error = float(np.abs(mine - other).max(initial=0.0))
        scale = max(1.0, float(np.abs(mine).max(initial=0.0))) if port.measure == "values" else 1.0
        good &= tolerance.error is None or error <= tolerance.error * scale
    if port.measure == "sound" or (port.measure == "values" and tolerance.error is None):
        snr_db = signal_to_noise(mine, other)
        good &= tolerance.snr_db is None or snr_db is None or snr_db >= tolerance.snr_db
    return Compared(
        output=port.name,
        sizes=dict(sizes),
        places=places,
        different=different,
        equal=equal,
        error=error,
        snr_db=snr_db,
        good=good,
    )


def _judged(result: Compared, all_of: Sequence[Compared], tolerance: Tolerance) -> Compared:
    """Returns a result that is good only if few enough places differ, in all results of its output in `all_of`."""
    ours = [each for each in all_of if each.output == result.output]
    allowed = math.floor(sum(each.places for each in ours) * tolerance.different)
    return replace(result, good=result.good and sum(each.different for each in ours) <= allowed)


def signal_to_noise(sound: NDArray[np.float32], other: NDArray[np.float32]) -> float | None:
    """Returns the ratio of `sound` to its difference from `other` in dB; None if they are equal."""
    noise = float(np.square(sound.astype(np.float64) - other).sum())
    if noise == 0:
        return None
    signal = float(np.square(sound.astype(np.float64)).sum())
    return 10 * math.log10(signal / noise) if signal else -math.inf
