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
import re
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from jukebox_core.errors import StoreError, did_you_mean
from jukebox_core.store.config import RetryConfig
from jukebox_core.store.retrying import patiently

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

_SCRATCH = "tmp"
_STRAY_SECONDS = 3600  # a temporary file lives for milliseconds; one as old as this was left by a killed process
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_SCHEMES = ("s3", "file", "memory", "gs", "abfs")
_S3 = ("s3", "s3a")
_ONE_SLASH = re.compile(rf"^({'|'.join(_SCHEMES + _S3)}):/?(?!/)")  # would be a folder named "s3:" here


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

    def remove(self, *names: str) -> None:
        """Removes those of the objects that are there."""
        ...

    def size(self, name: str) -> int | None:
        """Returns how many bytes the object has, or None if there is no such object."""
        ...

    def sizes(self, folder: str) -> dict[str, int]:
        """Returns the names of all objects below `folder`, sorted, and how many bytes each has."""
        ...

    def age(self, name: str) -> float | None:
        """Returns the seconds since the object was stored, by the clock of the place; None if there is none."""
        ...

    def ages(self, folder: str) -> dict[str, float]:
        """Returns the names of all objects below `folder`, and the age of each: one listing."""
        ...


def open_objects(uri: str, options: Mapping[str, Any] | None = None, retry: RetryConfig | None = None) -> Objects:
    """Returns the objects under `uri`: a local path, or an address such as ``s3://bucket/folder``.

    Opens no connection. `options` go to the fsspec file system; S3's endpoint may also be in the environment, as
    AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL.

    Raises:
        StoreError: The scheme is unknown or misspelt, or the package that serves it is not installed.
    """
    retry = retry or RetryConfig()
    if found := _ONE_SLASH.match(uri):
        raise StoreError(f"{uri} is neither a folder nor an address; write {found[1]}://{uri[found.end() :]}")
    if "://" not in uri:
        return LocalObjects(Path(uri), retry)
    scheme = uri.partition("://")[0]
    try:
        system, root = fsspec.core.url_to_fs(uri, **_options(scheme, dict(options or {})))
    except ImportError as error:
        remedy = "pip install 'jukebox-pipelines[s3]'" if scheme in _S3 else str(error)
        raise StoreError(f"{uri} needs a package that is not installed; {remedy}") from error
    except ValueError as error:
        hint = did_you_mean(scheme, _SCHEMES)
        raise StoreError(f"{uri} cannot be a store ({error}); give a local path or s3://bucket/folder{hint}") from error
    if isinstance(system, LocalFileSystem):
        return LocalObjects(Path(root), retry)
    if scheme in _S3:
        system.retries = 1  # `_guarded` repeats; three loops in each other would take minutes
    return RemoteObjects(uri, system, root, retry)


def _options(scheme: str, given: dict[str, Any]) -> dict[str, Any]:
    """Returns what the file system is opened with: what is `given`, and what whole small objects want."""
    options: dict[str, Any] = {"use_listings_cache": False, **given}  # other processes write here
    if scheme not in _S3:
        return options
    options.setdefault("max_concurrency", 1)  # else every read asks for the object's size first
    client, config = options.get("client_kwargs", {}), options.get("config_kwargs", {})
    quick = {"connect_timeout": 5, "read_timeout": 15}  # seconds; objects are small, and botocore's minute is long
    options["config_kwargs"] = quick | {"retries": {"total_max_attempts": 1}} | config
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint and "endpoint_url" not in options and "endpoint_url" not in client:
        options["endpoint_url"] = endpoint  # fsspec keeps a file system for each set of options: name what decides
    return options


_P = ParamSpec("_P")
_T = TypeVar("_T")


class _Place:
    """A place that objects are in; every access to it passes through `_guarded`."""

    def __init__(self, uri: str, retry: RetryConfig) -> None:
        self.uri = uri
        self._retry = retry


_O = TypeVar("_O", bound=_Place)


