"""What travels between tasks: small frozen records that name a stored thing and its digest, never the thing itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from jukebox_core.errors import CheckpointError, StoreError
from jukebox_core.tokens.keys import digest_file
from jukebox_core.tokens.store import TokenStore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from jukebox_core.tokens.graph import Node

SCHEMA_VERSION = 1


class Handle(BaseModel):
    """A stored thing: where it is and what its content hashes to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    uri: str
    sha256: str
    schema_version: int = SCHEMA_VERSION


class FileHandle(Handle):
    """A local file: weights, a vocabulary, audio or codes."""

    def read(self) -> Path:
        """Returns the file's path once its digest has been verified.

        Raises:
            CheckpointError: the file is gone, or is not what it was when the handle was made.
        """
        path = Path(self.uri)
        if not path.is_file():
            raise CheckpointError(f"{path} is gone; run the command again to fetch it")
        found = digest_file(path)
        if found != self.sha256:
            raise CheckpointError(
                f"{path} hashes to {found[:12]}…, expected {self.sha256[:12]}…; it changed during the run: remove it "
                "and run the command again"
            )
        return path


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
        stored = TokenStore(self.uri).read(self.key)
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
