"""Where files are fetched from: one small class for each kind of address. Imports no torch.

A source opens a file at a byte offset and states its size, version and digest where it knows them. A new kind of
address is one more class and one more line in `source_for`.
"""

from __future__ import annotations

import io
import urllib.parse
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from typing import IO, TYPE_CHECKING, ClassVar

from jukebox_core.base.paths import shortened, user_path
from jukebox_core.errors import ConfigError, did_you_mean
from jukebox_core.models.download.replies import Reply, Source, SourceError, guarded
from jukebox_core.models.download.web import below, open_web, without_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from importlib.resources.abc import Traversable
    from pathlib import Path

    from jukebox_core.models.config import FileSpec

SCHEMES = ("https:", "http:", "file:", "package:", "s3:", "gs:", "az:", "hf:", "lfs+https:")

_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss")


def source_for(address: str) -> Source:
    """Returns the source at `address`.

    ``https://``, ``http://``, ``file://``, an absolute folder, ``package:<folder>``, ``s3://``, ``gs://``, ``az://``,
    ``hf://owner/name[@revision]`` or ``lfs+https://host/repository.git``.

    Raises:
        ConfigError: the address is of no known kind.
    """
    try:
        urllib.parse.urlsplit(address)
    except ValueError as error:
        raise ConfigError(f"source {shortened(address)} is no address ({error}); correct it") from None
    scheme, _, rest = address.partition(":")
    if scheme in ("https", "http") and rest.startswith("//"):
        return HttpSource(address)
    if scheme == "file" and rest.startswith("//"):
        return FolderSource(user_path(urllib.request.url2pathname(urllib.parse.urlsplit(address).path)))
    if address.startswith(("/", "~")):
        return FolderSource(user_path(address))
    if scheme == "package" and rest:
        return PackageSource(rest)
    if scheme in _OBJECT_STORES and rest.startswith("//"):
        from jukebox_core.models.download.object_stores import ObjectSource

        return ObjectSource(address)
    if scheme == "hf" and rest.startswith("//"):
        from jukebox_core.models.download.hosts import HubSource

        return HubSource.at(address)
    if scheme in ("lfs+https", "lfs+http") and rest.startswith("//"):
        from jukebox_core.models.download.hosts import LfsSource

        base, _, pointers = address.removeprefix("lfs+").partition("#")
        return LfsSource(base, source_for(pointers) if pointers else None)
    hint = did_you_mean(f"{scheme}:", SCHEMES)
    raise ConfigError(f"source {address!r} cannot be fetched from; begin with one of {', '.join(SCHEMES)}{hint}")


@dataclass(frozen=True, slots=True)
class HttpSource:
    """A web server; interrupted transfers are resumed if it honours Range."""

    remote: ClassVar[bool] = True
    base: str

    @property
    def name(self) -> str:
        """The address without user, password and query, which can be secrets."""
        return without_secrets(self.base)

    def open(self, spec: FileSpec, start: int, stop: int | None = None) -> AbstractContextManager[Reply]:
        """Requests the bytes from `start` on."""
        return open_web(below(self.base, spec.path), start, stop)


@dataclass(frozen=True, slots=True)
class FolderSource:
    """A folder on this machine or a mounted disk."""

    remote: ClassVar[bool] = False
    folder: Path

    @property
    def name(self) -> str:
        """The folder as a file address."""
        return f"file://{self.folder}"

    @contextmanager
    def open(self, spec: FileSpec, start: int, _stop: int | None = None) -> Iterator[Reply]:
        """Opens the file in the folder."""
        with _opened(self.folder / spec.path) as file:
            stat = (self.folder / spec.path).stat()
            file.seek(start)
            yield Reply(guarded(file.read), start, stat.st_size, f"{stat.st_size}-{stat.st_mtime_ns}")


@dataclass(frozen=True, slots=True)
class PackageSource:
    """A folder shipped inside this program; its files are small."""

    remote: ClassVar[bool] = False
    folder: str

    @property
    def name(self) -> str:
        """Its address."""
        return f"package:{self.folder}"

    @contextmanager
    def open(self, spec: FileSpec, start: int, _stop: int | None = None) -> Iterator[Reply]:
        """Reads the whole file, as a package may lie in an archive."""
        with _opened(resources.files("jukebox_core").joinpath(f"{self.folder}/{spec.path}")) as file:
            content = file.read()
        yield Reply(io.BytesIO(content[start:]).read, start, len(content), None)


@contextmanager
def _opened(file: Path | Traversable) -> Iterator[IO[bytes]]:
    try:
        opened = file.open("rb")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SourceError("has no such file", final=True) from error
    except OSError as error:
        raise SourceError(f"cannot be read ({error.strerror})", final=True) from error
    with opened:
        yield opened
