"""Finds numbers that are not finite (NaN or infinity) at the cost of one sum.

A sum of finite numbers is finite unless it overflows; one NaN or infinity makes it NaN or infinite. So a finite sum
settles the matter, and each number is looked at only where it is not.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from jukebox_core.runtime.native.copies import can_copy, copy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor


def is_finite(tensor: Tensor) -> bool:
    """Returns whether all numbers of a tensor are finite; integers are, and so is the meta device."""
    if tensor.is_meta or not tensor.is_floating_point():
        return True
    return _has_finite_sum(tensor) or bool(torch.isfinite(tensor).all())


def are_finite(tensors: Iterable[Tensor]) -> bool:
    """Returns whether all numbers of all tensors, of one device, are finite; a finite answer synchronises once."""
    looked_at = [tensor for tensor in tensors if tensor.is_floating_point() and not tensor.is_meta]
    if not looked_at:
        return True
    total = torch.stack([tensor.sum(dtype=torch.float32) for tensor in looked_at]).sum()
    return bool(torch.isfinite(total)) or all(map(is_finite, looked_at))


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Returns the name of the first tensor with a number that is not finite; None if there is none."""
    return next((name for name, tensor in tensors.items() if not is_finite(tensor)), None)


def copy_finite(source: Tensor, target: Tensor) -> bool:
    """Copies `source` to `target` of the same shape, and returns whether all numbers of `target` are finite.

    On the CPU one kernel does both, where it has been compiled; else the copy and the check go piece by piece, while
    the piece is in the processor's cache: a pass over numbers that have left it again costs four times as much.
    """
    if can_copy(source, target):
        return copy(source, target)
    if target.device.type != "cpu" or not target.is_contiguous() or not source.is_contiguous():
        target.copy_(source)
        return is_finite(target)
    known, limit = True, torch.finfo(target.dtype).max / 2 if target.is_floating_point() else None
    for new, old in zip(torch.split(target.view(-1), _PIECE), torch.split(source.view(-1), _PIECE), strict=True):
        new.copy_(old)
        known = known and (limit is None or _is_within(old, new, limit))
    return known or bool(torch.isfinite(target).all())


def _is_within(old: Tensor, new: Tensor, limit: float) -> bool:
    """Returns whether the numbers of `old`, and of its conversion `new`, are known to be finite and below `limit`.

    No number is larger than the root of the sum of squares. That is computed on whichever has full precision, since
    torch sums numbers of half precision five times as slowly.
    """
    for each in (old, new):
        if each.dtype in (torch.float32, torch.float64):
            return math.sqrt(each.dot(each).item()) < limit
    return _has_finite_sum(new)


def _has_finite_sum(tensor: Tensor) -> bool:
    """Returns whether the sum is finite: in float32, as that of half precision may be beyond its range."""
    wide = torch.float32 if tensor.dtype in (torch.float16, torch.bfloat16) else None
    return math.isfinite(tensor.sum(dtype=wide).item())  # as a number: no further operations of torch


def what_is_not_finite(source: Tensor, dtype: torch.dtype) -> str:
    """Returns what a message says of a tensor whose copy in `dtype` is not finite, with the remedy."""
    if is_finite(source):
        return (
            f"reaches {float(source.abs().max()):.3g}, beyond the range of {dtype}; "
            "choose hardware.dtype=float32 or bfloat16"
        )
    return (
        "holds numbers that are not finite (NaN or infinity), so it makes no music; "
        "fetch the file again, or export it from an earlier checkpoint of its training"
    )


_PIECE = 1 << 18  # numbers: a megabyte of float32, and enough for the cost of a call not to matter
