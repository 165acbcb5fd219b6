"""Whole objects under a root, on local disk or on any file system that fsspec knows. Imports no torch.

Objects are small and are written, read and replaced whole, so that a reader sees a version of an object or none, never
a part of one. Local disk: a temporary file is written, synchronised and given its name, and so is the folder's entry.
Object storage: one request holds the object. (A stream opened for writing on S3 uploads what it has got when an
exception closes it; so no stream is ever opened.)
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from jukebox_core.errors import StoreError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_SCRATCH = "tmp"
_STRAY_SECONDS = 3600  # a temporary file lives for milliseconds; one as old as this was left by a killed process
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_SCHEMES = ("s3", "file", "memory", "gs", "abfs")


class Objects(Protocol):
    """Named bytes under a root. Every method raises StoreError, with the remedy, where the place itself fails."""

    uri: str

    def read(self, name: str) -> bytes | None:
        """Returns the object's content, or None if there is no such object."""
        ...

    def exists(self, name: str) -> bool:
        """Whether there is such an object."""
        ...

    def create(self, name: str, data: bytes) -> bool:
        """Stores a new object; returns False, and changes nothing, if the name is taken."""
        ...

    def replace(self, name: str, data: bytes) -> None:
        """Stores an object in the place of the one of that name, if any."""
        ...

    def remove(self, name: str) -> None:
        """Removes the object, if it is there."""
        ...

    def names(self, folder: str) -> list[str]:
        """Returns the names of all objects below `folder`, sorted."""
        ...


def open_objects(uri: str, options: Mapping[str, Any] | None = None) -> Objects:
    """Returns the objects under `uri`: a local path, or an address such as ``s3://bucket/folder``.

    Opens no connection. `options` go to the fsspec file system.

    Raises:
        StoreError: The scheme is unknown, or the package that serves it is not installed.
    """
    if "://" not in uri:
        return LocalObjects(Path(uri))
    scheme = uri.partition("://")[0]
    try:
        # Listings are not cached: other processes write here.
        system, root = fsspec.core.url_to_fs(uri, **{"use_listings_cache": False, **(options or {})})
    except ImportError as error:
        remedy = "pip install 'jukebox-pipelines[s3]'" if scheme in ("s3", "s3a") else str(error)
        raise StoreError(f"{uri} needs a package that is not installed; {remedy}") from error
    except ValueError as error:
        hint = did_you_mean(scheme, _SCHEMES)
        raise StoreError(f"{uri} cannot be a store ({error}); give a local path or s3://bucket/folder{hint}") from error
    return LocalObjects(Path(root)) if isinstance(system, LocalFileSystem) else RemoteObjects(uri, system, root)


_P = ParamSpec("_P")
_T = TypeVar("_T")
_O = TypeVar("_O", bound=Objects)


