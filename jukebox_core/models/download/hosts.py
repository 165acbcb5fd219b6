"""Hosts of models as sources: the Hugging Face hub, and git-lfs servers. Imports no torch.

Both redirect to the address of a file's bytes; neither needs git or a package of the host.
"""

from __future__ import annotations

import json
import os
import re
import urllib.parse
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar

from jukebox_core.base.paths import user_path
from jukebox_core.errors import ConfigError
from jukebox_core.models.config import FileSpec
from jukebox_core.models.download.replies import SourceError
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
    """A repository of the Hugging Face hub; HF_ENDPOINT and the token of a login are honoured."""

    remote: ClassVar[bool] = True
    repository: str
    revision: str = "main"

    @classmethod
    def at(cls, address: str) -> HubSource:
        """Returns the source at ``hf://[spaces/]owner/name[@revision]``; raises ConfigError for any other address."""
        found = re.fullmatch(r"hf://((?:spaces/)?[\w.-]+/[\w.-]+)(?:@([\w./-]+))?/?", address)
        if found is None:
            raise ConfigError(
                f"source {address!r} is not of the form hf://owner/name, hf://owner/name@revision or hf://spaces/owner/name"
            )
        return cls(found[1], found[2] or "main")

    @property
    def name(self) -> str:
        """Its address."""
        return f"hf://{self.repository}@{self.revision}"

    def open(self, spec: FileSpec, start: int, stop: int | None = None) -> AbstractContextManager[Reply]:
        """Requests the file from the hub, which redirects to its bytes and states the sha256 of large files."""
        base = f"{os.environ.get('HF_ENDPOINT', HUB).rstrip('/')}/{self.repository}/resolve/{self.revision}"
        token = hub_token()
        headers = {"Authorization": f"Bearer {token}"} if token else None  # to the hub's host, not after a redirect
        return open_web(below(base, spec.path), start, stop, headers=headers)


def hub_token() -> str | None:
    """Returns the user's token of the Hugging Face hub: that of the environment, else that of a login, else None.

    It is found as the package huggingface_hub finds it, which is asked where it is installed.
    """
    try:
        found: str | None = import_module("huggingface_hub").get_token()
    except ImportError:
        pass
    else:
        return found
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if token := os.environ.get(variable, "").strip():
            return token
    home = os.environ.get("HF_HOME") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    try:
        return user_path(os.environ.get("HF_TOKEN_PATH") or f"{home}/token").read_text().strip() or None
    except OSError:
        return None


@dataclass(frozen=True, slots=True)
class LfsSource:
    """A git-lfs server, through its batch API.

    It identifies files by sha256 and size. Where these are not known in advance, they are read from the file's pointer,
    in the source that holds the repository's raw files.
    """

    remote: ClassVar[bool] = True
    base: str
    pointers: Source | None = None

    @property
    def name(self) -> str:
        """Its address, without secrets."""
        return f"lfs+{without_secrets(self.base)}"

    @contextmanager
    def open(self, spec: FileSpec, start: int, stop: int | None = None) -> Iterator[Reply]:
        """Requests the file's address, then its bytes."""
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
        batch = {"operation": "download", "transfers": ["basic"], "objects": [{"oid": sha256, "size": size}]}
        post = request(
            below(self.base, "info/lfs/objects/batch"),
            {"Accept": _LFS_JSON, "Content-Type": _LFS_JSON},
            json.dumps(batch).encode(),
        )
        text = b""
        with connected(post) as answer:
            while piece := answer.read(1 << 16):
                text += piece
        try:
            [found] = json.loads(text)["objects"]
            if "error" in found:
                raise SourceError(f"{found['error']['code']} {found['error']['message']}", final=True)
            action = found["actions"]["download"]
            url, headers = str(action["href"]), {str(k): str(v) for k, v in action.get("header", {}).items()}
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise SourceError(
                f"the git-lfs server answered what the protocol does not know ({error!r})", final=True
            ) from error
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise SourceError(f"leads to {without_secrets(url)}, which is not on the web", final=True)
        return url, headers
