"""Matrices as `step.cpp` reads them: packed into panels, in one piece of memory with large pages.

Shape suffixes: I inputs, O outputs, R inputs that lie beside each other, T rows of whatever kind.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F  # noqa: N812 - the field's usual name
from torch import Tensor, nn

from jukebox_core.runtime.heap import untouched
from jukebox_core.runtime.native.compiled import library

if TYPE_CHECKING:
    from collections.abc import Sequence

PANEL = 32
PRECISIONS = {torch.float32: (0, 1), torch.bfloat16: (1, 2), torch.int8: (2, 4)}  # its number in step.cpp, and R
_LINE = 64  # bytes that memory gives at once
_LARGE = 2**21  # bytes of a large page
_COLLAPSE = 25  # MADV_COLLAPSE of Linux 6.1


class Matrix(ctypes.Structure):
    """`Matrix` of step.cpp."""

    _fields_ = (
        ("weight", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("inputs", ctypes.c_int64),
        ("outputs", ctypes.c_int64),
    )


def packed(weight_IO: Tensor) -> Tensor:
    """Returns a weight as step.cpp wants it, [panels, I / R, PANEL, R]; outputs beyond the last are zero.

    Raises:
        ValueError: the inputs are not a multiple of R.
    """
    inputs, outputs = weight_IO.shape
    _, beside = PRECISIONS[weight_IO.dtype]
    if inputs % beside:
        raise ValueError(f"{inputs} inputs are not a multiple of {beside}, which {weight_IO.dtype} needs")
    padded_IO = F.pad(weight_IO, (0, -outputs % PANEL))
    return padded_IO.view(inputs // beside, beside, -1, PANEL).permute(2, 0, 3, 1)


def packed_bytes(shape: Sequence[int], dtype: torch.dtype) -> int:
    """Returns the bytes that a weight takes when it is packed, up to where the next may begin."""
    inputs, outputs = shape
    return -(-inputs * (outputs + -outputs % PANEL) * dtype.itemsize // _LINE) * _LINE


class Arena:
    """Memory that is handed out piece by piece; in large pages, where the system has them, a tenth faster to read."""

    def __init__(self, size: int, *, large: bool = True) -> None:
        """Takes `size` bytes, in large pages from the beginning if `large`; see `enlarge`."""
        self._pages = untouched(size)
        if large:
            self._ask_for_large_pages()
        self._memory, self._used = torch.frombuffer(self._pages, dtype=torch.uint8), 0

    def take(self, size: int) -> Tensor:
        """Returns the next `size` bytes."""
        begin, self._used = self._used, self._used + size
        return self._memory[begin : self._used]

    def enlarge(self) -> None:
        """Lets a thread bring what is there into large pages, as long as this lives; it computes half of the time.

        Large pages that the system has to find first, or the host of a virtual machine, can take longer to come than
        what is to be read into them. Small ones are there sooner, and the work need not wait for the large.
        """
        self._ask_for_large_pages()  # where the thread cannot, the system may, in minutes
        threading.Thread(target=_enlarge, args=(weakref.ref(self),), name="large pages", daemon=True).start()

    def collapse(self, number: int) -> bool:
        """Brings what lies in the large page of this number into one; False if there is none or the system cannot."""
        begin = self._memory.data_ptr()
        at = -(-begin // _LARGE) * _LARGE + number * _LARGE
        return at + _LARGE <= begin + len(self._memory) and not _advise(at, _LARGE, _COLLAPSE)

    def _ask_for_large_pages(self) -> None:
        if hasattr(mmap, "MADV_HUGEPAGE"):
            self._pages.madvise(mmap.MADV_HUGEPAGE)


def _enlarge(arena: weakref.ref[Arena]) -> None:
    for number in itertools.count():
        alive, began = arena(), time.monotonic()
        if alive is None or not alive.collapse(number):
            return
        del alive
        time.sleep(time.monotonic() - began)


def _advise(address: int, size: int, advice: int) -> int:
    """Calls madvise without holding Python's lock, as mmap's own does; returns 0, or that the system cannot."""
    if not sys.platform.startswith("linux"):
        return -1
    called: int = ctypes.CDLL(None).madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), ctypes.c_int(advice))
    return called


class PackedProjection(nn.Module):
    """An affine map whose weight is packed; it gives what the projection that it was made of would give.

    What comes out for a row depends on that row alone, bit for bit. There is no gradient.
    """

    weight: Tensor
    bias: Tensor
    scale: Tensor | None

    def __init__(self, weight_IO: Tensor, bias_O: Tensor, scale_O: Tensor | None, arena: Arena) -> None:
        """Packs a weight, int8 with a scale for each output, into `arena`, of which it takes `packed_bytes`.

        Of a weight on the meta device the place is taken, and what belongs there, a packed weight that was stored, is
        for the caller to read.
        """
        super().__init__()
        panels = packed(weight_IO)
        memory = arena.take(packed_bytes(weight_IO.shape, weight_IO.dtype))
        weight = memory[: panels.numel() * panels.itemsize].view(weight_IO.dtype).view(panels.shape)
        if not weight_IO.is_meta:
            weight.copy_(panels)
            if weight_IO.dtype is torch.int8:
                weight.bitwise_xor_(-128)  # as unsigned numbers, 128 larger: what the processor multiplies
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias_O.detach().float().contiguous())
        self.register_buffer("scale", None if scale_O is None else scale_O.float().contiguous())
        self.inputs, self.outputs = weight_IO.shape
        self.precision, _ = PRECISIONS[weight_IO.dtype]

    def matrix(self) -> Matrix:
        """Returns what step.cpp knows of this map; it is valid as long as this lives."""
        scale = 0 if self.scale is None else self.scale.data_ptr()
        return Matrix(self.weight.data_ptr(), scale, self.bias.data_ptr(), self.inputs, self.outputs)

    def forward(self, x_TI: Tensor) -> Tensor:
        """Returns [..., O] in the dtype of x [..., I]."""
        rows_TI = x_TI.reshape(-1, self.inputs).float().contiguous()
        out_TO = torch.empty(len(rows_TI), self.outputs)
        matrix, kernels = self.matrix(), library()
        rows = ctypes.c_int64(len(rows_TI))
        scratch = torch.empty(kernels.multiply_scratch(ctypes.byref(matrix), rows))
        kernels.multiply(
            ctypes.byref(matrix),
            ctypes.c_int32(self.precision),
            ctypes.c_void_p(rows_TI.data_ptr()),
            ctypes.c_void_p(out_TO.data_ptr()),
            rows,
            ctypes.c_void_p(scratch.data_ptr()),
            ctypes.c_int64(torch.get_num_threads()),
        )
        return out_TO.view(*x_TI.shape[:-1], self.outputs).to(x_TI.dtype)
