"""Objects as files below a folder of a local disk. Imports no torch.

A temporary file is written, synchronised and given its name, and so is the folder's entry, so that an object survives
a power loss once a call has returned.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.base.atomic import locked_temporary, sweep, synchronise
from jukebox_core.base.paths import user_path
from jukebox_core.base.records import read_regular
from jukebox_core.errors import RecordError
from jukebox_core.store.place import SCRATCH, Place, retried

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jukebox_core.store.config import RetryConfig

_STALE_SECONDS = 3600  # a probe lives for milliseconds; a killed process has left one as old as this
_MAX_BYTES = 1 << 32  # far above the size of a window
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class LocalObjects(Place):
    """Objects as files below a folder, which is created with the first of them. See `Objects` for the methods."""

    def __init__(self, root: Path, retry: RetryConfig) -> None:
        self._root = user_path(root).absolute()
        super().__init__(str(self._root), retry)

    @retried
    def read(self, name: str) -> bytes | None:
        """Returns the content of a file, or None if it does not exist.

        What is no regular file (a folder, a pipe, a device) was never stored here: it is read as an empty object, which
        every reader refuses.
        """
        path = self._root / name
        try:
            return read_regular(path, _MAX_BYTES, links=True)
        except FileNotFoundError:
            return None
        except RecordError:
            if path.is_file():
                raise
            return b""

    @retried
    def exists(self, name: str) -> bool:
        """Whether a file exists."""
        return (self._root / name).is_file()

    @retried
    def create(self, name: str, data: bytes) -> bool:
        """Stores a new file and returns True; returns False if the name is taken, by any process."""
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
            synchronise(path.parent)
        return True

    @retried
    def replace(self, name: str, data: bytes) -> None:
        """Stores a file, in the place of the one with that name if it exists."""
        path = self._root / name
        with self._temporary(data) as temporary:
            _make_folder(path.parent)
            self._clear_folder(path)
            temporary.replace(path)
            synchronise(path.parent)

    @retried
    def remove(self, *names: str) -> None:
        """Removes files; names that do not exist are ignored."""
        for name in names:
            self._clear_folder(self._root / name)
            (self._root / name).unlink(missing_ok=True)

    @retried
    def size(self, name: str) -> int | None:
        """Returns the size of a file in bytes, or None if it does not exist."""
        found = self._status(name)
        return None if found is None else found.st_size

    @retried
    def sizes(self, folder: str) -> dict[str, int]:
        """Returns the size in bytes of every file below `folder`, by path relative to the root, sorted."""
        return {name: found.st_size for name, found in sorted(self._walk(folder))}

    @retried
    def age(self, name: str) -> float | None:
        """Returns the seconds since a file was stored, or None if it does not exist."""
        found = self._status(name)
        return None if found is None else time.time() - found.st_mtime

    @retried
    def ages(self, folder: str) -> dict[str, float]:
        """Returns the seconds since each file below `folder` was stored, by path relative to the root."""
        now = time.time()
        return {name: now - found.st_mtime for name, found in self._walk(folder)}

    @retried
    def remove_stale(self) -> tuple[int, int]:
        """Removes temporary files that killed processes have left; returns how many, and their bytes."""
        count, size = sweep(self._root / SCRATCH)
        for path in (self._root / SCRATCH).glob("*"):  # probes, and files of versions that did not lock them
            with contextlib.suppress(FileNotFoundError):  # another process removes them too
                found = path.stat()
                if not path.name.startswith(".") and time.time() - found.st_mtime > _STALE_SECONDS:
                    path.unlink()
                    count, size = count + 1, size + found.st_size
        return count, size

    def _clear_folder(self, path: Path) -> None:
        """Moves a folder in the place of a file to ``damaged/``: no version of this program has made it."""
        if path.is_dir() and not path.is_symlink():
            aside = self._root / "damaged" / f"{path.name}.{secrets.token_hex(4)}"
            _make_folder(aside.parent)
            path.rename(aside)

    def _status(self, name: str) -> os.stat_result | None:
        try:
            return (self._root / name).stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:  # a link to itself: what is there is no file, as with a dangling link
                return None
            raise

    def _walk(self, folder: str) -> Iterator[tuple[str, os.stat_result]]:
        """Yields the name and status of every file below `folder`, without those removed meanwhile."""
        for path, _, names in os.walk(self._root / folder):
            for name in names:
                file = (Path(path) / name).relative_to(self._root).as_posix()
                found = self._status(file)
                if found is not None:
                    yield file, found

    @contextlib.contextmanager
    def _temporary(self, data: bytes) -> Iterator[Path]:
        """Gives a synchronised file with the content `data`; removes it if it was not renamed."""
        scratch = self._root / SCRATCH
        if not scratch.is_dir():
            _make_folder(scratch)
        with locked_temporary(scratch, "object") as (path, file):
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            yield path


def _make_folder(folder: Path) -> None:
    """Creates a folder and its parents so that they survive a power loss."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        synchronise(folder.parent)
