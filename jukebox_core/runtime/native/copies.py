"""Copies on the CPU that look for numbers which are not finite on the way (`copies.cpp`)."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import torch

from jukebox_core.runtime.native.compiled import is_compiled, library

if TYPE_CHECKING:
    from torch import Tensor

NUMBERS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}  # `Number` of copies.cpp
_TOGETHER = 1 << 20  # numbers that are worth several threads


def can_copy(source: Tensor, target: Tensor) -> bool:
    """Returns whether `copy` has these tensors: numbers on the CPU, and kernels that need not be compiled first."""
    plain = all(
        each.device.type == "cpu" and each.is_contiguous() and each.dtype in NUMBERS for each in (source, target)
    )
    return plain and target.dtype is not torch.float16 and source.numel() == target.numel() and is_compiled()


def copy(source: Tensor, target: Tensor) -> bool:
    """Copies and converts; returns whether all numbers are finite. Others are not converted in a defined way."""
    number = ctypes.c_int32
    return bool(
        library().copy_finite(
            ctypes.c_void_p(source.data_ptr()),
            number(NUMBERS[source.dtype]),
            ctypes.c_void_p(target.data_ptr()),
            number(NUMBERS[target.dtype]),
            ctypes.c_int64(source.numel()),
            ctypes.c_int64(torch.get_num_threads() if source.numel() >= _TOGETHER else 1),
        )
    )