def _guarded(method: Callable[Concatenate[_O, _P], _T]) -> Callable[Concatenate[_O, _P], _T]:
    """Repeats what failed for a passing reason, and turns whatever a file system raises into a StoreError."""

    @functools.wraps(method)
    def guarded(self: _O, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return patiently(lambda: method(self, *args, **kwargs), self.uri, self._retry)

    return guarded


class LocalObjects(_Place):
    """Objects as files below a folder, which is made when the first is written."""

    def __init__(self, root: Path, retry: RetryConfig) -> None:
        self._root = root.expanduser().absolute()
        super().__init__(str(self._root), retry)

    @_guarded
    def read(self, name: str) -> bytes | None:
        """Returns the file's content, or None."""
        try:
            return (self._root / name).read_bytes()
        except FileNotFoundError:
            return None

    @_guarded
    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        return (self._root / name).is_file()

    @_guarded
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

    @_guarded
    def replace(self, name: str, data: bytes) -> None:
        """Stores a file in the place of the one of that name."""
        path = self._root / name
        with self._temporary(data) as temporary:
            _make_folder(path.parent)
            temporary.replace(path)
            _synchronise(path.parent)

    @_guarded
    def remove(self, *names: str) -> None:
        """Removes those of the files that are there."""
        for name in names:
            (self._root / name).unlink(missing_ok=True)

    @_guarded
    def size(self, name: str) -> int | None:
        """Returns how many bytes the file has, or None."""
        try:
            return (self._root / name).stat().st_size
        except FileNotFoundError:
            return None

    @_guarded
    def sizes(self, folder: str) -> dict[str, int]:
        """Returns the paths of all files below `folder`, relative to the root, sorted, and their bytes."""
        found = {}
        for path, _, names in os.walk(self._root / folder):
            for name in names:
                file = Path(path) / name
                with contextlib.suppress(FileNotFoundError):  # another process removes too
                    found[file.relative_to(self._root).as_posix()] = file.stat().st_size
        return dict(sorted(found.items()))

    @_guarded
    def age(self, name: str) -> float | None:
        """Returns the seconds since the file was stored; None if there is none."""
        try:
            return time.time() - (self._root / name).stat().st_mtime
        except FileNotFoundError:
            return None

    @_guarded
    def ages(self, folder: str) -> dict[str, float]:
        """Returns the paths of all files below `folder`, relative to the root, and the age of each."""
        found, now = {}, time.time()
        for path, _, names in os.walk(self._root / folder):
            for name in names:
                file = Path(path) / name
                with contextlib.suppress(FileNotFoundError):  # another process removes too
                    found[file.relative_to(self._root).as_posix()] = now - file.stat().st_mtime
        return found

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

    @_guarded
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


class RemoteObjects(_Place):
    """Objects of an fsspec file system whose uploads are whole: S3 and its like, and memory for tests."""

    def __init__(self, uri: str, system: fsspec.AbstractFileSystem, root: str, retry: RetryConfig) -> None:
        super().__init__(uri.rstrip("/"), retry)
        self._system = system
        self._root = root.rstrip("/")

    @_guarded
    def read(self, name: str) -> bytes | None:
        """Returns the object's content, or None."""
        try:
            return bytes(self._system.cat_file(self._path(name)))
        except FileNotFoundError:
            return None

    @_guarded
    def exists(self, name: str) -> bool:
        """Whether there is such an object."""
        return bool(self._system.exists(self._path(name)))

    @_guarded
    def create(self, name: str, data: bytes) -> bool:
        """Stores a new object; False if the name is taken (decided by the server where it can)."""
        try:
            self._system.pipe_file(self._path(name), data, mode="create")
        except FileExistsError:
            return False
        return True

    @_guarded
    def replace(self, name: str, data: bytes) -> None:
        """Stores an object in the place of the one of that name."""
        self._system.pipe_file(self._path(name), data)

    @_guarded
    def remove(self, *names: str) -> None:
        """Removes those of the objects that are there."""
        if len(names) > 1:
            try:
                self._system.rm([self._path(name) for name in names])  # S3 takes a thousand in one request
            except FileNotFoundError:  # from file systems that insist; the rest is not removed then
                pass
            else:
                return
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                self._system.rm_file(self._path(name))

    @_guarded
    def size(self, name: str) -> int | None:
        """Returns how many bytes the object has, or None."""
        try:
            return int(self._system.size(self._path(name)))
        except FileNotFoundError:
            return None

    @_guarded
    def sizes(self, folder: str) -> dict[str, int]:
        """Returns the names of all objects below `folder`, sorted, and their bytes."""
        found = self._system.find(self._path(folder), detail=True)
        return dict(sorted((path[len(self._root) + 1 :], info["size"]) for path, info in found.items()))

    @_guarded
    def age(self, name: str) -> float | None:
        """Returns the seconds since the object was stored, by the server's clock; None if there is none."""
        try:
            stored = self._system.modified(self._path(name))
        except FileNotFoundError:
            return None
        return float((self._now() - stored).total_seconds())

    @_guarded
    def ages(self, folder: str) -> dict[str, float]:
        """Returns the names of all objects below `folder`, and the age of each, by the server's clock."""
        found, now = self._system.find(self._path(folder), detail=True), self._now()
        stored = {
            path[len(self._root) + 1 :]: info.get("LastModified") or self._system.modified(path)  # S3 tells it in lists
            for path, info in found.items()
        }
        return {name: float((now - time).total_seconds()) for name, time in stored.items()}

    def _now(self) -> datetime:
        """Returns the time by the server's clock."""
        clock = self._path(f"{_SCRATCH}/clock-{secrets.token_hex(8)}")
        try:
            self._system.pipe_file(clock, b"")
            now: datetime = self._system.modified(clock)
            return now
        finally:
            with contextlib.suppress(FileNotFoundError):
                self._system.rm_file(clock)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"
