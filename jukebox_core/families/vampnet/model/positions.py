"""Relative positions of T5: distances in buckets, exact near the query and logarithmic beyond."""

from __future__ import annotations

import math

import torch
from torch import Tensor

BUCKETS = 32  # half of them for keys before the query, half for keys after it
_FURTHEST = 128  # from here on all distances share the last bucket
_HALF = BUCKETS // 2
_EXACT = _HALF // 2


def bucket_of(relative: Tensor) -> Tensor:
    """Returns the bucket of each position of a key relative to its query (key minus query), int64.

    The logarithm is evaluated in float32, in upstream's order: its rounding decides where buckets begin.
    """
    distance = relative.abs()
    ratio = torch.log(distance.clamp(min=1).float() / _EXACT) / math.log(_FURTHEST / _EXACT)
    beyond = (_EXACT + (ratio * (_HALF - _EXACT)).long()).clamp(max=_HALF - 1)
    return torch.where(distance < _EXACT, distance, beyond) + _HALF * (relative > 0)


def buckets(length: int) -> Tensor:
    """Returns the buckets of all pairs of a query and a key, [T, T]."""
    of_distance = bucket_of(torch.arange(1 - length, length))
    at = torch.arange(length)
    return of_distance[at[None, :] - at[:, None] + length - 1]