def _explained(method: Callable[Concatenate[_O, _P], _T]) -> Callable[Concatenate[_O, _P], _T]:
    """Turns whatever a file system raises into a StoreError. Every access passes here; retries belong here too."""

    @functools.wraps(method)
    def explained(self: _O, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            raise StoreError(_explain(self.uri, error)) from error

    return explained


def _explain(uri: str, error: Exception) -> str:
    code = error.errno if isinstance(error, OSError) else None
    if code in _FULL:
        return f"no space left in {uri}; free some or choose another place (what is stored there stays valid)"
    if isinstance(error, PermissionError) or code in _REFUSED:
        return f"access to {uri} was refused ({error}); check its owner and mode, or the credentials, or choose another"
    if isinstance(error, FileNotFoundError):
        return f"{uri} is not there ({error}); create the bucket or folder, or correct the address"
    return f"{uri} cannot be used ({type(error).__name__}: {error}); check the address, the network and the credentials"


class LocalObjects:
    """Objects as files below a folder, which is made when the first is written."""

    def __init__(self, root: Path) -> None:
        self._root = root.expanduser().absolute()
        self.uri = str(self._root)

    @_explained
    def read(self, name: str) -> bytes | None:
        """Returns the file's content, or None."""
        try:
            return (self._root / name).read_bytes()
        except FileNotFoundError:
            return None

    @_explained
    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self._root / name).is_file()

    @_explained
    def create(self, name: str, data: bytes) -> bool:
        """Stores a new file; False if the name is taken, whoever took it."""
        path = self._root / name
        with self._temporary(data) as temporary:
            _make_folder(path.parent)
            try:
                os.link(temporary, path)  # unlike a rename, fails if the name is taken
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_HARD_LINKS:
                    raise
                if path.exists():
                    return False
                temporary.replace(path)
            _synchronise(path.parent)
        return True

    @_explained
    def replace(self, name: str, data: bytes) -> None:
        """Stores a file in the place of the one of that name."""
        path = self._root / name
        with self._temporary(data) as temporary:
            _make_folder(path.parent)
            temporary.replace(path)
            _synchronise(path.parent)

    @_explained
    def remove(self, name: str) -> None:
        """Removes the file, if it is there."""
        (self._root / name).unlink(missing_ok=True)

    @_explained
    def names(self, folder: str) -> list[str]:
        """Returns the paths of all files below `folder`, relative to the root, sorted."""
        files = (path for path in (self._root / folder).rglob("*") if path.is_file())
        return sorted(path.relative_to(self._root).as_posix() for path in files)

    @contextlib.contextmanager
    def _temporary(self, data: bytes) -> Iterator[Path]:
        """Gives a file that holds `data` safely, and removes it if it was not given a name."""
        scratch = self._root / _SCRATCH
        if not scratch.is_dir():
            _make_folder(scratch)
        path = scratch / secrets.token_hex(16)
        try:
            with path.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield path
        finally:
            path.unlink(missing_ok=True)

    @_explained
    def sweep(self) -> None:
        """Removes temporary files that killed processes left behind."""
        for path in (self._root / _SCRATCH).glob("*"):
            with contextlib.suppress(FileNotFoundError):  # another process sweeps too
                if time.time() - path.stat().st_mtime > _STRAY_SECONDS:
                    path.unlink()


def _make_folder(folder: Path) -> None:
    """Makes a folder and its parents so that they outlive a power cut."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _synchronise(folder.parent)


def _synchronise(folder: Path) -> None:
    """Waits until the names in a folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class RemoteObjects:
    """Objects of an fsspec file system whose uploads are whole: S3 and its like, and memory for tests."""

    def __init__(self, uri: str, system: fsspec.AbstractFileSystem, root: str) -> None:
        self.uri = uri.rstrip("/")
        self._system = system
        self._root = root.rstrip("/")

    @_explained
    def read(self, name: str) -> bytes | None:
        """Returns the object's content, or None."""
        try:
            return bytes(self._system.cat_file(self._path(name)))
        except FileNotFoundError:
            return None

    @_explained
    def exists(self, name: str) -> bool:
        """Whether there is such an object."""
        return bool(self._system.exists(self._path(name)))

    @_explained
    def create(self, name: str, data: bytes) -> bool:
        """Stores a new object; False if the name is taken (decided by the server where it can)."""
        try:
            self._system.pipe_file(self._path(name), data, mode="create")
        except FileExistsError:
            return False
        return True

    @_explained
    def replace(self, name: str, data: bytes) -> None:
        """Stores an object in the place of the one of that name."""
        self._system.pipe_file(self._path(name), data)

    @_explained
    def remove(self, name: str) -> None:
        """Removes the object, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._system.rm_file(self._path(name))

    @_explained
    def names(self, folder: str) -> list[str]:
        """Returns the names of all objects below `folder`, sorted."""
        return sorted(path[len(self._root) + 1 :] for path in self._system.find(self._path(folder)))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"
