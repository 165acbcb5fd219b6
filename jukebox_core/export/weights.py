"""Which tensors of a module are in a graph, by value: a graph without some of its weights computes something else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from numpy.typing import NDArray
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Found:
    """Names of a module's tensors."""

    found: tuple[str, ...]
    missing: tuple[str, ...]
    zeros: tuple[str, ...]  # not there, and nothing but zeros: the exporter leaves out a bias that adds nothing


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Returns parameters and buffers by name; those that are shared once."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def find_tensors(tensors: Mapping[str, Tensor], constants: Iterable[NDArray[np.generic]]) -> Found:
    """Returns which tensors are among the constants of a graph: as they are, transposed, or as rows of a larger one."""
    marks: set[bytes] = set()
    tables = []
    for constant in constants:
        marks.update(_marks(constant))
        if constant.ndim == 2:
            tables.append(constant)
    found: list[str] = []
    missing: list[str] = []
    zeros: list[str] = []
    for name, tensor in tensors.items():
        array = tensor.detach().cpu().numpy()
        is_there = _mark(array) in marks or any(_has_rows(table, array) for table in tables)
        (found if is_there else missing if array.any() else zeros).append(name)
    return Found(tuple(found), tuple(missing), tuple(zeros))


def _marks(array: NDArray[np.generic]) -> Iterator[bytes]:
    yield _mark(array)
    squeezed = array.squeeze()
    if squeezed.ndim == 2:
        yield _mark(squeezed.T)


def _mark(array: NDArray[np.generic]) -> bytes:
    """Returns a digest of the numbers in order, whatever the shape."""
    return hashlib.sha256(np.ascontiguousarray(array).data).digest()


def _has_rows(table: NDArray[np.generic], rows: NDArray[np.generic]) -> bool:
    rows = rows.reshape(-1, rows.shape[-1]) if rows.ndim else rows.reshape(1, 1)
    if table.shape[1:] != rows.shape[1:] or len(table) < len(rows) or table.dtype != rows.dtype:
        return False
    starts = np.flatnonzero((table[: len(table) - len(rows) + 1] == rows[0]).all(1))
    return any(np.array_equal(table[at : at + len(rows)], rows) for at in starts)
