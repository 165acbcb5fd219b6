"""What travels between tasks: small frozen records that name a stored thing and its digest, never the thing itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jukebox_core.base.hashing import digest_file
from jukebox_core.errors import CheckpointError, StoreError
from jukebox_core.store.spooled import open_store

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from jukebox_core.store.store import TokenStore
    from jukebox_core.tokens.graph import Node

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Handle:
    """A stored object: where it is, and the digest of its content."""

    uri: str
    sha256: str
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True, kw_only=True, slots=True)
class FileHandle(Handle):
    """A local file: weights, a vocabulary, audio or codes."""

    identity: str  # digest of the file as it was published: keys name it, also where a converted copy is read
    bytes: int
    modified_ns: int  # of the file when its digest was verified

    @classmethod
    def of(cls, path: Path, sha256: str, identity: str | None = None) -> FileHandle:
        """Returns the handle of a file whose digest has just been verified; `identity` is that of its original."""
        stat = path.stat()
        return cls(
            uri=str(path), sha256=sha256, identity=identity or sha256, bytes=stat.st_size, modified_ns=stat.st_mtime_ns
        )

    def read(self) -> Path:
        """Returns the file's path; its digest is verified again if the file was touched since the handle was made.

        Raises:
            CheckpointError: the file is gone, or is not what it was.
        """
        path = Path(self.uri)
        if not path.is_file():
            raise CheckpointError(f"{path} is gone; run the command again to fetch it")
        stat = path.stat()
        if (stat.st_size, stat.st_mtime_ns) != (self.bytes, self.modified_ns) and digest_file(path) != self.sha256:
            raise CheckpointError(f"{path} changed during the run; delete it and run the command again to fetch it")
        return path


@dataclass(frozen=True, kw_only=True, slots=True)
class SoundHandle(FileHandle):
    """An audio file, and the level of its sound before it was clipped to full scale."""

    seconds: float
    peak: float  # largest absolute value; above 1 was clipped
    rms: float  # root of the mean square


@dataclass(frozen=True, kw_only=True, slots=True)
class TokensHandle(Handle):
    """A sealed window of tokens in a token store."""

    key: str
    level: int
    sample: int
    shape: tuple[int, ...]
    dtype: str = "int32"

    def read(self) -> NDArray[np.int32]:
        """Returns the tokens, int32 [time], after the digest was verified.

        Raises:
            StoreError: the window is missing, damaged, or not the one the handle names.
        """
        stored = open_store(self.uri).read(self.key)
        if stored.digest != self.sha256:
            raise StoreError(f"window {self.key[:12]} in {self.uri} is not the one this handle names; run again")
        return stored.tokens


def tokens_handle(store: TokenStore, node: Node) -> TokensHandle:
    """Returns the handle of a sealed window."""
    stored = store.read(node.key)
    return TokensHandle(
        uri=store.uri,
        key=node.key,
        sha256=stored.digest,
        level=node.level,
        sample=node.sample,
        shape=stored.tokens.shape,
    )
