"""Matrices as `step.cpp` reads them: packed into panels, in one arena of memory with huge pages.

Shape suffixes: I inputs, O outputs, R interleaved inputs, T rows (samples or positions).
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

from jukebox_core.runtime.allocator import anonymous_mmap
from jukebox_core.runtime.native.compiled import library
from jukebox_core.runtime.native.team import CALL_SECONDS, useful_threads

if TYPE_CHECKING:
    from collections.abc import Sequence

PANEL = 32
PRECISIONS = {torch.float32: (0, 1), torch.bfloat16: (1, 2), torch.int8: (2, 4)}  # `Precision` of weights.h, and R
_LINE = 64  # bytes of a cache line
_HUGE = 2**21  # bytes of a huge page
_COLLAPSE = 25  # MADV_COLLAPSE of Linux 6.1


class Matrix(ctypes.Structure):
    """`Matrix` of weights.h."""

    _fields_ = (
        ("weight", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
        ("inputs", ctypes.c_int64),
        ("outputs", ctypes.c_int64),
    )


def packed(weight_IO: Tensor) -> Tensor:
    """Returns a weight in the layout of step.cpp, [panels, I / R, PANEL, R]; the last panel is padded with zeros.

    Raises:
        ValueError: the inputs are not a multiple of R.
    """
    inputs, outputs = weight_IO.shape
    _, interleaved = PRECISIONS[weight_IO.dtype]
    if inputs % interleaved:
        raise ValueError(f"{inputs} inputs are not a multiple of {interleaved}, which {weight_IO.dtype} needs")
    padded_IO = F.pad(weight_IO, (0, -outputs % PANEL))
    return padded_IO.view(inputs // interleaved, interleaved, -1, PANEL).permute(2, 0, 3, 1)


def packed_bytes(shape: Sequence[int], dtype: torch.dtype) -> int:
    """Returns the size of a packed weight in bytes, rounded up to the alignment of the next."""
    inputs, outputs = shape
    return -(-inputs * (outputs + -outputs % PANEL) * dtype.itemsize // _LINE) * _LINE


class Arena:
    """An arena allocator; in huge pages, where the system has them, weights are read a tenth faster."""

    def __init__(self, size: int, *, huge_pages: bool = True) -> None:
        """Allocates `size` bytes, in huge pages from the beginning if `huge_pages`; see `promote_to_huge_pages`."""
        self._pages = anonymous_mmap(size)
        if huge_pages:
            self._advise_huge_pages()
        self._memory, self._used = torch.frombuffer(self._pages, dtype=torch.uint8), 0

    def allocate(self, size: int) -> Tensor:
        """Returns the next `size` bytes, uint8 [size]."""
        begin, self._used = self._used, self._used + size
        return self._memory[begin : self._used]

    def promote_to_huge_pages(self) -> None:
        """Starts a background thread that moves the arena into huge pages, while the arena lives.

        The system, or the host of a virtual machine, can take longer to provide huge pages than it takes to read the
        weights into them. Small pages come sooner, and sampling need not wait. The thread sleeps half of the time.
        """
        self._advise_huge_pages()  # where MADV_COLLAPSE does not exist, the kernel may still do it, in minutes
        threading.Thread(target=_collapse_all, args=(weakref.ref(self),), name="huge pages", daemon=True).start()

    def collapse(self, number: int) -> bool:
        """Moves page `number` of the arena into a huge page; False if it has no such page or the system refuses."""
        begin = self._memory.data_ptr()
        at = -(-begin // _HUGE) * _HUGE + number * _HUGE
        return at + _HUGE <= begin + len(self._memory) and not _advise(at, _HUGE, _COLLAPSE)

    def _advise_huge_pages(self) -> None:
        if hasattr(mmap, "MADV_HUGEPAGE"):
            self._pages.madvise(mmap.MADV_HUGEPAGE)


def _collapse_all(reference: weakref.ref[Arena]) -> None:
    for number in itertools.count():
        arena, began = reference(), time.monotonic()
        if arena is None or not arena.collapse(number):
            return
        del arena
        time.sleep(time.monotonic() - began)


def _advise(address: int, size: int, advice: int) -> int:
    """Calls madvise without holding the GIL, unlike `mmap.madvise`; returns 0, or -1 if it failed."""
    if not sys.platform.startswith("linux"):
        return -1
    status: int = ctypes.CDLL(None).madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), ctypes.c_int(advice))
    return status


class PackedProjection(nn.Module):
    """An affine map with a packed weight, equivalent to the projection it was made from; it has no gradient.

    The output of a row depends on that row alone, bit for bit: it is the same in every batch.
    """

    weight: Tensor
    bias: Tensor
    scale: Tensor | None

    def __init__(self, weight_IO: Tensor, bias_O: Tensor, scale_O: Tensor | None, arena: Arena) -> None:
        """Packs a weight (int8 with a scale for each output) into `packed_bytes` of `arena`.

        For a weight on the meta device the memory is only allocated: the caller reads a stored packed weight into it.
        """
        super().__init__()
        panels = packed(weight_IO)
        memory = arena.allocate(packed_bytes(weight_IO.shape, weight_IO.dtype))
        weight = memory[: panels.numel() * panels.itemsize].view(weight_IO.dtype).view(panels.shape)
        if not weight_IO.is_meta:
            weight.copy_(panels)
            if weight_IO.dtype is torch.int8:
                weight.bitwise_xor_(-128)  # unsigned, with an offset of 128: the operand type of VNNI
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias_O.detach().float().contiguous())
        self.register_buffer("scale", None if scale_O is None else scale_O.float().contiguous())
        self.inputs, self.outputs = weight_IO.shape
        self.precision, _ = PRECISIONS[weight_IO.dtype]

    def as_struct(self) -> Matrix:
        """Returns the arguments for step.cpp; valid as long as this module lives."""
        scale = 0 if self.scale is None else self.scale.data_ptr()
        return Matrix(self.weight.data_ptr(), scale, self.bias.data_ptr(), self.inputs, self.outputs)

    def forward(self, x_TI: Tensor) -> Tensor:
        """Returns [..., O] in the dtype of x [..., I]."""
        rows_TI = x_TI.reshape(-1, self.inputs).float().contiguous()
        out_TO = torch.empty(len(rows_TI), self.outputs)
        matrix, kernels = self.as_struct(), library()
        rows = ctypes.c_int64(len(rows_TI))
        scratch = torch.empty(kernels.multiply_scratch(ctypes.byref(matrix), rows))
        kernels.multiply(
            ctypes.byref(matrix),
            ctypes.c_int32(self.precision),
            ctypes.c_void_p(rows_TI.data_ptr()),
            ctypes.c_void_p(out_TO.data_ptr()),
            rows,
            ctypes.c_void_p(scratch.data_ptr()),
            ctypes.c_int64(self.threads(len(rows_TI))),
        )
        return out_TO.view(*x_TI.shape[:-1], self.outputs).to(x_TI.dtype)

    def threads(self, rows: int) -> int:
        """Returns how many threads a product with so many rows is worth."""
        return useful_threads(
            torch.get_num_threads(),
            weight_bytes=self.weight.nbytes,
            operations=2 * rows * self.inputs * self.outputs,
            share=CALL_SECONDS,
        )
