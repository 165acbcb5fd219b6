"""Tensors of torch's own files, located by an unpickler that cannot run code, and mapped into memory one by one."""

from __future__ import annotations

import mmap
import os
import pickle
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch

from jukebox_core.errors import CheckpointError
from jukebox_core.models.checkpoints import numbers

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class ForbiddenNameError(pickle.UnpicklingError):
    """The pickle names something that is neither a tensor nor plain data; its message is that name."""


@dataclass(frozen=True, slots=True)
class Storage:
    """A flat array, of which tensors are views; `key` is its name in the file."""

    key: str
    dtype: torch.dtype
    count: int


@dataclass(frozen=True, slots=True)
class LazyTensor:
    """Where a tensor lies in its storage; `MappedTensors` turns it into a tensor."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def end(self) -> int:
        """One past the last element of the storage that belongs to the tensor."""
        if 0 in self.size:
            return self.offset
        return self.offset + 1 + sum((size - 1) * stride for size, stride in zip(self.size, self.stride, strict=True))


def _lazy_tensor(storage: Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> LazyTensor:
    return LazyTensor(storage, offset, tuple(size), tuple(stride))


def _parameter_data(data: LazyTensor, *_: Any) -> LazyTensor:
    return data


_PERMITTED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor_v2"): _lazy_tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter_data,
    **numbers.PERMITTED,
}


class _Inert:
    """Takes the place of an object of another program: it accepts what a pickle does to it, and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Self:
        return super().__new__(cls)

    def __call__(self, *_: Any, **__: Any) -> Self:
        return self

    def __setstate__(self, state: Any) -> None:
        """Ignores a state."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Ignores an item."""

    def append(self, item: Any) -> None:
        """Ignores an item, of a list or a set."""

    add = append
    extend = append


class TensorUnpickler(pickle.Unpickler):
    """An unpickler for tensors and plain data: every other name in the file is refused before it is looked up.

    With a list `foreign` such names are added to it instead, and stand for objects that do nothing.
    """

    def __init__(self, file: BinaryIO, *, encoding: str = "ASCII", foreign: list[str] | None = None) -> None:
        super().__init__(file, encoding=encoding)
        self._foreign = foreign

    def find_class(self, module: str, name: str) -> Any:
        """Returns the object for a permitted name in the pickle."""
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) in _PERMITTED:
            return _PERMITTED[module, name]
        if self._foreign is None:
            raise ForbiddenNameError(f"{module}.{name}")
        self._foreign.append(f"{module}.{name}")
        return _Inert

    def persistent_load(self, pid: Any) -> Storage:
        """Returns a storage; the older format adds a sixth entry, a view of another storage, which no file needs."""
        kind, dtype, key, _location, count, *view = pid
        if kind != "storage" or any(part is not None for part in view) or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"unknown kind of storage {kind!r}")
        return Storage(str(key), dtype, int(count))


class OpenFile:
    """An open file, which stays the same if its name is replaced, and the byte at which each storage begins."""

    def __init__(self, file: BinaryIO, starts: Mapping[str, int]) -> None:
        self.descriptor = os.dup(file.fileno())
        self.starts = starts
        weakref.finalize(self, os.close, self.descriptor)


class MappedTensors(Mapping[str, torch.Tensor]):
    """The tensors of a file by name, each a view of the mapped file, made when it is accessed.

    Each view maps its own part of the file and unmaps it when it is dropped, so that a copy can replace it without both
    in memory. A view holds a file descriptor, of which a process often has no more than 1,024, and need
    not be aligned: copy it and drop it.
    """

    def __init__(self, file: OpenFile, tensors: Mapping[str, LazyTensor]) -> None:
        self._file = file
        self._tensors = tensors

    def __getitem__(self, name: str) -> torch.Tensor:
        lazy = self._tensors[name]
        storage = lazy.storage
        if storage.count == 0:
            return torch.empty(lazy.size, dtype=storage.dtype)
        start = self._file.starts[storage.key]
        inside = start % mmap.ALLOCATIONGRANULARITY
        length = inside + storage.count * storage.dtype.itemsize
        mapping = mmap.mmap(self._file.descriptor, length, access=mmap.ACCESS_COPY, offset=start - inside)
        values = torch.frombuffer(mapping, dtype=storage.dtype, count=storage.count, offset=inside)
        return values.as_strided(lazy.size, lazy.stride, lazy.offset)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def lazy_tensors(value: Any) -> Iterator[LazyTensor]:
    """Yields the tensors in the object of a pickle."""
    if isinstance(value, LazyTensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from lazy_tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from lazy_tensors(item)


def check_inside(path: Path, tensors: list[LazyTensor]) -> None:
    """Checks that every tensor lies within its storage.

    Raises:
        CheckpointError: one does not.
    """
    if any(lazy.offset < 0 or lazy.end > lazy.storage.count or min(lazy.stride, default=0) < 0 for lazy in tensors):
        raise CheckpointError(f"{path}: a tensor reaches outside its storage; the file is damaged, fetch it again")
