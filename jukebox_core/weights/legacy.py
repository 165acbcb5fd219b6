"""Reads torch's first checkpoint format by mapping it into memory; the released Jukebox files appear to use it.

torch before 1.6 wrote a row of pickles (magic number, version, machine, the object, names of storages) and then each
storage as a 64-bit element count and its raw values. `torch.load` cannot map that format: a 10 GB prior would fill
10 GB of memory before its first tensor is used. Here the pickles are read with a table of permitted names, none of
which can run code from the file, and a tensor's values are touched when the tensor is.
"""

from __future__ import annotations

import mmap
import os
import pickle
import struct
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from jukebox_core.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL_VERSION = 1001
_COUNT = struct.Struct("<q")
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
class _Storage:
    key: str
    dtype: torch.dtype
    count: int


@dataclass(frozen=True, slots=True)
class LazyTensor:
    """Where a tensor lies in its storage; `MappedTensors` turns it into a tensor."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def end(self) -> int:
        """One past the last element of the storage that belongs to the tensor."""
        if 0 in self.size:
            return self.offset
        return self.offset + 1 + sum((size - 1) * stride for size, stride in zip(self.size, self.stride, strict=True))


def _lazy_tensor(storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> LazyTensor:
    return LazyTensor(storage, offset, tuple(size), tuple(stride))


def _parameter_data(data: LazyTensor, *_: Any) -> LazyTensor:
    return data


_PERMITTED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_tensor_v2"): _lazy_tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter_data,
}


class _Unpickler(pickle.Unpickler):
    """An unpickler for tensors and plain data: every other name in the file is refused before it is looked up."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) in _PERMITTED:
            return _PERMITTED[module, name]
        raise ForbiddenNameError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _location, count, view = pid
        if kind != "storage" or view is not None or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"unknown kind of storage {kind!r}")
        return _Storage(str(key), dtype, int(count))


class OpenFile:
    """A file held open, so that a new one of its name changes nothing, and the byte at which each storage begins."""

    def __init__(self, file: BinaryIO, starts: Mapping[str, int]) -> None:
        self.descriptor = os.dup(file.fileno())
        self.starts = starts
        weakref.finalize(self, os.close, self.descriptor)


class MappedTensors(Mapping[str, torch.Tensor]):
    """The tensors of a file by name, each a view of the mapped file, made when asked for.

    Each view maps its own part of the file and lets go of it when it is dropped, so that a copy can take its place
    without both in memory. The file has no alignment, so neither have the views; copy one before computing with it.
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


def read_legacy(path: Path) -> tuple[Any, OpenFile]:
    """The object in a checkpoint of the first format, with a `LazyTensor` for each tensor, and its file.

    That every storage lies inside the file is checked here, so a truncated file fails now and not at a tensor's
    first use.

    Raises:
        ForbiddenNameError: the pickle names code.
        pickle.UnpicklingError: it is not a checkpoint of this format.
        CheckpointError: it is one, but truncated.
    """
    with path.open("rb") as file:
        if _Unpickler(file).load() != _MAGIC_NUMBER:
            raise pickle.UnpicklingError("no magic number")
        try:
            version = _Unpickler(file).load()
            _Unpickler(file).load()  # the machine that wrote it: byte order and integer sizes, alike everywhere today
            content = _Unpickler(file, encoding="utf-8").load()
            keys = _Unpickler(file).load()
        except (EOFError, pickle.UnpicklingError) as error:
            if isinstance(error, EOFError) or "truncated" in str(error):
                raise _truncated(path, "before the names of its tensors end") from error
            raise
        if version != _PROTOCOL_VERSION:
            raise pickle.UnpicklingError("unknown version of the format")
        tensors = list(_lazy_tensors(content))
        starts = _storage_starts(path, file, keys, {lazy.storage.key: lazy.storage for lazy in tensors})
        if any(lazy.offset < 0 or lazy.end > lazy.storage.count or min(lazy.stride, default=0) < 0 for lazy in tensors):
            raise CheckpointError(f"{path}: a tensor reaches outside its storage; the file is damaged, fetch it again")
        return content, OpenFile(file, starts)


def _storage_starts(path: Path, file: BinaryIO, keys: list[str], storages: Mapping[str, _Storage]) -> dict[str, int]:
    size = path.stat().st_size
    starts: dict[str, int] = {}
    for key in keys:
        header = file.read(_COUNT.size)
        if len(header) < _COUNT.size:
            raise _truncated(path, f"after {len(starts)} of {len(keys)} tensors")
        storage = storages.get(key)
        if storage is None or storage.count != _COUNT.unpack(header)[0]:
            raise CheckpointError(
                f"{path}: storage {key} is not what its index says; the file is damaged, fetch it again"
            )
        starts[key] = file.tell()
        end = starts[key] + storage.count * storage.dtype.itemsize
        if end > size:
            raise _truncated(path, f"after {len(starts) - 1} of {len(keys)} tensors")
        file.seek(end)
    missing = set(storages) - set(starts)
    if missing:
        raise CheckpointError(f"{path}: {len(missing)} storages are not in the file; it is damaged, fetch it again")
    return starts


def _lazy_tensors(value: Any) -> Iterator[LazyTensor]:
    if isinstance(value, LazyTensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _lazy_tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _lazy_tensors(item)


def _truncated(path: Path, where: str) -> CheckpointError:
    return CheckpointError(f"{path} ends {where}: {path.stat().st_size:,} bytes are not all of it; fetch it again")
