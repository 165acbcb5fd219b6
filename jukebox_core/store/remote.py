"""Objects of an fsspec file system whose uploads are atomic: S3 and its like, and memory for tests. Imports no torch.

One request holds the object. (A stream opened for writing on S3 uploads what it has got when an exception closes it;
so no stream is ever opened.)
"""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING

from jukebox_core.store.place import SCRATCH, Place, retried

if TYPE_CHECKING:
    from datetime import datetime

    import fsspec

    from jukebox_core.store.config import RetryConfig


class RemoteObjects(Place):
    """Objects below a path of an fsspec file system. See `Objects` for the methods."""

    def __init__(self, uri: str, system: fsspec.AbstractFileSystem, root: str, retry: RetryConfig) -> None:
        super().__init__(uri.rstrip("/"), retry)
        self._system = system
        self._root = root.rstrip("/")

    @retried
    def read(self, name: str) -> bytes | None:
        """Returns the content of an object, or None if it does not exist."""
        try:
            return bytes(self._system.cat_file(self._path(name)))
        except FileNotFoundError:
            return None

    @retried
    def exists(self, name: str) -> bool:
        """Whether an object exists."""
        return bool(self._system.exists(self._path(name)))

    @retried
    def create(self, name: str, data: bytes) -> bool:
        """Stores a new object and returns True; returns False if the name is taken (the server decides if it can)."""
        try:
            self._system.pipe_file(self._path(name), data, mode="create")
        except FileExistsError:
            return False
        return True

    @retried
    def replace(self, name: str, data: bytes) -> None:
        """Stores an object, in the place of the one with that name if it exists."""
        self._system.pipe_file(self._path(name), data)

    @retried
    def remove(self, *names: str) -> None:
        """Removes objects; names that do not exist are ignored."""
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

    @retried
    def size(self, name: str) -> int | None:
        """Returns the size of an object in bytes, or None if it does not exist."""
        try:
            return int(self._system.size(self._path(name)))
        except FileNotFoundError:
            return None

    @retried
    def sizes(self, folder: str) -> dict[str, int]:
        """Returns the size in bytes of every object below `folder`, by name, sorted."""
        found = self._system.find(self._path(folder), detail=True)
        return dict(sorted((path[len(self._root) + 1 :], info["size"]) for path, info in found.items()))

    @retried
    def age(self, name: str) -> float | None:
        """Returns the seconds since an object was stored, by the server's clock; None if it does not exist."""
        try:
            stored = self._system.modified(self._path(name))
        except FileNotFoundError:
            return None
        return float((self._now() - stored).total_seconds())

    @retried
    def ages(self, folder: str) -> dict[str, float]:
        """Returns the seconds since each object below `folder` was stored, by name and by the server's clock."""
        found, now = self._system.find(self._path(folder), detail=True), self._now()
        stored = {
            path[len(self._root) + 1 :]: info.get("LastModified") or self._system.modified(path)  # S3's lists have it
            for path, info in found.items()
        }
        return {name: float((now - time).total_seconds()) for name, time in stored.items()}

    def _now(self) -> datetime:
        """Returns the time by the server's clock."""
        clock = self._path(f"{SCRATCH}/clock-{secrets.token_hex(8)}")
        try:
            self._system.pipe_file(clock, b"")
            now: datetime = self._system.modified(clock)
            return now
        finally:
            with contextlib.suppress(FileNotFoundError):
                self._system.rm_file(clock)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"
