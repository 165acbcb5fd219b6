"""The folders of a spool, one a process, and the adoption of those that ended processes have left. Imports no torch.

<folder>/<digits of the address>/<process>/windows/...   as in a token store
<folder>/<digits of the address>/<process>/owner         a lock that its process holds until it ends
"""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.base.hashing import digest
from jukebox_core.base.locks import FileLock
from jukebox_core.base.paths import cache_dir, user_path
from jukebox_core.store.retrying import try_lock
from jukebox_core.store.store import TokenStore

if TYPE_CHECKING:
    from collections.abc import Iterator

_OWNER = "owner"


def spool_folder(uri: str, folder: str | None = None) -> Path:
    """Returns the folder of the spools for the store at `uri`, below `folder` or the common folder of all spools."""
    chosen = folder or os.environ.get("JUKEBOX_SPOOL") or cache_dir("spool")
    return user_path(chosen).absolute() / digest(uri)[:16]


class SpoolFolders:
    """The folders below `root`: this process's own, and those of others."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock: FileLock | None = None
        self._own: TokenStore | None = None

    def own(self) -> TokenStore:
        """Returns this process's folder as a store; the first call creates and locks it.

        Raises:
            StoreError: it cannot be created, or its file system has no locks.
        """
        while self._own is None:
            lock = FileLock(self.root / f"{os.getpid()}-{secrets.token_hex(4)}" / _OWNER)
            if try_lock(lock):  # else a process adopted it between its creation and its locking
                self._lock, self._own = lock, TokenStore(lock.path.parent)
        return self._own

    def others(self) -> list[Path]:
        """Returns the folders of other processes, running or not, sorted."""
        own = self._lock.path.parent if self._lock is not None else None
        try:
            return sorted(path for path in self.root.iterdir() if path != own and path.is_dir())
        except FileNotFoundError:
            return []

    def stores(self) -> Iterator[TokenStore]:
        """Yields every folder as a store, this process's own first."""
        if self._own is not None:
            yield self._own
        for folder in self.others():
            yield TokenStore(folder)

    def pending_elsewhere(self) -> int:
        """Returns how many windows are in the folders of other processes."""
        return sum(len(windows) for folder in self.others() for windows in TokenStore(folder).sizes())

    @contextmanager
    def abandoned(self, folder: Path) -> Iterator[bool]:
        """Gives whether `folder` belongs to a process that has ended; if so, it is locked for the block."""
        lock = FileLock(folder / _OWNER)
        acquired = folder.is_dir() and try_lock(lock)
        try:
            yield acquired
        finally:
            lock.release()

    def move_to_own(self, folder: Path) -> dict[str, bool]:
        """Moves the windows of an abandoned folder to this process's own; returns whether each is sealed, by key.

        A window that this process has itself is newer and is kept.
        """
        own = Path(self.own().uri)
        sealed, partial = TokenStore(folder).sizes()
        for key in {**sealed, **partial}:
            for path in folder.glob(f"windows/{key[:2]}/{key}.*"):
                target = own / path.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                if not target.exists():
                    path.rename(target)
        shutil.rmtree(folder)
        return {key: key in sealed for key in {**sealed, **partial}}

    def release(self) -> None:
        """Releases the lock on this process's folder, whose windows the next process adopts."""
        if self._lock is not None:
            self._lock.release()
