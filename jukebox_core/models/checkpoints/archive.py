"""Reads torch's zip format, the one since 1.6, by mapping one tensor at a time.

`torch.load` can map that format too, but as a whole: pages of tensors that were already converted to another precision
or device stay in memory until the last tensor is loaded, three times the memory for a model in float16. The archive
holds ``<name>/data.pkl``, the object with its storages named, and ``<name>/data/<key>``, each storage's raw
values, uncompressed.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from jukebox_core.errors import CheckpointError
from jukebox_core.models.checkpoints.mapped import (
    ForbiddenNameError,
    OpenFile,
    TensorUnpickler,
    check_inside,
    lazy_tensors,
)

if TYPE_CHECKING:
    from typing import BinaryIO

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, then the lengths of the name and of the extra field


def read_archive(path: Path) -> tuple[Any, OpenFile]:
    """Returns the object in a checkpoint of the zip format, with a `LazyTensor` for each tensor, and its file.

    Raises:
        ForbiddenNameError: the pickle names code, and is not one of Lightning, which stores its settings as objects
            beside the weights; these are ignored.
        zipfile.BadZipFile: it is no complete zip file, or torch did not write it.
        pickle.UnpicklingError: its pickle is not one of tensors and plain data.
        CheckpointError: a storage or tensor disagrees with the pickle.
    """
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        members = {member.filename: member for member in archive.infolist()}
        pickled = next((PurePosixPath(name) for name in members if PurePosixPath(name).name == "data.pkl"), None)
        if pickled is None or any(member.compress_type != zipfile.ZIP_STORED for member in members.values()):
            raise zipfile.BadZipFile("no archive of torch")
        root = pickled.parent
        order = members.get(f"{root}/byteorder")
        if order is not None and archive.read(order) != b"little":
            raise pickle.UnpicklingError("values are stored with the highest byte first")
        foreign: list[str] = []
        content = TensorUnpickler(io.BytesIO(archive.read(str(pickled))), encoding="utf-8", foreign=foreign).load()
        if foreign and not _is_lightning(content):
            raise ForbiddenNameError(foreign[0])
        tensors = list(lazy_tensors(content))
        check_inside(path, tensors)
        starts = {}
        for storage in {lazy.storage for lazy in tensors}:
            member = members.get(f"{root}/data/{storage.key}")
            if member is None or member.file_size != storage.count * storage.dtype.itemsize:
                raise CheckpointError(
                    f"{path}: storage {storage.key} is not what its index says; the file is damaged, fetch it again"
                )
            starts[storage.key] = _start(file, member)
        return content, OpenFile(file, starts)


def _is_lightning(content: Any) -> bool:
    marks = {"pytorch-lightning_version", "hyper_parameters"}  # a file reduced for publication may lack the first
    return isinstance(content, dict) and "state_dict" in content and bool(marks & set(content))


def _start(file: BinaryIO, member: zipfile.ZipInfo) -> int:
    """Returns where a member's bytes begin: its local header has padding that the index does not record."""
    file.seek(member.header_offset)
    signature, name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    if signature != b"PK\3\4":
        raise zipfile.BadZipFile("an index that points beside its members")
    start: int = member.header_offset + _LOCAL_HEADER.size + name + extra
    return start
