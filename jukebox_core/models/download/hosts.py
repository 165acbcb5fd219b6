"""Hosts of models as sources: the Hugging Face hub, and git-lfs servers. Imports no torch.

Both answer a question about a file with the address its bytes are at; neither needs git or a package of the host.
"""

from __future__ import annotations

import json
import os
import re
import urllib.parse
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jukebox_core.errors import ConfigError
from jukebox_core.models.config import FileSpec
from jukebox_core.models.download.replies import SourceError, answers
from jukebox_core.models.download.web import below, connected, open_web, request, without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from jukebox_core.models.download.replies import Reply, Source

HUB = "https://huggingface.co"

_POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\n(?:.*\n)*?oid sha256:([0-9a-f]{64})\nsize (\d+)")
_POINTER_BYTES = 1024  # by their specification pointers are smaller
_LFS_JSON = "application/vnd.git-lfs+json"


@dataclass(frozen=True, slots=True)
class HubSource:
    """A repository of the Hugging Face hub; HF_ENDPOINT and HF_TOKEN are honoured."""

    repository: str
    revision: str = "main"

    @classmethod
    def at(cls, address: str) -> HubSource:
        """The source at ``hf://owner/name`` or ``hf://owner/name@revision``; ConfigError for any other address."""
        found = re.fullmatch(r"hf://([\w.-]+/[\w.-]+)(?:@([\w./-]+))?/?", address)
        if found is None:
            raise ConfigError(f"source {address!r} is not of the form hf://owner/name or hf://owner/name@revision")
        return cls(found[1], found[2] or "main")

    @property
    def name(self) -> str:
        """Its address."""
        return f"hf://{self.repository}@{self.revision}"

    @property
    def remote(self) -> bool:
        """Always."""
        return True

    def open(self, spec: FileSpec, start: int, stop: int | None = None) -> AbstractContextManager[Reply]:
        """Asks the hub, which leads on to where the bytes are and tells the sha256 of large files."""
        base = f"{os.environ.get('HF_ENDPOINT', HUB).rstrip('/')}/{self.repository}/resolve/{self.revision}"
        token = os.environ.get("HF_TOKEN")
        return open_web(
            below(base, spec.path), start, stop, headers={"Authorization": f"Bearer {token}"} if token else None
        )


@dataclass(frozen=True, slots=True)
class LfsSource:
    """A git-lfs server, asked by its batch interface.

    It knows files by sha256 and size. Where the registry has these, nothing else is needed; else they are read from
    the file's pointer, in the source that holds the repository's raw files.
    """

    base: str
    pointers: Source | None = None

    @property
    def name(self) -> str:
        """Its address, without secrets."""
        return f"lfs+{without_secrets(self.base)}"

    @property
    def remote(self) -> bool:
        """Always."""
        return True

    @contextmanager
    def open(self, spec: FileSpec, start: int, stop: int | None = None) -> Iterator[Reply]:
        """Asks for the file's address, then for its bytes."""
        sha256, size = self._identity(spec)
        url, headers = self._action(sha256, size)
        with open_web(url, start, stop, headers=headers) as reply:
            yield replace(reply, total=reply.total or size, version=sha256, digest=("sha256", sha256))

    def _identity(self, spec: FileSpec) -> tuple[str, int]:
        if spec.sha256 is not None and spec.bytes is not None:
            return spec.sha256, spec.bytes
        if self.pointers is None:
            raise SourceError(
                f"is asked by sha256 and size, which are not known of {spec.path}; add them to its entry, or "
                "'#' and the address of the repository's raw files to the source",
                final=True,
            )
        with self.pointers.open(FileSpec(path=spec.path), 0) as reply:
            text = reply.read(_POINTER_BYTES)
        found = _POINTER.match(text)
        if found is None:
            raise SourceError(f"{self.pointers.name} holds no git-lfs pointer for {spec.path}", final=True)
        return found[1].decode(), int(found[2])

    def _action(self, sha256: str, size: int) -> tuple[str, dict[str, str]]:
        wanted = {"operation": "download", "transfers": ["basic"], "objects": [{"oid": sha256, "size": size}]}
        asked = request(
            below(self.base, "info/lfs/objects/batch"),
            {"Accept": _LFS_JSON, "Content-Type": _LFS_JSON},
            json.dumps(wanted).encode(),
        )
        text = b""
        with connected(asked) as answer:
            while piece := answer.read(1 << 16):
                text += piece
        with answers("the git-lfs server"):
            [found] = json.loads(text)["objects"]
            if "error" in found:
                raise SourceError(f"{found['error']['code']} {found['error']['message']}", final=True)
            action = found["actions"]["download"]
            url, headers = str(action["href"]), {str(k): str(v) for k, v in action.get("header", {}).items()}
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise SourceError(f"leads to {without_secrets(url)}, which is not on the web", final=True)
        return url, headers
